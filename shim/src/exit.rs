//! The end of the process, by exit(3) or by a signal: what is queued still goes out, for a bounded time; then the counters
//! are written.

use crate::limits::{EXIT_GRACE, EXIT_WAIT_MAX};
use crate::{clock, fork, keeper, relay, signals, stats, successor, sys, thread, world};
use libc::c_int;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// This process exits.
static IS_LEAVING: AtomicBool = AtomicBool::new(false);

/// All is done that comes before that.
static HAS_LEFT: AtomicBool = AtomicBool::new(false);

/// Whether a signal ends this process: not; it does; all is done that comes before.
static ENDING: AtomicU32 = AtomicU32::new(NOT);
const NOT: u32 = 0;
const BEGUN: u32 = 1;
const DONE: u32 = 2;

/// In a child of fork(2) the parent's exit is not its own.
pub fn forget() {
    IS_LEAVING.store(false, Ordering::SeqCst);
    HAS_LEFT.store(false, Ordering::SeqCst);
    ENDING.store(NOT, Ordering::SeqCst);
}

/// Runs when the process exits, by exit(3) or _exit(2); once.
pub extern "C" fn leave() {
    // A child of vfork(2) leaves with its parent's memory; the handler of a fault that interrupted us cannot wait for us.
    if !fork::is_served() || thread::is_inside() {
        return;
    }
    stop_if_ending();
    if !IS_LEAVING.swap(true, Ordering::SeqCst) {
        deliver_all();
        note_done();
    }
}

fn deliver_all() {
    let mut world = world::enter_quietly();
    relay::serve(&mut world, clock::now());
    world.close_all();
    if !world.relays.is_empty() {
        // It delivers what is queued, too.
        match successor::leave_behind(world) {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "connections end with this process"),
        }
    } else {
        drop(world);
    }
    deliver_rest();
}

fn deliver_rest() {
    keeper::deliver(EXIT_WAIT_MAX, EXIT_GRACE);
    let world = world::enter_quietly();
    if !HAS_LEFT.swap(true, Ordering::SeqCst) {
        stats::write_out(&world);
    }
}

/// A signal that ends the process has nothing to wait for any more.
fn note_done() {
    HAS_LEFT.store(true, Ordering::SeqCst);
    if ENDING.compare_exchange(BEGUN, DONE, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        sys::wake_for_change(&ENDING);
    }
}

/// Ends the process by a signal, in that signal's handler, when what is queued has gone out. The keeper sees to that: the
/// handler may have interrupted anything, on a stack of any size.
pub fn end_by(signal: c_int) -> ! {
    sys::block_signals();
    if fork::is_served() {
        if ENDING.compare_exchange(NOT, BEGUN, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            stop();
        }
        if !HAS_LEFT.load(Ordering::SeqCst) && keeper::summon() {
            sys::wait_for_change(&ENDING, BEGUN, EXIT_WAIT_MAX + EXIT_GRACE);
        }
    }
    signals::set_default(signal);
    sys::unblock(1 << (signal - 1));
    sys::raise(signal);
    sys::exit(128 + signal)
}

/// Does in the keeper what comes before the end, if a signal has begun it.
pub fn serve_end() {
    if !has_begun() {
        return;
    }
    if IS_LEAVING.swap(true, Ordering::SeqCst) {
        // The signal may have stopped the very thread that was at it.
        deliver_rest();
    } else {
        deliver_all();
    }
    note_done();
}

/// Whether a signal has begun to end this process, and waits for the keeper.
pub fn has_begun() -> bool {
    ENDING.load(Ordering::SeqCst) == BEGUN
}

/// Stops this thread for good, if a signal ends the process: with the kernel it would not live to see its flows closed.
#[inline]
pub fn stop_if_ending() {
    if ENDING.load(Ordering::Relaxed) != NOT {
        stop();
    }
}

#[cold]
fn stop() -> ! {
    loop {
        let _ = sys::poll(&mut [], None);
    }
}
