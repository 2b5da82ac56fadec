//! dup(2) and close(2): the fds of a description come and go, and with the last one it ends.

use crate::description::{Description, Role, Shadow};
use crate::fd_table::{self, Entry};
use crate::relay::close_own;
use crate::ret::BEGIN_AGAIN;
use crate::wait::{self, Patience};
use crate::world::{self, World};
use crate::{children, epoll, escape, fork, handoff, sys};
use libc::c_int;
use stack::Errno;
use stack::slab::Key;
use stack::socket::tcp::{How, TcpState};
use std::os::fd::RawFd;

/// What stands behind `fd` for a call that would change that; `None`: the kernel's, or not this process's to change
/// (a child of vfork(2) closes fds of its own, described in its parent's memory).
pub fn changeable(fd: RawFd) -> Option<Entry> {
    fd_table::get(fd).filter(|_| fork::is_served())
}

/// close(2) on an fd of ours.
///
/// # Errors
/// `EBADF`: the application has no such fd. `EINTR`: a signal handler interrupted a call of ours.
pub fn close(fd: RawFd, entry: Entry) -> Result<(), Errno> {
    if entry == Entry::Internal {
        return Err(Errno::EBADF);
    }
    let mut world = world::enter().map_err(|_| Errno::EINTR)?;
    if let Entry::Socket(key) = entry
        && begin_lingering(&mut world, key)
    {
        drop(world);
        // However the wait ends, the fd is closed.
        let _ = wait::complete(key, Patience::LINGER, |world| has_delivered(world, key));
        world = world::enter().map_err(|_| Errno::EINTR)?;
    }
    if fd_table::get(fd) != Some(entry) {
        // Another thread has closed it, or handed it to the kernel.
        return Err(if fd_table::is_hidden(fd) { Errno::EBADF } else { BEGIN_AGAIN });
    }
    detach(&mut world, fd, entry);
    Ok(())
}

/// Whether the close of a socket's last fd has to wait for what is queued (socket(7), SO_LINGER); if so, it has sent
/// its FIN. With unread bytes it will send a RST, and need not wait.
fn begin_lingering(world: &mut World, key: Key) -> bool {
    let Ok(description) = world.description(key) else { return false };
    let lingers = description.fds.len() == 1
        && description.waiters == 0
        && description.settings.linger_s.is_some_and(|seconds| seconds > 0);
    let (Role::Flow(flow), true) = (&description.role, lingers) else { return false };
    let (id, born) = (flow.id, flow.born);
    if world.children.hold(key, born) {
        return false;
    }
    world.stack().is_some_and(|stack| stack.tcp_queued(id).0 == 0 && stack.tcp_shutdown(id, How::Write).is_ok())
}

/// `EAGAIN` until the peer has acknowledged the FIN of a socket, and so all that went before it.
fn has_delivered(world: &mut World, key: Key) -> Result<(), Errno> {
    let Role::Flow(flow) = &world.description(key)?.role else { return Ok(()) };
    let id = flow.id;
    match world.stack().ok_or(Errno::EBADF)?.tcp_state(id) {
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => Err(Errno::EAGAIN),
        _ => Ok(()),
    }
}

/// Takes `fd` from what stands behind it, and closes it.
fn detach(world: &mut World, fd: RawFd, entry: Entry) {
    match entry {
        Entry::Socket(key) | Entry::Datagram(key) => {
            forget_socket(world, fd, key);
        }
        Entry::Epoll(key) => forget_epoll(world, fd, key),
        Entry::OldEpoll(key) => world.old_sets.remove_fd(key, fd),
        Entry::Inherited(key) => world.inheritance.remove_fd(key, fd),
        Entry::Internal => return,
    }
    fd_table::clear(fd);
    sys::close(fd);
}

/// Takes `fd` from its description, which ends with its last one.
fn forget_socket(world: &mut World, fd: RawFd, key: Key) {
    let Some(description) = world.descriptions.get_mut(key) else { return };
    if description.fds == [fd] {
        if children::take_over(world, key) {
            return;
        }
        handoff::give_away(world, key);
    }
    let Some(description) = world.descriptions.get_mut(key) else { return };
    if description.fds == [fd] && lives_on(description, fd) {
        return;
    }
    description.fds.retain(|&other| other != fd);
    if !description.fds.is_empty() {
        return;
    }
    let reset = description.settings.linger_s == Some(0);
    match &description.role {
        Role::Flow(flow) => {
            let (id, shadow) = (flow.id, flow.shadow);
            let mut endpoints = None;
            if let Some(stack) = world.stack() {
                endpoints = stack.tcp_endpoints(id);
                stack.tcp_close(id, reset);
            }
            if shadow == Shadow::Bound
                && let Some((local, _)) = endpoints
                && let Ok(reservation) = sys::duplicate_high(fd)
            {
                fd_table::set(reservation, Entry::Internal);
                world.linger(reservation, local);
            }
        }
        Role::Listener(listener) => {
            let id = listener.id;
            if let (Some(id), Some(stack)) = (id, world.stack()) {
                stack.tcp_unlisten(id);
            }
        }
        Role::Datagram(datagram) => {
            let id = datagram.id;
            if let (Some(id), Some(stack)) = (id, world.stack()) {
                stack.udp_close(id);
            }
        }
        Role::Undecided | Role::Relay(_) => {}
    }
    // close(2) ends no poll(2) of another thread's.
    world.descriptions.get_mut(key).into_iter().for_each(|description| description.sleepers.clear());
    world.flush_reply();
    world.remove(key);
}

/// Whether a socket whose last fd goes is still waited for by a call of another thread's: as in the kernel it
/// is closed when that returns. Until then an fd of our own stands for it.
fn lives_on(description: &mut Description, fd: RawFd) -> bool {
    let may_wait = matches!(description.role, Role::Flow(_) | Role::Listener(_) | Role::Datagram(_));
    if description.waiters == 0 || description.is_closed || !may_wait {
        return false;
    }
    let Ok(own) = sys::duplicate_high(fd) else { return false };
    fd_table::set(own, Entry::Internal);
    (description.fds, description.is_closed) = (vec![own], true);
    true
}

/// A call waits for a socket no longer. If it was closed meanwhile, it ends with the last such call.
pub fn end_wait(world: &mut World, key: Key) {
    let Ok(description) = world.description(key) else { return };
    // In a child that a signal handler made, nobody is counted.
    description.waiters = description.waiters.saturating_sub(1);
    if description.waiters == 0
        && description.is_closed
        && let Some(&own) = description.fds.first()
    {
        forget_socket(world, own, key);
        close_own(own);
    }
}

fn forget_epoll(world: &mut World, fd: RawFd, key: Key) {
    let Some(set) = world.sets.get_mut(key) else { return };
    set.fds.retain(|&other| other != fd);
    epoll::close_if_unused(world, key);
}

/// close_range(2) and closefrom(3), from `first` to `last`: our own fds and the application's kernel fds are closed, and
/// what the application does not know of stays. `None` when none of them is ours.
///
/// # Errors
/// What close_range(2) says.
pub fn close_range(first: u32, last: u32, flags: c_int) -> Option<Result<(), Errno>> {
    fd_table::ours_in(first as usize..=last as usize).next().filter(|_| fork::is_served())?;
    Some(close_around_ours(first, last, flags))
}

fn close_around_ours(first: u32, last: u32, flags: c_int) -> Result<(), Errno> {
    let ours: Vec<_> = fd_table::ours_in(first as usize..=last as usize).collect();
    let mut next = first;
    for (fd, entry) in ours {
        if next < fd as u32 {
            sys::close_range(next, fd as u32 - 1, flags)?;
        }
        next = fd as u32 + 1;
        if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 {
            // What is hidden says EBADF, and stays.
            let _ = close(fd, entry);
        } else if fd_table::placeholder_cloexec(fd).is_some() {
            fd_table::set_placeholder_cloexec(fd, true);
        } else {
            sys::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC.into())?;
        }
    }
    if next <= last { sys::close_range(next, last, flags) } else { Ok(()) }
}

/// dup(2) and F_DUPFD: a copy of `fd`, not below `floor`.
///
/// # Errors
/// `EBADF`; what fcntl(2), F_DUPFD says.
pub fn duplicate(fd: RawFd, entry: Entry, floor: libc::c_long, cloexec: bool) -> Result<RawFd, Errno> {
    if entry == Entry::Internal {
        return Err(Errno::EBADF);
    }
    let mut world = world::enter()?;
    let is_placeholder = fd_table::placeholder_cloexec(fd).is_some();
    let command = if cloexec || is_placeholder { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    let copy = sys::fcntl(fd, command, floor)?;
    attach_copy(&mut world, copy, entry, is_placeholder, cloexec);
    drop(world);
    if copy <= libc::STDERR_FILENO {
        escape::release(copy);
    }
    Ok(copy)
}

/// The new fd `copy` stands for the same as the one that `entry` is of.
fn attach_copy(world: &mut World, copy: RawFd, entry: Entry, is_placeholder: bool, cloexec: bool) {
    if !fd_table::fits(copy) {
        return;
    }
    match entry {
        Entry::Socket(key) | Entry::Datagram(key) => {
            let Ok(description) = world.description(key) else { return };
            description.fds.push(copy);
        }
        Entry::Epoll(key) => {
            let Some(set) = world.sets.get_mut(key) else { return };
            set.fds.push(copy);
        }
        Entry::OldEpoll(key) => world.old_sets.add_fd(key, copy),
        Entry::Inherited(key) => world.inheritance.add_fd(key, copy),
        Entry::Internal => return,
    }
    match is_placeholder {
        true => fd_table::set_placeholder(copy, entry, cloexec),
        false => fd_table::set(copy, entry),
    }
}

/// dup3(2) where one of the two fds is ours: `to` becomes a copy of `fd`, and what was there is closed.
///
/// # Errors
/// `EBADF`; `EINVAL`: unknown flags; what dup3(2) says.
pub fn replace(fd: RawFd, to: RawFd, flags: c_int) -> Result<RawFd, Errno> {
    if to <= libc::STDERR_FILENO {
        // The C library reads and writes the standard streams by itself.
        escape::release(fd);
    }
    let (source, target) = (fd_table::used(fd), fd_table::get(to));
    if fd_table::is_hidden(fd) || target == Some(Entry::Internal) {
        return Err(Errno::EBADF);
    }
    // Whatever can be wrong with the call must be known before something is closed for it.
    if flags & !libc::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    sys::fcntl(fd, libc::F_GETFD, 0)?;
    let mut world = world::enter()?;
    let is_placeholder = fd_table::placeholder_cloexec(fd).is_some();
    let cloexec = flags & libc::O_CLOEXEC != 0;
    let kernel_flags = if is_placeholder { flags | libc::O_CLOEXEC } else { flags };
    match target {
        Some(Entry::Socket(key) | Entry::Datagram(key)) => forget_socket(&mut world, to, key),
        Some(Entry::Epoll(key)) => forget_epoll(&mut world, to, key),
        Some(Entry::OldEpoll(key)) => world.old_sets.remove_fd(key, to),
        Some(Entry::Inherited(key)) => world.inheritance.remove_fd(key, to),
        Some(Entry::Internal) | None => {}
    }
    fd_table::clear(to);
    sys::duplicate_to(fd, to, kernel_flags)?;
    if let Some(entry) = source {
        attach_copy(&mut world, to, entry, is_placeholder, cloexec);
    }
    Ok(to)
}
