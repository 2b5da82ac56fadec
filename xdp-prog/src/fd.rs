//! File descriptors kept out of the application's way.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The highest floor. The kernel's table of fds is as long as its highest number, and select(getdtablesize(), ...) goes
/// that far: no further than FD_SETSIZE, or a program that has worked overruns its sets.
const FLOOR_MAX: libc::rlim_t = 512;

/// Moves `fd` to a high number and makes it close-on-exec, so that the application finds the low numbers free and a
/// program that it executes does not inherit it.
///
/// # Errors
/// `EMFILE`: no number up to the soft limit of open files is free. fcntl(2), F_DUPFD_CLOEXEC.
pub fn high_fd(fd: OwnedFd) -> io::Result<OwnedFd> {
    duplicate_high(fd.as_raw_fd())
}

/// A high, close-on-exec duplicate of an fd that remains its owner's.
pub(crate) fn duplicate_high(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes two numbers and touches no memory.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, high_fd_floor()?) };
    if high < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

/// Where the numbers begin that the application does not need: everything of ours stays at or above it.
///
/// # Errors
/// What getrlimit(2) says.
pub fn high_fd_floor() -> io::Result<RawFd> {
    open_files_max().map(floor)
}

/// Never in the lower half of what the soft limit allows.
fn floor(open_files_max: libc::rlim_t) -> RawFd {
    let floor = (open_files_max / 2).min(FLOOR_MAX);
    RawFd::try_from(floor).expect("FLOOR_MAX is an fd")
}

/// The soft RLIMIT_NOFILE: one more than the highest number that the kernel gives out.
fn open_files_max() -> io::Result<libc::rlim_t> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit for the kernel to fill in.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(limit.rlim_cur),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_leaves_the_low_half_to_the_application() {
        let check = |limit, expected| assert_eq!(floor(limit), expected, "soft limit {limit}");
        check(16, 8);
        check(256, 128);
        check(1_024, 512);
        check(4_096, 512);
        check(1 << 20, 512);
        check(libc::RLIM_INFINITY, 512);
    }

    #[test]
    fn fd_moves_up_and_is_closed_on_exec() {
        // SAFETY: eventfd takes two numbers.
        let low = unsafe { libc::eventfd(0, 0) };
        assert!(low >= 0);
        // SAFETY: just made, and ours alone.
        let low = unsafe { OwnedFd::from_raw_fd(low) };
        let high = high_fd(low).unwrap().as_raw_fd();
        assert!(high >= high_fd_floor().unwrap());
    }
}
