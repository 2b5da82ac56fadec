//! When slow start has reached what the path holds, before its queue overflows: HyStart (Ha and Rhee, 2011), with
//! Linux's constants.

use crate::{Duration, Instant};

/// ACKs that follow each other faster than this are a train, as long as the path.
const TRAIN_GAP: Duration = Duration::from_millis(2);
/// What a round trip must grow by at least, and at most, to say that a queue has formed.
const DELAY_MIN_US: u64 = 4_000;
const DELAY_MAX_US: u64 = 16_000;
/// Segments below which it does not look.
const WINDOW_MIN: f64 = 16.0;

/// A round of slow start.
#[derive(Debug, Default, Clone, Copy)]
pub struct HyStart {
    /// When the round began, and when the latest ACK of its train came.
    train: Option<(Instant, Instant)>,
}

impl HyStart {
    /// A window's worth was acknowledged: the next one is looked at.
    pub fn next_round(&mut self, now: Instant) {
        self.train = Some((now, now));
    }

    /// Whether slow start is over, as an ACK says that comes at `now`. The latest round trip took `rtt`.
    pub fn is_over(&mut self, window: f64, rtt: Duration, rtt_min: Duration, now: Instant) -> bool {
        if window < WINDOW_MIN || rtt_min == Duration::ZERO {
            return false;
        }
        let min_us = rtt_min.total_micros();
        let queued = rtt.total_micros() >= min_us + (min_us / 8).clamp(DELAY_MIN_US, DELAY_MAX_US);
        let Some((began, latest)) = &mut self.train else { return queued };
        if now - *latest > TRAIN_GAP {
            return queued;
        }
        *latest = now;
        queued || (now - *began).total_micros() > min_us / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    /// Whether a train of `acks`, a millisecond apart, ends slow start.
    fn train(acks: u64, gap: Duration, rtt: Duration) -> bool {
        let mut hystart = HyStart::default();
        let start = Instant::from_secs(1);
        hystart.next_round(start);
        (1..=acks).any(|at| hystart.is_over(20.0, rtt, RTT, start + gap * at as u32))
    }

    #[test]
    fn half_a_path_full_of_acks_is_enough() {
        assert!(!train(5, Duration::from_millis(1), RTT));
        assert!(train(6, Duration::from_millis(1), RTT));
        assert!(!train(6, Duration::from_millis(3), RTT));
    }

    #[test]
    fn so_is_a_round_trip_that_grows() {
        assert!(train(1, Duration::from_millis(1), Duration::from_millis(14)));
        assert!(!train(1, Duration::from_millis(1), Duration::from_millis(13)));
    }
}
