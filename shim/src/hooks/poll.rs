//! poll(2), ppoll(2), select(2), pselect(2).

use crate::export::{__poll_chk as poll_chk, __ppoll_chk as ppoll_chk};
use crate::limits::FDS_MAX;
use crate::poll::{self, Sets};
use crate::sys::SignalMask;
use crate::{args, clock, ret};
use libc::{c_int, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};
use stack::Errno;
use std::time::Duration;

/// The fds to poll, if some of them are ours.
///
/// # Safety
/// `fds` has `count` elements.
pub(super) unsafe fn ours<'a>(fds: *mut pollfd, count: nfds_t) -> Option<&'a mut [pollfd]> {
    if count as usize > FDS_MAX {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { args::slice_mut(fds, count as usize) }.ok().filter(|fds| poll::is_ours(fds))
}

/// Polls.
fn poll_all(fds: &mut [pollfd], timeout: Option<Duration>, mask: SignalMask) -> Result<c_int, Errno> {
    poll::poll(fds, timeout, mask).map(|count| count as c_int)
}

/// The sets to select from, if some of their fds are ours.
///
/// # Safety
/// Each of the three is null, or has room for `count` bits.
pub(super) unsafe fn our_sets<'a>(count: c_int, sets: [*mut fd_set; 3]) -> Option<Sets<'a>> {
    let count = usize::try_from(count).ok()?;
    let there = |set: *mut fd_set| (!set.is_null()).then_some(set.cast::<u64>());
    // SAFETY: the caller's promise; the kernel, too, takes whole words.
    let words = |set: *mut fd_set| there(set).and_then(|set| unsafe { args::slice_mut(set, poll::words(count)) }.ok());
    Some(Sets { sets: sets.map(words), count }).filter(Sets::is_ours)
}

/// Selects.
fn select_all(sets: &mut Sets<'_>, timeout: Option<Duration>, mask: SignalMask) -> Result<c_int, Errno> {
    poll::select(sets, timeout, mask).map(|count| count as c_int)
}

export! {
    /// poll(2).
    fn poll(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int = libc::poll {
        // SAFETY: poll(2): `fds` has `count` elements.
        let fds = unsafe { ours(fds, count)? };
        ret::number(poll_all(fds, args::timeout_millis(timeout_ms), SignalMask::NONE))
    }

    /// poll(2), as _FORTIFY_SOURCE calls it: the real one aborts if `fds_len` is too small.
    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int, fds_len: size_t) -> c_int = poll_chk {
        if count as usize > fds_len / size_of::<pollfd>() {
            return None;
        }
        // SAFETY: poll(2): `fds` has `count` elements.
        let fds = unsafe { ours(fds, count)? };
        ret::number(poll_all(fds, args::timeout_millis(timeout_ms), SignalMask::NONE))
    }

    /// ppoll(2).
    fn ppoll(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t,
    ) -> c_int = libc::ppoll {
        // SAFETY: ppoll(2): `fds` has `count` elements.
        let fds = unsafe { ours(fds, count)? };
        // SAFETY: ppoll(2): `timeout` is a time, if it is there.
        let timeout = unsafe { args::timeout(timeout) };
        ret::number(timeout.and_then(|timeout| poll_all(fds, timeout, SignalMask(mask))))
    }

    /// ppoll(2), fortified.
    fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, fds_len: size_t,
    ) -> c_int = ppoll_chk {
        if count as usize > fds_len / size_of::<pollfd>() {
            return None;
        }
        // SAFETY: ppoll(2): `fds` has `count` elements.
        let fds = unsafe { ours(fds, count)? };
        // SAFETY: ppoll(2): `timeout` is a time, if it is there.
        let timeout = unsafe { args::timeout(timeout) };
        ret::number(timeout.and_then(|timeout| poll_all(fds, timeout, SignalMask(mask))))
    }

    /// select(2): Linux leaves in `timeout` the time that was not used.
    fn select(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval,
    ) -> c_int = libc::select {
        // SAFETY: select(2): each set is there or not, and has room for `count` bits.
        let mut sets = unsafe { our_sets(count, [read, write, except])? };
        let start = clock::now();
        // SAFETY: select(2): `timeout` is a time, if it is there.
        let limit = unsafe { args::timeout_micros(timeout) };
        let selected = limit.and_then(|limit| select_all(&mut sets, limit, SignalMask::NONE));
        if let Ok(Some(limit)) = limit {
            let left = limit.saturating_sub(clock::until(start, clock::now()));
            // SAFETY: as above. It was read from there, so it can be written.
            let _ = unsafe { args::answer(timeout, args::timeval(left)) };
        }
        ret::number(selected)
    }

    /// pselect(2).
    fn pselect(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set,
        timeout: *const timespec, mask: *const sigset_t,
    ) -> c_int = libc::pselect {
        // SAFETY: select(2): each set is there or not, and has room for `count` bits.
        let mut sets = unsafe { our_sets(count, [read, write, except])? };
        // SAFETY: select(2): `timeout` is a time, if it is there.
        let timeout = unsafe { args::timeout(timeout) };
        ret::number(timeout.and_then(|timeout| select_all(&mut sets, timeout, SignalMask(mask))))
    }
}
