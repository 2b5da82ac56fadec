//! What the peer has beyond its ACK, as its SACK blocks say (RFC 2018).

use crate::time_wait::after;

/// Ranges that are remembered. A block that finds no room counts as not received: it may be sent twice.
const RANGES_MAX: usize = 16;

/// Ranges of sequence numbers, apart and in order. They have memory once there has been one: most flows lose nothing.
#[derive(Debug, Default)]
pub struct Scoreboard(Vec<(u32, u32)>);

impl Scoreboard {
    /// Nothing but what was acknowledged has arrived.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether nothing is known to have arrived.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the highest range.
    pub fn high(&self) -> Option<u32> {
        self.0.last().map(|&(_, end)| end)
    }

    /// The bytes in all ranges.
    pub fn bytes(&self) -> u32 {
        self.0.iter().map(|&(start, end)| end.wrapping_sub(start)).sum()
    }

    /// The ranges, lowest first.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Adds a block.
    pub fn insert(&mut self, mut start: u32, mut end: u32) {
        let ranges = &mut self.0;
        // The ranges that the block touches become one with it.
        let first = ranges.iter().position(|range| !after(start, range.1)).unwrap_or(ranges.len());
        let touched = ranges[first..].iter().take_while(|range| !after(range.0, end)).count();
        if touched > 0 {
            let (low, high) = (ranges[first].0, ranges[first + touched - 1].1);
            start = if after(start, low) { low } else { start };
            end = if after(high, end) { high } else { end };
            ranges.drain(first + 1..first + touched);
            ranges[first] = (start, end);
        } else if ranges.len() < RANGES_MAX {
            ranges.reserve_exact(RANGES_MAX - ranges.len());
            ranges.insert(first, (start, end));
        }
    }

    /// Forgets what lies before `una`, which is acknowledged now.
    pub fn acknowledge(&mut self, una: u32) {
        let gone = self.0.iter().take_while(|range| !after(range.1, una)).count();
        self.0.drain(..gone);
        if let Some(lowest) = self.0.first_mut()
            && after(una, lowest.0)
        {
            lowest.0 = una;
        }
    }

    /// The first byte from `from` on, and before `below`, that is in no range, and where that hole ends.
    pub fn hole(&self, from: u32, below: u32) -> Option<(u32, u32)> {
        let mut start = from;
        for &(left, right) in self.ranges() {
            if after(left, start) {
                let end = if after(left, below) { below } else { left };
                return after(end, start).then_some((start, end));
            }
            if after(right, start) {
                start = right;
            }
        }
        after(below, start).then_some((start, below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a bit for each sequence number, across the wrap.
        #[test]
        fn holds_what_was_inserted(blocks in proptest::collection::vec((0u32..100, 1u32..20), 0..12), una in 0u32..120) {
            const BASE: u32 = u32::MAX - 40;
            let (mut board, mut bits) = (Scoreboard::default(), [false; 128]);
            for (start, len) in blocks {
                board.insert(BASE.wrapping_add(start), BASE.wrapping_add(start + len));
                bits[start as usize..(start + len) as usize].fill(true);
            }
            board.acknowledge(BASE.wrapping_add(una));
            bits[..una as usize].fill(false);
            prop_assert_eq!(board.bytes() as usize, bits.iter().filter(|bit| **bit).count());
            for from in una..127 {
                let expected = (from..127).find(|at| !bits[*at as usize]);
                let hole = board.hole(BASE.wrapping_add(from), BASE.wrapping_add(127));
                prop_assert_eq!(hole.map(|hole| hole.0.wrapping_sub(BASE)), expected);
            }
        }
    }

    #[test]
    fn a_full_board_still_grows_what_it_has() {
        let mut board = Scoreboard::default();
        (0..20).for_each(|at| board.insert(at * 10, at * 10 + 5));
        assert_eq!((board.ranges().len(), board.high()), (RANGES_MAX, Some(155)));
        board.insert(150, 170);
        assert_eq!(board.high(), Some(170));
    }
}
