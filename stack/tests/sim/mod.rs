//! Two stacks on a wire with faults, on a virtual clock: everything follows from the seed.

pub mod party;

use stack::limits::LINK_HEADER_LEN_MAX;
use stack::link::fault::{Fault, FaultClock, Faults};
use stack::link::wire::{WireClock, WireConfig, wire};
use stack::outside::{Claim, Hop, InterfaceId, NextHop, Opens, Routes, Steer};
use stack::socket::tcp::{ListenAddress, TcpOptions};
use stack::socket::{FlowId, ListenerId};
use stack::stack::Stack;
use stack::{Duration, Errno, Instant};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

/// The wire's only interface.
pub const INTERFACE: InterfaceId = InterfaceId(0);

/// Routes where everybody is a neighbour, from `resolved_at` on.
pub struct FlatRoutes {
    pub resolved_at: Instant,
    pub mtu: u16,
}

impl Routes for FlatRoutes {
    fn next_hop(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop {
        let mut header = [0; LINK_HEADER_LEN_MAX];
        header[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        header[12..14].copy_from_slice(if remote.is_ipv4() { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        let source = local.unwrap_or(remote);
        let next_hop =
            NextHop { interface: INTERFACE, source, header, header_len: 14, mtu: self.mtu, is_on_link: true };
        match remote {
            _ if remote == UNREACHABLE => Hop::Unreachable(Errno::ENETUNREACH),
            _ if now < self.resolved_at => Hop::Resolving(next_hop),
            _ => Hop::Ready(next_hop),
        }
    }

    fn generation(&self) -> u64 {
        0
    }

    fn refresh(&mut self, _: Instant) {}
}

/// What a stack has claimed, for the test to look at.
#[derive(Clone, Default)]
pub struct Claims(pub Arc<Mutex<HashMap<Claim, Opens>>>);

impl Steer for Claims {
    fn claim(&mut self, claim: Claim, opens: Opens) -> Result<(), Errno> {
        self.0.lock().unwrap().insert(claim, opens);
        Ok(())
    }

    fn release(&mut self, claim: Claim) {
        self.0.lock().unwrap().remove(&claim);
    }
}

/// The client's address.
pub const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
/// The server's address.
pub const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
/// An address without a route.
pub const UNREACHABLE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9));
/// The server's port.
pub const PORT: u16 = 80;

/// What the world is like.
#[derive(Clone, Copy)]
pub struct Conditions {
    pub wire: WireConfig,
    pub faults: Faults,
    pub seed: u64,
    /// How long the client's kernel takes to find its neighbour.
    pub resolve: Duration,
}

impl Conditions {
    pub fn calm() -> Self {
        let wire = WireConfig { delay: Duration::from_micros(500), ..WireConfig::default() };
        Conditions { wire, faults: Faults::default(), seed: 1, resolve: Duration::ZERO }
    }
}

/// A client and a server.
pub struct World {
    pub now: Instant,
    pub client: Stack,
    pub server: Stack,
    pub client_claims: Claims,
    pub server_claims: Claims,
    wire: WireClock,
    faults: [FaultClock; 2],
    next_port: u16,
}

impl World {
    pub fn new(conditions: Conditions) -> Self {
        let now = Instant::from_secs(1);
        let (near, far, clock) = wire(conditions.wire);
        let near = Fault::new(near, conditions.faults, conditions.seed);
        let far = Fault::new(far, conditions.faults, !conditions.seed);
        let faults = [near.clock(), far.clock()];
        let (client_claims, server_claims) = (Claims::default(), Claims::default());
        let stack = |claims: &Claims, resolved_at, seed| {
            let routes = FlatRoutes { resolved_at, mtu: conditions.wire.mtu as u16 };
            Stack::new(Box::new(routes), Box::new(claims.clone()), seed, now)
        };
        let mut client = stack(&client_claims, now + conditions.resolve, conditions.seed);
        let mut server = stack(&server_claims, now, conditions.seed ^ 0xffff);
        client.add_link(INTERFACE, Box::new(near));
        server.add_link(INTERFACE, Box::new(far));
        World { now, client, server, client_claims, server_claims, wire: clock, faults, next_port: 32_768 }
    }

    pub fn listen(&mut self, backlog: usize) -> ListenerId {
        self.server.tcp_listen(ListenAddress::AnyV4, PORT, backlog, TcpOptions::default(), 7).unwrap()
    }

    pub fn connect(&mut self) -> FlowId {
        self.connect_from(self.next_port)
    }

    pub fn connect_from(&mut self, port: u16) -> FlowId {
        self.next_port = port.checked_add(1).unwrap_or(32_768);
        let (local, remote) = (SocketAddr::new(CLIENT, port), SocketAddr::new(SERVER, PORT));
        self.client.tcp_connect(local, remote, TcpOptions::default(), 9, self.now).unwrap()
    }

    /// A client's flow and the server's end of it.
    pub fn connected(&mut self, listener: ListenerId) -> (FlowId, FlowId) {
        let client = self.connect();
        let mut accepted = None;
        self.run_until(|world| {
            accepted = accepted.or_else(|| world.server.tcp_accept(listener).ok());
            accepted.is_some() && world.client.tcp_connected(client).is_ok()
        });
        (client, accepted.unwrap())
    }

    /// Turns both stacks once, then moves the clock to whatever happens next. False when nothing ever will.
    pub fn step(&mut self) -> bool {
        let progressed = self.client.poll(self.now) | self.server.poll(self.now);
        if progressed {
            return true;
        }
        let deadlines = [self.client.deadline(), self.server.deadline(), self.wire.next_arrival()];
        let releases = self.faults.iter().map(FaultClock::next_release);
        match deadlines.into_iter().chain(releases).flatten().min() {
            Some(next) => {
                self.now = next.max(self.now + Duration::from_micros(1));
                true
            }
            None => false,
        }
    }

    /// Steps until `done`; panics if nothing will ever happen again, or not within ten (virtual) hours.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut World) -> bool) {
        let end = self.now + Duration::from_secs(36_000);
        while !done(self) {
            assert!(self.step() || done(self), "everything is quiet and the condition does not hold");
            assert!(self.now < end, "ten hours have passed");
        }
    }

    /// Steps for a (virtual) while.
    pub fn run_for(&mut self, len: Duration) {
        let end = self.now + len;
        while self.now < end && self.step() {}
        self.now = self.now.max(end);
        self.client.poll(self.now);
        self.server.poll(self.now);
    }
}

/// Bytes that are wrong wherever they are moved to.
pub fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}
