//! pthread_cancel(3): a thread that is cancelled while a call of ours waits leaves it, and ends.
//!
//! The C library only notes that a thread is to end, and acts on it in its own functions. We wait in none of those. So
//! we note it, too, and wake who sleeps; the thread goes back to the exported function, above whose frame nothing is left
//! to be undone, and asks the C library to act there (pthread_testcancel(3)).
//!
//! While it has the world's lock, a thread must not end, although functions of the C library that it calls (to kick a
//! ring, to ask netlink) would act: there its cancellation is disabled. A thread is cancelled under the lock, too, so that
//! whoever takes it knows whether any ever was.

use crate::export::{pthread_getcpuclockid, pthread_setcancelstate, pthread_setcanceltype, pthread_testcancel};
use crate::world::{self, Inside, World};
use crate::{sys, thread};
use libc::{c_int, clockid_t, pid_t, pthread_t};
use stack::Errno;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a wait says that a cancellation has ended: no errno of the application's.
pub const CANCELLED: Errno = Errno(513);

// bits/pthreadtypes.h and pthread.h of glibc.
const DISABLE: c_int = 1;
const ENABLE: c_int = 0;
const DEFERRED: c_int = 0;
const ASYNCHRONOUS: c_int = 1;

/// A thread was cancelled, at some time: until then, all this costs a load.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// A thread has asked to be cancelled at any instruction.
static IS_ASYNCHRONOUS: AtomicBool = AtomicBool::new(false);

/// Threads that were cancelled and are not known to have acted on it, each by the clock of its processor time: unlike a
/// pthread_t, that does not pass to the next thread.
#[derive(Default)]
pub struct Cancelled(Vec<clockid_t>);

/// The clock of a thread; `None` if it has ended.
pub fn clock_of(thread: pthread_t) -> Option<clockid_t> {
    let mut clock = 0;
    // SAFETY: the application cancels that thread, and so knows that there is one.
    let failed = unsafe { pthread_getcpuclockid(thread, &mut clock) } != 0;
    (!failed).then_some(clock)
}

fn own_clock() -> Option<clockid_t> {
    // SAFETY: pthread_self has no precondition.
    clock_of(unsafe { libc::pthread_self() })
}

/// The thread of a clock (linux/posix-timers_types.h: its number, inverted, above three bits).
fn thread_of(clock: clockid_t) -> pid_t {
    !(clock >> 3)
}

/// Cancels a thread: `cancel` has the C library note that it is to end; 0 is success.
pub fn cancel(thread: pthread_t, cancel: impl FnOnce() -> c_int) -> c_int {
    let (Some(clock), false) = (clock_of(thread), thread::is_inside()) else { return cancel() };
    let mut world = world::enter_quietly();
    IS_USED.store(true, Ordering::Relaxed);
    let answer = cancel();
    let Cancelled(threads) = &mut world.cancelled;
    threads.retain(|&other| other != clock && sys::has_thread(thread_of(other)));
    threads.push(clock);
    world.wakers.wake_all();
    world.rouse_sets();
    answer
}

/// Notes what a thread has asked for by pthread_setcanceltype(3).
pub fn note_type(kind: c_int) {
    if kind == ASYNCHRONOUS {
        IS_ASYNCHRONOUS.store(true, Ordering::Relaxed);
    }
}

/// Whether the calling thread has to leave its call: it was cancelled, and lets itself be.
pub fn is_due(world: &Inside) -> bool {
    world.disabled.was_enabled() && is_cancelled(world)
}

#[cold]
fn is_cancelled(world: &World) -> bool {
    let is_cancelled = own_clock().is_some_and(|clock| world.cancelled.0.contains(&clock));
    if is_cancelled {
        thread::set_cancelled(true);
    }
    is_cancelled
}

/// While this lives, its thread is not cancelled.
pub struct Disabled(bool);

impl Disabled {
    /// Disables it, if it ever was used; the lock is taken already.
    #[inline]
    pub fn new() -> Self {
        Disabled(IS_USED.load(Ordering::Relaxed) && disable())
    }

    /// Whether there is a use of it, and the application has it enabled.
    #[inline]
    pub fn was_enabled(&self) -> bool {
        self.0
    }
}

impl Drop for Disabled {
    #[inline]
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: the state that there was; the old one is not asked for. The type is deferred: nothing happens yet.
            unsafe { pthread_setcancelstate(ENABLE, ptr::null_mut()) };
        }
    }
}

#[cold]
fn disable() -> bool {
    let mut state = DISABLE;
    // SAFETY: `state` is an int.
    unsafe { pthread_setcancelstate(DISABLE, &mut state) };
    state == ENABLE
}

/// Before a call: a thread that may be cancelled at any instruction is not while it is in here, where it may have the lock.
/// Returns whether it is to be so again.
#[inline]
pub fn begin() -> bool {
    IS_ASYNCHRONOUS.load(Ordering::Relaxed) && defer()
}

#[cold]
fn defer() -> bool {
    let mut kind = DEFERRED;
    // SAFETY: `kind` is an int.
    unsafe { pthread_setcanceltype(DEFERRED, &mut kind) };
    kind == ASYNCHRONOUS
}

/// After it. The thread ends here, if it was cancelled meanwhile.
#[inline]
pub fn end(was_asynchronous: bool) {
    if was_asynchronous {
        // SAFETY: the type that there was; the present one is not asked for. No frame above the application's has
        // anything to undo.
        unsafe { pthread_setcanceltype(ASYNCHRONOUS, ptr::null_mut()) };
    }
}

/// The thread ends here, if it has left its call for that. True: it does not, since it is about to end already and this is
/// a clean-up handler's call.
#[inline]
pub fn act() -> bool {
    IS_USED.load(Ordering::Relaxed) && act_if_due()
}

#[cold]
fn act_if_due() -> bool {
    if !thread::is_cancelled() {
        return false;
    }
    thread::set_cancelled(false);
    if let Some(own) = own_clock() {
        world::enter_quietly().cancelled.0.retain(|&clock| clock != own);
    }
    // SAFETY: no frame above the application's has anything to undo.
    unsafe { pthread_testcancel() };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_says_whose_it_is() {
        let own = own_clock().expect("this thread has one");
        assert!(sys::has_thread(thread_of(own)));
        let other = std::thread::spawn(own_clock).join().expect("it ends").expect("it had one");
        assert_ne!(other, own);
        assert!(!sys::has_thread(thread_of(other)));
    }
}
