//! The calls on a UDP socket: bind(2), connect(2), shutdown(2), and its flags.

pub mod option;
mod receive;
mod send;

pub use receive::receive;
pub use send::{flush, send};

use super::flags::Request;
use crate::datagram::{self, Standing};
use crate::{clock, fd_table, sys, world};
use libc::{O_ASYNC, O_NONBLOCK, c_int, c_long};
use stack::slab::Key;
use stack::{Errno, Readiness};
use std::os::fd::RawFd;

/// The socket at `fd` as it is to be registered in an epoll instance; `None`: it is the kernel's.
pub fn used(fd: RawFd, key: Key) -> Option<Key> {
    let mut world = world::enter().ok()?;
    datagram::settle(&mut world, key);
    drop(world);
    fd_table::datagram(fd)
}

/// A call that may change where the shadow stands, made on it; then it is to be asked. `None`: the kernel is to make it.
fn stand_anew(key: Key, call: impl FnOnce() -> Result<(), Errno>) -> Result<Option<()>, Errno> {
    let Ok(mut world) = world::enter() else { return Ok(None) };
    let Some(datagram) = world.datagram(key) else { return Ok(None) };
    let done = call();
    if datagram.standing != Standing::Alone {
        datagram.standing = Standing::Unknown;
    }
    // What comes in for one that is served is to find it where it stands now.
    if datagram.id.is_some() {
        datagram::settle(&mut world, key);
    }
    done.map(Some)
}

/// bind(2), to an address as the kernel knows it; `None` when the kernel is to do it.
///
/// # Errors
/// What the kernel says.
pub fn bind(fd: RawFd, key: Key, address: &[u8]) -> Result<Option<()>, Errno> {
    let bound = stand_anew(key, || sys::bind(fd, address))?;
    // Its port may be one of which the stack gets all that arrives (SO_REUSEADDR).
    if let Ok(mut world) = world::enter()
        && world.stack().is_some_and(|stack| stack.receives_datagrams())
    {
        datagram::settle(&mut world, key);
    }
    Ok(bound)
}

/// connect(2), to an address as the kernel knows it; `None` when the kernel is to do it.
///
/// # Errors
/// What the kernel says.
pub fn connect(fd: RawFd, key: Key, address: &[u8]) -> Result<Option<()>, Errno> {
    stand_anew(key, || sys::connect(fd, address))
}

/// shutdown(2); `None` when the kernel is to do it.
///
/// # Errors
/// What the kernel says: `ENOTCONN` of a socket without a peer, which is shut down all the same.
pub fn shutdown(fd: RawFd, key: Key, how: c_int) -> Result<Option<()>, Errno> {
    let Ok(mut world) = world::enter() else { return Ok(None) };
    let Some(datagram) = world.datagram(key) else { return Ok(None) };
    let done = sys::shutdown(fd, how);
    if matches!(done, Ok(()) | Err(Errno::ENOTCONN)) {
        datagram.is_read_shut |= matches!(how, libc::SHUT_RD | libc::SHUT_RDWR);
        datagram.is_write_shut |= matches!(how, libc::SHUT_WR | libc::SHUT_RDWR);
        datagram.turns.shadow = datagram::look(fd, libc::POLLIN | libc::POLLRDHUP);
        // Who waits for this socket has to see it.
        let rose = world.readiness(key).unwrap_or_default();
        world.announce(key, rose);
    }
    done.map(Some)
}

/// fcntl(2), F_SETFL, which the kernel is to do, too.
pub fn note_flags(key: Key, flags: c_long) {
    let Ok(mut world) = world::enter() else { return };
    if flags as c_int & O_ASYNC != 0 {
        // The kernel sends SIGIO for what comes to it alone.
        datagram::leave(&mut world, key);
    }
    if let Ok(description) = world.description(key) {
        description.nonblocking = flags as c_int & O_NONBLOCK != 0;
    }
}

/// ioctl(2): the length of the next datagram (FIONREAD). `None` when the kernel is to do it; FIONBIO is noted.
pub fn request(key: Key, request: Request, value: c_int) -> Option<c_int> {
    let mut world = world::enter().ok()?;
    world.datagram(key)?;
    match request {
        Request::SetNonblocking => {
            world.description(key).ok()?.nonblocking = value != 0;
            None
        }
        Request::Readable => {
            if world.is_rx_pending() {
                world.turn(clock::now());
            }
            receive::next_len(&mut world, key).map(|len| len as c_int)
        }
        Request::Unacknowledged | Request::Unsent | Request::AtMark => None,
    }
}

/// The kernel has something for a UDP socket, or an error.
pub fn note_shadow(key: Key, shadow: Readiness) {
    let mut world = world::enter_quietly();
    if let Some(datagram) = world.datagram(key) {
        datagram.turns.shadow |= shadow;
    }
}
