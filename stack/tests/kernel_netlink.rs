//! Next hops from a real kernel, on namespaces of their own. Needs root.

mod rig;

use rig::{Rig, VETH, veth};
use stack::kernel::interface::Interface;
use stack::kernel::netlink::NetlinkRoutes;
use stack::outside::{Hop, InterfaceId, NextHop, Routes};
use stack::{Duration, Errno, Instant};
use std::net::IpAddr;

const NOW: Instant = Instant::ZERO;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn routes() -> NetlinkRoutes {
    NetlinkRoutes::new(&[veth()]).expect("netlink sockets")
}

fn hop(routes: &mut NetlinkRoutes, remote: &str) -> Hop {
    routes.next_hop(None, address(remote), NOW)
}

/// Asks until the kernel has found the neighbour or given up, sleeping until there is a notice.
fn resolved(routes: &mut NetlinkRoutes, local: Option<&str>, remote: &str) -> Hop {
    loop {
        let hop = routes.next_hop(local.map(address), address(remote), NOW);
        if !matches!(hop, Hop::Resolving(_)) {
            return hop;
        }
        wait(routes);
    }
}

fn ready(routes: &mut NetlinkRoutes, remote: &str) -> NextHop {
    match resolved(routes, None, remote) {
        Hop::Ready(next_hop) => next_hop,
        other => panic!("{remote}: {other:?}"),
    }
}

/// Sleeps until the kernel tells of a change.
fn wait(routes: &NetlinkRoutes) {
    let mut poll = libc::pollfd { fd: routes.fds()[1], events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    assert_eq!(unsafe { libc::poll(&mut poll, 1, 20_000) }, 1, "the kernel tells of nothing");
}

/// Reads notices until the generation has risen.
fn wait_for_change(routes: &mut NetlinkRoutes) {
    let before = routes.generation();
    while routes.generation() == before {
        wait(routes);
        routes.refresh(NOW);
    }
}

fn header(rig: &Rig, ethertype: [u8; 2]) -> Vec<u8> {
    [&rig.far(|| veth().mac)[..], &rig.near(|| veth().mac), &ethertype].concat()
}

fn used(next_hop: &NextHop) -> &[u8] {
    &next_hop.header[..usize::from(next_hop.header_len)]
}

#[test]
fn on_link_neighbours_are_resolved_by_the_kernel() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let mut routes = routes();
        for (remote, source, ethertype) in [("10.0.0.2", "10.0.0.1", [8, 0]), ("fd00::2", "fd00::1", [0x86, 0xdd])] {
            let next_hop = ready(&mut routes, remote);
            assert_eq!(next_hop.interface, InterfaceId(0));
            assert_eq!(next_hop.source, address(source));
            assert_eq!((next_hop.mtu, next_hop.is_on_link), (1500, true));
            assert_eq!(used(&next_hop), header(&rig, ethertype));
            assert_eq!(hop(&mut routes, remote), Hop::Ready(next_hop));
        }
    });
}

/// As on an interface that has just come up, whose own address is not settled yet.
#[test]
fn neighbours_are_resolved_without_a_link_local_address() {
    let rig = Rig::new(1500, 1);
    rig.near_ip("address flush dev veth scope link");
    rig.near(|| assert_eq!(used(&ready(&mut routes(), "fd00::2")), header(&rig, [0x86, 0xdd])));
}

#[test]
fn a_gateway_stands_for_what_is_behind_it() {
    let rig = Rig::new(1500, 1);
    rig.near_ip("route add 192.0.2.0/24 via 10.0.0.2 mtu 1400");
    rig.near_ip("route add 2001:db8::/32 via fd00::2");
    rig.near_ip("route add 198.51.100.0/24 via inet6 fd00::2 dev veth");
    rig.near(|| {
        let mut routes = routes();
        let next_hop = ready(&mut routes, "192.0.2.9");
        assert_eq!((used(&next_hop), next_hop.mtu), (&header(&rig, [8, 0])[..], 1400));
        assert!(!next_hop.is_on_link);
        assert_eq!(used(&ready(&mut routes, "2001:db8::9")), header(&rig, [0x86, 0xdd]));
        assert_eq!(used(&ready(&mut routes, "198.51.100.9")), header(&rig, [8, 0]));
    });
}

#[test]
fn the_local_address_takes_part_in_the_choice() {
    let rig = Rig::new(1500, 1);
    rig.near_ip("address add 10.0.0.3/24 dev veth");
    rig.near_ip("rule add from 10.0.0.3 table 100");
    rig.near_ip("route add unreachable 192.0.2.0/24 table 100");
    rig.near_ip("route add 192.0.2.0/24 via 10.0.0.2 src 10.0.0.3");
    rig.near(|| {
        let mut routes = routes();
        assert_eq!(ready(&mut routes, "192.0.2.9").source, address("10.0.0.3"));
        let from = |routes: &mut NetlinkRoutes, local| match resolved(routes, Some(local), "192.0.2.9") {
            Hop::Ready(next_hop) => Ok(next_hop.source),
            Hop::Unreachable(errno) => Err(errno),
            other => panic!("{other:?}"),
        };
        assert_eq!(from(&mut routes, "10.0.0.1"), Ok(address("10.0.0.1")));
        assert_eq!(from(&mut routes, "0.0.0.0"), Ok(address("10.0.0.3")));
        assert_eq!(from(&mut routes, "10.0.0.3"), Err(Errno::EHOSTUNREACH));
    });
}

#[test]
fn this_host_and_other_interfaces_are_the_kernels() {
    let rig = Rig::new(1500, 1);
    rig.near_ip("link add other type veth peer name another");
    rig.near_ip("link set another up");
    rig.near_ip("address add 10.9.0.1/24 dev other");
    rig.near_ip("link set other up");
    rig.near(|| {
        let mut routes = routes();
        for remote in ["10.0.0.1", "127.0.0.1", "::1", "fd00::1", "10.9.0.1", "10.9.0.2", "10.0.0.255"] {
            assert_eq!(hop(&mut routes, remote), Hop::Kernel, "{remote}");
        }
        assert_eq!(hop(&mut routes, "fe80::1"), Hop::Kernel, "an address that needs a scope");
    });
}

#[test]
fn this_host_is_reached_over_the_loopback_when_it_is_ours() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let loopback = Interface::query(c"lo").expect("a loopback");
        let mut routes = NetlinkRoutes::new(&[veth(), loopback]).expect("netlink sockets");
        for remote in ["127.0.0.1", "127.8.8.8", "10.0.0.1", "::1", "fd00::1"] {
            let Hop::Ready(next_hop) = hop(&mut routes, remote) else { panic!("{remote}: no neighbour is needed") };
            let source = if remote == "127.8.8.8" { "127.0.0.1" } else { remote };
            assert_eq!((next_hop.interface, next_hop.source), (InterfaceId(1), address(source)));
            assert_eq!(used(&next_hop)[..12], [0; 12]);
        }
        assert_eq!(ready(&mut routes, "10.0.0.2").interface, InterfaceId(0));
    });
}

#[test]
fn what_the_kernel_does_not_reach_is_unreachable() {
    let rig = Rig::new(1500, 1);
    rig.near_ip("route add unreachable 192.0.2.0/24");
    rig.near_ip("route add prohibit 198.51.100.0/24");
    rig.near_ip("-6 route add unreachable 2001:db8:1::/48");
    rig.near(|| {
        let mut routes = routes();
        let mut check = |remote, errno| assert_eq!(hop(&mut routes, remote), Hop::Unreachable(errno), "{remote}");
        check("203.0.113.1", Errno::ENETUNREACH);
        check("2001:db8::1", Errno::ENETUNREACH);
        check("192.0.2.1", Errno::EHOSTUNREACH);
        check("198.51.100.1", Errno::EACCES);
        check("2001:db8:1::1", Errno::EHOSTUNREACH);
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_unreachable_for_a_while() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let mut routes = routes();
        assert!(matches!(hop(&mut routes, "10.0.0.77"), Hop::Resolving(_)));
        let before = routes.generation();
        assert_eq!(resolved(&mut routes, None, "10.0.0.77"), Hop::Unreachable(Errno::EHOSTUNREACH));
        assert!(routes.generation() > before);
        assert_eq!(hop(&mut routes, "10.0.0.77"), Hop::Unreachable(Errno::EHOSTUNREACH));
        let later = NOW + Duration::from_secs(60);
        assert!(matches!(routes.next_hop(None, address("10.0.0.77"), later), Hop::Resolving(_)));
    });
}

#[test]
fn changes_of_routes_raise_the_generation() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let mut routes = routes();
        assert_eq!(hop(&mut routes, "192.0.2.1"), Hop::Unreachable(Errno::ENETUNREACH));
        assert_eq!(hop(&mut routes, "10.0.0.1"), Hop::Kernel);
        let mut change = |words: &str| {
            rig.near_ip(words);
            wait_for_change(&mut routes);
            match resolved(&mut routes, None, "192.0.2.1") {
                Hop::Ready(next_hop) => Some((next_hop.source, next_hop.mtu)),
                Hop::Unreachable(_) => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(change("route add 192.0.2.0/24 via 10.0.0.2"), Some((address("10.0.0.1"), 1500)));
        assert_eq!(change("link set veth mtu 1300"), Some((address("10.0.0.1"), 1300)));
        assert_eq!(change("route change 192.0.2.0/24 via 10.0.0.2 mtu 1200"), Some((address("10.0.0.1"), 1200)));
        assert_eq!(change("rule add to 192.0.2.1 unreachable"), None);
        assert_eq!(change("rule del to 192.0.2.1 unreachable"), Some((address("10.0.0.1"), 1200)));
        assert_eq!(change("address add 10.0.0.9/24 dev veth"), Some((address("10.0.0.1"), 1200)));
        assert_eq!(change("route del 192.0.2.0/24"), None);
    });
}

#[test]
fn changes_of_neighbours_raise_the_generation() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let mut routes = routes();
        let old = ready(&mut routes, "10.0.0.2");
        rig.near_ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev veth nud permanent");
        wait_for_change(&mut routes);
        let new = ready(&mut routes, "10.0.0.2");
        assert_eq!(used(&new)[..6], [2, 0, 0, 0, 0, 0x99]);
        rig.near_ip("neigh del 10.0.0.2 dev veth");
        wait_for_change(&mut routes);
        assert_eq!(ready(&mut routes, "10.0.0.2"), old);
    });
}

#[test]
fn a_stale_neighbour_in_use_is_confirmed() {
    let rig = Rig::new(1500, 1);
    let far_mac = rig.far(|| veth().mac).map(|byte| format!("{byte:02x}")).join(":");
    rig.near_ip(&format!("neigh replace 10.0.0.2 lladdr {far_mac} dev veth nud stale"));
    rig.near(|| {
        let mut routes = routes();
        let next_hop = ready(&mut routes, "10.0.0.2");
        // The kernel waits some seconds for a hint (NUD_DELAY), asks, and is answered.
        routes.refresh(NOW + Duration::from_secs(31));
        while !neighbour_is(&rig, "10.0.0.2", "REACHABLE") {
            wait(&routes);
            routes.refresh(NOW + Duration::from_secs(32));
        }
        assert_eq!(hop(&mut routes, "10.0.0.2"), Hop::Ready(next_hop));
    });
}

fn neighbour_is(rig: &Rig, address: &str, state: &str) -> bool {
    rig.near_output(&format!("neigh show {address} dev {VETH}")).contains(state)
}

#[test]
fn without_privileges_a_datagram_prompts_the_kernel() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let mut routes = routes();
        // SAFETY: the call changes this thread's ids alone (glibc's wrapper would change every thread's).
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        ready(&mut routes, "10.0.0.2");
        ready(&mut routes, "fd00::2");
    });
}

#[test]
fn lost_notices_are_made_up_for() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let mut routes = routes();
        ready(&mut routes, "10.0.0.2");
        // The smallest buffer, which a few notices fill.
        let size: libc::c_int = 1;
        // SAFETY: the kernel reads an int that is live.
        let result = unsafe {
            libc::setsockopt(routes.fds()[1], libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const size).cast(), 4)
        };
        assert_eq!(result, 0);
        for number in 10..40 {
            rig.near_ip(&format!("neigh add 10.0.0.{number} lladdr 02:00:00:00:00:01 dev veth nud permanent"));
        }
        rig.near_ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev veth nud permanent");
        wait_for_change(&mut routes);
        assert_eq!(used(&ready(&mut routes, "10.0.0.2"))[..6], [2, 0, 0, 0, 0, 0x99]);
    });
}

#[test]
fn the_sockets_are_out_of_the_way() {
    for fd in NetlinkRoutes::new(&[]).expect("netlink sockets").fds() {
        assert!(fd > 100);
        // SAFETY: F_GETFD takes numbers only.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
    }
}
