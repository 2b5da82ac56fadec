//! connect(2): through an interface of ours, or handed to the kernel.

use super::bind::{bound, reserve, unbind};
use crate::attach::{self, Network};
use crate::description::{Description, Flow, Role, Shadow, Standing};
use crate::fd_table::{self, Entry};
use crate::sys;
use crate::wait::{self, Patience};
use crate::world::{self, World};
use crate::{clock, epoll};
use stack::outside::Hop;
use stack::slab::Key;
use stack::socket::tcp::TcpState;
use stack::socket::{FlowId, Socket};
use stack::{Errno, Readiness};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// connect(2), or `None` when the kernel is to do it.
///
/// # Errors
/// - `EINPROGRESS`: started, and the socket does not block or its SO_SNDTIMEO is over. `EALREADY`: not done yet.
/// - `EISCONN`: done, or the socket listens. `ECONNREFUSED`, `ETIMEDOUT`: failed.
/// - `ENETUNREACH`, `EHOSTUNREACH`, `EADDRNOTAVAIL`, and what bind(2) says of the port.
pub fn connect(fd: RawFd, key: Key, remote: Option<SocketAddr>) -> Result<Option<()>, Errno> {
    match begin(fd, key, remote)? {
        Begun::Kernel => Ok(None),
        Begun::Done => Ok(Some(())),
        Begun::Now => finish(key, Errno::EINPROGRESS).map(Some),
        Begun::Before => finish(key, Errno::EALREADY).map(Some),
    }
}

/// connect(2) to AF_UNSPEC: the socket may connect again. `None` when the kernel is to do it, be it alone or too.
///
/// # Errors
/// `EBADF`.
pub fn disconnect(key: Key) -> Result<Option<()>, Errno> {
    let mut world = world::enter()?;
    match &mut world.description(key)?.role {
        Role::Undecided | Role::Datagram(_) | Role::Relay(_) => Ok(None),
        Role::Listener(_) => {
            unlisten(&mut world, key)?;
            Ok(None)
        }
        Role::Flow(flow) => {
            let id = flow.id;
            forget_flow(&mut world, key, id, true)?;
            world.flush_reply();
            Ok(Some(()))
        }
    }
}

/// Makes a listener a socket that may connect or listen again. What the kernel's socket is to do is the caller's.
///
/// # Errors
/// `EBADF`.
pub fn unlisten(world: &mut World, key: Key) -> Result<(), Errno> {
    epoll::forget_listener(world, key);
    let description = world.description(key)?;
    let (socket, nonblocking) = (description.socket(), description.nonblocking);
    description.role = Role::Undecided;
    // From now on it is again the kernel's flag that counts. It can only fail on a closed fd.
    let _ = description.fds.first().map(|&fd| sys::set_nonblocking(fd, nonblocking));
    if let (Some(Socket::Listener(id)), Some(stack)) = (socket, world.stack()) {
        stack.tcp_unlisten(id);
    }
    Ok(())
}

/// How far a connect has come.
enum Begun {
    /// The kernel is to do it.
    Kernel,
    /// An earlier call began it, and this one is the first to hear that it is established.
    Done,
    /// This call has sent a SYN.
    Now,
    /// An earlier call has.
    Before,
}

fn begin(fd: RawFd, key: Key, remote: Option<SocketAddr>) -> Result<Begun, Errno> {
    let mut world = world::enter()?;
    let Description { role, family, .. } = world.description(key)?;
    // What is no address of the socket's family, the kernel refuses.
    let Some(remote) = remote.filter(|remote| remote.is_ipv6() == (*family == libc::AF_INET6)) else {
        return Ok(Begun::Kernel);
    };
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let id = match role {
        Role::Relay(_) | Role::Datagram(_) => return Ok(Begun::Kernel),
        Role::Listener(_) => return Err(Errno::EISCONN),
        Role::Undecided => return open(&mut world, fd, key, remote),
        Role::Flow(flow) => match flow.standing {
            Standing::Connected => return Err(Errno::EISCONN),
            Standing::Disconnecting => return Err(Errno::EINVAL),
            Standing::Connecting => flow.id,
        },
    };
    let now = clock::now();
    world.turn(now);
    match progress(&mut world, key, id) {
        Ok(()) => Ok(Begun::Done),
        Err(Errno::EAGAIN) => Ok(Begun::Before),
        Err(errno) => Err(errno),
    }
}

/// Where an opening flow stands: `EAGAIN` not yet, else why it is over, and `ECONNABORTED` if SO_ERROR has said that already.
/// Then the socket may connect again.
fn progress(world: &mut World, key: Key, id: FlowId) -> Result<(), Errno> {
    let stack = world.stack().ok_or(Errno::EBADF)?;
    match stack.tcp_state(id) {
        TcpState::SynSent => return Err(Errno::EAGAIN),
        TcpState::Closed => {}
        _ => {
            if let Role::Flow(flow) = &mut world.description(key)?.role {
                flow.standing = Standing::Connected;
            }
            return Ok(());
        }
    }
    let cause = stack.tcp_take_error(id);
    forget_flow(world, key, id, false)?;
    Err(cause.unwrap_or(Errno::ECONNABORTED))
}

/// Makes a connection a socket that may be bound and connected again; with `reset` its peer is told at once.
pub fn forget_flow(world: &mut World, key: Key, id: FlowId, reset: bool) -> Result<(), Errno> {
    let stack = world.stack().ok_or(Errno::EBADF)?;
    let had_ended = stack.tcp_state(id) == TcpState::Closed;
    let local = stack.tcp_endpoints(id).map(|(local, _)| local);
    stack.tcp_close(id, reset);
    let description = world.description(key)?;
    let was_bound = matches!(&description.role, Role::Flow(flow) if flow.shadow == Shadow::Bound);
    description.role = Role::Undecided;
    if let Some(local) = local {
        unbind(description, local, was_bound);
    }
    // As Linux has it for who still waits (tcp_disconnect()).
    description.error = (!had_ended).then_some(Errno::ECONNRESET);
    let nonblocking = description.nonblocking;
    for &fd in &description.fds {
        // From now on the kernel's socket has the flags. They can only fail to be set on a closed fd.
        let _ = sys::set_nonblocking(fd, nonblocking);
        if let Some(cloexec) = fd_table::placeholder_cloexec(fd) {
            fd_table::set(fd, Entry::Socket(key));
            let _ = sys::fcntl(fd, libc::F_SETFD, if cloexec { libc::FD_CLOEXEC.into() } else { 0 });
        }
    }
    world.announce(key, Readiness::ERROR);
    Ok(())
}

/// Waits for the end of a connect that is under way: `not_yet` if that must not be, or not for so long.
fn finish(key: Key, not_yet: Errno) -> Result<(), Errno> {
    if world::enter()?.description(key)?.nonblocking {
        return Err(not_yet);
    }
    let finished = wait::complete(key, Patience::SEND, |world| match &world.description(key)?.role {
        Role::Flow(flow) => {
            let id = flow.id;
            progress(world, key, id)
        }
        // Another thread has handed it to the kernel: how it ends, reads and writes say.
        Role::Relay(_) => Ok(()),
        // Another thread has heard of the failure.
        _ => Err(Errno::ECONNABORTED),
    });
    match finished {
        Err(Errno::EAGAIN) => Err(not_yet),
        finished => finished,
    }
}

/// Begins a connect, if `remote` is reached through an interface of ours.
fn open(world: &mut World, fd: RawFd, key: Key, remote: SocketAddr) -> Result<Begun, Errno> {
    attach::prepare(world);
    let description = world.description(key)?;
    let (family, options, v6only) = (description.family, description.settings.tcp, description.settings.v6only);
    let (device, is_kernels) = (description.device, description.is_shut || description.passed.keeps_with_kernel());
    let bound = bound(fd)?;
    let local_ip = Some(bound.ip()).filter(|ip| !ip.is_unspecified());
    let is_reachable = if remote.is_ipv4() { family == libc::AF_INET || !v6only } else { family == libc::AF_INET6 };
    let Some(network) = world.network.as_mut().filter(|_| is_reachable && !is_kernels && remote.port() != 0) else {
        world.give_to_kernel(key);
        return Ok(Begun::Kernel);
    };
    let remote = SocketAddr::new(this_host_if_any(remote.ip(), local_ip), remote.port());
    let hop = match network.stack.route(local_ip, remote.ip(), clock::now()) {
        Hop::Ready(hop) | Hop::Resolving(hop) => hop,
        Hop::Unreachable(errno) => return Err(errno),
        Hop::Kernel => {
            world.give_to_kernel(key);
            return Ok(Begun::Kernel);
        }
    };
    if device.is_some_and(|device| !network.is_by(&hop, device)) {
        world.give_to_kernel(key);
        return Ok(Begun::Kernel);
    }
    attach::attach(world, clock::now());
    if !world.network.as_ref().is_some_and(|network: &Network| network.is_whole(&hop)) {
        tracing::info!(%remote, "not all queues of the interface are ours: the kernel connects");
        world.give_to_kernel(key);
        return Ok(Begun::Kernel);
    }
    let stack = world.stack().ok_or(Errno::EBADF)?;
    let is_taken = |local| stack.tcp_is_taken(local, remote);
    let local = reserve(fd, family, bound, local_ip.unwrap_or(hop.source), is_taken)?;
    let now = clock::now();
    let id = stack.tcp_connect(local, remote, options, key.to_bits(), now)?;
    let born = world.children.forks();
    let description = world.description(key)?;
    description.error = None;
    description.role = Role::Flow(Flow { id, shadow: Shadow::Bound, standing: Standing::Connecting, born });
    description.settings.v6only |= bound.is_ipv6() && local_ip.is_some();
    // It was writable and hung up as an unconnected socket; what it is now is announced as it comes.
    world.announce(key, Readiness::default());
    world.flush(now);
    Ok(Begun::Now)
}

/// Where a connect to `0.0.0.0` or `::` leads: to this host, at the address that the socket is bound to.
fn this_host_if_any(remote: IpAddr, local: Option<IpAddr>) -> IpAddr {
    match remote {
        IpAddr::V4(ip) if ip.is_unspecified() => local.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
