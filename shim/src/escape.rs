//! What leaves our sight: another program's hands (exec(3), posix_spawn(3), unix(7)'s SCM_RIGHTS) and the C library's own
//! calls on a standard stream or a FILE. A flow that goes there goes as a relay.

use crate::description::{Description, Role};
use crate::fd_table::{self, Entry};
use crate::{admission, children, datagram, fork, handoff, inherited, successor, sys, thread, world};
use stack::socket::tcp::TcpState;
use std::os::fd::RawFd;

/// The flow or UDP socket at `fd`, if it is one, is the kernel's from now on, at all of its fds.
pub fn release(fd: RawFd) {
    if !fork::is_served() {
        return;
    }
    match fd_table::get(fd) {
        Some(Entry::Inherited(key)) => inherited::obtain(key),
        Some(Entry::Socket(key)) => {
            let Ok(mut world) = world::enter() else { return };
            if let Err(error) = children::hand_over(&mut world, key) {
                tracing::warn!(%error, "a connection is lost to another program or a stream");
            }
        }
        Some(Entry::Datagram(key)) => {
            if let Ok(mut world) = world::enter() {
                datagram::leave(&mut world, key);
            }
        }
        _ => {}
    }
}

/// What is at `fd` goes to another process, and stays here: a listener is then for both. An epoll instance is not: there it
/// tells of the kernel's fds only.
pub fn share(fd: RawFd) {
    release(fd);
    if !fork::is_served() {
        return;
    }
    match fd_table::get(fd) {
        Some(Entry::Socket(key)) => {
            if let Ok(mut world) = world::enter() {
                admission::share(&mut world, key);
            }
        }
        Some(Entry::Epoll(_)) => {
            tracing::warn!("an epoll instance that is sent to another process tells of no socket of ours there");
        }
        _ => {}
    }
}

/// Before another program is started, in a new process or in this one: what it inherits, it inherits from the kernel.
///
/// But for what is still connecting: connect(2) is this program's to hear of, and the other one has a socket that is
/// not connected.
pub fn before_program() {
    if !fork::is_served() || thread::is_inside() {
        return;
    }
    // What is released is not ours any more, so the list is made before.
    let fds: Vec<RawFd> =
        fd_table::ours_in(0..=usize::MAX).filter(|(fd, entry)| is_passed_on(*fd, *entry)).map(|(fd, _)| fd).collect();
    for fd in fds.into_iter().filter(|&fd| !is_connecting(fd)) {
        release(fd);
        if let Some(key) = fd_table::socket(fd) {
            handoff::note_elsewhere(&mut world::enter_quietly(), key);
        }
    }
}

/// Whether what stands behind an fd is a flow whose SYN is not answered yet.
fn is_connecting(fd: RawFd) -> bool {
    let Some(key) = fd_table::socket(fd) else { return false };
    let mut world = world::enter_quietly();
    let Ok(Description { role: Role::Flow(flow), .. }) = world.description(key) else { return false };
    let id = flow.id;
    world.stack().is_some_and(|stack| stack.tcp_state(id) == TcpState::SynSent)
}

/// Before this process becomes another program: the stack, too, would end with its memory.
pub fn before_exec() {
    before_program();
    if !fork::is_served() || thread::is_inside() {
        return;
    }
    let mut world = world::enter_quietly();
    // Those that close on exec as well: exec may fail, and what was written to them goes out.
    for key in world.flows() {
        let _ = children::hand_over(&mut world, key);
    }
    if !world.relays.is_empty()
        && let Err(error) = successor::leave_behind(world)
    {
        tracing::error!(%error, "connections are lost to another program");
    }
}

/// Whether another program would have this fd, and it is more than the kernel's. What comes for a UDP socket stays with
/// this one, which mostly means to keep it.
fn is_passed_on(fd: RawFd, entry: Entry) -> bool {
    let closes_on_exec = || match fd_table::placeholder_cloexec(fd) {
        Some(cloexec) => cloexec,
        None => sys::fcntl(fd, libc::F_GETFD, 0).is_ok_and(|flags| flags & libc::FD_CLOEXEC != 0),
    };
    matches!(entry, Entry::Socket(_) | Entry::Inherited(_)) && !closes_on_exec()
}
