//! The stack and its turn.

use crate::counters::Counters;
use crate::link::Link;
use crate::outside::{Hop, InterfaceId, LinkId, Routes, Steer};
use crate::readiness::Readiness;
use crate::socket::{FlowId, Socket};
use crate::Instant;
use std::net::IpAddr;

/// A ready socket, as popped from the ready list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Which one.
    pub socket: Socket,
    /// What its owner called it (`Stack::set_token`).
    pub token: u64,
    /// What has happened to it since it was last popped. An edge: new bytes on a flow that was readable already
    /// are `READABLE` again.
    pub rose: Readiness,
}

/// A TCP/IP stack over some links.
pub struct Stack {}

#[allow(unused_variables, missing_docs)]
impl Stack {
    /// A stack without links. `seed` feeds all its randomness.
    pub fn new(routes: Box<dyn Routes>, steer: Box<dyn Steer>, seed: u64, now: Instant) -> Stack {
        todo!()
    }
    /// Adds one queue of an interface.
    pub fn add_link(&mut self, interface: InterfaceId, queue: u32, link: Box<dyn Link>) -> LinkId {
        todo!()
    }
    /// One turn, run to completion: received frames, due timers, what the flows have to say, one kick. True if it
    /// found a frame or a timer.
    pub fn poll(&mut self, now: Instant) -> bool {
        todo!()
    }
    /// Sends what the calls since the last turn have left to send, with one kick. Cheap if there is nothing.
    pub fn flush(&mut self, now: Instant) {
        todo!()
    }
    /// Whether calls have left something to send that `flush` or `poll` has not sent yet.
    pub fn flush_pending(&self) -> bool {
        todo!()
    }
    /// Whether a frame is waiting in a ring: what a spinning thread looks at.
    pub fn rx_pending(&mut self) -> bool {
        todo!()
    }
    /// When the next timer is due: how long a thread may sleep.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }
    /// Takes the next socket to which something has happened.
    pub fn next_ready(&mut self) -> Option<Ready> {
        todo!()
    }
    /// Names a socket for `next_ready`. Something that is already true is not reported: ask `readiness` after this.
    pub fn set_token(&mut self, socket: Socket, token: u64) {
        todo!()
    }
    /// What is true of a socket now.
    pub fn readiness(&self, socket: Socket) -> Readiness {
        todo!()
    }
    /// How to reach `remote`.
    pub fn route(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop {
        todo!()
    }
    /// Open flows (embryonic and orphaned ones included).
    pub fn flow_count(&self) -> usize {
        todo!()
    }
    /// Flows, closed by their owner or not, that still have bytes or a FIN to deliver: what exit waits for.
    pub fn undelivered(&self) -> usize {
        todo!()
    }
    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        todo!()
    }
    /// Whether a flow that is the caller's is still there (false after its generation was reused).
    pub fn is_alive(&self, flow: FlowId) -> bool {
        todo!()
    }
}
