//! Sockets that come from elsewhere: by exec(2) (systemd's, a server that renews itself) or by SCM_RIGHTS. One that listens,
//! or is yet to become something, is served as if this process had made it; everything else is the kernel's.

use crate::calls::bind::{self, Chosen};
use crate::calls::{listen, option};
use crate::description::{Description, Listener, Role, Settings};
use crate::fd_table::{self, Entry};
use crate::limits::ADOPTED_FDS_MAX;
use crate::world::{self, World};
use crate::{admission, handoff, sys};
use libc::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, SOL_SOCKET, c_int};
use stack::slab::Key;
use std::mem::offset_of;
use std::os::fd::RawFd;

/// At the start of a program: what it has inherited.
pub fn at_start() {
    (0..ADOPTED_FDS_MAX).for_each(adopt);
}

/// Serves the socket at `fd`, if it is one to be served.
pub fn adopt(fd: RawFd) {
    let int = |level, name| number(fd, level, name);
    let Some(family @ (AF_INET | AF_INET6)) = int(SOL_SOCKET, libc::SO_DOMAIN) else { return };
    if int(SOL_SOCKET, libc::SO_TYPE) != Some(SOCK_STREAM) || int(SOL_SOCKET, libc::SO_PROTOCOL) != Some(IPPROTO_TCP) {
        return;
    }
    let mut info = [0; size_of::<libc::tcp_info>()];
    if sys::option(fd, IPPROTO_TCP, libc::TCP_INFO, &mut info).is_err() {
        return;
    }
    let role = match info[offset_of!(libc::tcp_info, tcpi_state)] {
        TCP_CLOSE => Role::Undecided,
        TCP_LISTEN => Role::Listener(Listener::new(backlog(&info))),
        _ => return,
    };
    let mut device = [0; libc::IFNAMSIZ];
    if sys::option(fd, SOL_SOCKET, libc::SO_BINDTODEVICE, &mut device) != Ok(0) {
        // Perhaps another one than we serve.
        return;
    }
    let Ok(mut world) = world::enter() else { return };
    if fd_table::fits(fd) && !world.cannot_attach {
        take(&mut world, fd, family, role);
    }
}

/// linux/tcp_states.h.
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

fn number(fd: RawFd, level: c_int, name: c_int) -> Option<c_int> {
    let mut value = [0; size_of::<c_int>()];
    sys::option(fd, level, name, &mut value).ok().map(|_| c_int::from_ne_bytes(value))
}

/// The bound of a listening socket's accept queue, which is what TCP_INFO says in place of what no listener has.
fn backlog(info: &[u8]) -> usize {
    let bytes = info.get(offset_of!(libc::tcp_info, tcpi_sacked)..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(1, |bytes| u32::from_ne_bytes(*bytes) as usize)
}

fn take(world: &mut World, fd: RawFd, family: c_int, role: Role) {
    let listens = matches!(role, Role::Listener(_));
    let same = world.descriptions.iter().find(|(_, description)| is_same(description, fd)).map(|(key, _)| key);
    if let Some(same) = same {
        return stand_for(world, fd, same);
    }
    let nonblocking = sys::fcntl(fd, libc::F_GETFL, 0).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0);
    let nonblocking = nonblocking && !is_hidden(fd);
    let Ok(key) = world.describe(family, role, nonblocking, Settings::default()) else { return };
    if let Ok(description) = world.description(key) {
        option::recall(description, |level, name, value| sys::option(fd, level, name, value).ok());
        description.chosen = bind::bound(fd).map(Chosen::by).unwrap_or_default();
    }
    if listens {
        // accept(2) looks at the kernel's socket after the stack's own queue, and must not wait in it.
        hide_nonblocking(fd, !nonblocking);
        let _ = sys::set_nonblocking(fd, true);
        if let (Ok(name), Ok(description)) = (listen::name(fd), world.description(key)) {
            description.settings.v6only |= listen::is_one_v6(name);
        }
        world.has_new_listeners = true;
        admission::add(world, key);
        handoff::note_elsewhere(world, key);
    }
    stand_for(world, fd, key);
}

fn stand_for(world: &mut World, fd: RawFd, key: Key) {
    if let Ok(description) = world.description(key) {
        description.fds.push(fd);
        fd_table::set(fd, Entry::Socket(key));
    }
}

/// Whether both are fds of the same socket.
fn is_same(description: &Description, fd: RawFd) -> bool {
    let cookie = |fd| {
        let mut value = [0; size_of::<u64>()];
        sys::option(fd, SOL_SOCKET, libc::SO_COOKIE, &mut value).ok().map(|_| value)
    };
    description.fds.first().is_some_and(|&first| cookie(first) == cookie(fd))
}

/// linux/fcntl.h.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;

/// What F_GETSIG says of a listening socket that does not block for our sake only. The C library keeps this signal for
/// itself, and nobody asked for one to be sent (O_ASYNC).
const HIDDEN: c_int = 33;

/// Notes with the kernel's socket, for whatever program comes by it, that its O_NONBLOCK is ours, or that it is not.
pub fn hide_nonblocking(fd: RawFd, hidden: bool) {
    if hidden || is_hidden(fd) {
        // It can only fail on a closed fd.
        let _ = sys::fcntl(fd, F_SETSIG, if hidden { HIDDEN.into() } else { 0 });
    }
}

fn is_hidden(fd: RawFd) -> bool {
    sys::fcntl(fd, F_GETSIG, 0) == Ok(HIDDEN)
}
