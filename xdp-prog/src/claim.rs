//! What a process claims, in the layout that the steering program looks up.

use std::net::IpAddr;

/// Which TCP segments that open a connection (SYN without ACK) a claim takes; the others pass to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// None: only what belongs to a connection, or is no TCP.
    None,
    /// The next so many, counted by queue in the steering program.
    Next(u32),
    /// All.
    All,
}

impl Opens {
    /// As the program has it.
    pub(crate) fn word(self) -> u32 {
        match self {
            Opens::None => 0,
            Opens::Next(count) => count.saturating_add(1).min(u32::MAX - 1),
            Opens::All => u32::MAX,
        }
    }
}

/// A (protocol, local address, local port) whose packets go to the owner of the queue that they arrive at.
///
/// `struct claim` of the program has the same layout.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimKey {
    address: [u8; 16],
    port: [u8; 2],
    protocol: u8,
    version: u8,
}

impl ClaimKey {
    /// `protocol` is 6 (TCP) or 17 (UDP), as in the IP header. `0.0.0.0` and `::` stand for every address of their
    /// version; a packet that falls under a claim of its very address does so first.
    pub fn new(protocol: u8, address: IpAddr, port: u16) -> ClaimKey {
        let (version, bytes) = match address {
            IpAddr::V4(address) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&address.octets());
                (4, bytes)
            }
            IpAddr::V6(address) => (6, address.octets()),
        };
        ClaimKey { address: bytes, port: port.to_be_bytes(), protocol, version }
    }
}
