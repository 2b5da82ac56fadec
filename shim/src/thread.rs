//! What each thread of the application keeps for itself.
//!
//! All of it is `const`-initialised and has no destructor: applications close fds in late thread-exit handlers.

use crate::limits::TRIES_AFTER_WAIT;
use std::cell::Cell;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static REPLIES_OWED: Cell<u32> = const { Cell::new(0) };
    static LAST_TO_REPLY: Cell<u64> = const { Cell::new(0) };
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
    REPLIES_OWED.set(ready as u32);
    LAST_TO_REPLY.set(0);
}

/// Whether what this thread has just queued on `socket`, a close included, is to go out now: not while replies on others
/// are expected to follow. A reply may be queued in several pieces.
pub fn reply_is_last(socket: u64) -> bool {
    if LAST_TO_REPLY.replace(socket) != socket {
        REPLIES_OWED.set(REPLIES_OWED.get().saturating_sub(1));
    }
    REPLIES_OWED.get() == 0
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
