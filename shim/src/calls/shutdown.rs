//! shutdown(2).

use crate::description::Role;
use crate::{sys, world};
use libc::c_int;
use stack::Errno;
use stack::slab::Key;
use stack::socket::tcp::How;
use std::os::fd::RawFd;

/// shutdown(2), or `None` when the kernel is to do it.
///
/// # Errors
/// `EINVAL`: no such `how`. `ENOTCONN`.
pub fn shutdown(fd: RawFd, key: Key, how: c_int) -> Result<Option<()>, Errno> {
    let direction = match how {
        libc::SHUT_RD => How::Read,
        libc::SHUT_WR => How::Write,
        libc::SHUT_RDWR => How::Both,
        _ => return Err(Errno::EINVAL),
    };
    let mut world = world::enter()?;
    let done = match &world.description(key)?.role {
        Role::Undecided | Role::Relay(_) | Role::Datagram(_) => return Ok(None),
        Role::Flow(flow) => {
            let id = flow.id;
            let stack = world.stack().ok_or(Errno::EBADF)?;
            let done = stack.tcp_shutdown(id, direction);
            world.flush_reply();
            done
        }
        // It stops listening unless only writing is over (linux/net/ipv4/af_inet.c).
        Role::Listener(_) if direction == How::Write => sys::shutdown(fd, how),
        Role::Listener(listener) => {
            let id = listener.id;
            if let (Some(id), Some(stack)) = (id, world.stack()) {
                stack.tcp_unlisten(id);
            }
            world.description(key)?.role = Role::Undecided;
            sys::shutdown(fd, how)
        }
    };
    // Who waits for this socket has to see it.
    let rose = world.readiness(key).unwrap_or_default();
    world.announce(key, rose);
    done.map(Some)
}
