//! Demultiplexing: from a segment's addresses and ports to its flow, in O(1).

use crate::slab::Key;
use ahash::RandomState;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A flow's 4-tuple. IPv4 addresses are kept as IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    local_address: u128,
    remote_address: u128,
    local_port: u16,
    remote_port: u16,
}

impl FlowKey {
    /// The key of the flow between `local` and `remote`.
    #[inline]
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        FlowKey {
            local_address: to_bits(local.ip()),
            remote_address: to_bits(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// Our end.
    #[inline]
    pub fn local(&self) -> SocketAddr {
        (from_bits(self.local_address), self.local_port).into()
    }

    /// The peer's end.
    #[inline]
    pub fn remote(&self) -> SocketAddr {
        (from_bits(self.remote_address), self.remote_port).into()
    }
}

#[inline]
fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[inline]
fn from_bits(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).to_canonical()
}

/// Which flow a 4-tuple belongs to. The hash is keyed, so that peers cannot choose tuples that collide.
pub struct FlowTable(HashMap<FlowKey, Key, RandomState>);

impl FlowTable {
    /// An empty table; `seed` keys its hash.
    pub fn new(seed: u64) -> Self {
        FlowTable(HashMap::with_hasher(RandomState::with_seed(seed as usize)))
    }

    /// The flow of a 4-tuple.
    #[inline]
    pub fn get(&self, key: &FlowKey) -> Option<Key> {
        self.0.get(key).copied()
    }

    /// Adds a flow whose 4-tuple is not yet in the table.
    pub fn insert(&mut self, key: FlowKey, flow: Key) {
        let previous = self.0.insert(key, flow);
        debug_assert!(previous.is_none());
    }

    /// Removes a 4-tuple, if it is `flow`'s.
    pub fn remove(&mut self, key: &FlowKey, flow: Key) {
        if self.get(key) == Some(flow) {
            self.0.remove(key);
        }
    }
}
