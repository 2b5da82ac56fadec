//! What the shim calls: one file a protocol.

pub mod info;
pub mod ip;
mod options;
pub mod tcp;

use crate::slab::Key;

/// A flow; a stale id is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId(pub(crate) Key);

/// A listener; a stale id is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) Key);

/// Either kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// A connection.
    Flow(FlowId),
    /// A listening socket.
    Listener(ListenerId),
}
