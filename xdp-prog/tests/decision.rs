//! Which frames the program redirects: run on frames by the kernel, without sending them.

mod common;

use common::attached::{Pass, Program, Redirect, Verdict};
use common::frame::{self, ACK, SYN, TCP, UDP};
use common::network::{ADDRESS_V4, Network, ip};
use common::receiver::Receiver;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use xdp_prog::{CLAIMS_MAX, ClaimKey, Mode, Opens, QUEUES_MAX, Steering};

/// An owner of queue 0, on an interface of its own.
struct Owner {
    network: Network,
    steering: Steering,
    receiver: Receiver,
    program: Program,
}

impl Owner {
    fn new() -> Owner {
        let network = Network::with_queues(2);
        let steering = Steering::attach(network.index, Mode::Native).unwrap();
        let receiver = Receiver::bind(0);
        steering.own_queue(0, receiver.fd()).unwrap();
        let program = Program::of(network.index);
        Owner { network, steering, receiver, program }
    }

    fn claim(&self, protocol: u8, address: &str, port: u16, opens: Opens) {
        self.steering.claim(&key(protocol, address, port), opens).unwrap();
    }

    #[track_caller]
    fn check(&self, frame: &[u8], expected: Verdict) {
        assert_eq!(self.program.run(0, frame), expected);
    }
}

fn key(protocol: u8, address: &str, port: u16) -> ClaimKey {
    ClaimKey::new(protocol, address.parse().unwrap(), port)
}

#[test]
fn claimed_protocol_address_and_port_are_redirected() {
    let owner = Owner::new();
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Pass);
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    owner.claim(UDP, "fd00::1", 53, Opens::All);
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Redirect);
    owner.check(&frame::tcp("10.0.0.1:81", ACK), Pass);
    owner.check(&frame::tcp("10.0.0.2:80", ACK), Pass);
    owner.check(&frame::udp("10.0.0.1:80", b"x"), Pass);
    owner.check(&frame::udp("[fd00::1]:53", b"x"), Redirect);
    owner.check(&frame::udp("[fd00::1]:54", b"x"), Pass);
    owner.check(&frame::udp("[fd00::2]:53", b"x"), Pass);
    owner.check(&frame::tcp("[fd00::1]:53", ACK), Pass);
}

#[test]
fn released_claim_passes() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    owner.steering.release(&key(TCP, "10.0.0.1", 80)).unwrap();
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Pass);
    let error = owner.steering.release(&key(TCP, "10.0.0.1", 80)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn connections_that_the_kernel_has_on_a_claimed_port_stay_its_own() {
    let owner = Owner::new();
    ip("link set lo up");
    let listener = TcpListener::bind((ADDRESS_V4, 80)).unwrap();
    let client = TcpStream::connect((ADDRESS_V4, 80)).unwrap();
    let (server, peer) = listener.accept().unwrap();
    owner.claim(TCP, ADDRESS_V4, 80, Opens::All);

    let to_server = |flags| frame::tcp_from(&peer.to_string(), &format!("{ADDRESS_V4}:80"), flags);
    owner.check(&to_server(ACK), Pass);
    owner.check(&to_server(SYN), Pass);
    let about = |to: &str| frame::icmp_error(3, TCP, &format!("{ADDRESS_V4}:80"), to);
    owner.check(&about(&peer.to_string()), Pass);
    owner.check(&about("10.0.0.2:80"), Redirect);
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Redirect);
    owner.check(&frame::tcp("10.0.0.1:80", SYN), Redirect);

    // Closed by the server first, the connection is remembered there until a new one takes its place.
    drop(server);
    drop(client);
    while server_end_is_open(peer.port()) {
        std::thread::yield_now();
    }
    owner.check(&to_server(ACK), Pass);
    owner.check(&to_server(SYN), Redirect);
    owner.check(&to_server(ACK), Redirect);
}

/// Whether the kernel has an end at port 80 towards `port` in another state than TIME-WAIT (6). proc(5).
fn server_end_is_open(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let ends = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = ends.filter(|end| end[1].ends_with(":0050") && end[2].ends_with(&format!(":{port:04X}")));
    ours.any(|end| end[3] != "06")
}

#[test]
fn icmp_errors_go_to_whom_the_packet_that_they_quote_came_from() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::None);
    owner.claim(TCP, "::", 53, Opens::None);
    let v4 = |kind| frame::icmp_error(kind, TCP, "10.0.0.1:80", "10.0.0.2:4000");
    let v6 = |kind| frame::icmp_error(kind, TCP, "[fd00::1]:53", "[fd00::2]:4000");
    for kind in 0..=u8::MAX {
        owner.check(&v4(kind), if matches!(kind, 3 | 11 | 12) { Redirect } else { Pass });
        owner.check(&v6(kind), if matches!(kind, 1..=4) { Redirect } else { Pass });
    }
    owner.check(&frame::icmp_error(3, TCP, "10.0.0.1:4000", "10.0.0.2:80"), Pass);
    owner.check(&frame::icmp_error(3, TCP, "10.0.0.2:80", "10.0.0.1:80"), Pass);
    owner.check(&frame::icmp_error(1, TCP, "[fd00::1]:80", "[fd00::2]:4000"), Pass);
    owner.check(&frame::icmp_error(3, frame::ICMP, "10.0.0.1:80", "10.0.0.2:4000"), Pass);

    // What is quoted has to be whole up to the ports and what follows them, and to begin with them.
    for whole in [v4(3), v6(2)] {
        owner.check(&frame::tagged(&whole, 0x8100), Redirect);
        for len in frame::ETHERNET_LEN..whole.len() {
            owner.check(&whole[..len], Pass);
        }
    }
    let quoted_at = frame::ETHERNET_LEN + 20 + 8;
    let bent = |at: usize, byte: u8| {
        let mut bent = v4(3);
        bent[quoted_at + at] = byte;
        bent
    };
    owner.check(&bent(0, 0x46), Pass);
    owner.check(&bent(0, 0x65), Pass);
    let (more_fragments, last_fragment) = (bent(6, 0x20), bent(7, 0x01));
    owner.check(&more_fragments, Redirect);
    owner.check(&last_fragment, Pass);
    owner.check(&frame::with_options(&v4(3)), Pass);
    owner.check(&frame::with_extension(&v6(2), 0), Pass);
}

#[test]
fn the_kernel_hears_of_errors_about_datagrams() {
    let owner = Owner::new();
    owner.claim(UDP, "10.0.0.1", 53, Opens::All);
    owner.check(&frame::udp("10.0.0.1:53", b"x"), Redirect);
    owner.check(&frame::icmp_error(3, UDP, "10.0.0.1:53", "10.0.0.2:4000"), Pass);
}

#[test]
fn packets_to_a_group_pass() {
    let owner = Owner::new();
    owner.claim(UDP, "0.0.0.0", 53, Opens::All);
    owner.claim(UDP, "::", 53, Opens::All);
    owner.claim(TCP, "0.0.0.0", 53, Opens::All);
    for datagram in [frame::udp("10.0.0.255:53", b"x"), frame::udp("[ff02::fb]:53", b"x")] {
        owner.check(&datagram, Redirect);
        owner.check(&frame::to_group(&datagram), Pass);
    }
    owner.check(&frame::to_group(&frame::tcp("10.0.0.1:53", ACK)), Pass);
}

#[test]
fn a_socket_of_an_exact_address_keeps_its_datagrams_beside_a_wildcard_claim() {
    let owner = Owner::new();
    let socket = UdpSocket::bind((ADDRESS_V4, 53)).unwrap();
    owner.claim(UDP, "0.0.0.0", 53, Opens::All);
    owner.check(&frame::udp(&format!("{ADDRESS_V4}:53"), b"x"), Pass);
    owner.check(&frame::udp("10.0.0.7:53", b"x"), Redirect);
    drop(socket);
    owner.check(&frame::udp(&format!("{ADDRESS_V4}:53"), b"x"), Redirect);
    let _wildcard = UdpSocket::bind(("0.0.0.0", 53)).unwrap();
    owner.check(&frame::udp(&format!("{ADDRESS_V4}:53"), b"x"), Redirect);
    ip("link set lo up");
    owner.claim(UDP, "::", 54, Opens::All);
    let _socket = UdpSocket::bind(("::1", 54)).unwrap();
    owner.check(&frame::udp("[::1]:54", b"x"), Pass);
    owner.check(&frame::udp("[fd00::1]:54", b"x"), Redirect);
}

#[test]
fn wildcard_covers_the_addresses_of_its_version() {
    let owner = Owner::new();
    owner.claim(TCP, "0.0.0.0", 80, Opens::All);
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Redirect);
    owner.check(&frame::tcp("192.0.2.7:80", ACK), Redirect);
    owner.check(&frame::tcp("10.0.0.1:81", ACK), Pass);
    owner.check(&frame::tcp("[fd00::1]:80", ACK), Pass);
    owner.claim(UDP, "::", 53, Opens::All);
    owner.check(&frame::udp("[fd00::1]:53", b"x"), Redirect);
    owner.check(&frame::udp("[fd00::2]:53", b"x"), Redirect);
    owner.check(&frame::udp("10.0.0.1:53", b"x"), Pass);
}

#[test]
fn segment_that_opens_a_connection_needs_a_claim_that_opens() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::None);
    owner.check(&frame::tcp("10.0.0.1:80", SYN), Pass);
    owner.check(&frame::tcp("10.0.0.1:80", SYN | ACK), Redirect);
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Redirect);
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    owner.check(&frame::tcp("10.0.0.1:80", SYN), Redirect);
    owner.claim(UDP, "10.0.0.1", 53, Opens::None);
    owner.check(&frame::udp("10.0.0.1:53", b"x"), Redirect);
}

#[test]
fn wildcard_opens_where_the_exact_claim_does_not() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::None);
    owner.claim(TCP, "0.0.0.0", 80, Opens::All);
    owner.check(&frame::tcp("10.0.0.1:80", SYN), Redirect);
}

#[test]
fn one_vlan_tag_is_looked_behind() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    owner.claim(TCP, "fd00::1", 80, Opens::All);
    for untagged in [frame::tcp("10.0.0.1:80", ACK), frame::tcp("[fd00::1]:80", ACK)] {
        owner.check(&frame::tagged(&untagged, 0x8100), Redirect);
        owner.check(&frame::tagged(&untagged, 0x88a8), Redirect);
        owner.check(&frame::tagged(&frame::tagged(&untagged, 0x8100), 0x88a8), Pass);
    }
}

#[test]
fn fragments_pass() {
    let owner = Owner::new();
    owner.claim(UDP, "10.0.0.1", 53, Opens::All);
    owner.claim(UDP, "fd00::1", 53, Opens::All);
    let whole = frame::udp("10.0.0.1:53", b"x");
    let (dont_fragment, more_fragments) = (0x4000, 0x2000);
    owner.check(&frame::with_fragment_field(&whole, dont_fragment), Redirect);
    owner.check(&frame::with_fragment_field(&whole, more_fragments), Pass);
    owner.check(&frame::with_fragment_field(&whole, more_fragments | 185), Pass);
    owner.check(&frame::with_fragment_field(&whole, 1), Pass);
    let fragment_header = 44;
    owner.check(&frame::with_extension(&frame::udp("[fd00::1]:53", b"x"), fragment_header), Pass);
}

#[test]
fn options_and_extension_headers_pass() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    owner.claim(TCP, "fd00::1", 80, Opens::All);
    owner.check(&frame::with_options(&frame::tcp("10.0.0.1:80", ACK)), Pass);
    let hop_by_hop = 0;
    owner.check(&frame::with_extension(&frame::tcp("[fd00::1]:80", ACK), hop_by_hop), Pass);
}

#[test]
fn frames_cut_short_pass() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    owner.claim(UDP, "fd00::1", 53, Opens::All);
    let frames = [
        frame::tcp("10.0.0.1:80", ACK),
        frame::tagged(&frame::tcp("10.0.0.1:80", ACK), 0x8100),
        frame::udp("[fd00::1]:53", b""),
    ];
    for whole in frames {
        owner.check(&whole, Redirect);
        for len in frame::ETHERNET_LEN..whole.len() {
            owner.check(&whole[..len], Pass);
        }
    }
}

#[test]
fn other_protocols_pass() {
    let owner = Owner::new();
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    let mut icmp = frame::tcp("10.0.0.1:80", ACK);
    icmp[frame::ETHERNET_LEN + 9] = 1;
    owner.check(&icmp, Pass);
    let mut arp = frame::tcp("10.0.0.1:80", ACK);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    owner.check(&arp, Pass);
    let mut wrong_version = frame::tcp("10.0.0.1:80", ACK);
    wrong_version[frame::ETHERNET_LEN] = 0x65;
    owner.check(&wrong_version, Pass);
}

#[test]
fn frame_of_several_buffers_is_redirected() {
    let owner = Owner::new();
    owner.claim(UDP, "10.0.0.1", 53, Opens::All);
    owner.check(&frame::udp("10.0.0.1:53", &[7; 8_900]), Redirect);
}

#[test]
fn claims_hold_on_the_owner_s_queues_only() {
    let owner = Owner::new();
    let other = Steering::attach(owner.network.index, Mode::Auto).unwrap();
    let other_receiver = Receiver::bind(1);
    other.own_queue(1, other_receiver.fd()).unwrap();
    owner.claim(TCP, "10.0.0.1", 80, Opens::All);
    other.claim(&key(TCP, "10.0.0.1", 81), Opens::All).unwrap();
    for (queue, port, expected) in [(0, 80, Redirect), (0, 81, Pass), (1, 80, Pass), (1, 81, Redirect)] {
        let segment = frame::tcp(&format!("10.0.0.1:{port}"), ACK);
        assert_eq!(owner.program.run(queue, &segment), expected, "queue {queue}, port {port}");
    }
}

#[test]
fn queue_whose_socket_is_gone_passes_and_its_claims_catch_nothing_of_the_next_owner_s() {
    let Owner { network, steering, receiver, program } = Owner::new();
    let segment = frame::tcp("10.0.0.1:80", ACK);
    steering.claim(&key(TCP, "10.0.0.1", 80), Opens::All).unwrap();
    assert_eq!(program.run(0, &segment), Redirect);
    drop(receiver);
    assert_eq!(program.run(0, &segment), Pass);

    let heir = Steering::attach(network.index, Mode::Auto).unwrap();
    // The kernel frees the queue some time after the socket's end; any AF_XDP socket fills the slot.
    let heir_receiver = Receiver::bind(1);
    heir.own_queue(0, heir_receiver.fd()).unwrap();
    assert_eq!(program.run(0, &segment), Pass);
    heir.claim(&key(TCP, "10.0.0.1", 81), Opens::All).unwrap();
    assert_eq!(program.run(0, &frame::tcp("10.0.0.1:81", ACK)), Redirect);
    assert_eq!(program.run(0, &segment), Pass);
}

#[test]
fn full_table_refuses_new_claims_only() {
    let owner = Owner::new();
    for count in 0..CLAIMS_MAX {
        let (host, port) = (count >> 16, count as u16);
        owner.claim(UDP, &format!("10.0.0.{host}"), port, Opens::None);
    }
    let one_more = key(TCP, "10.0.0.1", 80);
    let error = owner.steering.claim(&one_more, Opens::All).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    owner.claim(UDP, "10.0.0.1", 53, Opens::All);
    owner.steering.release(&key(UDP, "10.0.0.1", 53)).unwrap();
    owner.steering.claim(&one_more, Opens::All).unwrap();
}

#[test]
fn queue_beyond_the_table_and_other_sockets_are_refused() {
    let owner = Owner::new();
    let error = owner.steering.own_queue(QUEUES_MAX, owner.receiver.fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let error = owner.steering.own_queue(1, udp.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[test]
fn a_counted_claim_opens_so_many_connections() {
    let owner = Owner::new();
    let syn = |host: u8| frame::tcp_from(&format!("10.0.0.{host}:4000"), "10.0.0.1:80", SYN);
    owner.claim(TCP, "10.0.0.1", 80, Opens::Next(2));
    owner.check(&syn(2), Redirect);
    owner.check(&syn(3), Redirect);
    owner.check(&syn(4), Pass);
    // Again from those that were counted: they are ours already.
    owner.check(&syn(2), Redirect);
    owner.check(&syn(3), Redirect);
    owner.check(&frame::tcp("10.0.0.1:80", ACK), Redirect);
    owner.claim(TCP, "10.0.0.1", 80, Opens::Next(1));
    owner.check(&syn(3), Redirect);
    owner.check(&syn(4), Redirect);
    owner.check(&syn(5), Pass);
    owner.claim(TCP, "10.0.0.1", 80, Opens::None);
    owner.check(&syn(2), Pass);
}
