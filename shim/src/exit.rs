//! Exit: what is queued still goes out, for a bounded time; then the counters are written.

use crate::limits::{EXIT_GRACE, EXIT_WAIT_MAX};
use crate::{fork, keeper, stats, thread, world};
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
    world::enter_quietly().close_all();
    keeper::deliver(EXIT_WAIT_MAX, EXIT_GRACE);
    stats::write_out(&world::enter_quietly());
}
