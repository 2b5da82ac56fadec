//! recv(2), recvmsg(2), read(2), readv(2).

use super::zerocopy;
use crate::clock;
use crate::description::{Flow, Role};
use crate::limits::DISCARD_LEN_MAX;
use crate::pieces::Pieces;
use crate::ret::BEGIN_AGAIN;
use crate::wait::{self, Patience};
use crate::world::{self, World};
use libc::{MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, c_int};
use stack::slab::Key;
use stack::socket::{FlowId, Socket};
use stack::{Errno, Readiness};
use std::iter;

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
/// - `EFAULT`: no memory to receive into; the bytes stay where they are.
/// - `EINVAL`: MSG_OOB, and there is no urgent byte. Flags that TCP does not know change nothing.
pub fn receive(key: Key, pieces: Pieces<'_>, flags: c_int) -> Result<usize, Errno> {
    if flags & MSG_ERRQUEUE != 0 {
        // Its element has no bytes.
        return zerocopy::next(key).map(|_| 0);
    }
    if flags & MSG_OOB != 0 {
        return receive_aside(key, pieces, flags);
    }
    if flags & MSG_TRUNC != 0 {
        // tcp(7): the bytes are thrown away, and the buffers not looked at.
        let mut discarded = vec![0; pieces.len().min(DISCARD_LEN_MAX)];
        return receive_into(key, Pieces::own(&mut discarded), flags);
    }
    receive_into(key, pieces, flags)
}

fn receive_into(key: Key, mut pieces: Pieces<'_>, flags: c_int) -> Result<usize, Errno> {
    let manner = if flags & MSG_PEEK != 0 { Manner::Peek } else { Manner::Take };
    let mut received = 0;
    let patience = Patience::RECEIVE.unless(flags & MSG_DONTWAIT != 0);
    let finished = wait::complete(key, patience, |world| {
        let has_ended = match manner {
            Manner::Take => drain(world, key, &mut pieces, &mut received)?,
            Manner::Peek => {
                received = peek(world, key, &mut pieces)?;
                received == 0
            }
        };
        // sock_rcvlowat() of Linux.
        let lowat = world.description(key)?.settings.tcp.receive_lowat.max(1) as usize;
        let wanted = if flags & MSG_WAITALL != 0 { pieces.len() } else { lowat.min(pieces.len()) };
        if has_ended || received >= wanted { Ok(()) } else { Err(Errno::EAGAIN) }
    });
    if received > 0 { Ok(received) } else { finished.map(|()| 0) }
}

/// What TCP_INQ has recvmsg(2) say: how much more there is to be read.
pub fn unread(key: Key) -> Option<c_int> {
    let mut world = world::enter().ok()?;
    let description = world.description(key).ok().filter(|description| description.settings.tells_unread)?;
    let Role::Flow(Flow { id, .. }) = description.role else { return None };
    Some(world.stack()?.tcp_unread(id) as c_int)
}

/// What is received beside the stream: the urgent byte. It is never waited for.
fn receive_aside(key: Key, mut pieces: Pieces<'_>, flags: c_int) -> Result<usize, Errno> {
    let mut world = world::enter()?;
    if world.is_rx_pending() {
        world.turn(clock::now());
    }
    let id = flow(&mut world, key)?;
    let room = pieces.room(0, pieces.len().min(1))?.next();
    let byte = world.stack().ok_or(Errno::ENOTCONN)?.tcp_recv_urgent(id, flags & MSG_PEEK != 0)?;
    match (room, byte) {
        (Some(room), Some(byte)) => {
            room[0] = byte;
            Ok(1)
        }
        _ => Ok(0),
    }
}

/// Moves what is there behind the first `received` bytes of `pieces`; true when no more will come after that, or something
/// urgent does.
fn drain(world: &mut World, key: Key, pieces: &mut Pieces<'_>, received: &mut usize) -> Result<bool, Errno> {
    let id = flow(world, key)?;
    let stack = world.stack().ok_or(Errno::ENOTCONN)?;
    let room_len = pieces.len() - *received;
    let len = stack.tcp_readable(id).min(room_len);
    if room_len == 0 {
        // recv(2) of nothing still says whether there is something.
        return stack.tcp_peek(id, &mut [0]).map(|_| true);
    }
    if len == 0 {
        // The end and errors are said once: not to a call that has bytes to return.
        let has_error = *received > 0 && stack.readiness(Socket::Flow(id)).contains(Readiness::ERROR);
        return if has_error { Ok(true) } else { stack.tcp_recv(id, &mut []).map(|_| true) };
    }
    for room in pieces.room(*received, len)? {
        *received += stack.tcp_recv(id, room)?;
    }
    Ok(stack.tcp_is_at_mark(id))
}

/// Copies what is there into `pieces`, and leaves it there; 0 at the end of the stream.
fn peek(world: &mut World, key: Key, pieces: &mut Pieces<'_>) -> Result<usize, Errno> {
    let id = flow(world, key)?;
    let stack = world.stack().ok_or(Errno::ENOTCONN)?;
    let len = stack.tcp_readable(id).min(pieces.len());
    if len == 0 {
        return stack.tcp_peek(id, &mut [0]).map(|_| 0);
    }
    let mut rooms = pieces.room(0, len)?;
    let Some(first) = rooms.next() else { return Ok(0) };
    if first.len() == len {
        return stack.tcp_peek(id, first);
    }
    let mut seen = vec![0; len];
    stack.tcp_peek(id, &mut seen)?;
    let mut rest = &seen[..];
    for room in iter::once(first).chain(rooms) {
        let (here, later) = rest.split_at(room.len());
        room.copy_from_slice(here);
        rest = later;
    }
    Ok(len)
}

/// The flow behind a socket.
///
/// # Errors
/// `BEGIN_AGAIN`: there is none, and the kernel's socket says so.
fn flow(world: &mut World, key: Key) -> Result<FlowId, Errno> {
    match &world.description(key)?.role {
        Role::Flow(flow) => Ok(flow.id),
        Role::Undecided | Role::Listener(_) | Role::Datagram(_) | Role::Relay(_) => Err(BEGIN_AGAIN),
    }
}
