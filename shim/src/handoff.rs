//! Connections of an inherited listener that this process has taken in and does not come to accept: they go to whoever
//! accepts next, as from the one queue that the processes would share in the kernel.
//!
//! The connection goes as a relay into a mailbox, a socketpair that all who have inherited the listener have. What wakes
//! one of them, in whatever wait, is a connection of ours to the kernel's listener, over the loopback: the token. Who
//! accepts a token finds its name, and takes what lies in the mailbox in its place.

use crate::admission::{self, Neglect};
use crate::calls::accept;
use crate::description::{Description, Role};
use crate::fd_table::{self, Entry};
use crate::limits::{LEFT_MAX, NEGLECT_LOOK_PERIOD, NEGLECT_LOOKS_MIN, NEGLECT_MAX};
use crate::relay::name::Name;
use crate::relay::{self, close_own};
use crate::sys::{self, AddressBuffer};
use crate::wait::earliest;
use crate::world::World;
use crate::{args, channel, clock};
use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, c_int};
use stack::slab::Key;
use stack::socket::{ListenerId, Socket};
use stack::{Errno, Instant, Readiness};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// Where the connections of a listener lie for those who have inherited it.
#[derive(Debug, Clone, Copy)]
pub struct Mailbox {
    give: RawFd,
    take: RawFd,
}

impl Mailbox {
    /// Its listener is not this process's any more.
    pub fn close(self) {
        [self.give, self.take].into_iter().for_each(close_own);
    }

    /// This process waits at the listener or accepts, until it ends or closes it. The others ask the kernel, for which a
    /// lock serves: it has gone with whoever had it.
    pub fn note_use(self) {
        if let Err(error) = sys::lock_shared(self.take) {
            tracing::warn!(%error, "other processes leave no connections to this one");
        }
    }

    fn is_used_by_others(self) -> bool {
        sys::is_locked_by_others(self.take)
    }

    /// Nobody gives any more: the listener goes to processes that do not have the mailbox. What is in it can be taken.
    fn shut(self) {
        // It can only fail if it is done.
        let _ = sys::shutdown(self.take, libc::SHUT_RDWR);
    }
}

/// A mailbox whose listener was closed here, with what nobody has come for yet.
pub struct Left {
    mailbox: Mailbox,
    until: Instant,
}

impl Left {
    /// In a child of fork(2) it is not its own.
    pub fn close(self) {
        self.mailbox.close();
    }
}

/// What wakes who accepts.
pub struct Token {
    id: u32,
    /// The connection to the kernel's listener.
    connection: RawFd,
    /// The socket whose name says that this is a token.
    sign: RawFd,
    /// What it was given for; who accepts it may get another one.
    flow: Key,
    /// Where that lies.
    mailbox: RawFd,
}

impl Token {
    /// Every fd of its own.
    pub fn fds(&self) -> [RawFd; 2] {
        [self.connection, self.sign]
    }
}

/// Before a child inherits the listeners.
pub fn prepare(world: &mut World) {
    let keys: Vec<Key> = world.descriptions.iter().map(|(key, _)| key).collect();
    for key in keys {
        if let Ok(Description { role: Role::Listener(listener), .. }) = world.description(key)
            && listener.mailbox.is_none()
            && !listener.is_elsewhere
            && let Ok([give, take]) = channel::make()
        {
            [give, take].into_iter().for_each(|fd| fd_table::set(fd, Entry::Internal));
            let mailbox = Mailbox { give, take };
            if listener.is_used {
                mailbox.note_use();
            }
            listener.mailbox = Some(mailbox);
        }
    }
}

/// A listener goes to a process that is no child of fork(2), or has come from one: who accepts there has no mailbox, or
/// another one, and could do nothing with a token.
pub fn note_elsewhere(world: &mut World, key: Key) {
    if let Ok(Description { role: Role::Listener(listener), .. }) = world.description(key) {
        listener.is_elsewhere = true;
        listener.mailbox.into_iter().for_each(Mailbox::shut);
    }
}

/// Gives away what has waited for long while this process accepted nothing. Returns when to look again.
pub fn attend(world: &mut World, now: Instant) -> Option<Instant> {
    let mut next = take_back(world, now);
    for at in 0..world.inherited.len() {
        let Some(&key) = world.inherited.get(at) else { break };
        next = earliest(next, look(world, key, now));
    }
    next
}

fn look(world: &mut World, key: Key, now: Instant) -> Option<Instant> {
    let id = listener(world, key)?;
    let is_waiting = is_queued(world, id);
    let Ok(Description { role: Role::Listener(listener), .. }) = world.description(key) else { return None };
    let neglect = &mut listener.admission.as_mut()?.neglect;
    if !is_waiting {
        *neglect = None;
        return None;
    }
    let Neglect { since, looks } = neglect.get_or_insert(Neglect { since: now, looks: 0 });
    *looks += 1;
    let is_due = *looks >= NEGLECT_LOOKS_MIN && clock::until(*since, now) >= NEGLECT_MAX;
    if is_due && listener.mailbox.is_some_and(Mailbox::is_used_by_others) {
        give_away(world, key);
    }
    clock::after(now, NEGLECT_LOOK_PERIOD)
}

fn listener(world: &mut World, key: Key) -> Option<ListenerId> {
    match &world.description(key).ok()?.role {
        Role::Listener(listener) => listener.id,
        _ => None,
    }
}

fn is_queued(world: &mut World, id: ListenerId) -> bool {
    world.stack().is_some_and(|stack| stack.readiness(Socket::Listener(id)).contains(Readiness::READABLE))
}

/// Gives away all connections that wait at an inherited listener, and has new ones pass to the kernel's until this process
/// waits there again. Not if some who may accept could not find them.
pub fn give_away(world: &mut World, key: Key) {
    let Ok(Description { role: Role::Listener(listener), fds, .. }) = world.description(key) else { return };
    let (Some(_), Some(mailbox), Some(&fd)) = (listener.admission, listener.mailbox, fds.first()) else { return };
    // A token might come to another socket at the port: its connections are none of this one's in the kernel either.
    if sys::option_int(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT) != Ok(0) || sys::is_hung_up(mailbox.give) {
        return;
    }
    admission::shut(world, key);
    // What has arrived counts.
    world.turn(clock::now());
    while let Some(id) = listener_with_room(world, key, mailbox) {
        if let Err(error) = give(world, key, id, fd, mailbox) {
            tracing::info!(%error, "a connection waits for this process");
            return;
        }
    }
}

fn listener_with_room(world: &mut World, key: Key, mailbox: Mailbox) -> Option<ListenerId> {
    let id = listener(world, key).filter(|&id| is_queued(world, id))?;
    (sys::look(mailbox.give, libc::POLLOUT) == libc::POLLOUT).then_some(id)
}

fn give(world: &mut World, key: Key, id: ListenerId, fd: RawFd, mailbox: Mailbox) -> Result<(), Errno> {
    let (mut token, target) = make_token(world, fd, mailbox)?;
    let given = accept::take_flow(world, key, id, false).and_then(|(flow, _)| {
        token.flow = flow;
        relay::hand_over(world, flow).inspect_err(|_| reset(world, flow))
    });
    let other = given.inspect_err(|_| token.fds().into_iter().for_each(close_own))?;
    let sent = sys::send_with_fd(mailbox.give, &[0], Some(other));
    sys::close(other);
    let (target, len) = args::format_address(target, if target.is_ipv4() { AF_INET } else { AF_INET6 });
    match sent.and_then(|_| sys::connect(token.connection, &target[..len])) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {
            let watched = world.relays.watch_token(token.connection, token.id);
            world.tokens.push(token);
            watched
        }
        Err(errno) => {
            token.fds().into_iter().for_each(close_own);
            // Nobody comes for it: the connection ends, wherever it lies.
            relay::end(world, token.flow, true);
            Err(errno)
        }
    }
}

/// Ends a connection that no fd stands for.
fn reset(world: &mut World, flow: Key) {
    if let Ok(description) = world.description(flow)
        && let Some(Socket::Flow(id)) = description.socket()
        && let Some(stack) = world.stack()
    {
        stack.tcp_close(id, true);
    }
    world.remove(flow);
}

/// A token for the kernel's listener `fd`, and where it is to be connected to.
fn make_token(world: &mut World, fd: RawFd, mailbox: Mailbox) -> Result<(Token, SocketAddr), Errno> {
    let listens = name(fd, sys::socket_name)?;
    let ip = match listens.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let family = if ip.is_ipv4() { AF_INET } else { AF_INET6 };
    let connection = sys::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0).and_then(sys::move_high)?;
    fd_table::set(connection, Entry::Internal);
    let (any_port, len) = args::format_address(SocketAddr::new(ip, 0), family);
    let bound = sys::bind(connection, &any_port[..len]).and_then(|()| name(connection, sys::socket_name));
    let sign = bound.and_then(make_sign).inspect_err(|_| close_own(connection))?;
    // They stay in the order of their ids.
    let id = world.tokens.last().map_or(0, |last| last.id.wrapping_add(1));
    let (flow, mailbox) = (Key::from_bits(0), mailbox.take);
    Ok((Token { id, connection, sign, flow, mailbox }, SocketAddr::new(ip, listens.port())))
}

fn make_sign(token: SocketAddr) -> Result<RawFd, Errno> {
    let sign = sys::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0).and_then(sys::move_high)?;
    let (address, len) = sign_of(token);
    sys::bind(sign, &address[..len]).inspect_err(|_| sys::close(sign))?;
    fd_table::set(sign, Entry::Internal);
    Ok(sign)
}

/// The name by which a token is known: its own address, as the relay's would be whose both ends it is.
fn sign_of(token: SocketAddr) -> (AddressBuffer, usize) {
    Name { family: AF_UNIX, local: token, remote: token }.format(0)
}

fn name(fd: RawFd, ask: fn(RawFd, &mut [u8]) -> Result<usize, Errno>) -> Result<SocketAddr, Errno> {
    let mut name: AddressBuffer = [0; size_of::<AddressBuffer>()];
    let len = ask(fd, &mut name)?;
    let name = args::parse_address(&name[..len]).ok_or(Errno::EINVAL)?;
    Ok(SocketAddr::new(name.ip().to_canonical(), name.port()))
}

fn take(mailbox: Mailbox) -> Option<RawFd> {
    sys::receive_with_fd(mailbox.take, &mut [0], 0).ok()?.1?.ok()
}

/// A listener with a mailbox was closed here. What was given is there for the others for some time.
pub fn leave(world: &mut World, mailbox: Mailbox) {
    sys::unlock(mailbox.take);
    match clock::after(clock::now(), LEFT_MAX) {
        Some(until) if count_left(world, mailbox) > 0 => world.left.push(Left { mailbox, until }),
        _ => mailbox.close(),
    }
}

/// The same for all of them, where their fds are closed.
pub fn leave_all(world: &mut World) {
    let mailbox = |role: &Role| if let Role::Listener(it) = role { it.mailbox } else { None };
    let all: Vec<Mailbox> = world.descriptions.iter().filter_map(|(_, it)| mailbox(&it.role)).collect();
    all.into_iter().for_each(|mailbox| leave(world, mailbox));
}

/// How many of our tokens for what lies in a mailbox nobody has accepted.
fn count_left(world: &World, mailbox: Mailbox) -> usize {
    world.tokens.iter().filter(|token| token.mailbox == mailbox.take).count()
}

/// Resets what nobody has come for in time, as close(2) does. Returns when to look again.
pub fn take_back(world: &mut World, now: Instant) -> Option<Instant> {
    let mut next = None;
    for left in std::mem::take(&mut world.left) {
        let Left { mailbox, until } = left;
        let count = count_left(world, mailbox);
        if count > 0 && now < until {
            next = earliest(next, Some(until));
            world.left.push(left);
            continue;
        }
        // The first are the oldest ones, whoever's token was for them.
        for connection in (0..count).map_while(|_| take(mailbox)) {
            if let Some(flow) = given(world, connection) {
                relay::end(world, flow, true);
            }
            sys::close(connection);
        }
        // The tokens stay tokens for as long as they may be accepted.
        world.tokens.iter_mut().filter(|token| token.mailbox == mailbox.take).for_each(|token| token.mailbox = -1);
        mailbox.close();
    }
    next
}

/// Which connection of ours was taken out of a mailbox, if it is one of ours.
fn given(world: &mut World, connection: RawFd) -> Option<Key> {
    let Name { local, remote, .. } = Name::of(connection)?;
    let World { descriptions, network, .. } = world;
    let stack = &network.as_ref()?.stack;
    let is_it = |description: &Description| match (&description.role, description.socket()) {
        (Role::Relay(_), Some(Socket::Flow(flow))) => stack.tcp_endpoints(flow) == Some((local, remote)),
        _ => false,
    };
    descriptions.iter().find(|(_, description)| is_it(description)).map(|(key, _)| key)
}

/// Whether what the kernel's listener had, at `fd`, is a token.
pub fn is_token(fd: RawFd, peer: Option<SocketAddr>) -> bool {
    let (Some(peer), Ok(local)) = (peer, name(fd, sys::socket_name)) else { return false };
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    // Most have another host's address, and a token has its listener's.
    local.ip() == peer.ip() && has_sign(peer)
}

/// Puts the connection that a token at `fd` stands for in its place, as accept4(2) is asked for it by `flags`. Returns its
/// peer.
///
/// # Errors
/// `EAGAIN`: it is gone.
pub fn redeem(mailbox: Option<Mailbox>, fd: RawFd, flags: c_int) -> Result<SocketAddr, Errno> {
    let connection = mailbox.and_then(take_live).ok_or(Errno::EAGAIN)?;
    let placed = sys::duplicate_to(connection, fd, if flags & SOCK_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 });
    sys::close(connection);
    placed.and_then(|()| sys::set_nonblocking(fd, flags & SOCK_NONBLOCK != 0))?;
    Name::of(fd).map(|name| name.remote).ok_or(Errno::EAGAIN)
}

/// Those that have ended may have no token.
fn take_live(mailbox: Mailbox) -> Option<RawFd> {
    loop {
        let connection = take(mailbox)?;
        if !sys::is_hung_up(connection) {
            return Some(connection);
        }
        sys::close(connection);
    }
}

fn has_sign(peer: SocketAddr) -> bool {
    let Ok(probe) = sys::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) else { return false };
    let (address, len) = sign_of(peer);
    let is_there = sys::connect(probe, &address[..len]).is_ok();
    sys::close(probe);
    is_there
}

/// A token has done its work, or nobody listens any more.
pub fn retire(world: &mut World, id: u32) {
    let Some(at) = world.tokens.iter().position(|token| token.id == id) else { return };
    world.tokens.remove(at).fds().into_iter().for_each(close_own);
}
