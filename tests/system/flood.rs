//! A SYN flood of sources that do not exist, while a server goes on serving those that do.

use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use userstack_bench::syn_flood::{SynFlood, parse_address};
use userstack_tests::servers::REDIS;
use userstack_tests::{Family, Host, Hosts, INTERFACE, Program, Scratch, Stack, resident_bytes, until};

/// Far more than the SYN queue of a listener holds, which then takes no more of them.
const SYNS_MIN: u64 = 5_000;

/// The flood ends by itself if its test fails.
const BURSTS_MAX: u32 = 30_000;

/// Much less than a socket each for the least of the flood.
const MEMORY_MARGIN_BYTES: u64 = 8 << 20;

/// Opens connections, keeps them, and uses each some times.
const CLIENTS: &str = "
import socket, sys
peers = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(100)]
for number in range(20):
    for peer in peers:
        text = b'%02d' % number * 2500
        peer.sendall(b'*2\\r\\n$4\\r\\nECHO\\r\\n$5000\\r\\n' + text + b'\\r\\n')
        answer = b''
        while len(answer) < 5009:
            answer += peer.recv(65536)
        assert answer == b'$5000\\r\\n' + text + b'\\r\\n'
print('served')
";

fn ethernet_address(host: &Host) -> [u8; 6] {
    let path = format!("/sys/class/net/{INTERFACE}/address");
    parse_address(&host.run(&["cat", &path])).expect("what the kernel says")
}

#[test]
fn a_hundred_clients_are_served_during_a_syn_flood() {
    let hosts = Hosts::new();
    let server = REDIS.start(&hosts.ours, Family::V4, Stack::Preloaded, &Scratch::new());
    let IpAddr::V4(ip) = hosts.ours.address(Family::V4) else { panic!("not of the family that was asked for") };
    let clients = || {
        let words = ["/usr/bin/python3", "-c", CLIENTS, &ip.to_string(), &REDIS.port.to_string()];
        assert_eq!(Program::new(words).run(&hosts.peer).succeeded().text(), "served\n");
    };
    clients();
    let bytes_before = resident_bytes(server.pid());
    let (from, to) = (ethernet_address(&hosts.peer), ethernet_address(&hosts.ours));
    let target = SocketAddrV4::new(ip, REDIS.port);
    let mut flood = hosts.peer.inside(|| SynFlood::open(INTERFACE, from, to, target, 1)).expect("a packet socket");
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in (0..BURSTS_MAX).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                flood.send(20).expect("the interface lives on");
                sent.store(flood.sent(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        until("the flood to be one", || (sent.load(Ordering::Relaxed) > SYNS_MIN).then_some(()));
        clients();
        is_over.store(true, Ordering::Relaxed);
    });
    clients();
    let bytes = resident_bytes(server.pid());
    assert!(bytes <= bytes_before + MEMORY_MARGIN_BYTES, "resident bytes: {bytes_before}, then {bytes}");
    assert!(hosts.ours.kernel_tcp().is_silent());
    let stats = server.stop(REDIS.stop_signal).stats;
    assert_eq!(stats.get("flows_accepted"), 300);
    assert!(stats.get("syn_cookies_sent") > SYNS_MIN / 2, "{stats:?}");
    assert!(stats.get("syn_cookies_accepted") >= 100, "{stats:?}");
}
