//! epoll_create(2), epoll_ctl(2), epoll_wait(2).

use crate::args::Room;
use crate::calls::{datagram, open};
use crate::epoll::{self, Control};
use crate::fd_table::{self, Entry};
use crate::sys::SignalMask;
use crate::{args, ret};
use libc::{EPOLL_CTL_DEL, c_int, epoll_event, sigset_t, timespec};
use stack::Errno;
use stack::slab::Key;
use std::time::Duration;

/// What is not looked at.
const NO_EVENT: epoll_event = epoll_event { events: 0, u64: 0 };

/// Waits in an epoll instance that holds sockets of ours.
///
/// # Safety
/// Nobody else touches `events`.
unsafe fn wait(
    set: Result<Key, Errno>,
    events: *mut epoll_event,
    max: c_int,
    timeout: Option<Duration>,
    mask: SignalMask,
) -> Result<c_int, Errno> {
    /// EP_MAX_EVENTS of linux/fs/eventpoll.c.
    const EVENTS_MAX: usize = c_int::MAX as usize / size_of::<epoll_event>();
    let set = set?;
    let room = usize::try_from(max).ok().filter(|room| (1..=EVENTS_MAX).contains(room)).ok_or(Errno::EINVAL)?;
    // SAFETY: the caller's promise.
    let events = unsafe { Room::new(events, room)? };
    epoll::wait(set, events, timeout, mask).map(|count| count as c_int)
}

export! {
    /// epoll_create(2): a new fd is the kernel's, whatever its number was before.
    fn epoll_create(size: c_int) -> c_int = libc::epoll_create {
        ret::number(open::epoll(if size > 0 { Ok(0) } else { Err(Errno::EINVAL) }))
    }

    /// epoll_create1(2).
    fn epoll_create1(flags: c_int) -> c_int = libc::epoll_create1 {
        ret::number(open::epoll(Ok(flags)))
    }

    /// epoll_ctl(2).
    fn epoll_ctl(epfd: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int = libc::epoll_ctl {
        if let Some(Err(errno)) = fd_table::epoll(epfd) {
            return ret::status(Err(errno));
        }
        let socket = match fd_table::used(fd)? {
            Entry::Socket(socket) => socket,
            Entry::Datagram(socket) => datagram::used(fd, socket)?,
            Entry::Inherited(_) => return None,
            Entry::OldEpoll(_) | Entry::Internal => return ret::status(Err(Errno::EBADF)),
            Entry::Epoll(set) => {
                epoll::note_nested(set);
                return None;
            }
        };
        // SAFETY: epoll_ctl(2): `event` is one.
        let event = if operation == EPOLL_CTL_DEL { Ok(NO_EVENT) } else { unsafe { args::value(event) } };
        ret::status(event.and_then(|event| epoll::control(socket, Control { epfd, operation, fd, event })))
    }

    /// epoll_wait(2).
    fn epoll_wait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout_ms: c_int) -> c_int = libc::epoll_wait {
        let (set, timeout) = (fd_table::epoll(epfd)?, args::timeout_millis(timeout_ms));
        // SAFETY: epoll_wait(2): `events` has room for `max` events.
        ret::number(unsafe { wait(set, events, max, timeout, SignalMask::NONE) })
    }

    /// epoll_pwait(2).
    fn epoll_pwait(
        epfd: c_int, events: *mut epoll_event, max: c_int, timeout_ms: c_int, mask: *const sigset_t,
    ) -> c_int = libc::epoll_pwait {
        let (set, timeout) = (fd_table::epoll(epfd)?, args::timeout_millis(timeout_ms));
        // SAFETY: epoll_wait(2): `events` has room for `max` events.
        ret::number(unsafe { wait(set, events, max, timeout, SignalMask(mask)) })
    }

    /// epoll_pwait2(2).
    fn epoll_pwait2(
        epfd: c_int, events: *mut epoll_event, max: c_int, timeout: *const timespec, mask: *const sigset_t,
    ) -> c_int = crate::export::epoll_pwait2 {
        let set = fd_table::epoll(epfd)?;
        // SAFETY: epoll_wait(2): `timeout` is a time, if it is there.
        let timeout = unsafe { args::timeout(timeout) };
        // SAFETY: epoll_wait(2): `events` has room for `max` events.
        ret::number(timeout.and_then(|timeout| unsafe { wait(set, events, max, timeout, SignalMask(mask)) }))
    }
}
