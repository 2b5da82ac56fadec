//! shutdown(2).

use super::connect;
use crate::description::{Role, Standing};
use crate::sys;
use crate::world::{self, World};
use libc::c_int;
use stack::slab::Key;
use stack::socket::tcp::{How, TcpState};
use stack::{Errno, Readiness};
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
    let description = world.description(key)?;
    let done = match &mut description.role {
        Role::Relay(_) | Role::Datagram(_) => return Ok(None),
        Role::Undecided => {
            description.is_shut = true;
            sys::shutdown(fd, how)
        }
        Role::Flow(flow) => {
            let (id, standing) = (flow.id, flow.standing);
            let state = world.stack().ok_or(Errno::EBADF)?.tcp_state(id);
            match (state, standing) {
                // It is given up (inet_shutdown() of Linux).
                (TcpState::SynSent, _) => connect::forget_flow(&mut world, key, id, false),
                (TcpState::Closed, Standing::Connecting) => {
                    stand(&mut world, key, Standing::Disconnecting);
                    Err(Errno::ENOTCONN)
                }
                _ => {
                    stand(&mut world, key, Standing::Connected);
                    let done = world.stack().ok_or(Errno::EBADF)?.tcp_shutdown(id, direction);
                    world.flush_reply();
                    done
                }
            }
        }
        // It stops listening unless only writing is over.
        Role::Listener(_) if direction == How::Write => sys::shutdown(fd, how),
        Role::Listener(_) => {
            connect::unlisten(&mut world, key)?;
            sys::shutdown(fd, how)
        }
    };
    // Who waits for this socket has to see it.
    world.announce(key, Readiness::STATE);
    done.map(Some)
}

fn stand(world: &mut World, key: Key, standing: Standing) {
    if let Ok(Role::Flow(flow)) = world.description(key).map(|description| &mut description.role)
        && flow.standing == Standing::Connecting
    {
        flow.standing = standing;
    }
}
