//! fcntl(2) and ioctl(2): the flags of an fd and of its description, and how much is queued.

use super::{datagram, duplicate};
use crate::description::Role;
use crate::fd_table::{self, Entry};
use crate::{adopt, clock, escape, inherited, world};
use libc::{FD_CLOEXEC, FIONBIO, FIONREAD, O_NONBLOCK, O_RDWR, TIOCOUTQ, c_int, c_long, c_ulong};
use stack::Errno;
use stack::slab::Key;
use std::os::fd::RawFd;

/// fcntl(2), or `None` when the kernel is to do it.
///
/// # Errors
/// `EBADF`; what the kernel says of a copy.
pub fn control(fd: RawFd, entry: Entry, command: c_int, argument: c_long) -> Result<Option<c_int>, Errno> {
    if let libc::F_DUPFD | libc::F_DUPFD_CLOEXEC = command {
        let cloexec = command == libc::F_DUPFD_CLOEXEC;
        return duplicate::duplicate(fd, entry, argument, cloexec).map(Some);
    }
    let key = match entry {
        Entry::Socket(key) => key,
        Entry::Datagram(key) => {
            if command == libc::F_SETFL {
                datagram::note_flags(key, argument);
            }
            return Ok(None);
        }
        Entry::Epoll(_) | Entry::OldEpoll(_) => return Ok(None),
        // Only close-on-exec is the fd's own, and not the socket's.
        Entry::Inherited(key) if matches!(command, libc::F_GETFD | libc::F_SETFD) => key,
        Entry::Inherited(key) => {
            inherited::obtain(key);
            return Ok(None);
        }
        Entry::Internal => return Err(Errno::EBADF),
    };
    match command {
        libc::F_GETFD => Ok(fd_table::placeholder_cloexec(fd).map(|on| if on { FD_CLOEXEC } else { 0 })),
        libc::F_SETFD => Ok(fd_table::placeholder_cloexec(fd).map(|_| {
            fd_table::set_placeholder_cloexec(fd, argument as c_int & FD_CLOEXEC != 0);
            0
        })),
        libc::F_GETFL => Ok(nonblocking(key)?.map(|on| O_RDWR | if on { O_NONBLOCK } else { 0 })),
        libc::F_SETFL => Ok(set_nonblocking(key, argument as c_int & O_NONBLOCK != 0)?.map(|()| 0)),
        _ => Ok(None),
    }
}

/// Of asm-generic/fcntl.h and asm-generic/sockios.h.
const F_SETSIG: c_int = 10;
const F_SETOWN_EX: c_int = 15;
const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;

/// The flags of an fd that FIOCLEX and FIONCLEX of ioctl(2) set, as F_SETFD of fcntl(2) does.
pub fn set_by(request: c_ulong) -> Option<c_long> {
    match request {
        libc::FIOCLEX => Some(FD_CLOEXEC.into()),
        libc::FIONCLEX => Some(0),
        _ => None,
    }
}

/// Whether fcntl(2) is to say who gets SIGIO, or when.
pub fn asks_for_signals(command: c_int, argument: c_long) -> bool {
    match command {
        libc::F_SETFL => argument as c_int & libc::O_ASYNC != 0,
        libc::F_SETOWN | F_SETSIG | F_SETOWN_EX => true,
        _ => false,
    }
}

/// The same of ioctl(2).
pub fn requests_signals(request: c_ulong) -> bool {
    matches!(request, libc::FIOASYNC | FIOSETOWN | SIOCSPGRP)
}

/// Leaves a connection to the kernel, which sends signals for it; false if `fd` is none.
pub fn leave_to_signals(fd: RawFd) -> bool {
    let key = fd_table::socket(fd);
    let is_flow = key.is_some_and(|key| {
        world::enter().is_ok_and(|mut world| {
            world.description(key).is_ok_and(|description| matches!(description.role, Role::Flow(_)))
        })
    });
    if is_flow {
        escape::release(fd);
    }
    is_flow
}

/// O_NONBLOCK of a socket; `None` while the kernel's own flag says it.
fn nonblocking(key: Key) -> Result<Option<bool>, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    match description.role {
        Role::Undecided | Role::Relay(_) | Role::Datagram(_) => Ok(None),
        Role::Flow(_) | Role::Listener(_) => Ok(Some(description.nonblocking)),
    }
}

/// Sets O_NONBLOCK of a socket; `None` when the kernel's own flag is to be set, too.
fn set_nonblocking(key: Key, nonblocking: bool) -> Result<Option<()>, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    description.nonblocking = nonblocking;
    match description.role {
        Role::Undecided | Role::Relay(_) | Role::Datagram(_) => Ok(None),
        Role::Listener(_) => {
            description.fds.first().into_iter().for_each(|&fd| adopt::hide_nonblocking(fd, !nonblocking));
            Ok(Some(()))
        }
        Role::Flow(_) => Ok(Some(())),
    }
}

/// What an ioctl(2) that we serve asks for.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    /// FIONBIO: sets O_NONBLOCK.
    SetNonblocking,
    /// FIONREAD, also called SIOCINQ.
    Readable,
    /// TIOCOUTQ, also called SIOCOUTQ.
    Unacknowledged,
    /// SIOCOUTQNSD.
    Unsent,
    /// SIOCATMARK.
    AtMark,
}

/// Of linux/sockios.h.
const SIOCOUTQNSD: c_ulong = 0x894b;

/// Of asm/sockios.h.
const SIOCATMARK: c_ulong = 0x8905;

impl Request {
    /// The request, if it is one that we serve; all others are the kernel's.
    pub fn parse(request: c_ulong) -> Option<Self> {
        match request {
            FIONBIO => Some(Request::SetNonblocking),
            FIONREAD => Some(Request::Readable),
            TIOCOUTQ => Some(Request::Unacknowledged),
            SIOCOUTQNSD => Some(Request::Unsent),
            SIOCATMARK => Some(Request::AtMark),
            _ => None,
        }
    }
}

/// The requests of ioctl(2) that we serve, on a value that is read or answered; `None` when the kernel is to do it.
///
/// # Errors
/// `EINVAL`: the socket listens.
pub fn request(key: Key, request: Request, value: &mut c_int) -> Result<Option<()>, Errno> {
    if let Request::SetNonblocking = request {
        return set_nonblocking(key, *value != 0);
    }
    let mut world = world::enter()?;
    let id = match &world.description(key)?.role {
        Role::Undecided | Role::Relay(_) | Role::Datagram(_) => return Ok(None),
        Role::Listener(_) => return Err(Errno::EINVAL),
        Role::Flow(flow) => flow.id,
    };
    if world.is_rx_pending() {
        world.turn(clock::now());
    }
    let stack = world.stack().ok_or(Errno::EBADF)?;
    *value = match request {
        Request::Readable => stack.tcp_input_len(id),
        Request::Unsent => stack.tcp_unsent(id),
        Request::AtMark => stack.tcp_is_at_mark(id).into(),
        _ => stack.tcp_queued(id).1,
    } as c_int;
    Ok(Some(()))
}
