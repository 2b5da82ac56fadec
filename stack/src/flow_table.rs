//! Demultiplexing: from a segment's addresses and ports to its flow, in O(1).

use crate::slab::Key;
use ahash::RandomState;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A flow's 4-tuple, as small as it can be. IPv4 addresses are kept as IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    local_address: [u8; 16],
    remote_address: [u8; 16],
    local_port: u16,
    remote_port: u16,
}

impl FlowKey {
    /// The key of the flow between `local` and `remote`.
    #[inline]
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        FlowKey {
            local_address: to_octets(local.ip()),
            remote_address: to_octets(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// Our end.
    #[inline]
    pub fn local(&self) -> SocketAddr {
        (from_octets(self.local_address), self.local_port).into()
    }

    /// The peer's end.
    #[inline]
    pub fn remote(&self) -> SocketAddr {
        (from_octets(self.remote_address), self.remote_port).into()
    }
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u128(u128::from_ne_bytes(self.local_address));
        hasher.write_u128(u128::from_ne_bytes(self.remote_address));
        hasher.write_u32(u32::from(self.local_port) << 16 | u32::from(self.remote_port));
    }
}

#[inline]
fn to_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[inline]
fn from_octets(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
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
