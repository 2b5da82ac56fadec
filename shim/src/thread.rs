//! What each thread of the application keeps for itself.
//!
//! All of it is `const`-initialised and has no destructor: applications close fds in late thread-exit handlers.

use crate::limits::TRIES_AFTER_WAIT;
use std::cell::Cell;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static REPLIES_OWED: Cell<u32> = const { Cell::new(0) };
    static SPIN_CREDIT_US: Cell<u32> = const { Cell::new(u32::MAX) };
    static TRIES: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// Whether this thread holds the lock: then a hook was reached from a signal handler, or from our own libraries.
pub fn is_inside() -> bool {
    INSIDE.get()
}

/// Notes that this thread takes or gives back the lock.
pub fn set_inside(inside: bool) {
    INSIDE.set(inside);
}

/// Notes that a wait has returned `ready` sockets of ours: the calls that follow look at what its turn has brought, and
/// replies to all but the last may go out with it.
pub fn expect_replies(ready: usize) {
    TRIES.set(0);
    REPLIES_OWED.set(ready.saturating_sub(1) as u32);
}

/// Whether what this thread has just queued is to go out now: not while more replies are expected to follow.
pub fn reply_is_last() -> bool {
    let owed = REPLIES_OWED.get();
    REPLIES_OWED.set(owed.saturating_sub(1));
    owed == 0
}

/// Whether more replies are expected to follow.
pub fn owes_replies() -> bool {
    REPLIES_OWED.get() > 0
}

/// How long this thread may spin, in microseconds: at most `max`.
pub fn spin_credit_us(max: u32) -> u32 {
    SPIN_CREDIT_US.get().min(max)
}

/// Sets how long this thread may spin next time, in microseconds.
pub fn set_spin_credit_us(credit: u32) {
    SPIN_CREDIT_US.set(credit);
}

/// Counts a call that found nothing and may not block, and says whether this thread turns the stack with such calls: it
/// makes them without a wait in between.
pub fn polls_with_calls() -> bool {
    let tries = TRIES.get().saturating_add(1);
    TRIES.set(tries);
    tries > TRIES_AFTER_WAIT
}
