//! Which segments a synchronized flow takes: RFC 9293, 3.10.7.4, hardened against blind attacks by RFC 5961.
//!
//! It stands in front of smoltcp, which accepts a RST anywhere in the window, is silent about a SYN in it, takes an
//! ACK of bytes that are queued but were never sent, and takes bytes behind a FIN.

use crate::flow::has_peer_closed;
use crate::limits::{CHALLENGE_ACK_GAP, CHALLENGE_ACKS_PER_SECOND};
use crate::packet::{ACK, RST, SYN, Segment};
use crate::time_wait::after;
use crate::timestamps::Timestamp;
use crate::wire_state::WireState;
use crate::{Duration, Instant};
use ahash::RandomState;
use smoltcp::socket::tcp::State;

/// What is to be done with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It is processed.
    Take,
    /// It is dropped, and answered with a challenge ACK: a peer that meant it sends a RST with the exact number.
    Challenge,
    /// It is dropped, and answered with an ACK: by its timestamp it has been under way for too long (PAWS), or nothing of
    /// it is in the window.
    Old,
    /// It is dropped.
    Ignore,
}

/// Judges a segment by its flow's state and numbers. What smoltcp would drop must not get past here: the front would
/// believe its ACK and window, and smoltcp not.
pub fn accept(
    wire: &WireState,
    state: State,
    segment: &Segment,
    timestamp: Option<Timestamp>,
    now: Instant,
) -> Acceptance {
    if matches!(state, State::Closed | State::Listen | State::SynSent) {
        return Acceptance::Take;
    }
    if segment.has(RST) {
        // RFC 5961, 3.2.
        return match segment.seq {
            seq if seq == wire.rcv_nxt => Acceptance::Take,
            seq if wire.is_in_window(seq) => Acceptance::Challenge,
            _ => Acceptance::Ignore,
        };
    }
    if wire.timestamps.is_old(timestamp, now) && !wire.is_stale_ack(segment) {
        // RFC 7323, 5.3; the numbers of a SYN are no reason to believe it either.
        return if segment.has(SYN) { Acceptance::Challenge } else { Acceptance::Old };
    }
    if !segment.has(ACK | SYN) {
        // RFC 9293, 3.10.7.4, the fifth check.
        return Acceptance::Ignore;
    }
    if state == State::SynReceived {
        return Acceptance::Take;
    }
    if !segment.has(SYN) && !wire.is_acceptable(segment) {
        return Acceptance::Old;
    }
    // RFC 5961, 4.2 and 5.2; and what stands behind the peer's FIN, which smoltcp would hand over.
    let is_wrong = segment.has(SYN)
        || (segment.has(ACK) && !wire.may_acknowledge(segment.ack))
        || (has_peer_closed(state) && after(segment.end(), wire.rcv_nxt));
    if is_wrong { Acceptance::Challenge } else { Acceptance::Take }
}

/// How many challenge ACKs a stack may still send (RFC 5961, 7).
///
/// The bound of each second is drawn anew, as in Linux: a constant one, shared by all flows, would tell an attacker
/// who counts them whether a guess hit (CVE-2016-5696).
pub struct ChallengeAcks {
    second: u64,
    left: u32,
    draw: RandomState,
}

impl ChallengeAcks {
    /// A full allowance; `seed` draws the bounds.
    pub fn new(seed: u64) -> Self {
        ChallengeAcks { second: u64::MAX, left: 0, draw: RandomState::with_seed(seed as usize) }
    }

    /// Takes one from the allowances of the stack and of a flow, which keeps in `latest` when its latest one was sent.
    pub fn take(&mut self, latest: &mut Option<Instant>, now: Instant) -> bool {
        if !is_spaced(*latest, now) {
            return false;
        }
        let second = now.total_millis() as u64 / Duration::from_secs(1).total_millis();
        if second != self.second {
            self.second = second;
            let half = CHALLENGE_ACKS_PER_SECOND / 2;
            self.left = half + (self.draw.hash_one(second) % u64::from(CHALLENGE_ACKS_PER_SECOND)) as u32;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        *latest = Some(now);
        true
    }
}

/// Whether a flow whose latest answer to something unacceptable is from `latest` may give another one: two that do so
/// to each other without a pause would never end.
pub fn is_spaced(latest: Option<Instant>, now: Instant) -> bool {
    latest.is_none_or(|latest| now >= latest + CHALLENGE_ACK_GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5961_7_challenge_acks_are_limited_per_flow_and_per_stack() {
        let mut acks = ChallengeAcks::new(1);
        let now = Instant::from_secs(5);
        let mut latest = None;
        assert!(acks.take(&mut latest, now));
        assert!(!acks.take(&mut latest, now + CHALLENGE_ACK_GAP / 2));
        assert!(acks.take(&mut latest, now + CHALLENGE_ACK_GAP));
        let sent = (0..10_000).filter(|_| acks.take(&mut None, now + CHALLENGE_ACK_GAP)).count() as u32;
        assert!((CHALLENGE_ACKS_PER_SECOND / 2 - 2..CHALLENGE_ACKS_PER_SECOND * 3 / 2).contains(&sent), "{sent}");
        assert!(acks.take(&mut None, now + Duration::from_secs(1)));
    }
}
