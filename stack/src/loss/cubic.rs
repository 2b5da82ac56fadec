//! The congestion window: CUBIC (RFC 9438) from an initial window of ten segments (RFC 6928). In segments.

use crate::limits::{CWND_MAX, INITIAL_WINDOW};
use crate::{Duration, Instant};

/// C of RFC 9438, 4.1, in segments a second cubed.
const C: f64 = 0.4;
/// The multiplicative decrease (RFC 9438, 4.6).
const BETA: f64 = 0.7;
/// The additive increase that is as fast as Reno's with Reno's decrease (RFC 9438, 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// The smallest slow start threshold (RFC 5681, equation 4).
const SSTHRESH_MIN: f64 = 2.0;

/// A congestion window.
#[derive(Debug, Clone, Copy)]
pub struct Cubic {
    cwnd: f64,
    ssthresh: f64,
    /// Where the cubic has its plateau.
    w_max: f64,
    /// The window when it was last reduced.
    cwnd_prior: f64,
    /// The window that Reno would have (W_est).
    w_est: f64,
    /// Seconds from the start of the epoch to the plateau.
    k: f64,
    epoch: Option<Instant>,
}

impl Default for Cubic {
    fn default() -> Self {
        Cubic {
            cwnd: INITIAL_WINDOW,
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            cwnd_prior: 0.0,
            w_est: 0.0,
            k: 0.0,
            epoch: None,
        }
    }
}

impl Cubic {
    /// The window, in segments.
    pub fn window(&self) -> f64 {
        self.cwnd
    }

    /// The slow start threshold, in segments; infinite before the first loss.
    pub fn threshold(&self) -> f64 {
        self.ssthresh
    }

    /// Whether the window grows exponentially.
    pub fn is_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// What slow start was to find out is known.
    pub fn end_slow_start(&mut self) {
        self.ssthresh = self.cwnd;
    }

    /// `acked` segments have arrived while the window was what bounded the sender.
    pub fn on_ack(&mut self, acked: f64, srtt: Duration, now: Instant) {
        if self.is_slow_start() {
            self.cwnd = (self.cwnd + acked).min(self.ssthresh.max(self.cwnd)).min(CWND_MAX);
            return;
        }
        let epoch = *self.epoch.get_or_insert_with(|| {
            self.w_max = self.w_max.max(self.cwnd);
            self.k = ((self.w_max - self.cwnd) / C).cbrt();
            self.w_est = self.cwnd;
            now
        });
        let seconds = (now - epoch + srtt).total_micros() as f64 / 1e6;
        let target = (C * (seconds - self.k).powi(3) + self.w_max).clamp(self.cwnd, 1.5 * self.cwnd);
        let alpha = if self.w_est < self.cwnd_prior { ALPHA } else { 1.0 };
        self.w_est += alpha * acked / self.cwnd;
        self.cwnd += (target - self.cwnd) / self.cwnd * acked;
        self.cwnd = self.cwnd.max(self.w_est).min(CWND_MAX);
    }

    /// A loss that was noticed by what arrived after it (RFC 9438, 4.6 and 4.7).
    pub fn on_loss(&mut self) {
        self.w_max = if self.cwnd < self.w_max { self.cwnd * (1.0 + BETA) / 2.0 } else { self.cwnd };
        self.cwnd_prior = self.cwnd;
        self.ssthresh = (self.cwnd * BETA).max(SSTHRESH_MIN);
        self.cwnd = self.ssthresh;
        self.epoch = None;
    }

    /// A loss that only the clock has noticed (RFC 9438, 4.8). `again`: nothing has arrived since the one before.
    pub fn on_timeout(&mut self, again: bool) {
        if !again {
            self.on_loss();
        }
        self.cwnd = 1.0;
    }

    /// After a pause, what the path can take is no longer known (RFC 5681, 4.1).
    pub fn on_idle(&mut self) {
        self.cwnd = self.cwnd.min(INITIAL_WINDOW);
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// A round trip's worth of ACKs.
    fn round(cubic: &mut Cubic, now: &mut Instant) {
        *now += RTT;
        cubic.on_ack(cubic.window(), RTT, *now);
    }

    #[test]
    fn rfc_6928_ten_segments_that_double() {
        let (mut cubic, mut now) = (Cubic::default(), Instant::ZERO);
        round(&mut cubic, &mut now);
        assert_eq!(cubic.window(), 20.0);
    }

    #[test]
    fn rfc_9438_section_4_6_falls_to_seven_tenths() {
        let mut cubic = Cubic { cwnd: 100.0, ..Cubic::default() };
        cubic.on_loss();
        assert_eq!((cubic.window(), cubic.threshold(), cubic.w_max), (70.0, 70.0, 100.0));
        cubic.on_timeout(false);
        cubic.on_timeout(true);
        assert_eq!((cubic.window(), cubic.threshold().round()), (1.0, 49.0));
    }

    #[test]
    fn rfc_9438_section_4_7_a_falling_plateau() {
        let mut cubic = Cubic { cwnd: 80.0, w_max: 100.0, ..Cubic::default() };
        cubic.on_loss();
        assert_eq!(cubic.w_max, 68.0);
    }

    #[test]
    fn rfc_9438_section_4_2_is_back_after_k() {
        let (mut cubic, mut now) = (Cubic { cwnd: 1000.0, ..Cubic::default() }, Instant::ZERO);
        cubic.on_loss();
        round(&mut cubic, &mut now);
        let rounds = cubic.k / 0.1;
        assert!((rounds - 90.0).abs() < 2.0, "{rounds}");
        for _ in 0..rounds as usize {
            round(&mut cubic, &mut now);
        }
        assert!((cubic.window() - 1000.0).abs() < 20.0, "{}", cubic.window());
    }

    #[test]
    fn rfc_9438_section_4_3_is_no_slower_than_reno() {
        let (mut cubic, mut now) = (Cubic { cwnd: 20.0, ..Cubic::default() }, Instant::ZERO);
        cubic.on_loss();
        for _ in 0..13 {
            now += Duration::from_millis(1);
            cubic.on_ack(cubic.window(), Duration::from_millis(1), now);
        }
        assert!((cubic.window() - 20.0).abs() < 1.5, "{}", cubic.window());
    }
}
