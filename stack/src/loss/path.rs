//! What others may know of a flow's path and of what is under way.

use super::{Loss, Phase};
use crate::{Duration, Instant};

/// The largest window there is (RFC 7323, 2.3).
const WINDOW_BYTES_MAX: f64 = 1_073_725_440.0;

/// What a flow knows of its path, as TCP_INFO has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// SRTT; zero before the first measurement.
    pub round_trip: Duration,
    /// RTTVAR; zero before the first measurement.
    pub variation: Duration,
    /// RTO, before any backoff.
    pub timeout: Duration,
    /// The congestion window, in segments.
    pub window: u32,
    /// The slow start threshold, in segments; `u32::MAX` before the first loss.
    pub threshold: u32,
    /// The least round trip; zero before the first measurement.
    pub round_trip_min: Duration,
    /// What it is recovering from.
    pub recovery: Recovery,
    /// Bytes that have arrived beyond the first that has not, and bytes that are taken to be lost.
    pub sacked: u32,
    /// See `sacked`.
    pub lost: u32,
    /// Timeouts since something was acknowledged.
    pub timeouts: u32,
    /// All timeouts.
    pub timeouts_total: u16,
    /// How often the peer has said that bytes came twice (RFC 2883).
    pub duplicates: u32,
}

/// What a flow is recovering from, with the numbers of TCP_INFO's `tcpi_ca_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    None = 0,
    /// Nothing yet, but segments have arrived in another order than they were sent in.
    Disorder = 1,
    /// A loss that was noticed by what arrived.
    Loss = 3,
    /// A loss that the timer has noticed.
    Timeout = 4,
}

impl Loss {
    /// What is known of the path.
    pub fn path(&self) -> Path {
        Path {
            round_trip: self.rtt.smoothed(),
            variation: self.rtt.variation(),
            timeout: self.rtt.timeout(),
            window: self.congestion.window() as u32,
            threshold: self.congestion.threshold() as u32,
            round_trip_min: self.rtt.minimum(),
            recovery: match self.phase {
                Phase::Open if self.board.is_empty() && self.duplicate_acks == 0 => Recovery::None,
                Phase::Open => Recovery::Disorder,
                Phase::Recovery => Recovery::Loss,
                Phase::Loss => Recovery::Timeout,
            },
            sacked: self.board.bytes(),
            lost: self.lost_bytes(),
            timeouts: self.backoff,
            timeouts_total: self.timeouts_total,
            duplicates: self.duplicates,
        }
    }

    /// SRTT; zero before the first measurement.
    pub fn round_trip(&self) -> Duration {
        self.rtt.smoothed()
    }

    /// When bytes were sent for the first time last.
    pub fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// How many bytes from SND.UNA on smoltcp has sent, or thinks that it has.
    pub fn passed_len(&self) -> u32 {
        self.cursor.wrapping_sub(self.una)
    }

    /// SND.UNA, as smoltcp has it.
    pub fn una(&self) -> u32 {
        self.una
    }

    /// The window that smoltcp was told last, in bytes.
    pub fn told_len(&self) -> usize {
        usize::from(self.told()) << self.shift
    }

    /// The window field that smoltcp was told last, in the scale of what is no SYN.
    pub fn told(&self) -> u16 {
        if self.told_in_syn { self.told >> self.shift } else { self.told }
    }

    /// How many bytes a segment carries at most.
    pub fn mss(&self) -> u32 {
        self.mss
    }

    /// The congestion window, in bytes.
    pub fn window_bytes(&self) -> u32 {
        (self.congestion.window() * f64::from(self.mss)).min(WINDOW_BYTES_MAX) as u32
    }

    /// How many numbers of sequence space are under way.
    pub fn flight(&self) -> u32 {
        self.nxt.wrapping_sub(self.una)
    }
}
