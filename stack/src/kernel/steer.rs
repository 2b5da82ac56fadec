//! Claims in the steering program: [`Steer`] on the interfaces whose queues this process owns.

use crate::Errno;
use crate::outside::{Claim, Opens, Protocol, Steer};
use std::sync::Arc;
use xdp_prog::{ClaimKey, Steering};

/// Claims on every interface at once, with one system call an interface. Whoever binds the AF_XDP sockets shares the
/// [`Steering`]s, to make them the receivers of their queues.
#[derive(Debug)]
pub struct KernelSteer {
    interfaces: Vec<Arc<Steering>>,
}

impl KernelSteer {
    /// Claims on these interfaces.
    pub fn new(interfaces: Vec<Arc<Steering>>) -> KernelSteer {
        KernelSteer { interfaces }
    }
}

impl Steer for KernelSteer {
    fn claim(&mut self, claim: Claim, opens: Opens) -> Result<(), Errno> {
        let key = key(claim);
        let opens = match opens {
            Opens::None => xdp_prog::Opens::None,
            Opens::Next(count) => xdp_prog::Opens::Next(count),
            Opens::All => xdp_prog::Opens::All,
        };
        let claimed = self.interfaces.iter().try_for_each(|steering| steering.claim(&key, opens));
        claimed.map_err(|error| {
            tracing::debug!(%error, ?claim, "cannot claim");
            // On all of the interfaces or on none.
            self.release(claim);
            Errno::ENOBUFS
        })
    }

    fn release(&mut self, claim: Claim) {
        let key = key(claim);
        for steering in &self.interfaces {
            if let Err(error) = steering.release(&key) {
                tracing::debug!(%error, ?claim, "nothing to release");
            }
        }
    }
}

fn key(claim: Claim) -> ClaimKey {
    let protocol = match claim.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    ClaimKey::new(protocol as u8, claim.address, claim.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use xdp_prog::{CLAIMS_MAX, Mode};

    /// The loopback interface of a new namespace, which the calling thread moves into: always the first.
    const LOOPBACK: u32 = 1;

    /// The shares of two owners, in place of one owner's on two interfaces.
    fn two_shares() -> [Arc<Steering>; 2] {
        // SAFETY: takes a number; only this thread moves.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "this test needs root");
        [(); 2].map(|()| Arc::new(Steering::attach(LOOPBACK, Mode::Auto).unwrap()))
    }

    fn claim(protocol: Protocol, address: &str, port: u16) -> Claim {
        Claim { protocol, address: address.parse().unwrap(), port }
    }

    #[test]
    fn claims_and_releases_on_every_interface() {
        let shares = two_shares();
        let mut steer = KernelSteer::new(shares.to_vec());
        for claim in [claim(Protocol::Tcp, "10.0.0.1", 80), claim(Protocol::Udp, "::", 53)] {
            steer.claim(claim, Opens::All).unwrap();
            steer.claim(claim, Opens::None).unwrap();
            shares.iter().for_each(|share| share.release(&key(claim)).unwrap());
            steer.claim(claim, Opens::Next(1)).unwrap();
            steer.release(claim);
            assert!(shares.iter().all(|share| share.release(&key(claim)).is_err()));
        }
    }

    #[test]
    fn table_that_is_full_on_one_interface_leaves_no_claim_on_another() {
        let [with_room, full] = two_shares();
        for count in 0..CLAIMS_MAX {
            let address = IpAddr::from((count >> 16).to_be_bytes());
            full.claim(&ClaimKey::new(libc::IPPROTO_UDP as u8, address, count as u16), xdp_prog::Opens::All).unwrap();
        }
        let mut steer = KernelSteer::new(vec![with_room.clone(), full]);
        let claim = claim(Protocol::Tcp, "10.0.0.1", 80);
        assert_eq!(steer.claim(claim, Opens::All), Err(Errno::ENOBUFS));
        with_room.release(&key(claim)).unwrap_err();
    }
}
