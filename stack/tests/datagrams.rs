//! UDP sockets: two stacks on a wire, on a virtual clock.

// Each test file uses its part of the world.
#[allow(dead_code)]
mod sim;

use sim::{CLIENT, Conditions, PORT, SERVER, UNREACHABLE, World, pattern};
use stack::link::fault::Faults;
use stack::outside::{Claim, Protocol};
use stack::socket::tcp::ListenAddress;
use stack::socket::udp::{Binding, Dispatch};
use stack::socket::{Socket, UdpId};
use stack::{Duration, Errno, Readiness};
use std::collections::HashSet;
use std::iter;
use std::net::{IpAddr, SocketAddr};

const TOKEN: u64 = 7;
const LIMIT: usize = 100_000;

fn bound(address: ListenAddress, port: u16) -> Binding {
    Binding { address, port, peer: None, shares_port: false }
}

fn connected(address: IpAddr, port: u16, peer: (IpAddr, u16)) -> Binding {
    Binding { peer: Some(peer.into()), ..bound(ListenAddress::One(address), port) }
}

fn to(address: IpAddr, port: u16, len: usize) -> Dispatch {
    let to = SocketAddr::new(address, port);
    Dispatch { to, from: None, interface: None, hop_limit: 61, traffic_class: 0x2e, may_fragment: false, len }
}

/// A client's and a server's socket.
struct Pair {
    world: World,
    client: UdpId,
    server: UdpId,
}

impl Pair {
    fn new(conditions: Conditions) -> Self {
        let mut world = World::new(conditions);
        let client = world.client.udp_open(bound(ListenAddress::One(CLIENT), 4000), LIMIT, TOKEN).unwrap();
        let server = world.server.udp_open(bound(ListenAddress::AnyV4, PORT), LIMIT, TOKEN).unwrap();
        Pair { world, client, server }
    }

    fn send(&mut self, payload: &[u8]) -> bool {
        let Pair { world, client, .. } = self;
        world.client.udp_send(*client, &to(SERVER, PORT, payload.len()), payload.chunks(7), world.now)
    }

    /// The next datagram of the server's, as much of it as fits.
    fn received(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; room];
        let arrival = self.world.server.udp_receive(self.server, bytes.chunks_mut(5), false).ok()?;
        assert_eq!(arrival.source, SocketAddr::new(CLIENT, 4000));
        bytes.truncate(arrival.len);
        Some(bytes)
    }

    fn step(&mut self) {
        self.world.run_for(Duration::from_millis(5));
    }
}

#[test]
fn a_datagram_arrives_whole_and_says_where_from() {
    let mut pair = Pair::new(Conditions::calm());
    let Pair { server, .. } = pair;
    assert_eq!(pair.world.server.readiness(Socket::Udp(server)), Readiness::WRITABLE);
    for payload in [&b"hello"[..], b"", &[7; 1472]] {
        assert!(pair.send(payload));
    }
    pair.step();
    let ready = pair.world.server.next_ready().unwrap();
    assert_eq!((ready.socket, ready.token, ready.rose), (Socket::Udp(server), TOKEN, Readiness::READABLE));
    assert!(pair.world.server.readiness(Socket::Udp(server)).contains(Readiness::READABLE));
    let next = *pair.world.server.udp_next(server).unwrap();
    assert_eq!((next.len, next.destination, next.hop_limit, next.traffic_class), (5, SERVER, 61, 0x2e));
    let mut bytes = [0; 5];
    assert_eq!(pair.world.server.udp_receive(server, iter::once(&mut bytes[..]), true), Ok(next));
    assert_eq!(&bytes, b"hello");
    assert_eq!(pair.received(3).unwrap(), b"hel");
    assert_eq!(pair.received(10).unwrap(), b"");
    assert_eq!(pair.received(2000).unwrap(), [7; 1472]);
    assert_eq!(pair.world.server.udp_receive(server, iter::empty(), false), Err(Errno::EAGAIN));
    assert_eq!(pair.world.server.counters().datagrams_received, 3);
    assert_eq!(pair.world.client.counters().datagrams_sent, 3);
}

#[test]
fn what_does_not_fit_the_rings_is_the_kernels_to_send() {
    let mut pair = Pair::new(Conditions { resolve: Duration::from_secs(1), ..Conditions::calm() });
    assert!(!pair.send(b"before the neighbour is known"));
    pair.world.run_for(Duration::from_secs(2));
    pair.world.now += Duration::from_secs(2);
    assert!(pair.send(b"x"));
    assert!(!pair.send(&[7; 1473]));
    let Pair { world, client, .. } = &mut pair;
    for refused in [to(UNREACHABLE, PORT, 1), to(SERVER, 0, 1), to("fd00::1".parse().unwrap(), PORT, 1)] {
        assert!(!world.client.udp_send(*client, &refused, iter::once(&b"x"[..]), world.now), "{refused:?}");
    }
    pair.step();
    assert_eq!(pair.received(2).unwrap(), b"x");
    assert_eq!(pair.received(2), None);
}

#[test]
fn the_receive_queue_is_bounded() {
    let mut pair = Pair::new(Conditions::calm());
    pair.world.server.udp_set_receive_limit(pair.server, 3000);
    for _ in 0..10 {
        assert!(pair.send(&[7; 1000]));
    }
    pair.step();
    let received = iter::from_fn(|| pair.received(1000)).count();
    assert_eq!(received, 2);
    assert_eq!(pair.world.server.counters().drop_receive_queue, 8);
    assert!(pair.send(b"room again"));
    pair.step();
    assert_eq!(pair.received(100).unwrap(), b"room again");
}

#[test]
fn a_connected_socket_hears_its_peer_alone() {
    let mut pair = Pair::new(Conditions::calm());
    let elsewhere = connected(SERVER, PORT, (CLIENT, 4001));
    pair.world.server.udp_rebind(pair.server, elsewhere).unwrap();
    assert!(pair.send(b"from a stranger"));
    pair.step();
    assert_eq!(pair.world.server.counters().drop_no_socket, 1);
    pair.world.server.udp_rebind(pair.server, connected(SERVER, PORT, (CLIENT, 4000))).unwrap();
    assert!(pair.send(b"from the peer"));
    pair.step();
    assert_eq!(pair.received(100).unwrap(), b"from the peer");
}

#[test]
fn claims_follow_the_socket() {
    let mut pair = Pair::new(Conditions::calm());
    let claims = pair.world.server_claims.clone();
    let claimed = || {
        let claims = claims.0.lock().unwrap();
        claims.keys().map(|claim| (claim.protocol, claim.address, claim.port)).collect::<HashSet<_>>()
    };
    let claim = |address: &str, port| {
        let Claim { protocol, address, port } =
            Claim { protocol: Protocol::Udp, address: address.parse().unwrap(), port };
        (protocol, address, port)
    };
    assert_eq!(claimed(), HashSet::from([claim("0.0.0.0", PORT)]));
    pair.world.server.udp_rebind(pair.server, bound(ListenAddress::Any, 53)).unwrap();
    assert_eq!(claimed(), HashSet::from([claim("0.0.0.0", 53), claim("::", 53)]));
    pair.world.server.udp_rebind(pair.server, connected(SERVER, 53, (CLIENT, 1))).unwrap();
    assert_eq!(claimed(), HashSet::from([claim("10.0.0.2", 53)]));
    pair.world.server.udp_release(pair.server);
    assert_eq!(claimed(), HashSet::new());
    pair.world.server.udp_close(pair.server);
    assert_eq!(pair.world.server.udp_receive(pair.server, iter::empty(), false), Err(Errno::EAGAIN));
}

#[test]
fn a_bad_wire_loses_datagrams_and_changes_none() {
    let reorder_delay_max = Duration::from_millis(20);
    let (loss_permille, duplicate_permille, corrupt_permille, reorder_permille) = (100, 100, 200, 200);
    let faults = Faults {
        loss_permille,
        duplicate_permille,
        corrupt_permille,
        reorder_permille,
        reorder_delay_max,
        ..Faults::default()
    };
    let mut pair = Pair::new(Conditions { faults, ..Conditions::calm() });
    let payload = |number: usize| (0..number).map(|at| pattern(number * 7 + at)).collect::<Vec<u8>>();
    let mut received = HashSet::new();
    for number in 0..500 {
        assert!(pair.send(&payload(number)));
        pair.step();
        while let Some(bytes) = pair.received(2000) {
            assert_eq!(bytes, payload(bytes.len()));
            received.insert(bytes.len());
        }
    }
    assert!(received.len() > 200, "{}", received.len());
    assert!(received.len() < 500);
}
