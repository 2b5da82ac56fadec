//! Our claims on local ports: each is held by listeners, UDP sockets and flows, and released with its last holder.

use crate::outside::{Claim, Opens, Protocol, Steer};
use crate::slab::{Key, Slab};
use crate::{Errno, limits};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A claim in the port space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimId(Key);

#[cfg(test)]
impl ClaimId {
    pub(crate) const TEST: Self = ClaimId(Key::TEST);
}

struct Holders {
    claim: Claim,
    listeners: usize,
    flows: usize,
}

/// The claims of this stack.
pub struct PortSpace {
    steer: Box<dyn Steer>,
    holders: Slab<Holders>,
    by_claim: HashMap<Claim, Key>,
}

impl PortSpace {
    /// A port space without claims.
    pub fn new(steer: Box<dyn Steer>) -> Self {
        PortSpace { steer, holders: Slab::new(limits::CLAIMS_MAX), by_claim: HashMap::new() }
    }

    /// Claims a port for a listener. A claim that only flows hold steers new connections to us again.
    ///
    /// # Errors
    /// `ENOBUFS`: no room for another claim.
    pub fn hold_for_listener(&mut self, address: IpAddr, port: u16) -> Result<ClaimId, Errno> {
        self.hold(Claim { protocol: Protocol::Tcp, address, port })
    }

    /// Claims a port for a UDP socket; `release_by_listener` releases it.
    ///
    /// # Errors
    /// `ENOBUFS`: no room for another claim.
    pub fn hold_for_datagrams(&mut self, address: IpAddr, port: u16) -> Result<ClaimId, Errno> {
        self.hold(Claim { protocol: Protocol::Udp, address, port })
    }

    fn hold(&mut self, claim: Claim) -> Result<ClaimId, Errno> {
        let key = self.find_or_add(claim)?;
        if let Some(holders) = self.holders.get_mut(key) {
            if holders.listeners == 0
                && let Err(errno) = self.steer.claim(claim, Opens::All)
            {
                self.forget_if_unheld(key);
                return Err(errno);
            }
            holders.listeners += 1;
        }
        Ok(ClaimId(key))
    }

    /// Claims a port for a flow that we open. Where we listen on it for every address, that claim serves.
    ///
    /// # Errors
    /// `ENOBUFS`: no room for another claim.
    pub fn hold_for_connect(&mut self, address: IpAddr, port: u16) -> Result<ClaimId, Errno> {
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        for address in [address, any] {
            if let Some(&key) = self.by_claim.get(&Claim { protocol: Protocol::Tcp, address, port }) {
                self.hold_for_flow(ClaimId(key));
                return Ok(ClaimId(key));
            }
        }
        let claim = Claim { protocol: Protocol::Tcp, address, port };
        let key = self.find_or_add(claim)?;
        if let Err(errno) = self.steer.claim(claim, Opens::None) {
            self.forget_if_unheld(key);
            return Err(errno);
        }
        self.hold_for_flow(ClaimId(key));
        Ok(ClaimId(key))
    }

    /// Another flow lives by this claim.
    pub fn hold_for_flow(&mut self, id: ClaimId) {
        if let Some(holders) = self.holders.get_mut(id.0) {
            holders.flows += 1;
        }
    }

    /// Has a listener's claim take other segments that open a connection than all of them.
    pub fn set_opens(&mut self, id: ClaimId, opens: Opens) {
        if let Some(holders) = self.holders.get(id.0) {
            // The claim exists, so changing it needs no room and cannot fail for want of it.
            let _ = self.steer.claim(holders.claim, opens);
        }
    }

    /// A listener is gone. While flows are left their packets still come to us, but new connections go to the
    /// kernel: another process may listen there.
    pub fn release_by_listener(&mut self, id: ClaimId) {
        let Some(holders) = self.holders.get_mut(id.0) else { return };
        holders.listeners -= 1;
        if holders.listeners == 0 && holders.flows > 0 {
            // As above.
            let _ = self.steer.claim(holders.claim, Opens::None);
        }
        self.release_if_unheld(id.0);
    }

    /// A flow is gone.
    pub fn release_by_flow(&mut self, id: ClaimId) {
        let Some(holders) = self.holders.get_mut(id.0) else { return };
        holders.flows -= 1;
        self.release_if_unheld(id.0);
    }

    /// Whether anything of ours lives on a local port: then the kernel must go on reserving it.
    pub fn is_held(&self, address: IpAddr, port: u16) -> bool {
        self.by_claim.contains_key(&Claim { protocol: Protocol::Tcp, address, port })
    }

    fn find_or_add(&mut self, claim: Claim) -> Result<Key, Errno> {
        if let Some(&key) = self.by_claim.get(&claim) {
            return Ok(key);
        }
        let fresh = || Holders { claim, listeners: 0, flows: 0 };
        let key = self.holders.insert(|| Some(fresh()), |old| *old = fresh()).ok_or(Errno::ENOBUFS)?;
        self.by_claim.insert(claim, key);
        Ok(key)
    }

    fn release_if_unheld(&mut self, key: Key) {
        if let Some(claim) = self.forget_if_unheld(key) {
            self.steer.release(claim);
        }
    }

    fn forget_if_unheld(&mut self, key: Key) -> Option<Claim> {
        let holders = self.holders.get(key)?;
        if holders.listeners + holders.flows > 0 {
            return None;
        }
        let claim = holders.claim;
        self.by_claim.remove(&claim);
        self.holders.remove(key);
        Some(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Table(Arc<Mutex<HashMap<Claim, Opens>>>);

    impl Steer for Table {
        fn claim(&mut self, claim: Claim, opens: Opens) -> Result<(), Errno> {
            if claim.port == 1 {
                return Err(Errno::ENOBUFS);
            }
            self.0.lock().unwrap().insert(claim, opens);
            Ok(())
        }

        fn release(&mut self, claim: Claim) {
            assert!(self.0.lock().unwrap().remove(&claim).is_some());
        }
    }

    fn opens(table: &Table, port: u16) -> Option<Opens> {
        table.0.lock().unwrap().iter().find(|(claim, _)| claim.port == port).map(|(_, &opens)| opens)
    }

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn flows_outlive_their_listener_without_taking_new_connections() {
        let table = Table::default();
        let mut ports = PortSpace::new(Box::new(table.clone()));
        let claim = ports.hold_for_listener(ANY, 80).unwrap();
        ports.hold_for_flow(claim);
        assert_eq!(opens(&table, 80), Some(Opens::All));
        ports.release_by_listener(claim);
        assert_eq!(opens(&table, 80), Some(Opens::None));
        assert_eq!(ports.hold_for_listener(ANY, 80).unwrap(), claim);
        assert_eq!(opens(&table, 80), Some(Opens::All));
        ports.release_by_listener(claim);
        ports.release_by_flow(claim);
        assert_eq!(opens(&table, 80), None);
    }

    #[test]
    fn a_connect_from_a_listening_port_shares_its_claim() {
        let table = Table::default();
        let mut ports = PortSpace::new(Box::new(table.clone()));
        let listener = ports.hold_for_listener(ANY, 80).unwrap();
        assert_eq!(ports.hold_for_connect(ONE, 80).unwrap(), listener);
        let own = ports.hold_for_connect(ONE, 81).unwrap();
        assert!(ports.is_held(ONE, 81));
        ports.release_by_flow(own);
        assert!(!ports.is_held(ONE, 81));
    }

    #[test]
    fn datagrams_and_segments_are_claimed_apart() {
        let table = Table::default();
        let mut ports = PortSpace::new(Box::new(table.clone()));
        let datagrams = [ports.hold_for_datagrams(ANY, 53).unwrap(), ports.hold_for_datagrams(ANY, 53).unwrap()];
        let listener = ports.hold_for_listener(ANY, 53).unwrap();
        assert_eq!(datagrams[0], datagrams[1]);
        assert_ne!(datagrams[0], listener);
        ports.release_by_listener(listener);
        ports.release_by_listener(datagrams[0]);
        let claim = Claim { protocol: Protocol::Udp, address: ANY, port: 53 };
        assert_eq!(table.0.lock().unwrap().keys().collect::<Vec<_>>(), [&claim]);
        ports.release_by_listener(datagrams[1]);
        assert_eq!(opens(&table, 53), None);
    }

    #[test]
    fn a_refused_claim_leaves_nothing_behind() {
        let mut ports = PortSpace::new(Box::new(Table::default()));
        assert_eq!(ports.hold_for_listener(ANY, 1), Err(Errno::ENOBUFS));
        assert_eq!(ports.hold_for_connect(ONE, 1), Err(Errno::ENOBUFS));
        assert_eq!((ports.holders.len(), ports.by_claim.len()), (0, 0));
    }
}
