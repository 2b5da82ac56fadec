//! What the stack asks of the world: next hops ([`Routes`]) and which packets come to it ([`Steer`]).

use crate::limits::LINK_HEADER_LEN_MAX;
use crate::{Errno, Instant};
use std::net::{IpAddr, SocketAddr};

/// The index of a link in its stack, in the order of `Stack::add_link`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId(pub u16);

/// The index of an interface in the order of `USERSTACK_IFACE`. Each of its queues is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceId(pub u16);

/// Where packets for a destination go: the interface, and the Ethernet header to put in front of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The interface that they leave through.
    pub interface: InterfaceId,
    /// The source address that the kernel would choose (RTA_PREFSRC).
    pub source: IpAddr,
    /// Destination and source MAC, a VLAN tag if there is one, and the EtherType.
    pub header: [u8; LINK_HEADER_LEN_MAX],
    /// How much of `header` is used: 14, or 18 with a tag.
    pub header_len: u8,
    /// The largest IP packet on this route, in bytes.
    pub mtu: u16,
    /// The destination is a neighbour: nobody forwards what goes there, by a link that may be narrower.
    pub is_on_link: bool,
}

/// The answer to "how do I reach this address?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Through one of our interfaces.
    Ready(NextHop),
    /// Through one of our interfaces, whose neighbour the kernel is finding out; ask again soon. The header's
    /// destination MAC is not yet set.
    Resolving(NextHop),
    /// Not through an interface of ours (another one, or this host itself): the kernel's.
    Kernel,
    /// Nowhere: `ENETUNREACH`, or `EHOSTUNREACH` when no neighbour answered.
    Unreachable(Errno),
}

/// The kernel's routes and neighbours, as seen from the stack.
pub trait Routes: Send {
    /// How to reach `remote`, from `local` if that is already chosen. Cached: O(1) but for the first time.
    fn next_hop(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop;

    /// Rises when next hops that were handed out should be asked for again.
    fn generation(&self) -> u64;

    /// Reads what has changed since the last time. The stack calls it now and then; it may be a system call.
    fn refresh(&mut self, now: Instant);
}

/// Where open connections are written down for who outlives this process.
pub trait Register: Send {
    /// Writes one down at a place of its own; `seq` is a sequence number that its peer has seen.
    fn enter(&mut self, place: usize, local: SocketAddr, remote: SocketAddr, seq: u32);

    /// Empties a place: the peer knows how the connection has ended.
    fn strike(&mut self, place: usize);
}

/// The transport protocols that are steered, by their IP protocol numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
}

/// A (protocol, local address, local port) whose packets come to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The local address; `0.0.0.0` or `::` stands for every address of its family.
    pub address: IpAddr,
    /// The local port.
    pub port: u16,
}

/// Which TCP segments that open a connection (SYN without ACK) a claim takes; the kernel has the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// None.
    None,
    /// The next so many.
    Next(u32),
    /// All.
    All,
}

/// Steers packets to this process.
pub trait Steer: Send {
    /// Steers the packets of `claim` to us from now on; of TCP segments that open a connection, those that `opens` says.
    /// Claiming again changes that.
    ///
    /// # Errors
    /// `ENOBUFS`: the kernel's table is full.
    fn claim(&mut self, claim: Claim, opens: Opens) -> Result<(), Errno>;

    /// The packets of `claim` go to the kernel again.
    fn release(&mut self, claim: Claim);
}
