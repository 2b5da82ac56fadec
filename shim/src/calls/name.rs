//! getsockname(2) and getpeername(2).

use super::bind;
use crate::args::Answer;
use crate::description::Role;
use crate::relay::name::Name;
use crate::{config, world};
use stack::Errno;
use stack::slab::Key;
use stack::socket::tcp::TcpState;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Which end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// getsockname(2).
    Local,
    /// getpeername(2).
    Remote,
}

/// Answers with the address of one end of the flow behind a kernel fd, if that is a relay's.
///
/// # Errors
/// `EFAULT`, `EINVAL`: no place for the answer.
pub fn name_of_relay(fd: RawFd, end: End, to: Answer) -> Option<Result<(), Errno>> {
    config::get()?;
    let name = Name::of(fd)?;
    let address = match end {
        End::Local => name.local,
        End::Remote => name.remote,
    };
    Some(to.write_address(address, name.family))
}

/// Answers with the address of one end, or `None` when the kernel's socket knows it.
///
/// # Errors
/// `ENOTCONN`: not connected, or not any more. `EFAULT`, `EINVAL`: no place for the answer.
pub fn name(key: Key, end: End, to: Answer) -> Result<Option<()>, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    let family = description.family;
    if let (Role::Undecided, End::Local, Some(left)) = (&description.role, end, description.left) {
        let bound = description.fds.first().map_or(Err(Errno::EBADF), |&fd| bind::bound(fd));
        drop(world);
        return if bound?.port() != 0 { Ok(None) } else { to.write_address(left, family).map(Some) };
    }
    let id = match &description.role {
        Role::Undecided | Role::Listener(_) | Role::Relay(_) | Role::Datagram(_) => return Ok(None),
        Role::Flow(flow) => flow.id,
    };
    let stack = world.stack().ok_or(Errno::EBADF)?;
    let state = stack.tcp_state(id);
    let endpoints: Option<(SocketAddr, SocketAddr)> = stack.tcp_endpoints(id);
    drop(world);
    let address = match (end, endpoints) {
        (End::Local, Some((local, _))) => local,
        (End::Remote, Some((_, remote))) if !matches!(state, TcpState::SynSent | TcpState::Closed) => remote,
        _ => return Err(Errno::ENOTCONN),
    };
    to.write_address(address, family).map(Some)
}
