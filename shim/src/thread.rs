//! What each thread of the application keeps for itself.
//!
//! All of it is `const`-initialised and has no destructor: applications close fds in late thread-exit handlers.

use crate::limits::{HOLD_BACK_MAX, PROMPT_RETURN, PROMPT_RETURNS_MIN, TRIES_AFTER_WAIT};
use stack::Instant;
use stack::slab::Key;
use std::cell::Cell;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static SENT_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    static HELD_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static PROMPT_RETURNS: Cell<u32> = const { Cell::new(0) };
    static SPIN_CREDIT_US: Cell<u32> = const { Cell::new(u32::MAX) };
    static TRIES: Cell<u32> = const { Cell::new(u32::MAX) };
    static SERVES_ONE_BY_ONE: Cell<bool> = const { Cell::new(false) };
    static CANCELLED: Cell<bool> = const { Cell::new(false) };
    static WAIT: Cell<Option<Key>> = const { Cell::new(None) };
    static ATTENDING: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread holds the lock: then a hook was reached from the handler of a fault, or from our own libraries.
pub fn is_inside() -> bool {
    INSIDE.get()
}

/// Notes that this thread takes or gives back the lock.
pub fn set_inside(inside: bool) {
    INSIDE.set(inside);
}

/// Whether this thread has left a wait because it was cancelled.
pub fn is_cancelled() -> bool {
    CANCELLED.get()
}

/// Notes that it has, or that it has acted on it.
pub fn set_cancelled(cancelled: bool) {
    CANCELLED.set(cancelled);
}

/// This thread's wait: the innermost, where signal handlers wait, too.
pub fn wait() -> Option<Key> {
    WAIT.get()
}

/// Notes which it is now.
pub fn set_wait(wait: Option<Key>) {
    WAIT.set(wait);
}

/// Notes that a wait of this thread's begins to attend to the stack.
pub fn attend() {
    ATTENDING.set(ATTENDING.get() + 1);
}

/// Notes that one ends to; false: none did.
pub fn end_attending() -> bool {
    let count = ATTENDING.get();
    ATTENDING.set(count.saturating_sub(1));
    count > 0
}

/// Notes that a wait has returned: the calls that follow look at what its turn has brought.
pub fn end_wait() {
    TRIES.set(0);
}

/// Notes that this thread comes to wait, at `now`.
pub fn begin_wait(now: Instant) {
    HELD_SINCE.set(None);
    if let Some(sent_at) = SENT_AT.take() {
        let is_prompt = now <= sent_at + PROMPT_RETURN;
        PROMPT_RETURNS.set(if is_prompt { PROMPT_RETURNS.get().saturating_add(1) } else { 0 });
    }
}

/// Whether what this thread has just queued, at `now`, may stay until it waits again: then what an event loop has to say
/// to several goes out together, and a close with the last bytes. So it is, for a short time, with a thread that has
/// shown to go on promptly after it has sent something; should it not for once, the keeper sends.
pub fn may_hold_back(now: Instant) -> bool {
    if SENT_AT.replace(Some(now)).is_some_and(|sent_at| now > sent_at + PROMPT_RETURN) {
        PROMPT_RETURNS.set(0);
    }
    let since = HELD_SINCE.get().unwrap_or(now);
    let holds = PROMPT_RETURNS.get() >= PROMPT_RETURNS_MIN && now <= since + HOLD_BACK_MAX;
    HELD_SINCE.set(holds.then_some(since));
    holds
}

/// Notes that what this thread had queued has gone out, at `now`: the kick may have taken long, in the peers' place.
pub fn has_sent(now: Instant) {
    SENT_AT.set(Some(now));
}

/// Notes that this thread sleeps until something happens to one connection: it is no event loop.
pub fn note_sleep_on_one() {
    SERVES_ONE_BY_ONE.set(true);
}

/// Whether this thread serves one connection after the other, as far as it has shown.
pub fn serves_one_by_one() -> bool {
    SERVES_ONE_BY_ONE.get()
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
