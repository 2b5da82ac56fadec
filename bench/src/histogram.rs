//! Latencies in buckets that grow with the value: a fixed size, and a quantile within 1.6 %.

use std::time::Duration;

/// Buckets to each power of two.
const SUB_BUCKETS: u64 = 64;
const SUB_BUCKETS_LOG2: u32 = SUB_BUCKETS.ilog2();
const BUCKETS: usize = ((64 - SUB_BUCKETS_LOG2 as usize) + 1) * SUB_BUCKETS as usize;

/// How often each latency was seen.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.counts[bucket(latency.as_nanos() as u64)] += 1;
        self.total += 1;
    }

    /// How many latencies were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency, in microseconds, that the fraction `quantile` of all stay at or below; 0 when none was counted.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let rank = (self.total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return upper_bound(index) as f64 / 1e3;
            }
        }
        0.0
    }
}

/// The bucket of a value: itself below 64, then 64 buckets to each power of two.
fn bucket(value: u64) -> usize {
    let shift = value.max(SUB_BUCKETS).ilog2() - SUB_BUCKETS_LOG2;
    (u64::from(shift) * SUB_BUCKETS + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / SUB_BUCKETS).saturating_sub(1);
    let mantissa = index - shift * SUB_BUCKETS;
    ((u128::from(mantissa + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_values_within_the_stated_error() {
        for value in [0, 1, 63, 64, 65, 127, 128, 129, 1_000, 123_456, 1 << 40, u64::MAX] {
            let bound = upper_bound(bucket(value));
            assert!(bound >= value && bound - value <= value / SUB_BUCKETS, "{value}: {bound}");
            assert!(bound == u64::MAX || bucket(bound + 1) == bucket(value) + 1, "{value}: {bound}");
        }
    }

    #[test]
    fn quantiles_of_a_hundred() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), 0.0);
        for latency_us in 1..=100 {
            histogram.record(Duration::from_micros(latency_us));
        }
        assert_eq!(histogram.count(), 100);
        assert!((50.0..51.0).contains(&histogram.quantile_us(0.5)));
        assert!((99.0..101.0).contains(&histogram.quantile_us(0.99)));
    }
}
