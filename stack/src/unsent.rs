//! Bytes that are queued and were not sent: TCP_NOTSENT_LOWAT of tcp(7) bounds them, so that what an application sends is
//! not old when it leaves.

use crate::flow::Flow;
use crate::socket::FlowId;
use crate::stack::Stack;

impl Flow {
    /// How many bytes have not been sent yet.
    pub fn unsent_len(&self) -> usize {
        (self.socket().send_queue() + self.cork.len()).saturating_sub(self.loss.flight() as usize)
    }

    /// How many more may be queued, by that bound alone.
    pub fn unsent_room(&self) -> usize {
        match self.options.notsent_lowat(&self.system) {
            Some(lowat) => (lowat as usize).saturating_sub(self.unsent_len()),
            None => usize::MAX,
        }
    }

    /// Whether there are so few that a writer is woken: half of the bound (Linux's __tcp_stream_memory_free).
    pub fn wakes_writer(&self) -> bool {
        self.options.notsent_lowat(&self.system).is_none_or(|lowat| self.unsent_len() * 2 < lowat as usize)
    }
}

impl Stack {
    /// Bytes that are queued and were not sent: SIOCOUTQNSD.
    pub fn tcp_unsent(&self, flow: FlowId) -> usize {
        self.flows.get(flow.0).map_or(0, Flow::unsent_len)
    }
}
