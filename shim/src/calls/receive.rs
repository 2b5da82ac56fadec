//! recv(2), recvmsg(2), read(2), readv(2).

use crate::description::Role;
use crate::log::warn_once;
use crate::wait::{self, Patience};
use crate::world::World;
use libc::{MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, c_int};
use stack::slab::Key;
use stack::socket::{FlowId, Socket};
use stack::{Errno, Readiness};

/// What is done with received bytes.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Take,
    /// MSG_PEEK.
    Peek,
}

/// Receives into `pieces`, one after the other, and returns how many bytes that were: 0 at the end of the stream.
///
/// # Errors
/// - `EAGAIN`: nothing is there, and the socket does not block or its SO_RCVTIMEO is over. `EINTR`.
/// - `ECONNRESET`, `ETIMEDOUT`: why the peer is gone, once. `ENOTCONN`.
/// - `EOPNOTSUPP`: a flag that we lack; `EINVAL`: MSG_OOB with no urgent byte, of which there is never one.
pub fn receive(key: Key, pieces: &mut [&mut [u8]], flags: c_int) -> Result<usize, Errno> {
    let known = MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC | MSG_WAITALL | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;
    match flags & !known {
        0 => {}
        libc::MSG_OOB => return Err(Errno::EINVAL),
        // No error is ever queued (IP_RECVERR is the kernel's).
        libc::MSG_ERRQUEUE => return Err(Errno::EAGAIN),
        _ => {
            warn_once!(flags, "recv: flags that are not served");
            return Err(Errno::EOPNOTSUPP);
        }
    }
    let manner = if flags & MSG_PEEK != 0 { Manner::Peek } else { Manner::Take };
    let room: usize = pieces.iter().map(|piece| piece.len()).sum();
    let is_all_wanted = flags & MSG_WAITALL != 0;
    let mut received = 0;
    let patience = Patience::RECEIVE.unless(flags & MSG_DONTWAIT != 0);
    let finished = wait::complete(key, patience, |world| {
        let has_ended = match manner {
            Manner::Take => drain(world, key, pieces, &mut received)?,
            Manner::Peek => {
                received = peek(world, key, pieces)?;
                received == 0
            }
        };
        let is_enough = received > 0 && !is_all_wanted;
        if has_ended || is_enough || received == room { Ok(()) } else { Err(Errno::EAGAIN) }
    });
    if received > 0 { Ok(received) } else { finished.map(|()| 0) }
}

/// Moves what is there behind the first `received` bytes of `pieces`; true when no more will come after that.
fn drain(world: &mut World, key: Key, pieces: &mut [&mut [u8]], received: &mut usize) -> Result<bool, Errno> {
    let id = flow(world, key)?;
    let stack = world.stack().ok_or(Errno::ENOTCONN)?;
    if pieces.iter().all(|piece| piece.is_empty()) {
        // recv(2) of nothing still says whether there is something.
        return stack.tcp_peek(id, &mut [0]).map(|_| true);
    }
    let before = *received;
    let mut skip = before;
    for piece in pieces {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        let mut rest = &mut piece[skipped..];
        while !rest.is_empty() {
            let is_empty = stack.tcp_queued(id).0 == 0;
            // The end and errors are said once: not to a call that has bytes to return.
            if is_empty && *received > 0 && stack.readiness(Socket::Flow(id)).contains(Readiness::ERROR) {
                return Ok(true);
            }
            if is_empty && *received > before {
                return Ok(false);
            }
            let moved = stack.tcp_recv(id, rest)?;
            if moved == 0 {
                return Ok(true);
            }
            *received += moved;
            rest = &mut rest[moved..];
        }
    }
    Ok(false)
}

/// Copies what is there into `pieces`, and leaves it there; 0 at the end of the stream.
fn peek(world: &mut World, key: Key, pieces: &mut [&mut [u8]]) -> Result<usize, Errno> {
    let id = flow(world, key)?;
    let stack = world.stack().ok_or(Errno::ENOTCONN)?;
    if let [piece] = pieces {
        return stack.tcp_peek(id, piece);
    }
    let room: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut seen = vec![0; room.min(stack.tcp_queued(id).0.max(1))];
    let count = stack.tcp_peek(id, &mut seen)?;
    let mut rest = &seen[..count];
    for piece in pieces {
        let (here, later) = rest.split_at(rest.len().min(piece.len()));
        piece[..here.len()].copy_from_slice(here);
        rest = later;
    }
    Ok(count)
}

/// The flow behind a socket.
///
/// # Errors
/// `ENOTCONN`; one of the parent process is not connected here.
fn flow(world: &mut World, key: Key) -> Result<FlowId, Errno> {
    match &world.description(key)?.role {
        Role::Flow(flow) => Ok(flow.id),
        Role::Undecided | Role::Listener(_) => Err(Errno::ENOTCONN),
        Role::Inherited => {
            warn_once!("a child of fork(2) uses a connection of its parent's");
            Err(Errno::ENOTCONN)
        }
    }
}
