//! The congestion window (RFC 5681): slow start from an initial window of ten segments (RFC 6928), then by the
//! algorithm that TCP_CONGESTION names. In segments.

use super::cubic::Cubic;
use super::reno;
use crate::limits::{CWND_MAX, INITIAL_WINDOW};
use crate::socket::tcp::CongestionControl;
use crate::{Duration, Instant};

/// The smallest slow start threshold (RFC 5681, equation 4).
const SSTHRESH_MIN: f64 = 2.0;

/// How the window grows beyond the threshold, and by how much a loss reduces it.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Cubic(Cubic),
    Reno,
}

/// A congestion window.
#[derive(Debug, Clone, Copy)]
pub struct Congestion {
    window: f64,
    threshold: f64,
    algorithm: Algorithm,
}

impl Congestion {
    /// The initial window.
    pub fn new(control: CongestionControl) -> Self {
        Congestion { window: INITIAL_WINDOW, threshold: f64::INFINITY, algorithm: algorithm(control) }
    }

    /// Goes on by another algorithm; the window stays.
    pub fn set_control(&mut self, control: CongestionControl) {
        if self.control() != control {
            self.algorithm = algorithm(control);
        }
    }

    /// By which algorithm it goes.
    pub fn control(&self) -> CongestionControl {
        match self.algorithm {
            Algorithm::Cubic(_) => CongestionControl::Cubic,
            Algorithm::Reno => CongestionControl::Reno,
        }
    }

    /// The window, in segments.
    pub fn window(&self) -> f64 {
        self.window
    }

    /// The slow start threshold, in segments; infinite before the first loss.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Whether the window grows exponentially.
    pub fn is_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// Whether slow start is to end before the first loss: HyStart is a part of Linux's CUBIC.
    pub fn has_hystart(&self) -> bool {
        matches!(self.algorithm, Algorithm::Cubic(_))
    }

    /// What slow start was to find out is known.
    pub fn end_slow_start(&mut self) {
        self.threshold = self.window;
    }

    /// `acked` segments have arrived while the window was what bounded the sender.
    pub fn on_ack(&mut self, acked: f64, srtt: Duration, now: Instant) {
        let grown = if self.is_slow_start() {
            (self.window + acked).min(self.threshold)
        } else {
            match &mut self.algorithm {
                Algorithm::Cubic(cubic) => cubic.grown(self.window, acked, srtt, now),
                Algorithm::Reno => reno::grown(self.window, acked),
            }
        };
        self.window = grown.min(CWND_MAX);
    }

    /// A loss that was noticed by what arrived after it.
    pub fn on_loss(&mut self) {
        let reduced = match &mut self.algorithm {
            Algorithm::Cubic(cubic) => cubic.reduced(self.window),
            Algorithm::Reno => reno::reduced(self.window),
        };
        self.threshold = reduced.max(SSTHRESH_MIN);
        self.window = self.threshold;
    }

    /// A loss that only the clock has noticed (RFC 5681, 3.1). `again`: nothing has arrived since the one before.
    pub fn on_timeout(&mut self, again: bool) {
        if !again {
            self.on_loss();
        }
        self.window = 1.0;
    }

    /// After a pause, what the path can take is no longer known (RFC 5681, 4.1).
    pub fn on_idle(&mut self) {
        self.window = self.window.min(INITIAL_WINDOW);
        if let Algorithm::Cubic(cubic) = &mut self.algorithm {
            cubic.on_idle();
        }
    }

    /// What was taken for a loss since the window was `before` was none (RFC 4015).
    pub fn undo(&mut self, before: &Congestion) {
        let window = self.window.max(before.window);
        *self = Congestion { window, ..*before };
    }
}

fn algorithm(control: CongestionControl) -> Algorithm {
    match control {
        CongestionControl::Cubic => Algorithm::Cubic(Cubic::default()),
        CongestionControl::Reno => Algorithm::Reno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// The window after each of some round trips.
    fn rounds(congestion: &mut Congestion, count: usize) -> Vec<f64> {
        let round = |at: usize| {
            congestion.on_ack(congestion.window(), RTT, Instant::ZERO + RTT * at as u32);
            congestion.window()
        };
        (1..=count).map(round).collect()
    }

    #[test]
    fn rfc6928_2_ten_segments_that_double() {
        for control in [CongestionControl::Cubic, CongestionControl::Reno] {
            assert_eq!(rounds(&mut Congestion::new(control), 3), [20.0, 40.0, 80.0]);
        }
    }

    #[test]
    fn rfc5681_3_1_reno_halves_and_adds_a_segment_a_round_trip() {
        let mut congestion = Congestion { window: 40.0, ..Congestion::new(CongestionControl::Reno) };
        congestion.on_loss();
        assert_eq!(rounds(&mut congestion, 3), [21.0, 22.0, 23.0]);
        congestion.on_timeout(false);
        congestion.on_timeout(true);
        assert_eq!(rounds(&mut congestion, 6), [2.0, 4.0, 8.0, 11.5, 12.5, 13.5]);
    }

    #[test]
    fn rfc9438_4_6_cubic_falls_to_seven_tenths() {
        let mut congestion = Congestion { window: 100.0, ..Congestion::new(CongestionControl::Cubic) };
        congestion.on_loss();
        assert_eq!((congestion.window(), congestion.threshold()), (70.0, 70.0));
        congestion.on_timeout(false);
        congestion.on_timeout(true);
        assert_eq!((congestion.window(), congestion.threshold().round()), (1.0, 49.0));
    }

    #[test]
    fn rfc4015_3_2_what_was_no_loss_is_undone() {
        let mut congestion = Congestion::new(CongestionControl::Cubic);
        let before = congestion;
        congestion.on_timeout(false);
        congestion.undo(&before);
        assert_eq!((congestion.window(), congestion.threshold()), (INITIAL_WINDOW, f64::INFINITY));
    }

    #[test]
    fn another_algorithm_goes_on_from_the_same_window() {
        let mut congestion = Congestion { window: 40.0, ..Congestion::new(CongestionControl::Cubic) };
        congestion.on_loss();
        congestion.set_control(CongestionControl::Reno);
        assert_eq!((congestion.control(), rounds(&mut congestion, 1)), (CongestionControl::Reno, vec![29.0]));
    }
}
