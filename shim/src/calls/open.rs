//! socket(2), and what else makes an fd.

use crate::datagram::Datagram;
use crate::description::{Role, Settings};
use crate::fd_table::{self, Entry};
use crate::{attach, config, epoll, fork, sys, thread, world};
use libc::{
    AF_INET, AF_INET6, AF_XDP, IPPROTO_TCP, IPPROTO_UDP, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, c_int,
};
use stack::Errno;
use std::os::fd::RawFd;

/// socket(2), or `None` when the kernel is to do it. A TCP or UDP socket is made by the kernel all the same, and is ours
/// until bind(2), connect(2), listen(2) or its first use shows where it belongs.
///
/// # Errors
/// What the kernel says.
pub fn open(domain: c_int, kind: c_int, protocol: c_int) -> Option<Result<RawFd, Errno>> {
    config::get()?;
    if thread::is_inside() {
        // A library of ours: libxdp is to use the AF_XDP socket that is meant for it.
        return attach::handed_over().filter(|_| domain == AF_XDP).map(Ok);
    }
    if !matches!(domain, AF_INET | AF_INET6) || !fork::is_served() {
        return None;
    }
    let role = match (kind & !(SOCK_CLOEXEC | SOCK_NONBLOCK), protocol) {
        (SOCK_STREAM, 0 | IPPROTO_TCP) => Role::Undecided,
        (SOCK_DGRAM, 0 | IPPROTO_UDP) => Role::Datagram(Datagram::default()),
        _ => return None,
    };
    let made = sys::socket(domain, kind, protocol);
    if let Ok(fd) = made {
        adopt(fd, domain, kind, role);
    }
    Some(made)
}

/// Makes a new socket ours; where it cannot be, it is the kernel's.
fn adopt(fd: RawFd, domain: c_int, kind: c_int, role: Role) {
    fd_table::clear(fd);
    let Ok(mut world) = world::enter() else { return };
    if world.cannot_attach || !fd_table::fits(fd) {
        return;
    }
    let nonblocking = kind & SOCK_NONBLOCK != 0;
    let is_datagram = matches!(role, Role::Datagram(_));
    let Ok(key) = world.describe(domain, role, nonblocking, Settings::default()) else { return };
    if let Ok(description) = world.description(key) {
        description.fds.push(fd);
        fd_table::set(fd, if is_datagram { Entry::Datagram(key) } else { Entry::Socket(key) });
    }
}

/// epoll_create1(2) with these flags, or the error that epoll_create(2) has found. It gets a set beside it from
/// the start: a thread may be waiting in it by the time that a socket of ours is added.
///
/// # Errors
/// What the kernel says.
pub fn epoll(flags: Result<c_int, Errno>) -> Result<RawFd, Errno> {
    let fd = sys::epoll_create(flags?)?;
    fd_table::clear(fd);
    if config::get().is_some()
        && fork::is_served()
        && let Ok(mut world) = world::enter()
        && let Err(error) = epoll::promote(&mut world, fd)
    {
        // It gets its set when it has to have one.
        tracing::debug!(%error, "an epoll instance without a set");
    }
    Ok(fd)
}
