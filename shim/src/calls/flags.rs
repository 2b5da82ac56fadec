//! fcntl(2) and ioctl(2): the flags of an fd and of its description, and how much is queued.

use super::duplicate;
use crate::description::Role;
use crate::fd_table::{self, Entry};
use crate::world;
use libc::{FD_CLOEXEC, FIONBIO, FIONREAD, O_NONBLOCK, O_RDWR, TIOCOUTQ, c_int, c_long, c_ulong};
use stack::Errno;
use stack::slab::Key;
use std::os::fd::RawFd;

/// fcntl(2), or `None` when the kernel is to do it.
///
/// # Errors
/// `EBADF`; what the kernel says of a copy.
pub fn control(fd: RawFd, entry: Entry, command: c_int, argument: c_long) -> Option<Result<c_int, Errno>> {
    if let libc::F_DUPFD | libc::F_DUPFD_CLOEXEC = command {
        let cloexec = command == libc::F_DUPFD_CLOEXEC;
        return Some(duplicate::duplicate(fd, entry, argument, cloexec));
    }
    let key = match entry {
        Entry::Socket(key) => key,
        Entry::Epoll(_) => return None,
        Entry::Pooled | Entry::Internal => return Some(Err(Errno::EBADF)),
    };
    match command {
        libc::F_GETFD => Some(Ok(if fd_table::placeholder_cloexec(fd)? { FD_CLOEXEC } else { 0 })),
        libc::F_SETFD => {
            fd_table::placeholder_cloexec(fd)?;
            fd_table::set_placeholder_cloexec(fd, argument as c_int & FD_CLOEXEC != 0);
            Some(Ok(0))
        }
        libc::F_GETFL => nonblocking(key).map(|on| Ok(O_RDWR | if on { O_NONBLOCK } else { 0 })),
        libc::F_SETFL => set_nonblocking(key, argument as c_int & O_NONBLOCK != 0).map(|()| Ok(0)),
        _ => None,
    }
}

/// O_NONBLOCK of a socket; `None` while the kernel's own flag says it.
fn nonblocking(key: Key) -> Option<bool> {
    let mut world = world::enter().ok()?;
    let description = world.description(key).ok()?;
    match description.role {
        Role::Undecided | Role::Inherited => None,
        Role::Flow(_) | Role::Listener(_) => Some(description.nonblocking),
    }
}

/// Sets O_NONBLOCK of a socket; `None` when the kernel's own flag is to be set, too.
fn set_nonblocking(key: Key, nonblocking: bool) -> Option<()> {
    let mut world = world::enter().ok()?;
    let description = world.description(key).ok()?;
    description.nonblocking = nonblocking;
    match description.role {
        Role::Undecided | Role::Inherited => None,
        Role::Flow(_) | Role::Listener(_) => Some(()),
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
}

impl Request {
    /// The request, if it is one that we serve; all others are the kernel's.
    pub fn parse(request: c_ulong) -> Option<Self> {
        match request {
            FIONBIO => Some(Request::SetNonblocking),
            FIONREAD => Some(Request::Readable),
            TIOCOUTQ => Some(Request::Unacknowledged),
            _ => None,
        }
    }
}

/// The requests of ioctl(2) that we serve, on a value that is read or answered; `None` when the kernel is to do it.
///
/// # Errors
/// `EINVAL`: the socket listens.
pub fn request(key: Key, request: Request, value: &mut c_int) -> Option<Result<(), Errno>> {
    if let Request::SetNonblocking = request {
        return set_nonblocking(key, *value != 0).map(Ok);
    }
    let mut world = world::enter().ok()?;
    let id = match &world.description(key).ok()?.role {
        Role::Undecided | Role::Inherited => return None,
        Role::Listener(_) => return Some(Err(Errno::EINVAL)),
        Role::Flow(flow) => flow.id,
    };
    let (readable, unacknowledged) = world.stack()?.tcp_queued(id);
    *value = match request {
        Request::Readable => readable,
        _ => unacknowledged,
    } as c_int;
    Some(Ok(()))
}
