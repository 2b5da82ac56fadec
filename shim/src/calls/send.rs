//! send(2), sendmsg(2), write(2), writev(2).

use super::zerocopy;
use crate::description::Role;
use crate::pieces::Pieces;
use crate::ret::BEGIN_AGAIN;
use crate::sys;
use crate::wait::{self, Patience};
use crate::world::World;
use libc::{MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, MSG_OOB, MSG_ZEROCOPY, c_int};
use stack::Errno;
use stack::slab::Key;
use stack::socket::FlowId;

/// Sends `pieces` one after the other, and returns how many bytes that were: fewer than all of them only when the
/// socket does not block, or when the wait ended early.
///
/// # Errors
/// - `EAGAIN`: no room, and the socket does not block or its SO_SNDTIMEO is over. `EINTR`.
/// - `EPIPE`, with SIGPIPE unless MSG_NOSIGNAL is set: shut down, or the peer is gone.
/// - `EFAULT`: no memory to send from. `ECONNRESET`, `ETIMEDOUT`: why the peer is gone, once.
///   Flags that TCP does not know change nothing.
pub fn send(key: Key, pieces: Pieces<'_>, flags: c_int) -> Result<usize, Errno> {
    send_with(Patience::SEND.unless(flags & MSG_DONTWAIT != 0), key, pieces, flags)
}

/// The same, waiting as `patience` says.
///
/// # Errors
/// As for `send`.
pub fn send_with(patience: Patience, key: Key, pieces: Pieces<'_>, flags: c_int) -> Result<usize, Errno> {
    let mut sent = 0;
    let finished = wait::complete(key, patience, |world| {
        let flow = flow(world, key)?;
        let before = sent;
        let filled = fill(world, flow, pieces, flags & MSG_MORE != 0, &mut sent);
        if sent > before {
            if flags & MSG_OOB != 0 {
                world.stack().ok_or(Errno::EPIPE)?.tcp_mark_urgent(flow);
            }
            world.flush_reply();
        }
        filled
    });
    match finished {
        _ if sent > 0 => {
            if flags & MSG_ZEROCOPY != 0 {
                zerocopy::note(key);
            }
            Ok(sent)
        }
        Err(Errno::EPIPE) if flags & MSG_NOSIGNAL == 0 => {
            sys::raise_sigpipe();
            Err(Errno::EPIPE)
        }
        finished => finished.map(|()| sent),
    }
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

/// Queues what follows the first `sent` bytes of `pieces`; `EAGAIN` when there is no room for all of it.
fn fill(world: &mut World, flow: FlowId, pieces: Pieces<'_>, more: bool, sent: &mut usize) -> Result<(), Errno> {
    let stack = world.stack().ok_or(Errno::EPIPE)?;
    let len = stack.tcp_room(flow)?.min(pieces.len() - *sent);
    for bytes in pieces.bytes(*sent, len)? {
        *sent += stack.tcp_send_part(flow, bytes, more)?;
    }
    if *sent < pieces.len() { Err(Errno::EAGAIN) } else { Ok(()) }
}
