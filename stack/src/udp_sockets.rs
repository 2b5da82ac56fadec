//! UDP sockets, and whose a datagram is: that of the exact peer, then of the exact address, then of every address.

use crate::datagram_queue::DatagramQueue;
use crate::flow_table::FlowKey;
use crate::limits::UDP_SOCKETS_MAX;
use crate::outside::NextHop;
use crate::port_space::ClaimId;
use crate::ready_list::Watch;
use crate::slab::{Key, Slab};
use crate::socket::tcp::ListenAddress;
use crate::socket::udp::Binding;
use ahash::RandomState;
use std::collections::HashMap;
use std::net::IpAddr;

/// A UDP socket.
pub struct UdpSocket {
    /// Where it is bound and connected.
    pub binding: Binding,
    /// SO_RCVBUF in bytes.
    pub receive_limit: usize,
    /// What it has received.
    pub queue: DatagramQueue,
    /// Its claims: two where it is bound to every address of both families.
    pub claims: Vec<ClaimId>,
    /// Its place in the ready list.
    pub watch: Watch,
    /// How its last datagram went.
    pub way: Option<Way>,
}

/// A next hop, as it was found.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Asked for from this address.
    pub local: Option<IpAddr>,
    /// Asked for to this address.
    pub remote: IpAddr,
    /// The answer.
    pub next_hop: NextHop,
    /// When: of the routes' generations.
    pub generation: u64,
}

/// Where datagrams are looked for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Those between two ends.
    Connected(FlowKey),
    /// Those to an address and a port.
    Bound(ListenAddress, u16),
}

impl Place {
    fn of(binding: &Binding) -> Self {
        match (binding.address, binding.peer) {
            (ListenAddress::One(ip), Some(peer)) => Place::Connected(FlowKey::new((ip, binding.port).into(), peer)),
            (address, _) => Place::Bound(address, binding.port),
        }
    }
}

/// The UDP sockets of a stack.
pub struct UdpSockets {
    slab: Slab<UdpSocket>,
    by_place: HashMap<Place, Vec<Key>, RandomState>,
}

impl UdpSockets {
    /// No sockets; `seed` keys the hash.
    pub fn new(seed: u64) -> Self {
        let by_place = HashMap::with_hasher(RandomState::with_seed(seed as usize));
        UdpSockets { slab: Slab::new(UDP_SOCKETS_MAX), by_place }
    }

    /// Adds one; `None` when there are too many.
    pub fn insert(&mut self, make: impl Fn() -> UdpSocket) -> Option<Key> {
        let key = self.slab.insert(|| Some(make()), |old| *old = make())?;
        self.enter(key);
        Some(key)
    }

    /// Removes one.
    pub fn remove(&mut self, key: Key) {
        self.leave(key);
        if let Some(socket) = self.slab.get_mut(key) {
            // Its memory does not wait for the next socket.
            socket.queue = DatagramQueue::default();
        }
        self.slab.remove(key);
    }

    /// Has a socket be found where it is bound now.
    pub fn rebind(&mut self, key: Key, binding: Binding) {
        self.leave(key);
        if let Some(socket) = self.slab.get_mut(key) {
            socket.binding = binding;
        }
        self.enter(key);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// The socket.
    pub fn get(&self, key: Key) -> Option<&UdpSocket> {
        self.slab.get(key)
    }

    /// The socket.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut UdpSocket> {
        self.slab.get_mut(key)
    }

    /// Whose a datagram with these ends is. Of several at the same place it is the one that was bound last, or, of those
    /// with SO_REUSEPORT, the one that a hash of both ends chooses (socket(7)).
    pub fn find(&self, ends: &FlowKey) -> Option<Key> {
        let local = ends.local();
        let any_of_family = if local.is_ipv4() { ListenAddress::AnyV4 } else { ListenAddress::AnyV6 };
        let bound = [ListenAddress::One(local.ip()), any_of_family, ListenAddress::Any];
        let places = bound.map(|address| Place::Bound(address, local.port()));
        let mut candidates = std::iter::once(Place::Connected(*ends)).chain(places);
        let here = candidates.find_map(|place| self.by_place.get(&place))?;
        let last = *here.last()?;
        if here.len() > 1 && self.slab.get(last)?.binding.shares_port {
            let hash = self.by_place.hasher().hash_one(ends);
            return here.get(hash as usize % here.len()).copied();
        }
        Some(last)
    }

    fn enter(&mut self, key: Key) {
        if let Some(socket) = self.slab.get(key) {
            self.by_place.entry(Place::of(&socket.binding)).or_default().push(key);
        }
    }

    fn leave(&mut self, key: Key) {
        let Some(socket) = self.slab.get(key) else { return };
        let place = Place::of(&socket.binding);
        if let Some(here) = self.by_place.get_mut(&place) {
            here.retain(|&other| other != key);
            if here.is_empty() {
                self.by_place.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::SocketAddr;

    fn socket(address: ListenAddress, peer: Option<&str>, shares_port: bool) -> UdpSocket {
        let peer = peer.map(|peer| peer.parse().unwrap());
        UdpSocket {
            binding: Binding { address, port: 53, peer, shares_port },
            receive_limit: 1000,
            queue: DatagramQueue::default(),
            claims: Vec::new(),
            watch: Watch::default(),
            way: None,
        }
    }

    fn one(address: &str) -> ListenAddress {
        ListenAddress::One(address.parse().unwrap())
    }

    fn ends(local: &str, remote: &str) -> FlowKey {
        let local: SocketAddr = local.parse().unwrap();
        FlowKey::new(local, remote.parse().unwrap())
    }

    #[test]
    fn the_most_exact_place_wins() {
        let mut sockets = UdpSockets::new(1);
        let places = [
            (ListenAddress::Any, None),
            (ListenAddress::AnyV4, None),
            (one("10.0.0.1"), None),
            (one("10.0.0.1"), Some("10.0.0.2:4000")),
        ];
        let keys = places.map(|(address, peer)| sockets.insert(|| socket(address, peer, false)).unwrap());
        let check = |sockets: &UdpSockets, local: &str, remote: &str, expected: Option<usize>| {
            assert_eq!(sockets.find(&ends(local, remote)), expected.map(|at| keys[at]), "{local} {remote}");
        };
        check(&sockets, "10.0.0.1:53", "10.0.0.2:4000", Some(3));
        check(&sockets, "10.0.0.1:53", "10.0.0.2:4001", Some(2));
        check(&sockets, "10.0.0.7:53", "10.0.0.2:4000", Some(1));
        check(&sockets, "[fd00::1]:53", "[fd00::2]:4000", Some(0));
        check(&sockets, "10.0.0.1:54", "10.0.0.2:4000", None);
        let other_peer =
            Binding { peer: Some("10.0.0.2:4001".parse().unwrap()), ..sockets.get(keys[3]).unwrap().binding };
        sockets.rebind(keys[3], other_peer);
        check(&sockets, "10.0.0.1:53", "10.0.0.2:4000", Some(2));
        check(&sockets, "10.0.0.1:53", "10.0.0.2:4001", Some(3));
        sockets.remove(keys[2]);
        sockets.remove(keys[1]);
        check(&sockets, "10.0.0.1:53", "10.0.0.2:4000", Some(0));
        assert_eq!(sockets.by_place.len(), 2);
    }

    #[test]
    fn the_last_one_bound_has_a_place_that_is_only_reused() {
        let mut sockets = UdpSockets::new(1);
        let keys = [(); 2].map(|()| sockets.insert(|| socket(ListenAddress::AnyV4, None, false)).unwrap());
        assert_eq!(sockets.find(&ends("10.0.0.1:53", "10.0.0.2:1")), Some(keys[1]));
        sockets.remove(keys[1]);
        assert_eq!(sockets.find(&ends("10.0.0.1:53", "10.0.0.2:1")), Some(keys[0]));
    }

    #[test]
    fn a_hash_spreads_peers_over_those_that_share_a_port() {
        let mut sockets = UdpSockets::new(1);
        let keys = [(); 4].map(|()| sockets.insert(|| socket(ListenAddress::AnyV4, None, true)).unwrap());
        let found = |sockets: &UdpSockets, port: u16| {
            sockets.find(&FlowKey::new(([10, 0, 0, 1], 53).into(), ([10, 0, 0, 2], port).into())).unwrap()
        };
        let all: HashSet<Key> = (1000..1100).map(|port| found(&sockets, port)).collect();
        assert_eq!(all, keys.into_iter().collect());
        assert_eq!(found(&sockets, 1000), found(&sockets, 1000));
    }
}
