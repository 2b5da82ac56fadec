//! Waiting for a fact of the outside world, with a guard against waiting for ever.

use std::time::{Duration, Instant};

/// How long anything that a test waits for may take before it counts as hung. No test asserts a time.
pub const HANG_GUARD: Duration = Duration::from_secs(120);

/// How often a fact is looked at.
const PERIOD: Duration = Duration::from_millis(5);

/// Looks again and again until `look` finds something, and returns that.
///
/// # Panics
/// If that takes longer than [`HANG_GUARD`]; the message says `what` was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < HANG_GUARD, "waited in vain for {what}");
        std::thread::sleep(PERIOD);
    }
}
