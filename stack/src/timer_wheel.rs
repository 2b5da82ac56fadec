//! Where deadlines wait: a hierarchical timer wheel of 1 ms ticks (Varghese and Lauck, 1987).
//!
//! Arming and firing are O(1). Nothing is ever disarmed: who is fired asks its own deadline and arms again if that
//! has moved. So each entry stands in the wheel once, at or before its deadline.

use crate::slab::Key;
use crate::{Duration, Instant};

const LEVELS: usize = 4;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^4 ms: 4.6 hours. Later deadlines fire then, and are armed again.
const TICKS_MAX: u64 = 1 << (LEVELS as u32 * SLOT_BITS);

/// Who is to be fired, and at which tick.
type Slot = Vec<(Key, u64)>;

/// Deadlines of flows.
pub struct TimerWheel {
    /// The tick up to which everything has fired.
    tick: u64,
    slots: Box<[[Slot; SLOTS]; LEVELS]>,
    /// A bit for each slot that holds something.
    occupied: [u64; LEVELS],
    len: usize,
}

impl TimerWheel {
    /// An empty wheel that has fired everything before `now`.
    pub fn new(now: Instant) -> Self {
        TimerWheel {
            tick: floor_tick(now),
            slots: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| Vec::new()))),
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// Fires `key` at the first tick that is not before `deadline`.
    pub fn arm(&mut self, key: Key, deadline: Instant) {
        let tick = ceil_tick(deadline).clamp(self.tick + 1, self.tick + TICKS_MAX - 1);
        self.place(key, tick);
        self.len += 1;
    }

    /// Moves everything that is due at `now` to the end of `due`.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<Key>) {
        let target = floor_tick(now);
        while self.tick < target {
            let next = self.next_tick_of_interest().min(target);
            self.tick = next;
            self.cascade();
            let slot = slot_of(next, 0);
            let fired = due.len();
            due.extend(self.slots[0][slot].drain(..).map(|(key, _)| key));
            self.len -= due.len() - fired;
            self.occupied[0] &= !(1 << slot);
        }
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No later than the first deadline: when to call `advance` next.
    pub fn next_deadline(&self) -> Option<Instant> {
        (self.len > 0).then(|| Instant::from_millis(self.next_tick_of_interest() as i64))
    }

    /// Puts an entry on the lowest level that reaches its tick.
    fn place(&mut self, key: Key, tick: u64) {
        let distance = tick ^ self.tick;
        let level = (distance.max(1).ilog2() / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = slot_of(tick, level);
        self.slots[level as usize][slot].push((key, tick));
        self.occupied[level as usize] |= 1 << slot;
    }

    /// Moves entries down from each level whose slot begins at the present tick, the highest level first.
    fn cascade(&mut self) {
        for level in (1..LEVELS as u32).rev() {
            let slot = slot_of(self.tick, level);
            let begins = self.tick & ((1 << (level * SLOT_BITS)) - 1) == 0;
            if begins && self.occupied[level as usize] & (1 << slot) != 0 {
                self.occupied[level as usize] &= !(1 << slot);
                let mut entries = std::mem::take(&mut self.slots[level as usize][slot]);
                for (key, tick) in entries.drain(..) {
                    self.place(key, tick);
                }
                // An entry may have come back to the very same slot (a whole revolution away).
                if self.slots[level as usize][slot].is_empty() {
                    self.slots[level as usize][slot] = entries;
                }
            }
        }
    }

    /// The first tick after the present one at which a slot fires or cascades.
    fn next_tick_of_interest(&self) -> u64 {
        let next = |level: u32| {
            let shift = level * SLOT_BITS;
            let position = self.tick >> shift;
            let ahead = self.occupied[level as usize].rotate_right((position as u32 + 1) % SLOTS as u32);
            (ahead != 0).then(|| (position + 1 + u64::from(ahead.trailing_zeros())) << shift)
        };
        (0..LEVELS as u32).filter_map(next).min().unwrap_or(u64::MAX)
    }
}

fn slot_of(tick: u64, level: u32) -> usize {
    (tick >> (level * SLOT_BITS)) as usize % SLOTS
}

fn floor_tick(instant: Instant) -> u64 {
    instant.total_millis().max(0) as u64
}

fn ceil_tick(instant: Instant) -> u64 {
    floor_tick(instant + Duration::from_micros(999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn keys(count: usize) -> Vec<Key> {
        let mut slab = Slab::new(count);
        (0..count).map(|_| slab.insert(|| Some(()), |_| ()).unwrap()).collect()
    }

    proptest! {
        /// Against a sorted set: everything fires once, no earlier than its deadline, and the wheel never says to
        /// sleep past one. Starts near a carry through all levels.
        #[test]
        fn agrees_with_a_sorted_set(
            start in (1u64 << 24) - 100..(1 << 24) + 100,
            steps in proptest::collection::vec((0u64..300_000, 0u64..20_000_000), 1..60),
        ) {
            let keys = keys(steps.len());
            let mut now = Instant::from_millis(start as i64);
            let mut wheel = TimerWheel::new(now);
            let mut model = BTreeSet::new();
            for (&(step_ms, delay_us), &key) in steps.iter().zip(&keys) {
                let deadline = now + Duration::from_micros(delay_us);
                wheel.arm(key, deadline);
                // The wheel's resolution is the tick, and nothing fires in the tick it is armed in.
                let tick = ceil_tick(deadline).max(floor_tick(now) + 1);
                model.insert((tick, key));
                prop_assert!(wheel.next_deadline().unwrap() <= Instant::from_millis(model.first().unwrap().0 as i64));
                now += Duration::from_millis(step_ms % 20_000);
                let mut due = Vec::new();
                wheel.advance(now, &mut due);
                let mut expected: Vec<Key> = model.iter().filter(|(at, _)| *at <= floor_tick(now)).map(|e| e.1).collect();
                model.retain(|(at, _)| *at > floor_tick(now));
                due.sort();
                expected.sort();
                prop_assert_eq!(due, expected);
            }
            // Following next_deadline fires the rest in order, without a step too many.
            let mut fired = Vec::new();
            while let Some(next) = wheel.next_deadline() {
                prop_assert!(next > now);
                now = next;
                wheel.advance(now, &mut fired);
            }
            prop_assert_eq!(fired.len(), model.len());
        }
    }
}
