//! The sieve: what of that which smoltcp sends goes out.

use super::{Loss, Probe};
use crate::Instant;
use crate::packet::{RST, SYN, Segment};
use crate::time_wait::after;

impl Loss {
    /// Follows a segment on its way out. False if it is not to be sent: smoltcp started again, and this one is not
    /// lost, or not to be sent yet.
    pub fn sends(&mut self, segment: &Segment, now: Instant) -> bool {
        let len = segment.sequence_len();
        if len == 0 || segment.has(RST) {
            return true;
        }
        let end = segment.seq.wrapping_add(len);
        if segment.has(SYN) {
            self.timed = (self.nxt != end).then_some((end, now));
            (self.una, self.nxt, self.cursor, self.edge) = (segment.seq, end, end, end);
            (self.lost_below, self.resent_below, self.full_until, self.round_end) = (end, end, end, end);
            self.small_until = end;
            (self.timer_from, self.last_sent) = (now, now);
            return true;
        }
        if self.told == 0 || (self.flight() == 0 && end == self.nxt) {
            // A probe of a closed window, or of a silent peer: smoltcp does not count it either.
            if after(end, self.nxt) {
                self.nxt = end;
            }
            return true;
        }
        self.cursor = end;
        if after(end, self.nxt) {
            return self.sends_new(segment, end, now);
        }
        let lost = self.missing().is_some_and(|(start, _)| after(end, start) && after(self.edge, start));
        let probe = self.probe == Probe::Due && end == self.nxt;
        if lost {
            self.resent_below = end;
            self.resent_at = self.nxt;
            if let Some(undo) = &mut self.undo {
                undo.resent_at.get_or_insert(now);
            }
        }
        if probe {
            self.probe = Probe::Sent(end, now);
        }
        if lost || probe {
            self.give_up_measuring();
            self.timer_from = now;
        }
        lost || probe
    }

    /// A segment with something new in it.
    fn sends_new(&mut self, segment: &Segment, end: u32, now: Instant) -> bool {
        let within = after(self.nxt, segment.seq) || after(self.told_edge(), segment.seq);
        if !within && segment.payload_len > 0 {
            return false;
        }
        if self.flight() == 0 {
            self.timer_from = now;
        }
        self.timed = self.timed.or(Some((end, now)));
        self.nxt = end;
        self.last_sent = now;
        if (1..self.mss).contains(&segment.payload_len.into()) {
            self.small_until = end;
        }
        if self.probe == Probe::Due {
            self.probe = Probe::None;
        }
        let full = f64::from(self.flight() + self.mss) / f64::from(self.mss);
        if full * if self.congestion.is_slow_start() { 2.0 } else { 1.0 } >= self.congestion.window() {
            self.full_until = end;
        }
        true
    }

    /// Whether Nagle's algorithm is to hold back what is less than a segment (`wanted` by the application, with
    /// `queued` bytes unacknowledged). It also keeps a window that opens by bits from being filled with crumbs.
    ///
    /// As on Linux (Minshall's variant), only another small segment is waited for: the tail of a write of several
    /// segments goes with them.
    pub fn nagle(&self, wanted: bool, queued: usize) -> bool {
        let room = self.edge.wrapping_sub(self.una).min(self.window) as usize;
        if queued > room {
            return true;
        }
        let is_small_under_way = after(self.small_until, self.una) && !after(self.small_until, self.nxt);
        wanted && is_small_under_way && !after(self.nxt, self.cursor)
    }

    /// The edge as coarsely as smoltcp was told of it.
    fn told_edge(&self) -> u32 {
        let room = self.edge.wrapping_sub(self.una);
        self.una.wrapping_add(room.checked_next_multiple_of(1 << self.shift).unwrap_or(room))
    }
}
