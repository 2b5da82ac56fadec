//! The successor: a process that goes on with the connections that others have of one that exits, or that becomes another
//! program.
//!
//! It is a copy of that process, made by fork(2) at its end, with the one difference that this copy keeps the rings: the
//! stack goes on there without losing a packet. It has no fd of the application's, is nobody's child, and ends with the
//! last of these connections.

use crate::fd_table::{self, Entry};
use crate::limits::{EXIT_GRACE, EXIT_WAIT_MAX};
use crate::sys;
use crate::wait::{earliest, readable};
use crate::world::{self, Inside, World};
use crate::{clock, fork, handoff, keeper, log, relay, stats};
use stack::Errno;
use stack::kernel::share_with_child;
use stack::socket::Socket;

/// Leaves the stack to a successor. From then on this process has none.
///
/// # Errors
/// What fork(2) says.
pub fn leave_behind(mut world: Inside) -> Result<(), Errno> {
    stats::write_out(&world);
    let failed = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(libc::EAGAIN));
    share_with_child(true).map_err(failed)?;
    let is_successor = fork::make_orphan();
    if let Ok(true) = is_successor {
        carry_on(world::move_to_child(world));
    }
    share_with_child(false).map_err(failed)?;
    is_successor?;
    fork::leave_stack(&mut world);
    fork::part_with_flows(&mut world, None);
    Ok(())
}

/// What the successor does.
fn carry_on(mut world: Inside) -> ! {
    sys::block_signals();
    log::stop();
    close_applications_fds();
    unlisten(&mut world);
    handoff::leave_all(&mut world);
    loop {
        let now = clock::now();
        world.turn(now);
        relay::serve(&mut world, now);
        let look_at = handoff::take_back(&mut world, now);
        if world.relays.is_empty() {
            break;
        }
        let timeout = earliest(world.deadline(), look_at).map(|deadline| clock::until(now, deadline));
        let rings = world.network.iter().flat_map(|network| network.rings());
        let mut fds: Vec<_> = rings.chain(world.relays.fd()).map(readable).collect();
        let _ = sys::poll(&mut fds, timeout);
    }
    drop(world);
    keeper::deliver(EXIT_WAIT_MAX, EXIT_GRACE);
    sys::exit(0)
}

/// Closes everything that is not our own: who waits for the end of a pipe is not to wait for us.
fn close_applications_fds() {
    let mut next = 0;
    for (fd, entry) in fd_table::ours_in(0..=usize::MAX) {
        if entry == Entry::Internal {
            let _ = sys::close_range(next, (fd as u32).saturating_sub(1), 0);
            next = fd as u32 + 1;
        }
    }
    let _ = sys::close_range(next, u32::MAX, 0);
}

/// Listeners and UDP sockets went with their fds.
fn unlisten(world: &mut World) {
    let World { descriptions, network: Some(network), .. } = world else { return };
    for (_, description) in descriptions.iter() {
        match description.socket() {
            Some(Socket::Listener(id)) => network.stack.tcp_unlisten(id),
            Some(Socket::Udp(id)) => network.stack.udp_close(id),
            Some(Socket::Flow(_)) | None => {}
        }
    }
}
