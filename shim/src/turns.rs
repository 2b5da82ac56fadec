//! Which of its two queues a UDP socket receives from: the stack's, or that of its shadow in the kernel.
//!
//! Most datagrams come to one of them alone, and asking the kernel is a system call. So it is asked when it is known to
//! have something, when the stack has nothing, and now and then: neither side starves the other.

use crate::limits::SHADOW_PATIENCE;
use stack::Readiness;

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    /// What the shadow was seen to have.
    pub shadow: Readiness,
    /// The shadow is first, if it has something.
    shadow_is_next: bool,
    /// Calls in a row for which the shadow was not asked.
    unasked: u32,
}

/// Where to look for a datagram first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// In the stack, which has one.
    Stack,
    /// In the shadow, and then in the stack.
    Shadow,
    /// Nowhere: somebody will say when the shadow has one.
    Nowhere,
}

impl Turns {
    /// Where to look first, if the stack has a datagram or not. `is_told`: an epoll instance says when the shadow has one.
    pub fn first(&mut self, stack_has: bool, is_told: bool) -> First {
        let shadow_may_have = !self.shadow.is_empty() || self.unasked >= SHADOW_PATIENCE;
        let first = match (stack_has, shadow_may_have) {
            (true, true) if self.shadow_is_next => First::Shadow,
            (true, _) => First::Stack,
            (false, false) if is_told => First::Nowhere,
            (false, _) => First::Shadow,
        };
        self.unasked = if first == First::Shadow { 0 } else { self.unasked.saturating_add(1) };
        first
    }

    /// A datagram came from the stack, or is to.
    pub fn came_from_stack(&mut self, peek: bool) {
        self.shadow_is_next = !peek;
    }

    /// A datagram came from the shadow, or is to: there may be more.
    pub fn came_from_shadow(&mut self, peek: bool) {
        self.shadow |= Readiness::READABLE;
        self.shadow_is_next = peek;
    }

    /// The shadow has nothing.
    pub fn shadow_is_empty(&mut self) {
        self.shadow = Readiness::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_have_their_turns_where_both_have_something() {
        let mut turns = Turns { shadow: Readiness::READABLE, ..Turns::default() };
        for _ in 0..3 {
            assert_eq!(turns.first(true, true), First::Stack);
            turns.came_from_stack(false);
            assert_eq!(turns.first(true, true), First::Shadow);
            turns.came_from_shadow(false);
        }
    }

    #[test]
    fn a_stack_that_is_never_empty_does_not_hide_the_shadow() {
        let mut turns = Turns::default();
        let asked = (0..=SHADOW_PATIENCE).position(|_| {
            let first = turns.first(true, false);
            turns.came_from_stack(false);
            first == First::Shadow
        });
        assert_eq!(asked, Some(SHADOW_PATIENCE as usize));
    }

    #[test]
    fn the_shadow_is_left_alone_where_somebody_will_say() {
        let mut turns = Turns::default();
        assert_eq!(turns.first(false, true), First::Nowhere);
        assert_eq!(turns.first(false, false), First::Shadow);
        turns.shadow = Readiness::READABLE;
        assert_eq!(turns.first(false, true), First::Shadow);
        turns.shadow_is_empty();
        let nowhere = (0..=SHADOW_PATIENCE).filter(|_| turns.first(false, true) == First::Nowhere).count();
        assert_eq!(nowhere, SHADOW_PATIENCE as usize);
    }

    #[test]
    fn what_was_peeked_at_is_what_comes_next() {
        let mut turns = Turns::default();
        assert_eq!(turns.first(false, false), First::Shadow);
        turns.came_from_shadow(true);
        assert_eq!(turns.first(true, false), First::Shadow);
        turns.came_from_stack(true);
        assert_eq!(turns.first(true, false), First::Stack);
    }
}
