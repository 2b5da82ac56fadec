//! SIGINT and SIGTERM as a readable descriptor, so that a server can end in its own time and say what it did.

use crate::epoll::check;
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

/// Blocks SIGINT and SIGTERM for this thread and returns a descriptor that is readable once either arrived. signalfd(2).
///
/// # Errors
/// What sigprocmask(2) or signalfd(2) answered.
pub fn descriptor() -> io::Result<OwnedFd> {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call only writes to the set.
    check(unsafe { libc::sigemptyset(signals.as_mut_ptr()) })?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the set was emptied above, so it is initialised.
        check(unsafe { libc::sigaddset(signals.as_mut_ptr(), signal) })?;
    }
    // SAFETY: the set is initialised, and the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, signals.as_ptr(), ptr::null_mut()) })?;
    // SAFETY: the set is initialised.
    let fd = check(unsafe { libc::signalfd(-1, signals.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
