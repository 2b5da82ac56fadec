//! accept(2): from the stack's accept queue, or from the kernel's.

use super::bind::Chosen;
use crate::args::Answer;
use crate::description::{Description, Flow, Role, Shadow, Standing};
use crate::sys::AddressBuffer;
use crate::wait::{self, Patience};
use crate::world::World;
use crate::{admission, args, attach, escape, fd_table, handoff, stats, sys};
use libc::{SOCK_CLOEXEC, SOCK_NONBLOCK, c_int};
use stack::slab::Key;
use stack::socket::{ListenerId, Socket};
use stack::{Errno, Readiness};
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// A connection: its fd, and who is at the other end.
struct Accepted {
    fd: RawFd,
    peer: Option<SocketAddr>,
    family: c_int,
}

/// accept4(2): returns the fd of a connection, and says in `peer` who is at the other end.
///
/// # Errors
/// - `EAGAIN`: none is there, and the socket does not block or its SO_RCVTIMEO is over.
/// - `EINVAL`: unknown flags, or the socket does not listen. `EMFILE`: no fd is free; the connection stays queued.
/// - What the kernel says of a connection of its own.
pub fn accept(fd: RawFd, key: Key, peer: Answer, flags: c_int) -> Result<RawFd, Errno> {
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let patience = Patience { shadow: Some(fd), ..Patience::RECEIVE };
    let accepted = wait::complete(key, patience, |world| {
        attach::attach_for(world, key);
        // Another thread may have closed the one that the call was made by.
        let fd = world.description(key)?.fds.first().copied().ok_or(Errno::EBADF)?;
        accept_either(world, fd, key, flags)
    })?;
    if accepted.fd <= libc::STDERR_FILENO {
        // The C library reads and writes the standard streams by itself.
        escape::release(accepted.fd);
    }
    if let (true, Some(address)) = (peer.is_wanted(), accepted.peer) {
        peer.write_address(address, accepted.family)?;
    }
    Ok(accepted.fd)
}

fn accept_either(world: &mut World, fd: RawFd, key: Key, flags: c_int) -> Result<Accepted, Errno> {
    let description = world.description(key)?;
    let is_told = description.nonblocking && !description.watches.is_empty();
    let Role::Listener(listener) = &mut description.role else { return Err(Errno::EINVAL) };
    let id = listener.id;
    if is_told
        && !listener.shadow_is_ready
        && let Some(id) = id
    {
        // An epoll instance says when the kernel has a connection; asking it each time would be a system call.
        return accept_ours(world, key, id, flags);
    }
    let shadow_first = listener.shadow_is_ready && listener.shadow_is_next;
    listener.shadow_is_next = !listener.shadow_is_next;
    let order = if shadow_first { [None, id] } else { [id, None] };
    for from in order {
        let accepted = match from {
            Some(id) => accept_ours(world, key, id, flags),
            None if !admission::may_take_from_kernel(world, fd, key) => Err(Errno::EAGAIN),
            None => accept_shadow(world, fd, key, flags),
        };
        if !matches!(accepted, Err(Errno::EAGAIN)) {
            return accepted;
        }
    }
    Err(Errno::EAGAIN)
}

fn accept_ours(world: &mut World, key: Key, id: ListenerId, flags: c_int) -> Result<Accepted, Errno> {
    let stack = world.stack().ok_or(Errno::EAGAIN)?;
    if !stack.readiness(Socket::Listener(id)).contains(Readiness::READABLE) {
        return Err(Errno::EAGAIN);
    }
    // Before the flow is taken: without an fd it has to stay where it is.
    let family = world.description(key)?.family;
    let fd = world.placeholders.take(family)?;
    let taken = take_flow(world, key, id, flags & SOCK_NONBLOCK != 0);
    let (accepted, peer) = taken.inspect_err(|_| sys::close(fd))?;
    world.description(accepted)?.fds.push(fd);
    fd_table::set_placeholder(fd, fd_table::Entry::Socket(accepted), flags & SOCK_CLOEXEC != 0);
    admission::note_accepted(world, key);
    Ok(Accepted { fd, peer, family })
}

/// Takes a connection off a listener's queue: a description that no fd stands for yet, and who is at the other end.
///
/// # Errors
/// `EAGAIN`: none is there. `ENOBUFS`: too many descriptions; it is reset.
pub fn take_flow(
    world: &mut World,
    key: Key,
    id: ListenerId,
    nonblocking: bool,
) -> Result<(Key, Option<SocketAddr>), Errno> {
    let Description { family, settings, passed, device, chosen, .. } = world.description(key)?;
    let (family, mut settings, passed, device) = (*family, *settings, passed.handed_down(), *device);
    let chosen = Chosen { port: false, ..*chosen };
    // What it took to be accepted does not pass on.
    settings.tcp.deferred_retries = 0;
    let stack = world.stack().ok_or(Errno::EAGAIN)?;
    let flow = stack.tcp_accept(id)?;
    let peer = stack.tcp_endpoints(flow).map(|(_, peer)| peer);
    let role = Role::Flow(Flow {
        id: flow,
        shadow: Shadow::Placeholder,
        standing: Standing::Connected,
        born: world.children.forks(),
    });
    let accepted = match world.describe(family, role, nonblocking, settings) {
        Ok(accepted) => accepted,
        Err(errno) => {
            world.stack().ok_or(errno)?.tcp_close(flow, true);
            return Err(errno);
        }
    };
    let description = world.description(accepted)?;
    (description.passed, description.device, description.chosen) = (passed, device, chosen);
    if let Some(stack) = world.stack() {
        stack.set_token(Socket::Flow(flow), accepted.to_bits());
    }
    Ok((accepted, peer))
}

/// A connection that came over the kernel: it is the kernel's for good.
fn accept_shadow(world: &mut World, fd: RawFd, key: Key, flags: c_int) -> Result<Accepted, Errno> {
    let mut name: AddressBuffer = [0; size_of::<AddressBuffer>()];
    let accepted = sys::accept(fd, &mut name, flags);
    let description = world.description(key)?;
    let family = description.family;
    let mut mailbox = None;
    if let Role::Listener(listener) = &mut description.role {
        listener.shadow_is_ready = accepted.is_ok();
        mailbox = listener.mailbox;
    }
    if accepted.is_err() {
        admission::reopen(world, key);
    }
    let (fd, len) = accepted?;
    fd_table::clear(fd);
    let peer = args::parse_address(&name[..len]);
    if handoff::is_token(fd, peer) {
        let peer = handoff::redeem(mailbox, fd, flags).inspect_err(|_| sys::close(fd))?;
        return Ok(Accepted { fd, peer: Some(peer), family });
    }
    stats::count(&stats::ACCEPTED_FROM_KERNEL);
    Ok(Accepted { fd, peer, family })
}
