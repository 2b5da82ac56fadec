//! The round-trip time in microseconds, and what follows from it (RFC 6298, with Linux's constants).

use crate::Duration;
use crate::limits::{RTO_INITIAL, RTO_MIN};

/// Smoothed round-trip time and its variation.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rtt {
    srtt_us: u32,
    rttvar_us: u32,
    latest_us: u32,
    min_us: u32,
    measured: bool,
}

impl Rtt {
    /// Takes in a measurement. Never one of a segment that was sent twice (Karn's algorithm).
    pub fn sample(&mut self, rtt: Duration) {
        let rtt_us = rtt.total_micros().clamp(1, u64::from(u32::MAX / 16)) as u32;
        self.latest_us = rtt_us;
        self.min_us = if self.measured { self.min_us.min(rtt_us) } else { rtt_us };
        if self.measured {
            self.rttvar_us = (3 * self.rttvar_us + self.srtt_us.abs_diff(rtt_us)) / 4;
            self.srtt_us = ((7 * u64::from(self.srtt_us) + u64::from(rtt_us)) / 8) as u32;
        } else {
            self.srtt_us = rtt_us;
            self.rttvar_us = rtt_us / 2;
            self.measured = true;
        }
    }

    /// SRTT; zero before the first measurement.
    pub fn smoothed(&self) -> Duration {
        Duration::from_micros(u64::from(self.srtt_us))
    }

    /// RTTVAR; zero before the first measurement.
    pub fn variation(&self) -> Duration {
        Duration::from_micros(u64::from(self.rttvar_us))
    }

    /// The latest measurement.
    pub fn latest(&self) -> Duration {
        Duration::from_micros(u64::from(self.latest_us))
    }

    /// The least measurement.
    pub fn minimum(&self) -> Duration {
        Duration::from_micros(u64::from(self.min_us))
    }

    /// The retransmission timeout, before any backoff. The minimum holds for the variation's part of it, as in Linux:
    /// a peer's delayed ACK does not count as a loss on a long path either.
    pub fn timeout(&self) -> Duration {
        match self.measured {
            true => self.smoothed() + RTO_MIN.max(self.variation() * 4),
            false => RTO_INITIAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples_us: &[u64]) -> Rtt {
        let mut rtt = Rtt::default();
        samples_us.iter().for_each(|&us| rtt.sample(Duration::from_micros(us)));
        rtt
    }

    #[test]
    fn rfc_6298_section_2_1_one_second_before_a_measurement() {
        assert_eq!(after(&[]).timeout(), Duration::from_secs(1));
    }

    #[test]
    fn rfc_6298_section_2_2_the_first_measurement() {
        let rtt = after(&[90_000]);
        assert_eq!((rtt.smoothed().total_micros(), rtt.variation().total_micros()), (90_000, 45_000));
        assert_eq!(rtt.timeout(), Duration::from_micros(90_000 + RTO_MIN.total_micros()));
    }

    #[test]
    fn rfc_6298_section_2_3_later_measurements_in_microseconds() {
        let rtt = after(&[100, 180]);
        assert_eq!((rtt.smoothed().total_micros(), rtt.variation().total_micros()), (110, 57));
    }

    #[test]
    fn a_path_that_varies_gets_a_longer_timeout() {
        assert!(after(&[100_000, 900_000]).timeout() > Duration::from_millis(800));
    }
}
