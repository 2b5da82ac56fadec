//! The clocks: what "now" is for the stack, and the time of day for captures.

use stack::Instant;
use std::time::Duration;

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the answer; these clocks always exist (clock_gettime(2)).
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Now, on a clock that no one sets.
pub fn now() -> Instant {
    Instant::from_micros(read(libc::CLOCK_MONOTONIC).as_micros() as i64)
}

/// What to add to `now` for the time since 1970.
pub fn wall_offset() -> Duration {
    read(libc::CLOCK_REALTIME).saturating_sub(read(libc::CLOCK_MONOTONIC))
}

/// `duration` from `now` on; `None` (for ever) if that cannot be counted.
pub fn after(now: Instant, duration: Duration) -> Option<Instant> {
    let micros = i64::try_from(duration.as_nanos().div_ceil(1000)).ok()?;
    Some(Instant::from_micros(now.total_micros().checked_add(micros)?))
}

/// How long it is from `now` to `then`; nothing if that has passed.
pub fn until(now: Instant, then: Instant) -> Duration {
    Duration::from_micros((then.total_micros() - now.total_micros()).max(0) as u64)
}
