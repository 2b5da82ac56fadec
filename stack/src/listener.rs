//! A listening socket: listen(2)'s backlog, half-open flows and the accept queue.

use crate::Instant;
use crate::limits::HALF_OPEN_MIN;
use crate::port_space::ClaimId;
use crate::ready_list::Watch;
use crate::slab::{Key, Slab};
use crate::socket::tcp::{ListenAddress, TcpOptions};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// A listener.
pub struct Listener {
    /// Where it listens.
    pub address: ListenAddress,
    /// Its port.
    pub port: u16,
    /// listen(2)'s bound on the accept queue.
    pub backlog: usize,
    /// Flows that have sent a SYN-ACK and wait for its ACK.
    pub half_open: usize,
    /// When the latest of them was heard of.
    pub syn_at: Instant,
    /// Until when the SYN cookies are good that were sent because there were too many of those.
    pub cookies_until: Option<Instant>,
    /// Flows that are established and wait for accept(2).
    pub accept_queue: VecDeque<Key>,
    /// What its flows inherit.
    pub options: TcpOptions,
    /// Its claims: two where it listens for both families.
    pub claims: Vec<ClaimId>,
    /// Its place in the ready list.
    pub watch: Watch,
}

impl Listener {
    /// Whether a new SYN gets a cookie: too many flows are half open.
    pub fn is_syn_queue_full(&self) -> bool {
        self.half_open >= self.backlog.max(HALF_OPEN_MIN)
    }

    /// Whether a SYN, or the ACK that would complete a flow, has to be ignored: the accept queue is full. Linux lets
    /// one more in than the backlog says.
    pub fn is_full(&self) -> bool {
        self.accept_queue.len() > self.backlog
    }

    /// The claim that covers flows to `address`.
    pub fn claim_for(&self, address: IpAddr) -> Option<ClaimId> {
        let second = self.claims.len() > 1 && address.is_ipv6();
        self.claims.get(usize::from(second)).copied()
    }
}

/// The listeners of a stack.
pub struct Listeners {
    slab: Slab<Listener>,
    by_port: HashMap<u16, Vec<Key>>,
}

impl Listeners {
    /// No listeners, and room for `len_max`.
    pub fn new(len_max: usize) -> Self {
        Listeners { slab: Slab::new(len_max), by_port: HashMap::new() }
    }

    /// Adds one; `None` when the table is full.
    pub fn insert(&mut self, make: impl Fn() -> Listener) -> Option<Key> {
        let key = self.slab.insert(|| Some(make()), |old| *old = make())?;
        let port = self.slab.get(key)?.port;
        self.by_port.entry(port).or_default().push(key);
        Some(key)
    }

    /// Removes one. Its accept queue is the caller's to empty.
    pub fn remove(&mut self, key: Key) {
        let Some(port) = self.slab.get(key).map(|listener| listener.port) else { return };
        if let Some(keys) = self.by_port.get_mut(&port) {
            keys.retain(|&other| other != key);
            if keys.is_empty() {
                self.by_port.remove(&port);
            }
        }
        self.slab.remove(key);
    }

    /// The listener.
    pub fn get(&self, key: Key) -> Option<&Listener> {
        self.slab.get(key)
    }

    /// The listener.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Listener> {
        self.slab.get_mut(key)
    }

    /// Who a SYN to `local` is for: the listener that names the address most exactly. Among equals (SO_REUSEPORT)
    /// `spread` chooses.
    pub fn find(&self, local: SocketAddr, spread: usize) -> Option<Key> {
        let keys = self.by_port.get(&local.port())?;
        let rank = |key: &Key| self.slab.get(*key).and_then(|listener| exactness(listener.address, local.ip()));
        let best = keys.iter().filter_map(rank).max()?;
        let mut equals = keys.iter().filter(|key| rank(key) == Some(best));
        match equals.clone().count() {
            1 => equals.next().copied(),
            count => equals.nth(spread % count).copied(),
        }
    }
}

/// How exactly a listening address names `local`; `None` if it does not.
fn exactness(address: ListenAddress, local: IpAddr) -> Option<u8> {
    match address {
        ListenAddress::One(address) => (address == local).then_some(2),
        ListenAddress::AnyV4 => local.is_ipv4().then_some(1),
        ListenAddress::AnyV6 => local.is_ipv6().then_some(1),
        ListenAddress::Any => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(addresses: &[ListenAddress]) -> (Listeners, Vec<Key>) {
        let mut listeners = Listeners::new(8);
        let keys = addresses.iter().map(|&address| {
            let make = || Listener {
                address,
                port: 80,
                backlog: 1,
                half_open: 0,
                syn_at: Instant::ZERO,
                cookies_until: None,
                accept_queue: VecDeque::new(),
                options: TcpOptions::default(),
                claims: Vec::new(),
                watch: Watch::default(),
            };
            listeners.insert(make).unwrap()
        });
        let keys = keys.collect();
        (listeners, keys)
    }

    #[test]
    fn the_most_exact_address_wins() {
        let one: IpAddr = [10, 0, 0, 1].into();
        let (mut listeners, keys) = listeners(&[ListenAddress::Any, ListenAddress::One(one), ListenAddress::AnyV4]);
        let check = |listeners: &Listeners, address: &str, expected: Option<usize>| {
            let local = SocketAddr::new(address.parse().unwrap(), 80);
            assert_eq!(listeners.find(local, 7), expected.map(|at| keys[at]), "{address}");
        };
        check(&listeners, "10.0.0.1", Some(1));
        check(&listeners, "10.0.0.2", Some(2));
        check(&listeners, "fd00::1", Some(0));
        listeners.remove(keys[1]);
        check(&listeners, "10.0.0.1", Some(2));
        assert_eq!(listeners.find(SocketAddr::new(one, 81), 0), None);
    }

    #[test]
    fn equals_share_by_the_spread() {
        let (listeners, keys) = listeners(&[ListenAddress::AnyV4, ListenAddress::AnyV4]);
        let local = ([10, 0, 0, 1], 80).into();
        assert_eq!(listeners.find(local, 4), Some(keys[0]));
        assert_eq!(listeners.find(local, 5), Some(keys[1]));
    }
}
