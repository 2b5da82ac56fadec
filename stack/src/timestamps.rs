//! Timestamps (RFC 7323): the clock that a flow shows its peer, and what it knows of the peer's.

use crate::flow_table::FlowKey;
use crate::isn::{Purpose, Secret};
use crate::limits::TIMESTAMP_IDLE_MAX;
use crate::syn_cookie::{OFFERED_BITS, Offered};
use crate::time_wait::after;
use crate::{Duration, Instant};

/// What the option takes of a segment, in bytes, with the padding in front of it (RFC 7323, appendix A).
pub const OPTION_LEN: usize = 12;

/// The content of the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// TSval.
    pub value: u32,
    /// TSecr.
    pub echo: u32,
}

const OFFERED_MASK: u32 = (1 << OFFERED_BITS) - 1;

/// A clock of a millisecond from an offset that nobody outside can guess (RFC 7323, 5.4). A 4-tuple always has the
/// same offset, so that its flows follow each other in time (RFC 6191).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    offset: u32,
}

impl Clock {
    /// The clock of a 4-tuple.
    pub fn of(flow: &FlowKey, secret: &Secret) -> Self {
        Clock { offset: secret.hash(Purpose::TimestampOffset, flow) }
    }

    /// The time that it shows.
    pub fn show(self, now: Instant) -> u32 {
        (now.total_millis() as u32).wrapping_add(self.offset)
    }

    /// The same, but for the lowest bits, which remember what a SYN offered (`syn_cookie`).
    pub fn show_with(self, offered: Offered, now: Instant) -> u32 {
        let time = now.total_millis() as u32;
        let low = time & OFFERED_MASK;
        let bits = u32::from(offered.to_bits());
        let behind = if bits > low { low + (1 << OFFERED_BITS) - bits } else { low - bits };
        time.wrapping_sub(behind).wrapping_add(self.offset)
    }

    /// What was offered, by the echo of that.
    pub fn offered(self, echo: u32) -> Offered {
        Offered::from_bits((echo.wrapping_sub(self.offset) & OFFERED_MASK) as u8)
    }

    /// How many milliseconds ago it showed `echo`; `None` if it never did.
    pub fn age_ms(self, echo: u32, now: Instant) -> Option<u32> {
        Some(self.show(now).wrapping_sub(echo)).filter(|&age| age <= i32::MAX as u32 && echo != 0)
    }
}

/// TS.Recent: the peer's clock as it was last seen in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// What it showed.
    pub value: u32,
    /// When that came.
    pub at: Instant,
}

impl Recent {
    /// Whether a segment that came now and shows `value` is an old one (PAWS: RFC 7323, 5.3). The peer's clock is not
    /// trusted to a millisecond, nor after a long silence (5.5), nor if it once showed zero, as in Linux.
    pub fn is_after(&self, value: u32, now: Instant) -> bool {
        after(self.value.wrapping_sub(1), value) && !self.is_forgotten(now)
    }

    /// Whether nothing can be compared with it any more.
    fn is_forgotten(&self, now: Instant) -> bool {
        self.value == 0 || now > self.at + TIMESTAMP_IDLE_MAX
    }
}

/// The timestamps of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Timestamps {
    /// Ours.
    pub clock: Clock,
    /// The peer's, if both ends have offered timestamps.
    pub recent: Option<Recent>,
    last_ack_sent: u32,
    /// Echoes of before are of no use.
    shown_from: Instant,
}

impl Default for Timestamps {
    fn default() -> Self {
        Timestamps::new(Clock::default())
    }
}

impl Timestamps {
    /// Of a flow that has heard nothing.
    pub fn new(clock: Clock) -> Self {
        Timestamps { clock, recent: None, last_ack_sent: 0, shown_from: Instant::ZERO }
    }

    /// The peer's SYN has come, with this option.
    pub fn begin(&mut self, option: Option<Timestamp>, now: Instant) {
        self.recent = option.map(|option| Recent { value: option.value, at: now });
    }

    /// Whether a segment is an old one, by its option. One without it is taken all the same, as Linux does.
    pub fn is_old(&self, option: Option<Timestamp>, now: Instant) -> bool {
        match (self.recent, option) {
            (Some(recent), Some(option)) => recent.is_after(option.value, now),
            _ => false,
        }
    }

    /// How long ago the segment was sent that a received one echoes, in milliseconds, if timestamps are exchanged.
    pub fn age_ms(&self, echo: u32, now: Instant) -> Option<u32> {
        let known_ms = (now - self.shown_from).total_millis();
        self.recent.and_then(|_| self.clock.age_ms(echo, now)).filter(|&age| u64::from(age) <= known_ms)
    }

    /// What was shown before now was not the time: it stood beside a SYN cookie.
    pub fn forget_echoes(&mut self, now: Instant) {
        self.shown_from = now;
    }

    /// Follows an acceptable segment of `seq` up to `end` (RFC 7323, 4.3).
    pub fn received(&mut self, option: Option<Timestamp>, seq: u32, end: u32, now: Instant) {
        if let (Some(recent), Some(option)) = (&mut self.recent, option)
            && !after(seq, self.last_ack_sent)
            && !after(self.last_ack_sent, end)
            && (!after(recent.value, option.value) || recent.is_forgotten(now))
        {
            *recent = Recent { value: option.value, at: now };
        }
    }

    /// Follows an ACK on its way out.
    pub fn sent_ack(&mut self, ack: u32) {
        self.last_ack_sent = ack;
    }

    /// The option of a segment that goes out now.
    pub fn option(&self, now: Instant) -> Option<Timestamp> {
        self.recent.map(|recent| Timestamp { value: self.clock.show(now), echo: recent.value })
    }
}

/// The round trip that an echo of this age tells of (RFC 7323, 4.1).
pub fn round_trip(age_ms: u32) -> Duration {
    Duration::from_millis(u64::from(age_ms.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis_const(1_000_000_000);

    fn option(value: u32) -> Option<Timestamp> {
        Some(Timestamp { value, echo: 0 })
    }

    fn seen(value: u32) -> Timestamps {
        let mut timestamps = Timestamps::new(Clock::default());
        timestamps.sent_ack(100);
        timestamps.begin(option(value), NOW);
        timestamps
    }

    #[test]
    fn rfc7323_4_3_only_what_is_in_order_moves_ts_recent() {
        let check = |seq, end, value, expected| {
            let mut timestamps = seen(50);
            timestamps.received(option(value), seq, end, NOW);
            assert_eq!(timestamps.recent.map(|recent| recent.value), Some(expected), "{seq} to {end}");
        };
        check(100, 100, 60, 60);
        check(100, 110, 60, 60);
        check(90, 110, 60, 60);
        check(101, 110, 60, 50);
        check(90, 99, 60, 50);
        check(100, 110, 49, 50);
    }

    #[test]
    fn rfc7323_5_3_what_is_earlier_is_old() {
        for recent in [50, u32::MAX, 1 << 31, 1] {
            let is_old = |ahead: u32| seen(recent).is_old(option(recent.wrapping_add(ahead)), NOW);
            assert!(!is_old(0) && !is_old(1) && !is_old(i32::MAX as u32) && !is_old(u32::MAX), "{recent}");
            assert!(is_old(u32::MAX - 1) && is_old(u32::MAX / 2 + 10), "{recent}");
        }
        assert!(!seen(50).is_old(None, NOW));
        assert!(!seen(0).is_old(option(u32::MAX - 10), NOW));
    }

    #[test]
    fn rfc7323_5_5_an_idle_clock_is_forgotten() {
        let later = NOW + TIMESTAMP_IDLE_MAX;
        assert!(seen(50).is_old(option(10), later));
        let (mut timestamps, much_later) = (seen(50), later + Duration::from_secs(1));
        assert!(!timestamps.is_old(option(10), much_later));
        timestamps.received(option(10), 100, 110, much_later);
        assert_eq!(timestamps.recent, Some(Recent { value: 10, at: much_later }));
    }

    #[test]
    fn an_echo_is_as_old_as_the_clock_says() {
        let clock = Clock { offset: u32::MAX - 10 };
        let echo = clock.show(NOW);
        assert_eq!(clock.age_ms(echo, NOW + Duration::from_millis(30)), Some(30));
        assert_eq!(clock.age_ms(echo.wrapping_add(1), NOW), None);
        assert_eq!(clock.age_ms(0, NOW), None);
    }
}
