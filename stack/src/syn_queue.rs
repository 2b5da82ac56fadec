//! The SYN queue: half-open flows cost some tens of bytes each, not a socket with buffers.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::limits::{LINK_HEADER_LEN_MAX, SYN_QUEUE_MAX};
use crate::outside::LinkId;
use crate::settings::opening_wait;
use crate::slab::Key;
use ahash::RandomState;
use std::collections::{HashMap, VecDeque};

/// So many that have left may wait with the others before they are looked for.
const SWEEP_MIN: usize = 256;

/// What is known of a flow in SYN-RECEIVED: the SYN that came, and the SYN-ACK that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfOpen {
    /// Whose backlog it takes.
    pub listener: Key,
    /// The SYN's sequence number (IRS).
    pub irs: u32,
    /// Ours.
    pub isn: u32,
    /// The SYN's window.
    pub window: u16,
    /// The SYN's MSS option.
    pub mss: Option<u16>,
    /// The SYN's window scale option.
    pub window_scale: Option<u8>,
    /// The SYN's SACK-permitted option.
    pub sack_permitted: bool,
    /// What the SYN's timestamp shows (TS.Recent).
    pub timestamp: Option<u32>,
    /// How often the SYN-ACK is sent again at most.
    pub retries_max: u8,
    /// For how many of those times it takes bytes to open the flow.
    pub deferred_retries: u8,
    /// The way back: the link that the SYN came by, and the Ethernet header for it.
    pub link: LinkId,
    /// Of which this much is used.
    pub header_len: u8,
    /// See `link`.
    pub header: [u8; LINK_HEADER_LEN_MAX],
}

impl HalfOpen {
    /// The Ethernet header of what goes back.
    pub fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_len)]
    }
}

struct Entry {
    half_open: HalfOpen,
    /// How often the SYN-ACK has waited in vain.
    retries: u8,
    /// It was answered, by an ACK that does not suffice (TCP_DEFER_ACCEPT).
    answered: bool,
    /// Recognises the entry's place among those that wait.
    due: Instant,
}

/// A half-open flow as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is known of it.
    pub half_open: HalfOpen,
    /// What an ACK that comes now answers.
    pub syn_ack: SynAck,
    /// It is opened by bytes only, for the time being.
    pub needs_bytes: bool,
}

/// What is known of the SYN-ACK that an ACK answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynAck {
    /// It was sent once, at that time.
    Once(Instant),
    /// It was sent several times.
    Repeated,
    /// It was a cookie, or was answered before: neither its time nor its timestamp tells of the round trip.
    Untimed,
}

/// Something that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// The SYN-ACK is to be sent again.
    Resend(FlowKey, HalfOpen),
    /// The entry is gone: nobody answered the last one either.
    Over(HalfOpen),
}

/// Numbers of retries that wait differently long; from the last one on all wait equally long.
const WAITS: usize = 8;

/// The half-open flows of all listeners.
pub struct SynQueue {
    entries: HashMap<FlowKey, Entry, RandomState>,
    /// All that stand in one of these wait equally long, so each is in the order of its deadlines. Who has left is
    /// recognised when its time comes, or in a sweep.
    waiting: [VecDeque<(Instant, FlowKey)>; WAITS],
}

impl SynQueue {
    /// An empty queue; `seed` keys its hash.
    pub fn new(seed: u64) -> Self {
        let entries = HashMap::with_hasher(RandomState::with_seed(seed as usize));
        SynQueue { entries, waiting: Default::default() }
    }

    /// Enters a flow whose SYN-ACK goes out now.
    pub fn insert(&mut self, key: FlowKey, half_open: HalfOpen, now: Instant) {
        if self.waiting[0].len() > 2 * self.entries.len() + SWEEP_MIN {
            // Most flows come of age within a round trip. More than half of those that wait here have left.
            let mut waiting = std::mem::take(&mut self.waiting[0]);
            waiting.retain(|(due, key)| self.waits(key, 0, *due));
            self.waiting[0] = waiting;
        }
        let due = now + opening_wait(0);
        self.entries.insert(key, Entry { half_open, retries: 0, answered: false, due });
        self.waiting[0].push_back((due, key));
    }

    /// The half-open flow of a 4-tuple.
    pub fn get(&self, key: &FlowKey) -> Option<Standing> {
        let Entry { half_open, retries, answered, due } = *self.entries.get(key)?;
        let syn_ack = match retries {
            _ if answered => SynAck::Untimed,
            0 => SynAck::Once(due - opening_wait(0)),
            _ => SynAck::Repeated,
        };
        Some(Standing { half_open, syn_ack, needs_bytes: retries < half_open.deferred_retries })
    }

    /// A flow that needs bytes has got an ACK without any: its peer need not be asked again until that suffices.
    pub fn answer(&mut self, key: &FlowKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.answered = true;
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, key: &FlowKey) {
        self.entries.remove(key);
    }

    /// Takes out the flows of a listener that is gone.
    pub fn forget(&mut self, listener: Key) {
        self.entries.retain(|_, entry| entry.half_open.listener != listener);
    }

    /// Whether there is no room for another one, whoever its listener is.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= SYN_QUEUE_MAX
    }

    /// How many flows are half open.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// When something may be due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| waiting.front()).map(|&(due, _)| due).min()
    }

    /// Takes one thing that is due.
    pub fn expire(&mut self, now: Instant) -> Option<Due> {
        for place in 0..WAITS {
            while let Some((due, key)) = self.waiting[place].pop_front_if(|&mut (due, _)| due <= now) {
                if self.waits(&key, place, due)
                    && let Some(due) = self.retry(key, now)
                {
                    return Some(due);
                }
            }
        }
        None
    }

    /// The end of a wait, as syn_ack_recalc() of Linux has it.
    fn retry(&mut self, key: FlowKey, now: Instant) -> Option<Due> {
        let entry = self.entries.get_mut(&key)?;
        let HalfOpen { retries_max, deferred_retries, .. } = entry.half_open;
        if entry.retries >= retries_max && (!entry.answered || entry.retries >= deferred_retries) {
            return self.entries.remove(&key).map(|entry| Due::Over(entry.half_open));
        }
        entry.retries = entry.retries.saturating_add(1);
        entry.due = now + opening_wait(entry.retries);
        self.waiting[place(entry.retries)].push_back((entry.due, key));
        // Who has answered is asked again when that answer suffices.
        let asks = !entry.answered || entry.retries >= deferred_retries;
        asks.then_some(Due::Resend(key, entry.half_open))
    }

    /// Whether an entry still stands where it was put.
    fn waits(&self, key: &FlowKey, at: usize, due: Instant) -> bool {
        self.entries.get(key).is_some_and(|entry| place(entry.retries) == at && entry.due == due)
    }
}

/// Where an entry waits after so many retries.
fn place(retries: u8) -> usize {
    usize::from(retries).min(WAITS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Duration;
    use crate::limits::RTO_INITIAL;

    fn key(port: u16) -> FlowKey {
        FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into())
    }

    const HALF_OPEN: HalfOpen = HalfOpen {
        listener: Key::TEST,
        irs: 1,
        isn: 2,
        window: 3,
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamp: Some(7),
        retries_max: 5,
        deferred_retries: 0,
        link: LinkId(0),
        header_len: 14,
        header: [0; LINK_HEADER_LEN_MAX],
    };

    #[test]
    fn an_entry_takes_some_tens_of_bytes() {
        assert!(size_of::<(FlowKey, Entry)>() <= 112);
        assert!(size_of::<(Instant, FlowKey)>() <= 48);
    }

    #[test]
    fn rfc6298_5_5_the_wait_doubles_until_the_last_retry() {
        let mut queue = SynQueue::new(1);
        queue.insert(key(1), HALF_OPEN, Instant::ZERO);
        for secs in [1, 3, 7, 15, 31] {
            let now = Instant::from_secs(secs);
            assert_eq!(queue.next_deadline(), Some(now));
            assert_eq!(queue.expire(now - Duration::from_micros(1)), None);
            assert_eq!(queue.expire(now), Some(Due::Resend(key(1), HALF_OPEN)));
            // Which one is answered is not known any more (Karn's algorithm).
            let standing = Standing { half_open: HALF_OPEN, syn_ack: SynAck::Repeated, needs_bytes: false };
            assert_eq!(queue.get(&key(1)), Some(standing));
        }
        assert_eq!(queue.expire(Instant::from_secs(63)), Some(Due::Over(HALF_OPEN)));
        assert_eq!((queue.len(), queue.next_deadline()), (0, None));
    }

    /// TCP_DEFER_ACCEPT of 5 s is three retries, 7 s.
    #[test]
    fn tcp_7_who_has_answered_without_bytes_is_asked_again_at_the_end() {
        let half_open = HalfOpen { deferred_retries: 3, ..HALF_OPEN };
        let needs_bytes = |queue: &SynQueue| queue.get(&key(1)).unwrap().needs_bytes;
        let mut queue = SynQueue::new(1);
        queue.insert(key(1), half_open, Instant::ZERO);
        queue.answer(&key(1));
        for secs in [1, 3] {
            assert_eq!((queue.expire(Instant::from_secs(secs)), needs_bytes(&queue)), (None, true));
        }
        assert_eq!(queue.expire(Instant::from_secs(7)), Some(Due::Resend(key(1), half_open)));
        assert!(!needs_bytes(&queue));
        // A longer time than that of the retries is waited for all the same, in steps of two minutes at most.
        let half_open = HalfOpen { deferred_retries: 9, ..HALF_OPEN };
        queue.insert(key(1), half_open, Instant::ZERO);
        queue.answer(&key(1));
        for secs in [1, 3, 7, 15, 31, 63, 127, 247] {
            assert_eq!(queue.expire(Instant::from_secs(secs)), None);
        }
        assert_eq!(queue.expire(Instant::from_secs(367)), Some(Due::Resend(key(1), half_open)));
        assert_eq!(queue.expire(Instant::from_secs(487)), Some(Due::Over(half_open)));
    }

    #[test]
    fn who_has_left_is_not_due() {
        let mut queue = SynQueue::new(1);
        queue.insert(key(1), HALF_OPEN, Instant::ZERO);
        queue.remove(&key(1));
        let again = Instant::from_millis(500);
        queue.insert(key(1), HALF_OPEN, again);
        assert_eq!(queue.expire(Instant::from_secs(1)), None);
        assert_eq!(queue.expire(again + RTO_INITIAL), Some(Due::Resend(key(1), HALF_OPEN)));
        queue.forget(Key::TEST);
        assert_eq!((queue.len(), queue.expire(Instant::from_secs(100))), (0, None));
    }

    #[test]
    fn who_has_left_takes_no_room() {
        let mut queue = SynQueue::new(1);
        queue.insert(key(0), HALF_OPEN, Instant::ZERO);
        for port in 1..=u16::MAX {
            queue.insert(key(port), HALF_OPEN, Instant::ZERO);
            queue.remove(&key(port));
            assert!(queue.waiting[0].len() <= SWEEP_MIN + 4);
        }
        assert_eq!(queue.expire(Instant::ZERO + RTO_INITIAL), Some(Due::Resend(key(0), HALF_OPEN)));
    }
}
