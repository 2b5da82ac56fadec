//! Memory for the flows' buffers: a pool of power-of-two sizes under one bound.
//!
//! Not the application's allocator: a flow is opened inside a hook, and a recycled heap block would have to be
//! cleared. What comes back waits for the next flow, warm up to a bound, beyond that without its pages.

use crate::kernel::arena::Region;
use crate::limits::{BUFFER_LEN_MAX, BUFFER_LEN_MIN, MEMORY_LEN_DEFAULT, WARM_LEN_MAX};
use std::collections::VecDeque;

/// Mapped at once for the smaller sizes.
const PIECE_LEN: usize = 8 << 20;

/// How many sizes there are.
const CLASSES: usize = (BUFFER_LEN_MAX / BUFFER_LEN_MIN).ilog2() as usize + 1;

/// What a buffer is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A flow could use a larger one: not when memory is scarce.
    Growth,
    /// A flow is to begin, or to go on after a pause.
    Beginning,
    /// A flow that cannot go on without the least one: whatever the bound, as Linux grants tcp_rmem[0].
    Least,
}

/// A free buffer, and whether it has pages.
struct Free {
    region: Region,
    warm: bool,
}

/// Hands out buffers, and takes them back.
pub struct Buffers {
    rest: Region,
    /// By size; those with pages at the back, where they are taken.
    free: [VecDeque<Free>; CLASSES],
    /// Bytes that flows have.
    held: usize,
    /// Bytes of free buffers with pages.
    warm: usize,
    len_max: usize,
}

impl Buffers {
    /// A pool that hands out `MEMORY_LEN_DEFAULT` bytes at most.
    pub fn new() -> Self {
        Buffers {
            rest: Region::empty(),
            free: std::array::from_fn(|_| VecDeque::new()),
            held: 0,
            warm: 0,
            len_max: MEMORY_LEN_DEFAULT,
        }
    }

    /// Another bound, in bytes. What is out stays out.
    pub fn set_bound(&mut self, len_max: usize) {
        self.len_max = len_max;
    }

    /// Bytes that flows have.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether memory is scarce: windows do not grow. Two thirds of the bound, as of tcp_mem(5).
    pub fn is_scarce(&self) -> bool {
        self.held > self.len_max / 3 * 2
    }

    /// Whether so many bytes are left for a need.
    pub fn has(&self, len: usize, need: Need) -> bool {
        let bound = match need {
            Need::Growth => self.len_max / 3 * 2,
            Need::Beginning => self.len_max,
            Need::Least => usize::MAX,
        };
        self.held + len <= bound
    }

    /// A buffer of at least `len` bytes, whatever stands in it; `None` at the bound, or when the kernel has no memory
    /// left. One of no bytes is always there.
    pub fn take(&mut self, len: usize, need: Need) -> Option<Region> {
        if len == 0 {
            return Some(Region::empty());
        }
        let class = class_of(len);
        let len = BUFFER_LEN_MIN << class;
        if !self.has(len, need) {
            return None;
        }
        let region = match self.free[class].pop_back() {
            Some(free) => {
                self.warm -= if free.warm { len } else { 0 };
                free.region
            }
            None => self.map(len)?,
        };
        self.held += len;
        Some(region)
    }

    /// Two buffers, or none.
    pub fn take_both(&mut self, one_len: usize, other_len: usize, need: Need) -> Option<[Region; 2]> {
        let one = self.take(one_len, need)?;
        match self.take(other_len, need) {
            Some(other) => Some([one, other]),
            None => {
                self.give_back(one);
                None
            }
        }
    }

    /// Takes both back.
    pub fn give_back_all(&mut self, regions: [Region; 2]) {
        regions.into_iter().for_each(|region| self.give_back(region));
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, mut region: Region) {
        let len = region.len();
        if len == 0 {
            return;
        }
        self.held -= len;
        let free = &mut self.free[class_of(len)];
        if self.warm + len <= WARM_LEN_MAX {
            self.warm += len;
            free.push_back(Free { region, warm: true });
        } else {
            region.clean();
            free.push_front(Free { region, warm: false });
        }
    }

    fn map(&mut self, len: usize) -> Option<Region> {
        if len > PIECE_LEN / 8 {
            return Region::map(len).ok();
        }
        if self.rest.len() < len {
            self.rest = Region::map(PIECE_LEN).ok()?;
            self.rest.keep_pages_small();
        }
        Some(self.rest.split_front(len))
    }
}

fn class_of(len: usize) -> usize {
    debug_assert!(len <= BUFFER_LEN_MAX);
    (len.max(BUFFER_LEN_MIN).next_power_of_two() / BUFFER_LEN_MIN).ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No two live buffers overlap, none is shorter than asked for, and the sums are right.
        #[test]
        fn buffers_are_apart(operations in proptest::collection::vec((0usize..10_000_000, any::<bool>()), 1..200)) {
            let mut buffers = Buffers::new();
            let bound = 32 << 20;
            buffers.set_bound(bound);
            let mut live: Vec<Region> = Vec::new();
            for (number, take) in operations {
                if take {
                    let len = (number % BUFFER_LEN_MAX) >> (number % 11);
                    let taken = buffers.take(len, Need::Beginning);
                    let class_len = if len == 0 { 0 } else { len.max(BUFFER_LEN_MIN).next_power_of_two() };
                    prop_assert_eq!(taken.is_some(), live.iter().map(Region::len).sum::<usize>() + class_len <= bound);
                    if let Some(region) = taken {
                        prop_assert!(region.len() >= len);
                        live.push(region);
                    }
                } else if !live.is_empty() {
                    buffers.give_back(live.swap_remove(number % live.len()));
                }
                let mut spans: Vec<_> = live.iter().map(|region| (region.address(), region.len())).collect();
                spans.retain(|span| span.1 > 0);
                spans.sort();
                prop_assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
                prop_assert_eq!(buffers.held(), spans.iter().map(|span| span.1).sum::<usize>());
                prop_assert!(buffers.warm <= WARM_LEN_MAX);
            }
        }
    }

    #[test]
    fn growth_stops_first_and_the_least_never() {
        let mut buffers = Buffers::new();
        buffers.set_bound(3 * BUFFER_LEN_MIN);
        let mut take = |need| buffers.take(1, need).is_some();
        assert!(take(Need::Growth) && take(Need::Growth) && !take(Need::Growth));
        assert!(take(Need::Beginning) && !take(Need::Beginning));
        assert!(take(Need::Least));
        assert!(buffers.is_scarce());
    }
}
