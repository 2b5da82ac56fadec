//! TIME-WAIT (RFC 9293, 3.6.1) in a compact table: a closed flow costs some tens of bytes, not a socket.

use crate::Instant;
use crate::acceptance::is_spaced;
use crate::flow_table::FlowKey;
use crate::limits::{TIME_WAIT_LEN, TIME_WAIT_MAX, TIME_WAIT_PLACES_MAX};
use crate::packet::{ACK, FIN, RST, SYN, Segment};
use crate::port_space::ClaimId;
use crate::timestamps::Timestamp;
use ahash::RandomState;
use std::collections::{HashMap, VecDeque};

/// What is still known of a closed flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// SND.NXT.
    pub snd_nxt: u32,
    /// RCV.NXT.
    pub rcv_nxt: u32,
    /// TS.Recent, if timestamps were exchanged.
    pub recent: Option<u32>,
    /// TOS or traffic class of its packets.
    pub traffic_class: u8,
    /// The claim by which its packets still come to us.
    pub claim: ClaimId,
}

/// What a segment for a flow in TIME-WAIT calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// An ACK of where we stand: the peer sent its FIN again, or something old (RFC 9293, 3.10.7.4).
    Acknowledge(Closed),
    /// The entry is gone: a new connection takes the 4-tuple over (RFC 9293, 3.10.7.4; RFC 6191).
    Reopen(Closed),
    /// The entry is gone: the peer has reset it.
    Over(Closed),
}

struct Entry {
    closed: Closed,
    /// When it leaves. A restart moves this alone; the expiry queue finds out.
    expires: Instant,
    /// Which of its key's places in the expiry queue is its own.
    queued: Instant,
    /// When an ACK without bytes was last answered.
    acknowledged_at: Option<Instant>,
}

/// Flows in TIME-WAIT.
pub struct TimeWait {
    entries: HashMap<FlowKey, Entry, RandomState>,
    /// When to look at which, in the order of entering, since all wait equally long: one place an entry, and some of
    /// entries that have left before their time.
    expiry: VecDeque<(Instant, FlowKey)>,
}

impl TimeWait {
    /// An empty table; `seed` keys its hash.
    pub fn new(seed: u64) -> Self {
        TimeWait { entries: HashMap::with_hasher(RandomState::with_seed(seed as usize)), expiry: VecDeque::new() }
    }

    /// Enters a flow. When the table is full the oldest one leaves early, as on Linux (tcp_max_tw_buckets), and is
    /// returned.
    pub fn insert(&mut self, key: FlowKey, closed: Closed, now: Instant) -> Option<Closed> {
        let evicted = if self.entries.len() == TIME_WAIT_MAX { self.pop_oldest() } else { None };
        let expires = now + TIME_WAIT_LEN;
        self.entries.insert(key, Entry { closed, expires, queued: expires, acknowledged_at: None });
        self.expiry.push_back((expires, key));
        if self.expiry.len() > TIME_WAIT_PLACES_MAX {
            let entries = &self.entries;
            self.expiry.retain(|(queued, key)| entries.get(key).is_some_and(|entry| entry.queued == *queued));
        }
        evicted
    }

    /// Looks at a segment; `None` when its flow is not here.
    pub fn receive(&mut self, segment: &Segment, timestamp: Option<Timestamp>, now: Instant) -> Option<Verdict> {
        let entry = self.entries.get_mut(&segment.key)?;
        let mut verdict = judge(&entry.closed, segment, timestamp);
        if matches!(verdict, Verdict::Acknowledge(_)) && segment.payload_len == 0 && !segment.has(FIN) {
            // Two ends that disagree would tell each other so for ever.
            match is_spaced(entry.acknowledged_at, now) {
                true => entry.acknowledged_at = Some(now),
                false => verdict = Verdict::Ignore,
            }
        }
        match verdict {
            Verdict::Reopen(_) | Verdict::Over(_) => {
                self.entries.remove(&segment.key);
            }
            Verdict::Acknowledge(_) if segment.has(FIN) => entry.expires = now + TIME_WAIT_LEN,
            _ => {}
        }
        Some(verdict)
    }

    /// Takes a 4-tuple out before its time, for a new connection of our own.
    pub fn take(&mut self, key: &FlowKey) -> Option<Closed> {
        self.entries.remove(key).map(|entry| entry.closed)
    }

    /// How many flows wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the next one may leave.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.expiry.front().map(|&(expires, _)| expires)
    }

    /// Takes one flow whose time is over.
    pub fn expire(&mut self, now: Instant) -> Option<Closed> {
        while let Some(&(queued, key)) = self.expiry.front()
            && queued <= now
        {
            self.expiry.pop_front();
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.queued == queued) else { continue };
            if entry.expires > now {
                // Restarted since.
                entry.queued = entry.expires;
                self.expiry.push_back((entry.queued, key));
                continue;
            }
            return self.entries.remove(&key).map(|entry| entry.closed);
        }
        None
    }

    /// Takes the one that has waited longest, restarted or not.
    fn pop_oldest(&mut self) -> Option<Closed> {
        while let Some((queued, key)) = self.expiry.pop_front() {
            if self.entries.get(&key).is_some_and(|entry| entry.queued == queued) {
                return self.entries.remove(&key).map(|entry| entry.closed);
            }
        }
        None
    }
}

/// RFC 9293, 3.10.7.4, with timestamps RFC 7323, 5.3 and RFC 6191, 2; in the order of Linux's
/// tcp_timewait_state_process().
fn judge(closed: &Closed, segment: &Segment, timestamp: Option<Timestamp>) -> Verdict {
    let ahead = match (closed.recent, timestamp) {
        (Some(recent), Some(timestamp)) => Some(timestamp.value.wrapping_sub(recent) as i32),
        _ => None,
    };
    let is_old = ahead.is_some_and(|ahead| ahead < 0);
    let is_next = segment.seq == closed.rcv_nxt && !is_old;
    if segment.has(RST) {
        return if is_next { Verdict::Over(*closed) } else { Verdict::Ignore };
    }
    let is_later = after(segment.seq, closed.rcv_nxt) || ahead.is_some_and(|ahead| ahead > 0);
    if segment.has(SYN) && !segment.has(ACK) && !is_old && is_later {
        Verdict::Reopen(*closed)
    } else if is_next && segment.sequence_len() == 0 {
        Verdict::Ignore
    } else {
        Verdict::Acknowledge(*closed)
    }
}

/// Whether `a` is later than `b` in sequence space (RFC 9293, 3.4).
pub fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port_space::ClaimId;

    fn key() -> FlowKey {
        FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 4000).into())
    }

    fn segment(flags: u8, seq: u32, payload_len: u16) -> Segment {
        Segment { key: key(), tcp_start: 20, payload_start: 40, payload_len, seq, ack: 500, window: 0, flags }
    }

    const CLOSED: Closed = Closed { snd_nxt: 500, rcv_nxt: 900, recent: None, traffic_class: 0, claim: ClaimId::TEST };

    fn check(segment: Segment, expected: Verdict, stays: bool) {
        check_stamped(CLOSED, segment, None, expected, stays);
    }

    fn check_stamped(closed: Closed, segment: Segment, value: Option<u32>, expected: Verdict, stays: bool) {
        let mut table = TimeWait::new(1);
        table.insert(key(), closed, Instant::ZERO);
        let timestamp = value.map(|value| Timestamp { value, echo: 0 });
        assert_eq!(table.receive(&segment, timestamp, Instant::ZERO), Some(expected));
        assert_eq!(table.take(&key()).is_some(), stays);
    }

    #[test]
    fn rfc6191_2_a_later_timestamp_reopens_and_an_earlier_one_is_old() {
        let closed = Closed { recent: Some(u32::MAX), ..CLOSED };
        let check = |segment, value, verdict, stays| check_stamped(closed, segment, value, verdict, stays);
        check(segment(SYN, 800, 0), Some(0), Verdict::Reopen(closed), false);
        check(segment(SYN, 900, 0), Some(u32::MAX), Verdict::Acknowledge(closed), true);
        check(segment(SYN, 901, 0), Some(u32::MAX), Verdict::Reopen(closed), false);
        check(segment(SYN, 901, 0), Some(u32::MAX - 1), Verdict::Acknowledge(closed), true);
        check(segment(SYN, 901, 0), None, Verdict::Reopen(closed), false);
        check(segment(SYN, 800, 0), None, Verdict::Acknowledge(closed), true);
        // RFC 7323, 5.3.
        check(segment(ACK, 900, 0), Some(u32::MAX - 1), Verdict::Acknowledge(closed), true);
        check(segment(ACK, 900, 0), Some(0), Verdict::Ignore, true);
        check(segment(RST, 900, 0), Some(u32::MAX - 1), Verdict::Ignore, true);
    }

    #[test]
    fn rfc9293_3_10_7_4_segment_arrives_in_time_wait() {
        check(segment(ACK, 900, 0), Verdict::Ignore, true);
        check(segment(FIN | ACK, 899, 0), Verdict::Acknowledge(CLOSED), true);
        check(segment(ACK, 900, 10), Verdict::Acknowledge(CLOSED), true);
        check(segment(ACK, 300, 0), Verdict::Acknowledge(CLOSED), true);
        check(segment(SYN, 901, 0), Verdict::Reopen(CLOSED), false);
        check(segment(SYN, 900, 0), Verdict::Acknowledge(CLOSED), true);
        check(segment(SYN | ACK, 901, 0), Verdict::Acknowledge(CLOSED), true);
        check(segment(RST, 900, 0), Verdict::Over(CLOSED), false);
        check(segment(RST, 901, 0), Verdict::Ignore, true);
    }

    #[test]
    fn a_fin_sent_again_restarts_the_time() {
        let mut table = TimeWait::new(1);
        table.insert(key(), CLOSED, Instant::ZERO);
        let later = Instant::ZERO + TIME_WAIT_LEN / 2;
        for _ in 0..100 {
            table.receive(&segment(FIN | ACK, 899, 0), None, later);
        }
        assert_eq!(table.expiry.len(), 1);
        assert_eq!(table.expire(Instant::ZERO + TIME_WAIT_LEN), None);
        assert_eq!(table.expire(later + TIME_WAIT_LEN), Some(CLOSED));
        assert_eq!((table.len(), table.next_deadline()), (0, None));
    }

    #[test]
    fn the_expiry_queue_is_bounded_whatever_comes() {
        let mut table = TimeWait::new(1);
        for number in 0..TIME_WAIT_PLACES_MAX as i64 + 9 {
            let now = Instant::from_micros(number);
            table.insert(key(), CLOSED, now);
            table.receive(&segment(FIN | ACK, 899, 0), None, now);
            table.receive(&segment(SYN, 901, 0), None, now);
        }
        assert!(table.len() == 0 && table.expiry.len() <= TIME_WAIT_PLACES_MAX);
    }
}
