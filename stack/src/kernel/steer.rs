//! Claims in the steering program: [`Steer`] on the interfaces whose queues this process owns.

use crate::Errno;
use crate::outside::{Claim, Protocol, Steer};
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
    fn claim(&mut self, claim: Claim, opens: bool) -> Result<(), Errno> {
        let key = key(claim);
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
