//! CUBIC (RFC 9438): how the window grows between losses, and what a loss leaves of it. In segments.

use crate::{Duration, Instant};

/// C of RFC 9438, 4.1, in segments a second cubed.
const C: f64 = 0.4;
/// The multiplicative decrease (RFC 9438, 4.6).
const BETA: f64 = 0.7;
/// The additive increase that is as fast as Reno's with Reno's decrease (RFC 9438, 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// What it remembers of the window.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cubic {
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

impl Cubic {
    /// The window after `acked` segments have arrived.
    pub fn grown(&mut self, window: f64, acked: f64, srtt: Duration, now: Instant) -> f64 {
        let epoch = *self.epoch.get_or_insert_with(|| {
            self.w_max = self.w_max.max(window);
            self.k = ((self.w_max - window) / C).cbrt();
            self.w_est = window;
            now
        });
        let seconds = (now - epoch + srtt).total_micros() as f64 / 1e6;
        let target = (C * (seconds - self.k).powi(3) + self.w_max).clamp(window, 1.5 * window);
        let alpha = if self.w_est < self.cwnd_prior { ALPHA } else { 1.0 };
        self.w_est += alpha * acked / window;
        (window + (target - window) / window * acked).max(self.w_est)
    }

    /// The window after a loss (RFC 9438, 4.6 and 4.7).
    pub fn reduced(&mut self, window: f64) -> f64 {
        self.w_max = if window < self.w_max { window * (1.0 + BETA) / 2.0 } else { window };
        self.cwnd_prior = window;
        self.epoch = None;
        window * BETA
    }

    /// The sender has paused: that time does not count.
    pub fn on_idle(&mut self) {
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `window` after some round trips' worth of ACKs.
    fn after(cubic: &mut Cubic, mut window: f64, rtt: Duration, rounds: usize) -> f64 {
        let mut now = Instant::ZERO;
        for _ in 0..rounds {
            now += rtt;
            window = cubic.grown(window, window, rtt, now);
        }
        window
    }

    #[test]
    fn rfc_9438_section_4_7_a_falling_plateau() {
        let mut cubic = Cubic { w_max: 100.0, ..Cubic::default() };
        assert_eq!((cubic.reduced(80.0).round(), cubic.w_max), (56.0, 68.0));
    }

    #[test]
    fn rfc_9438_section_4_2_is_back_after_k() {
        let (mut cubic, rtt) = (Cubic::default(), Duration::from_millis(100));
        let reduced = cubic.reduced(1000.0);
        let window = after(&mut cubic, reduced, rtt, 1);
        let rounds = cubic.k / 0.1;
        assert!((rounds - 90.0).abs() < 2.0, "{rounds}");
        cubic.epoch = Some(Instant::ZERO);
        let window = after(&mut cubic, window, rtt, rounds as usize);
        assert!((window - 1000.0).abs() < 20.0, "{window}");
    }

    #[test]
    fn rfc_9438_section_4_3_is_no_slower_than_reno() {
        let mut cubic = Cubic::default();
        let reduced = cubic.reduced(20.0);
        let window = after(&mut cubic, reduced, Duration::from_millis(1), 13);
        assert!((window - 20.0).abs() < 1.5, "{window}");
    }
}
