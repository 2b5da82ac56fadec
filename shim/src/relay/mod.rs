//! Relays: a flow handed to the kernel as one end of a socketpair, whose other end we pump.
//!
//! It is the way out of everything that no hook sees: another process, another program, the C library's own writes. From
//! then on the flow's fds are the kernel's, in this process too: who reads what, whether a read blocks, and when the
//! last copy is closed is the kernel's to say, and a flow that is shared is shared as a socket of its own would be.

mod bait;
pub mod name;
mod pump;
pub mod question;

pub use pump::pump_ready;

use crate::calls::value::Value;
use crate::children;
use crate::description::{Description, Flow, Role, Shadow};
use crate::fd_table::{self, Entry};
use crate::limits::RELAY_EVENTS_MAX;
use crate::world::World;
use crate::{handoff, keeper, sys};
use libc::{EPOLL_CTL_ADD, SOCK_STREAM, SOL_SOCKET, c_int, epoll_event};
use name::Name;
use stack::slab::Key;
use stack::socket::{FlowId, Socket};
use stack::{Errno, Instant};
use std::os::fd::RawFd;
use std::time::Duration;

/// A flow in the kernel's hands.
#[derive(Debug)]
pub struct Relay {
    /// The stack's flow.
    pub flow: FlowId,
    /// Our end.
    end: RawFd,
    /// The other end, for as long as a child of fork(2) may come for it.
    kept: Option<RawFd>,
    /// The kernel's socket behind the flow, if it knows something that is to be remembered.
    shadow: Option<RawFd>,
    /// It is bound to the local port, and keeps it reserved.
    is_bound: bool,
    /// After how many forks of this process the flow began.
    pub born: u64,
    /// Bytes from the other end that the flow has not taken yet: less than a piece.
    rest: Vec<u8>,
    /// From the peer to the other end.
    inward: Direction,
    /// From the other end to the peer.
    outward: Direction,
    /// The flow has ended with an error, which is told once what came before it has been read.
    is_lost: bool,
}

/// What becomes of the bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// They are moved.
    Open,
    /// Nobody will read them (SHUT_RD).
    Dropped,
    /// The end was reached, and said.
    Over,
}

/// What all relays of a process share.
#[derive(Default)]
pub struct Relays {
    /// The epoll instance of what only the keeper waits for: our ends, and the channels to children of fork(2), tokens.
    epfd: Option<RawFd>,
    /// How many there are.
    count: usize,
    /// Those to whose flow something has happened.
    ready: Vec<Key>,
    /// Room for bytes under way.
    buffer: Vec<u8>,
}

/// Which of the others an event is of that is not a relay's.
const IS_CHILD: u64 = 1 << 31;
const IS_TOKEN: u64 = 1 << 30;
const _: () = assert!((crate::limits::DESCRIPTIONS_MAX as u64) < IS_TOKEN);

/// Our ends are watched for everything, and looked at when something changes.
const EVENTS: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

impl Relays {
    /// What is readable when there is something to do for them, or for children.
    pub fn fd(&self) -> Option<RawFd> {
        self.epfd
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Something has happened to the flow of a relay.
    pub fn note(&mut self, key: Key) {
        self.ready.push(key);
    }

    fn epfd(&mut self) -> Result<RawFd, Errno> {
        if let Some(epfd) = self.epfd {
            return Ok(epfd);
        }
        let epfd = sys::epoll_high()?;
        fd_table::set(epfd, Entry::Internal);
        self.epfd = Some(epfd);
        keeper::wait_for_relays(epfd);
        Ok(epfd)
    }

    /// Has the keeper listen to a child.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn watch_child(&mut self, channel: RawFd, id: u32) -> Result<(), Errno> {
        let events = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
        sys::epoll_control(self.epfd()?, EPOLL_CTL_ADD, channel, events, u64::from(id) << 32 | IS_CHILD)
    }

    /// Has the keeper hear of the end of a token.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn watch_token(&mut self, connection: RawFd, id: u32) -> Result<(), Errno> {
        let events = libc::EPOLLRDHUP as u32;
        sys::epoll_control(self.epfd()?, EPOLL_CTL_ADD, connection, events, u64::from(id) << 32 | IS_TOKEN)
    }
}

impl Relay {
    /// Every fd that a child of fork(2) must close.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        [Some(self.end), self.kept, self.shadow].into_iter().flatten()
    }

    /// Whether the kernel's socket behind the flow is the application's own.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// Whether a child of fork(2) may yet come for it.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }
}

/// Hands the flow behind a description to the kernel, and returns a copy of its new fd, close-on-exec and the caller's.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`: no socketpair. `ENOTCONN`: no flow.
pub fn hand_over(world: &mut World, key: Key) -> Result<RawFd, Errno> {
    let description = world.description(key)?;
    match &description.role {
        Role::Flow(_) => {}
        Role::Relay(Relay { kept: Some(kept), .. }) => return sys::duplicate_high(*kept),
        _ => return Err(Errno::ENOTCONN),
    }
    let epfd = world.relays.epfd()?;
    let [end, other] = make_pair(world, key)?;
    fd_table::set(end, Entry::Internal);
    if let Err(errno) = sys::epoll_control(epfd, EPOLL_CTL_ADD, end, EVENTS, key.to_bits()) {
        fd_table::clear(end);
        [end, other].into_iter().for_each(sys::close);
        return Err(errno);
    }
    replace(world, key, end, other)?;
    world.relays.count += 1;
    world.relays.note(key);
    Ok(other)
}

/// A socketpair that looks like the socket whose place it takes: our end, and the other one.
fn make_pair(world: &mut World, key: Key) -> Result<[RawFd; 2], Errno> {
    let description = world.description(key)?;
    let (family, nonblocking, settings) = (description.family, description.nonblocking, description.settings);
    let Some(Socket::Flow(flow)) = description.socket() else { return Err(Errno::ENOTCONN) };
    let (local, remote) = world.stack().and_then(|stack| stack.tcp_endpoints(flow)).ok_or(Errno::ENOTCONN)?;
    let [end, other] = sys::socket_pair(SOCK_STREAM)?;
    let end = sys::move_high(end).inspect_err(|_| sys::close(other))?;
    let (address, len) = Name { family, local, remote }.format(sys::random());
    let prepared = sys::bind(end, &address[..len]).and_then(|()| bait::lay(end, other));
    let prepared = prepared.and_then(|()| sys::set_nonblocking(other, nonblocking));
    let time = |name: c_int, timeout: Option<Duration>| match timeout {
        Some(timeout) => sys::set_option(other, SOL_SOCKET, name, Value::time(Some(timeout)).bytes()),
        None => Ok(()),
    };
    let prepared = prepared
        .and_then(|()| time(libc::SO_RCVTIMEO, settings.receive_timeout))
        .and_then(|()| time(libc::SO_SNDTIMEO, settings.send_timeout));
    match prepared {
        Ok(()) => Ok([end, other]),
        Err(errno) => {
            [end, other].into_iter().for_each(sys::close);
            Err(errno)
        }
    }
}

/// Puts the other end in the place of the flow's fds, in epoll instances too. Calls that wait for it begin again.
fn replace(world: &mut World, key: Key, end: RawFd, other: RawFd) -> Result<(), Errno> {
    let description = world.description(key)?;
    let Role::Flow(Flow { id, shadow, born, .. }) = description.role else { return Err(Errno::ENOTCONN) };
    let fds = std::mem::take(&mut description.fds);
    let is_bound = shadow == Shadow::Bound;
    let first = fds.first().filter(|_| shadow != Shadow::Placeholder);
    let shadow = first.and_then(|&fd| sys::duplicate_high(fd).ok());
    shadow.into_iter().for_each(|shadow| fd_table::set(shadow, Entry::Internal));
    for &fd in &fds {
        put_in_place(fd, other);
    }
    world.move_watches_to_kernel(key);
    world.announce(key, stack::Readiness::default());
    let description = world.description(key)?;
    description.fds.extend(shadow);
    let (inward, outward, is_lost) = (Direction::Open, Direction::Open, false);
    let rest = Vec::new();
    let kept = None;
    description.role =
        Role::Relay(Relay { flow: id, end, kept, shadow, is_bound, born, rest, inward, outward, is_lost });
    Ok(())
}

/// Puts a copy of `other` at the number of an fd of ours, which is the kernel's from now on. Who looks the number up
/// before that finds the lock taken.
pub fn put_in_place(fd: RawFd, other: RawFd) {
    let cloexec = match fd_table::placeholder_cloexec(fd) {
        Some(cloexec) => cloexec,
        None => sys::fcntl(fd, libc::F_GETFD, 0).is_ok_and(|flags| flags & libc::FD_CLOEXEC != 0),
    };
    // It can only fail on numbers that are not open.
    let _ = sys::duplicate_to(other, fd, if cloexec { libc::O_CLOEXEC } else { 0 });
    fd_table::clear(fd);
}

/// Keeps the other end of a relay until no child of fork(2) may come for it. True if it is kept; then `other` has
/// found its owner.
pub fn keep(world: &mut World, key: Key, other: RawFd) -> bool {
    let Ok(Description { role: Role::Relay(relay), .. }) = world.description(key) else { return false };
    if relay.kept.is_some() {
        return false;
    }
    let Ok(kept) = sys::move_high(other) else { return true };
    fd_table::set(kept, Entry::Internal);
    relay.kept = Some(kept);
    true
}

/// No child will come for it any more: once all copies are closed, the flow ends.
pub fn let_go(world: &mut World, key: Key) {
    if let Ok(Description { role: Role::Relay(relay), .. }) = world.description(key)
        && let Some(kept) = relay.kept.take()
    {
        fd_table::clear(kept);
        sys::close(kept);
    }
}

/// Ends a relay: its flow is closed, by a RST if so wanted. Who still has a copy of the other end reads `ECONNRESET`.
pub fn end(world: &mut World, key: Key, reset: bool) {
    let Ok(description) = world.description(key) else { return };
    let reset = reset || description.settings.linger_s == Some(0);
    let Role::Relay(relay) = &description.role else { return };
    let (flow, shadow, is_bound) = (relay.flow, relay.shadow, relay.is_bound);
    let own: Vec<RawFd> = [Some(relay.end), relay.kept].into_iter().flatten().collect();
    let local = world.stack().and_then(|stack| stack.tcp_endpoints(flow)).map(|(local, _)| local);
    if let Some(stack) = world.stack() {
        stack.tcp_close(flow, reset);
    }
    match (shadow, local) {
        (Some(shadow), Some(local)) if is_bound => world.linger(shadow, local),
        _ => shadow.into_iter().for_each(close_own),
    }
    own.into_iter().for_each(close_own);
    world.relays.count -= 1;
    world.remove(key);
}

/// Closes an fd that the application does not know of.
pub fn close_own(fd: RawFd) {
    fd_table::clear(fd);
    sys::close(fd);
}

/// Does what the keeper was woken for: bytes at our ends, requests of children.
pub fn serve(world: &mut World, now: Instant) {
    let Some(epfd) = world.relays.epfd else { return };
    let mut events = [epoll_event { events: 0, u64: 0 }; RELAY_EVENTS_MAX];
    let count = sys::epoll_look(epfd, &mut events).unwrap_or(0);
    for event in &events[..count] {
        let data = event.u64;
        match data & (IS_CHILD | IS_TOKEN) {
            0 => world.relays.note(Key::from_bits(data)),
            IS_TOKEN => handoff::retire(world, (data >> 32) as u32),
            _ => children::serve(world, (data >> 32) as u32),
        }
    }
    pump_ready(world, now);
}
