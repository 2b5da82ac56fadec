//! What the clock decides: the retransmission timeout, the tail-loss probe, and when to start smoltcp again.

use super::{Loss, Phase, Probe};
use crate::limits::{BLACK_HOLE_RETRIES, PROBE_DELAY, RTO_MAX, RTO_MIN};
use crate::time_wait::after;
use crate::{Duration, Instant};

/// How far smoltcp's clock is set forward to start again: beyond any timeout of its own (a minute).
const REWIND: Duration = Duration::from_secs(61);

impl Loss {
    /// What the clock has to say; then whether smoltcp is to start again at SND.UNA.
    pub fn wants_rewind(&mut self, now: Instant) -> bool {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.on_time(now);
        }
        if !self.stirred || self.told == 0 || self.cursor == self.una {
            return false;
        }
        let next = self.missing().map_or(self.nxt, |(start, _)| start);
        let probes = self.probe == Probe::Due && !after(self.nxt, self.cursor);
        probes || (after(self.cursor, next) && after(self.edge, next))
    }

    /// The time to show smoltcp, so that it starts again.
    pub fn rewind(&mut self, now: Instant) -> Instant {
        self.cursor = self.una;
        self.stirred = false;
        self.clock = self.clock.max(now) + REWIND;
        self.clock
    }

    /// When `wants_rewind` is to be asked, whatever arrives.
    pub fn deadline(&self) -> Option<Instant> {
        if self.flight() == 0 || self.told == 0 {
            return None;
        }
        let deadlines = [Some(self.timeout_at()), self.probe_at(), self.passed_at()];
        deadlines.into_iter().flatten().min()
    }

    /// RFC 6298, 5.
    fn timeout_at(&self) -> Instant {
        let backed_off = Duration::from_micros(self.rtt.timeout().total_micros() << self.backoff.min(16));
        self.timer_from + backed_off.min(RTO_MAX)
    }

    /// RFC 8985, 7.2: a segment that is alone may wait for its ACK to be delayed.
    fn probe_at(&self) -> Option<Instant> {
        let idle = self.phase == Phase::Open && self.probe == Probe::None && self.board.is_empty();
        if !idle || self.rtt.smoothed() == Duration::ZERO {
            return None;
        }
        let ack_delay = if self.flight() <= self.mss { RTO_MIN } else { PROBE_DELAY };
        Some(self.timer_from.max(self.last_sent) + self.rtt.smoothed() * 2 + ack_delay)
    }

    /// RFC 8985, 6.2: when what was passed is no longer taken to be merely late.
    pub(super) fn passed_at(&self) -> Option<Instant> {
        self.passed.map(|(_, since)| since + self.rtt.smoothed() / 4)
    }

    /// Whether the timer has fired again although it had fired too often already; said once.
    pub fn take_stuck(&mut self) -> bool {
        std::mem::take(&mut self.stuck)
    }

    /// Whether a timeout has passed since the peer last answered.
    pub fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// The network says that it has no route for the segment at `seq`: when that was sent again, its loss was no sign
    /// of congestion, and the timer need not be the more patient for it (RFC 6069, 3).
    pub fn revert_backoff(&mut self, seq: u32) {
        if seq == self.una {
            self.backoff = self.backoff.saturating_sub(1);
        }
    }

    fn on_time(&mut self, now: Instant) {
        if self.passed_at().is_some_and(|at| at <= now) {
            self.detect(now);
        }
        if self.timeout_at() <= now {
            self.on_timeout(now);
        } else if self.probe_at().is_some_and(|at| at <= now) {
            self.probe = Probe::Due;
            self.timer_from = now;
        }
        self.edge = self.allowed();
        self.stirred = true;
    }

    fn on_timeout(&mut self, now: Instant) {
        self.prepare_undo();
        self.congestion.on_timeout(self.backoff > 0);
        if self.backoff > 0 {
            // RFC 2018, 8: the peer may have thrown away what it said it had.
            self.board.clear();
        }
        self.backoff += 1;
        self.timeouts_total = self.timeouts_total.saturating_add(1);
        self.stuck = self.backoff > BLACK_HOLE_RETRIES;
        self.all_is_lost(now);
    }

    /// Nothing of what is under way will arrive.
    pub(super) fn all_is_lost(&mut self, now: Instant) {
        self.phase = Phase::Loss;
        (self.recover, self.lost_below, self.resent_below) = (self.nxt, self.nxt, self.una);
        (self.passed, self.probe, self.duplicate_acks) = (None, Probe::None, 0);
        self.timer_from = now;
    }
}
