//! SYN cookies (RFC 4987, 3.6): when the SYN queue is full, the SYN-ACK's sequence number remembers the SYN for us.
//!
//! A cookie carries the minute and the peer's MSS, much as Linux's does. The window scale and SACK-permitted stand, as
//! in Linux, in the lowest bits of the timestamp beside it, which comes back as well; where the peer offers no
//! timestamps, a flow that a cookie opens has neither.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::isn::{Purpose, Secret};

/// The values of MSS that a cookie can say: Linux's for IPv4, with IPv6's least one. Rounded down to one of them.
const MSS_TABLE: [u16; 4] = [536, 1220, 1440, 1460];

/// Minutes for which a cookie is good: Linux's MAX_SYNCOOKIE_AGE.
const MINUTES_MAX: u32 = 2;

/// Bits that hold the hash and the MSS; the minute stands above them.
const PROOF_BITS: u32 = 24;
const PROOF_MASK: u32 = (1 << PROOF_BITS) - 1;

/// The initial sequence number that answers a SYN of sequence number `irs` with this MSS option.
pub fn make(secret: &Secret, flow: &FlowKey, irs: u32, mss: u16, now: Instant) -> u32 {
    let index = MSS_TABLE.iter().rposition(|&known| known <= mss).unwrap_or(0) as u32;
    let minute = minute(now);
    let proof = secret.hash(Purpose::CookieProof { minute, irs }, flow).wrapping_add(index) & PROOF_MASK;
    secret.hash(Purpose::CookieBase, flow).wrapping_add(minute << PROOF_BITS | proof)
}

/// The MSS in a cookie that comes back; `None` if it is none of ours, or too old.
pub fn check(secret: &Secret, flow: &FlowKey, irs: u32, cookie: u32, now: Instant) -> Option<u16> {
    let content = cookie.wrapping_sub(secret.hash(Purpose::CookieBase, flow));
    let age = minute(now).wrapping_sub(content >> PROOF_BITS) & (u32::MAX >> PROOF_BITS);
    if age >= MINUTES_MAX {
        return None;
    }
    let proof = secret.hash(Purpose::CookieProof { minute: minute(now).wrapping_sub(age), irs }, flow);
    MSS_TABLE.get((content.wrapping_sub(proof) & PROOF_MASK) as usize).copied()
}

/// What a timestamp remembers of a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// The window scale option; no more than 14.
    pub window_scale: Option<u8>,
    /// The SACK-permitted option.
    pub sack_permitted: bool,
}

/// Bits of a timestamp that hold what was offered: Linux's TSBITS.
pub const OFFERED_BITS: u32 = 6;
/// No window scale option.
const UNSCALED: u8 = 0xf;
const SACK: u8 = 0x10;

impl Offered {
    /// What was offered, in `OFFERED_BITS` bits.
    pub fn to_bits(self) -> u8 {
        self.window_scale.map_or(UNSCALED, |scale| scale.min(UNSCALED - 1)) | if self.sack_permitted { SACK } else { 0 }
    }

    /// The inverse; of bits that are nobody's, something.
    pub fn from_bits(bits: u8) -> Self {
        let window_scale = Some(bits & UNSCALED).filter(|&scale| scale != UNSCALED);
        Offered { window_scale, sack_permitted: bits & SACK != 0 }
    }
}

fn minute(now: Instant) -> u32 {
    (now.total_millis() / 60_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamps::Clock;
    use proptest::prelude::*;

    fn flow(port: u16) -> FlowKey {
        FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into())
    }

    proptest! {
        #[test]
        fn a_cookie_comes_back_with_its_mss(seed: u64, port: u16, irs: u32, mss: u16, secs in 0i64..1 << 34) {
            let (secret, now) = (Secret::new(seed), Instant::from_secs(secs));
            let cookie = make(&secret, &flow(port), irs, mss, now);
            let expected = MSS_TABLE.into_iter().rfind(|&known| known <= mss).unwrap_or(536);
            let later = |secs| now + crate::Duration::from_secs(secs);
            prop_assert_eq!(check(&secret, &flow(port), irs, cookie, later(60)), Some(expected));
            prop_assert_eq!(check(&secret, &flow(port), irs, cookie, later(120)), None);
            prop_assert_eq!(check(&secret, &flow(port), irs.wrapping_add(1), cookie, now), None);
        }

        #[test]
        fn its_timestamp_comes_back_with_what_was_offered(
            seed: u64, port: u16, scale in proptest::option::of(0u8..15), sack_permitted: bool, micros in 0i64..1 << 50
        ) {
            let (clock, now) = (Clock::of(&flow(port), &Secret::new(seed)), Instant::from_micros(micros));
            let offered = Offered { window_scale: scale, sack_permitted };
            let shown = clock.show_with(offered, now);
            prop_assert_eq!(clock.offered(shown), offered);
            // It is the time, to a few hundredths of a second, and never ahead of it.
            prop_assert!(clock.show(now).wrapping_sub(shown) < 1 << OFFERED_BITS);
        }
    }

    #[test]
    fn a_guess_is_no_cookie() {
        let secret = Secret::new(7);
        let guesses = (0..10_000u32).map(|guess| guess.wrapping_mul(2_654_435_761));
        // Two minutes of 256 and four proofs of 2^24 are good: 10,000 guesses hit one in 50,000 such tests.
        assert_eq!(guesses.filter(|&guess| check(&secret, &flow(1), 0, guess, Instant::ZERO).is_some()).count(), 0);
    }
}
