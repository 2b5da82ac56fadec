//! The SYN queue: half-open flows cost some tens of bytes each, not a socket with buffers.

use crate::flow_table::FlowKey;
use crate::limits::{LINK_HEADER_LEN_MAX, SYN_ACK_RETRIES, SYN_ACK_WAIT, SYN_QUEUE_MAX};
use crate::outside::LinkId;
use crate::slab::Key;
use crate::{Duration, Instant};
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
    /// How often the SYN-ACK has been sent again.
    retries: u8,
    /// With `retries`, recognises the entry's place among those that wait.
    due: Instant,
}

/// Something that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// The SYN-ACK is to be sent again.
    Resend(FlowKey, HalfOpen),
    /// The entry is gone: nobody answered the last one either.
    Over(HalfOpen),
}

/// The half-open flows of all listeners.
pub struct SynQueue {
    entries: HashMap<FlowKey, Entry, RandomState>,
    /// By how often the SYN-ACK has been sent again: all that stand in one of these wait equally long, so each is in
    /// the order of its deadlines. Who has left is recognised when its time comes, or in a sweep.
    waiting: [VecDeque<(Instant, FlowKey)>; SYN_ACK_RETRIES as usize + 1],
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
        let due = now + wait(0);
        self.entries.insert(key, Entry { half_open, retries: 0, due });
        self.waiting[0].push_back((due, key));
    }

    /// The half-open flow of a 4-tuple, with the time at which its SYN-ACK was sent, if it was sent once.
    pub fn get(&self, key: &FlowKey) -> Option<(HalfOpen, Option<Instant>)> {
        let entry = self.entries.get(key)?;
        Some((entry.half_open, (entry.retries == 0).then(|| entry.due - wait(0))))
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
        for retries in 0..=SYN_ACK_RETRIES {
            let waiting = usize::from(retries);
            while let Some((due, key)) = self.waiting[waiting].pop_front_if(|&mut (due, _)| due <= now) {
                if self.waits(&key, retries, due) {
                    return self.retry(key, retries + 1, now);
                }
            }
        }
        None
    }

    fn retry(&mut self, key: FlowKey, retries: u8, now: Instant) -> Option<Due> {
        if retries > SYN_ACK_RETRIES {
            return self.entries.remove(&key).map(|entry| Due::Over(entry.half_open));
        }
        let entry = self.entries.get_mut(&key)?;
        entry.retries = retries;
        entry.due = now + wait(retries);
        self.waiting[usize::from(retries)].push_back((entry.due, key));
        Some(Due::Resend(key, entry.half_open))
    }

    /// Whether an entry still stands where it was put.
    fn waits(&self, key: &FlowKey, retries: u8, due: Instant) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.retries == retries && entry.due == due)
    }
}

/// How long an answer is waited for after so many retries (RFC 6298, 2.1 and 5.5).
fn wait(retries: u8) -> Duration {
    SYN_ACK_WAIT * (1 << retries)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(queue.get(&key(1)), Some((HALF_OPEN, None)));
        }
        assert_eq!(queue.expire(Instant::from_secs(63)), Some(Due::Over(HALF_OPEN)));
        assert_eq!((queue.len(), queue.next_deadline()), (0, None));
    }

    #[test]
    fn who_has_left_is_not_due() {
        let mut queue = SynQueue::new(1);
        queue.insert(key(1), HALF_OPEN, Instant::ZERO);
        queue.remove(&key(1));
        let again = Instant::from_millis(500);
        queue.insert(key(1), HALF_OPEN, again);
        assert_eq!(queue.expire(Instant::from_secs(1)), None);
        assert_eq!(queue.expire(again + SYN_ACK_WAIT), Some(Due::Resend(key(1), HALF_OPEN)));
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
        assert_eq!(queue.expire(Instant::ZERO + SYN_ACK_WAIT), Some(Due::Resend(key(0), HALF_OPEN)));
    }
}
