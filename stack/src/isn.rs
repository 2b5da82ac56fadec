//! Initial sequence numbers (RFC 6528): a clock plus a keyed hash of the 4-tuple, so that nobody outside can guess one.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::time_wait::after;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

/// What a hash is for: hashes for different ends tell nothing of each other.
#[derive(Debug, Clone, Copy, Hash)]
pub enum Purpose {
    /// The offset of a 4-tuple's initial sequence numbers.
    InitialSequenceNumber,
    /// The offset of a 4-tuple's timestamps (RFC 7323, 5.4).
    TimestampOffset,
    /// What hides the minute in a SYN cookie.
    CookieBase,
    /// What proves a SYN cookie.
    CookieProof {
        /// When it was made.
        minute: u32,
        /// The sequence number of the SYN that it answers.
        irs: u32,
    },
}

/// The stack's secret: a keyed pseudo-random function of 4-tuples (SipHash, as in Linux's secure_seq.c).
#[derive(Clone)]
pub struct Secret(SipHasher13);

impl Secret {
    /// The secret that follows from the stack's seed.
    pub fn new(seed: u64) -> Self {
        Secret(SipHasher13::new_with_keys(seed, !seed))
    }

    /// The hash of a 4-tuple.
    pub fn hash(&self, purpose: Purpose, flow: &FlowKey) -> u32 {
        let mut hasher = self.0;
        purpose.hash(&mut hasher);
        flow.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// ISN = M + F(4-tuple, secret), where M is a clock of 4 us (RFC 6528, 3).
    pub fn initial_sequence_number(&self, flow: &FlowKey, now: Instant) -> u32 {
        let clock = now.total_micros() / 4;
        (clock as u32).wrapping_add(self.hash(Purpose::InitialSequenceNumber, flow))
    }
}

/// The ISN for a 4-tuple that leaves TIME-WAIT: later than anything that was sent before (RFC 9293, 3.10.7.4;
/// RFC 6191, 2), by a window that is never scaled, as in Linux.
pub fn later_than(isn: u32, snd_nxt: u32) -> u32 {
    if after(isn, snd_nxt) { isn } else { snd_nxt.wrapping_add(u32::from(u16::MAX) + 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> FlowKey {
        FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into())
    }

    #[test]
    fn rfc6528_3_the_clock_of_one_tuple_ticks_every_4_us() {
        let secret = Secret::new(1);
        let at = |port, micros| secret.initial_sequence_number(&flow(port), Instant::from_micros(micros));
        assert_eq!(at(1, 4_000_000).wrapping_sub(at(1, 0)), 1_000_000);
    }

    #[test]
    fn rfc6528_3_tuples_and_secrets_are_unrelated() {
        let isns: std::collections::HashSet<u32> = (0..100u64)
            .flat_map(|seed| (0..100).map(move |port| (seed, port)))
            .map(|(seed, port)| Secret::new(seed).initial_sequence_number(&flow(port), Instant::ZERO))
            .collect();
        // Of 10,000 random numbers of 32 bits about 0.01 pairs are equal.
        assert!(isns.len() >= 9_998);
    }

    #[test]
    fn rfc6191_2_the_isn_after_time_wait_is_later() {
        assert_eq!(later_than(1000, 999), 1000);
        assert_eq!(later_than(1000, 1000), 1000 + 65_537);
        assert_eq!(later_than(u32::MAX, 5), 5 + 65_537);
        assert_eq!(later_than(5, u32::MAX), 5);
    }
}
