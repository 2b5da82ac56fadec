//! listen(2): in the kernel always, and in the stack once the process uses the listener.

use crate::description::{Description, Listener, Role};
use crate::sys::AddressBuffer;
use crate::world::{self, World};
use crate::{adopt, args, attach, epoll, sys};
use libc::c_int;
use stack::Errno;
use stack::slab::Key;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

/// listen(2), or `None` when the kernel is to do it.
///
/// # Errors
/// What the kernel says: `EADDRINUSE` and so on. `EINVAL`: connected.
pub fn listen(fd: RawFd, key: Key, backlog: c_int) -> Result<Option<()>, Errno> {
    let mut world = world::enter()?;
    match &world.description(key)?.role {
        Role::Relay(_) | Role::Datagram(_) => Ok(None),
        Role::Flow(_) => Err(Errno::EINVAL),
        Role::Undecided | Role::Listener(_) => {
            sys::listen(fd, backlog)?;
            listen_too(&mut world, fd, key, bound_of(backlog)).map(Some)
        }
    }
}

/// The accept queue's bound: at least one connection, and a negative backlog is a large one (linux/net/socket.c).
fn bound_of(backlog: c_int) -> usize {
    /// Linux's default for net.core.somaxconn, which bounds every backlog.
    const SOMAXCONN: usize = 4096;
    (backlog as u32 as usize).clamp(1, SOMAXCONN)
}

fn listen_too(world: &mut World, fd: RawFd, key: Key, backlog: usize) -> Result<(), Errno> {
    if let Role::Listener(listener) = &mut world.description(key)?.role {
        listener.backlog = backlog;
        let id = listener.id;
        if let (Some(id), Some(stack)) = (id, world.stack()) {
            stack.tcp_set_backlog(id, backlog);
        }
        return Ok(());
    }
    attach::prepare(world);
    let Some(network) = &world.network else {
        world.give_to_kernel(key);
        return Ok(());
    };
    let Description { passed, device, is_shut, .. } = world.descriptions.get(key).ok_or(Errno::EBADF)?;
    let is_elsewhere = device.is_some_and(|device| !network.is_only(device));
    let name = name(fd)?;
    if *is_shut
        || passed.keeps_with_kernel()
        || is_elsewhere
        || (!network.serves_loopback() && name.ip().to_canonical().is_loopback())
    {
        world.give_to_kernel(key);
        return Ok(());
    }
    // accept(2) looks at the shadow after the stack's own queue, and must not wait in it.
    sys::set_nonblocking(fd, true)?;
    let description = world.description(key)?;
    description.role = Role::Listener(Listener::new(backlog));
    description.settings.v6only |= is_one_v6(name);
    adopt::hide_nonblocking(fd, !description.nonblocking);
    world.has_new_listeners = true;
    epoll::watch_new_listener(world, key);
    Ok(())
}

/// Where the kernel's socket listens.
pub fn name(fd: RawFd) -> Result<SocketAddr, Errno> {
    let mut name: AddressBuffer = [0; size_of::<AddressBuffer>()];
    let len = sys::socket_name(fd, &mut name)?;
    args::parse_address(&name[..len]).ok_or(Errno::EAFNOSUPPORT)
}

/// Whether a socket that is bound to this address has no other family (inet6_bind() of Linux says IPV6_V6ONLY then).
pub fn is_one_v6(name: SocketAddr) -> bool {
    matches!(name.ip(), IpAddr::V6(ip) if !ip.is_unspecified() && ip.to_ipv4_mapped().is_none())
}
