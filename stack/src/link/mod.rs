//! A link moves owned frames between the stack and a wire: the trait, and middleware that wraps it.

pub mod fault;
pub mod frame;
pub mod pcap;
pub mod wire;

use crate::Instant;
pub use frame::Frame;

/// What came of a kick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// The other side knows already.
    Needless,
    /// It took a system call.
    Done,
    /// It took one, and frames are left that the other side did not take: to be kicked again.
    Unfinished,
}

/// Moves frames in bursts. Middleware (faults, a pcap writer) is a link around a link.
///
/// A frame has one owner: the stack holds it between `rx_burst` or `tx_frame` and `recycle` or `tx_burst`.
pub trait Link: Send {
    /// Moves at most [`BURST_FRAMES_MAX`](crate::limits::BURST_FRAMES_MAX) received frames to the end of `into`.
    ///
    /// A packet larger than a frame arrives as several in a row, all in the same burst, and all but the last with
    /// `more` set.
    fn rx_burst(&mut self, now: Instant, into: &mut Vec<Frame>);

    /// Whether `rx_burst` would find something; cheap enough to spin on.
    fn rx_pending(&mut self) -> bool;

    /// Takes back a frame that was received or taken and is no longer needed.
    fn recycle(&mut self, frame: Frame);

    /// A free frame to send from, or `None` while all of them are on their way.
    fn tx_frame(&mut self) -> Option<Frame>;

    /// Moves frames from the front of `from` to the wire, as many as it takes now; the rest stay.
    ///
    /// The frames of one packet (`more`) are moved together or not at all.
    fn tx_burst(&mut self, now: Instant, from: &mut Vec<Frame>);

    /// Tells the other side of the frames moved since the last kick.
    fn kick(&mut self) -> Kick;

    /// The largest IP packet that the link carries, in bytes.
    fn mtu(&self) -> usize;
}

impl<L: Link + ?Sized> Link for Box<L> {
    fn rx_burst(&mut self, now: Instant, into: &mut Vec<Frame>) {
        (**self).rx_burst(now, into);
    }

    fn rx_pending(&mut self) -> bool {
        (**self).rx_pending()
    }

    fn recycle(&mut self, frame: Frame) {
        (**self).recycle(frame);
    }

    fn tx_frame(&mut self) -> Option<Frame> {
        (**self).tx_frame()
    }

    fn tx_burst(&mut self, now: Instant, from: &mut Vec<Frame>) {
        (**self).tx_burst(now, from);
    }

    fn kick(&mut self) -> Kick {
        (**self).kick()
    }

    fn mtu(&self) -> usize {
        (**self).mtu()
    }
}
