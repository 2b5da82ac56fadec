//! When what was received is acknowledged: at once, or later with bytes of our own (RFC 9293, 3.8.6.3), adaptively as
//! Linux does (quickack and pingpong mode of tcp_input.c).

use crate::limits::{ACK_DELAY, FIRST_ACK_DELAY, QUICK_ACKS};
use crate::{Duration, Instant};

/// How a flow acknowledges.
#[derive(Debug, Clone, Copy)]
pub struct AckPolicy {
    /// Segments that are still acknowledged at once: the sender's window is small, and grows with each ACK.
    quick_left: u8,
    /// The application answers within the delay: an ACK of its own would be a waste.
    answers: bool,
    /// When the latest bytes came.
    received_at: Option<Instant>,
    /// They have not been acknowledged yet.
    pending: bool,
}

impl AckPolicy {
    /// Of a flow that has received nothing.
    pub fn new() -> Self {
        AckPolicy { quick_left: QUICK_ACKS, answers: false, received_at: None, pending: false }
    }

    /// TCP_QUICKACK; what the flow proves to be later on counts again.
    pub fn set_quick(&mut self, quick: bool) {
        self.answers = !quick;
        if quick {
            self.quick_left = QUICK_ACKS;
        }
    }

    /// What getsockopt(2) says of TCP_QUICKACK.
    pub fn is_quick(&self) -> bool {
        !self.answers
    }

    /// When the latest bytes came.
    pub fn received_at(&self) -> Option<Instant> {
        self.received_at
    }

    /// How long the ACK of bytes that come now may wait; `None` is not at all.
    pub fn received(&mut self, now: Instant) -> Option<Duration> {
        self.received_at = Some(now);
        self.pending = true;
        if self.answers || self.quick_left == 0 {
            return Some(ACK_DELAY);
        }
        let is_first = self.quick_left == QUICK_ACKS;
        self.quick_left -= 1;
        is_first.then_some(FIRST_ACK_DELAY)
    }

    /// Bytes leave, or (`has_bytes` false) an ACK alone.
    pub fn sent(&mut self, has_bytes: bool, now: Instant) {
        let Some(received_at) = self.received_at else { return };
        let is_late = now >= received_at + ACK_DELAY;
        if has_bytes && !is_late {
            self.answers = true;
        } else if self.pending && is_late {
            // The ACK has waited in vain: the application no longer answers.
            self.answers = false;
        }
        self.pending = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segments_are_acknowledged_at_once() {
        let mut policy = AckPolicy::new();
        assert_eq!(policy.received(Instant::ZERO), Some(FIRST_ACK_DELAY));
        for _ in 1..QUICK_ACKS {
            assert_eq!(policy.received(Instant::ZERO), None);
            policy.sent(false, Instant::ZERO);
        }
        assert_eq!(policy.received(Instant::ZERO), Some(ACK_DELAY));
    }

    #[test]
    fn an_answer_in_time_makes_acks_wait_until_one_waits_in_vain() {
        let mut policy = AckPolicy::new();
        policy.received(Instant::ZERO);
        policy.sent(true, Instant::ZERO + ACK_DELAY / 2);
        assert!(!policy.is_quick());
        assert_eq!(policy.received(Instant::ZERO), Some(ACK_DELAY));
        policy.sent(false, Instant::ZERO + ACK_DELAY);
        assert!(policy.is_quick());
        assert_eq!(policy.received(Instant::ZERO), None);
    }

    #[test]
    fn quickack_is_asked_for_and_refused() {
        let mut policy = AckPolicy::new();
        policy.set_quick(false);
        assert_eq!((policy.is_quick(), policy.received(Instant::ZERO)), (false, Some(ACK_DELAY)));
        policy.set_quick(true);
        assert_eq!((policy.is_quick(), policy.received(Instant::ZERO)), (true, Some(FIRST_ACK_DELAY)));
    }
}
