//! Packets on their way out: each link's frames that wait for the TX ring, spread over several where one is too small.

use crate::Instant;
use crate::counters::Counters;
use crate::limits::BURST_FRAMES_MAX;
use crate::link::{Frame, Kick, Link};
use crate::outside::InterfaceId;

/// A link with what is on its way to it.
pub struct Port {
    /// The link.
    pub link: Box<dyn Link>,
    /// The interface that the link is a queue of.
    pub interface: InterfaceId,
    /// Filled frames, in order.
    outgoing: Vec<Frame>,
    /// Frames were moved to the link since the last kick.
    unkicked: bool,
}

impl Port {
    /// A port with nothing on its way.
    pub fn new(link: Box<dyn Link>, interface: InterfaceId) -> Self {
        Port { link, interface, outgoing: Vec::with_capacity(2 * BURST_FRAMES_MAX), unkicked: false }
    }

    /// Whether frames wait for the TX ring or for a kick.
    pub fn is_pending(&self) -> bool {
        self.unkicked || !self.outgoing.is_empty()
    }

    /// Queues a filled frame; always true.
    pub fn push(&mut self, frame: Frame, now: Instant, counters: &mut Counters) -> bool {
        counters.tx_frames += 1;
        counters.tx_bytes += frame.len() as u64;
        self.outgoing.push(frame);
        if self.outgoing.len() >= BURST_FRAMES_MAX {
            self.burst(now);
        }
        true
    }

    /// Queues a frame that is larger than the link's: `first` and as many more as it takes. False, and nothing
    /// queued, when there are not enough.
    pub fn push_jumbo(&mut self, bytes: &[u8], first: Frame, now: Instant, counters: &mut Counters) -> bool {
        let start = self.outgoing.len();
        let mut next = Some(first);
        let mut rest = bytes;
        while let Some(mut frame) = next.take() {
            let (piece, remainder) = rest.split_at(rest.len().min(frame.capacity()));
            frame.set_len(piece.len());
            frame.copy_from_slice(piece);
            frame.more = !remainder.is_empty();
            self.outgoing.push(frame);
            rest = remainder;
            if rest.is_empty() {
                counters.tx_frames += (self.outgoing.len() - start) as u64;
                counters.tx_bytes += bytes.len() as u64;
                if self.outgoing.len() >= BURST_FRAMES_MAX {
                    self.burst(now);
                }
                return true;
            }
            next = self.link.tx_frame();
        }
        for mut frame in self.outgoing.drain(start..) {
            frame.more = false;
            self.link.recycle(frame);
        }
        false
    }

    /// Moves what waits to the link, and kicks it once.
    pub fn flush(&mut self, now: Instant, counters: &mut Counters) {
        if !self.outgoing.is_empty() {
            self.burst(now);
        }
        if self.unkicked {
            let kick = self.link.kick();
            counters.kicks += u64::from(kick != Kick::Needless);
            self.unkicked = kick == Kick::Unfinished;
        }
    }

    fn burst(&mut self, now: Instant) {
        self.link.tx_burst(now, &mut self.outgoing);
        self.unkicked = true;
    }
}
