//! What the shim calls: one file a protocol.

pub mod info;
pub mod ip;
pub(crate) mod options;
pub mod tcp;
pub mod udp;

use crate::slab::Key;

/// A flow; a stale id is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId(pub(crate) Key);

/// A listener; a stale id is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) Key);

/// A UDP socket; a stale id is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UdpId(pub(crate) Key);

/// A socket of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// A connection.
    Flow(FlowId),
    /// A listening socket.
    Listener(ListenerId),
    /// A UDP socket.
    Udp(UdpId),
}
