//! Waiting for a fact of the outside world, with a guard against waiting for ever.

use std::time::{Duration, Instant};

/// How long anything that a test waits for may take before it counts as hung. No test asserts a time.
pub const HANG_GUARD: Duration = Duration::from_secs(60);

/// How often a fact is looked at.
const PERIOD: Duration = Duration::from_millis(5);

/// Looks again and again until `look` finds something, and returns that.
///
/// # Panics
/// If that takes longer than [`HANG_GUARD`]; the message says `what` was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    found_in_time(HANG_GUARD, look).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// The same, with `None` after `guard`.
pub(crate) fn found_in_time<T>(guard: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < guard {
        let found = look();
        if found.is_some() {
            return found;
        }
        std::thread::sleep(PERIOD);
    }
    None
}
