//! Reno, which is what RFC 5681 says: a segment more a round trip, and half as many after a loss.

/// The window after `acked` segments have arrived (RFC 5681, 3.1, equation 3, by bytes as in RFC 3465).
pub fn grown(window: f64, acked: f64) -> f64 {
    window + acked / window
}

/// The window after a loss (equation 4).
pub fn reduced(window: f64) -> f64 {
    window / 2.0
}
