//! SO_RCVLOWAT of socket(7): with how much a flow is readable.

use crate::flow::Flow;
use crate::packet::MSS_DEFAULT;

impl Flow {
    /// Whether there are bytes, and enough to wake a reader for, or as many as there will be: the window is about to close.
    /// tcp_epollin_ready() of Linux.
    pub fn is_readable(&self) -> bool {
        let (unread, lowat) = (self.socket().recv_queue(), self.options.receive_lowat as usize);
        unread > 0 && (unread >= lowat || self.wire.advertised_window() <= self.received_mss())
    }

    /// The largest segment of the peer's so far. A larger one than it was asked to send is several, joined on their way.
    fn received_mss(&self) -> u32 {
        u32::from(self.tally.largest).max(MSS_DEFAULT.into()).min(self.wire.advertised_mss())
    }
}
