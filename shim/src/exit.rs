//! Exit: what is queued still goes out, for a bounded time; then the counters are written.

use crate::limits::{EXIT_GRACE, EXIT_WAIT_MAX};
use crate::{clock, fork, keeper, relay, stats, successor, thread, world};
use std::sync::atomic::{AtomicBool, Ordering};

/// This process exits.
static IS_LEAVING: AtomicBool = AtomicBool::new(false);

/// In a child of fork(2) the parent's exit is not its own.
pub fn forget() {
    IS_LEAVING.store(false, Ordering::SeqCst);
}

/// Runs when the process exits, by exit(3) or _exit(2); once.
pub extern "C" fn leave() {
    // A child of vfork(2) leaves with its parent's memory; a handler that interrupted us cannot wait for us.
    if !fork::is_served() || thread::is_inside() || IS_LEAVING.swap(true, Ordering::SeqCst) {
        return;
    }
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
    keeper::deliver(EXIT_WAIT_MAX, EXIT_GRACE);
    stats::write_out(&world::enter_quietly());
}
