//! A UDP socket: the kernel's own, its shadow, with the stack in front of it where datagrams come and go through a ring.
//!
//! Binding, connecting and every option are done on the shadow, which is then asked where it stands. What the stack does
//! not do (fragments, groups, loopback, rare options) the shadow does, being bound to the same port.

use crate::attach::{self, Network};
use crate::description::{Description, Role};
use crate::sys::{self, AddressBuffer};
use crate::turns::Turns;
use crate::world::World;
use crate::{args, clock};
use libc::{c_int, c_short};
use stack::outside::Hop;
use stack::slab::Key;
use stack::socket::UdpId;
use stack::socket::tcp::ListenAddress;
use stack::socket::udp::Binding;
use stack::{Instant, Readiness};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// A UDP socket.
#[derive(Debug, Default)]
pub struct Datagram {
    /// The stack's socket, once datagrams come to it.
    pub id: Option<UdpId>,
    /// Where the shadow stands.
    pub standing: Standing,
    /// Whose turn it is to be received from.
    pub turns: Turns,
    /// SO_REUSEPORT.
    pub shares_port: bool,
    /// SO_RCVBUF or an option of IP was set: the shadow is to be asked.
    pub is_tuned: bool,
    /// How datagrams are sent, once that was asked.
    pub sending: Option<Sending>,
    /// IPV6_MTU: IPv6 packets larger than this are sent in fragments; 0: than the route's MTU.
    pub fragment_len: usize,
    /// What is said of received datagrams.
    pub wanted: Wanted,
    /// What has been sent waits in the shadow for more (MSG_MORE).
    pub is_corked: bool,
    /// Shut down for receiving.
    pub is_read_shut: bool,
    /// Shut down for sending.
    pub is_write_shut: bool,
    /// Every ICMP error is to be told of at once (IP_RECVERR): the shadow is asked for it before each datagram.
    pub wants_errors: bool,
    /// When the shadow was last asked for ICMP errors.
    pub error_looked_at: Option<Instant>,
}

/// Where the shadow stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is to be asked.
    #[default]
    Unknown,
    /// It has no port.
    Unbound,
    /// It is bound so.
    Bound(Binding),
    /// It does everything from now on.
    Alone,
}

/// How datagrams are sent, as the shadow's options say.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// IP_TTL.
    pub ttl: u8,
    /// IP_TOS.
    pub tos: u8,
    /// IP_MTU_DISCOVER: routers may cut them up.
    pub may_fragment: bool,
    /// IPV6_UNICAST_HOPS.
    pub hop_limit: u8,
    /// IPV6_TCLASS.
    pub traffic_class: u8,
}

/// What is said of received datagrams, in control messages.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wanted {
    /// IP_PKTINFO.
    pub v4_info: bool,
    /// IP_RECVTTL.
    pub ttl: bool,
    /// IP_RECVTOS.
    pub tos: bool,
    /// IPV6_RECVPKTINFO.
    pub v6_info: bool,
    /// IPV6_RECVHOPLIMIT.
    pub hop_limit: bool,
    /// IPV6_RECVTCLASS.
    pub traffic_class: bool,
}

impl Datagram {
    /// A copy in a child of fork(2): it begins anew.
    pub fn inherit(&mut self) {
        (self.id, self.standing, self.turns) = (None, Standing::Unknown, Turns::default());
    }

    /// Looks again at what the shadow was seen to have.
    pub fn refresh_shadow(&mut self, fd: RawFd) {
        if !self.turns.shadow.is_empty() {
            self.turns.shadow = look(fd, libc::POLLIN | libc::POLLRDHUP);
        }
    }
}

/// What is true of a shadow now, out of `events` and what is always asked for.
pub fn look(fd: RawFd, events: c_short) -> Readiness {
    readiness_of(sys::look(fd, events) as u32)
}

/// What poll(2)'s bits say of a shadow.
pub fn readiness_of(bits: u32) -> Readiness {
    let bits = bits as c_short;
    let conditions = [
        (libc::POLLIN | libc::POLLRDNORM, Readiness::READABLE),
        (libc::POLLRDHUP, Readiness::PEER_CLOSED),
        (libc::POLLHUP, Readiness::HANGUP),
        (libc::POLLERR, Readiness::ERROR),
    ];
    let is_true = |&&(condition, _): &&(c_short, Readiness)| bits & condition != 0;
    conditions.iter().filter(is_true).fold(Readiness::default(), |all, &(_, readiness)| all | readiness)
}

/// Comes to use a UDP socket: asks the shadow where it stands, if that may have changed, and has the stack receive for it
/// where it can. A socket that has nothing to do with an interface of ours is given to the kernel, and then not there any
/// more.
pub fn settle(world: &mut World, key: Key) {
    let Some(datagram) = world.datagram(key) else { return };
    match (datagram.standing, datagram.id) {
        (Standing::Unbound | Standing::Alone, _) | (Standing::Bound(_), Some(_)) => {}
        (Standing::Bound(binding), None) => serve(world, key, binding),
        (Standing::Unknown, _) => find_out(world, key),
    }
}

fn find_out(world: &mut World, key: Key) {
    attach::prepare(world);
    let Some((fd, family)) = world.descriptions.get(key).and_then(|it| Some((*it.fds.first()?, it.family))) else {
        return;
    };
    let Some((local, peer)) = ends(fd) else { return leave(world, key) };
    let Some(datagram) = world.datagram(key) else { return };
    let (shares_port, id) = (datagram.shares_port, datagram.id);
    if local.port() == 0 {
        datagram.standing = Standing::Unbound;
        // Disconnected, it has lost the port that it was given.
        if let (Some(id), Some(stack)) = (id, world.stack()) {
            stack.udp_release(id);
        }
        return;
    }
    if !is_ours(world.network.as_mut(), local.ip(), peer) {
        return leave(world, key);
    }
    let address = bound_address(fd, family, local.ip());
    let binding = Binding { address, port: local.port(), peer, shares_port };
    let Some(datagram) = world.datagram(key) else { return };
    datagram.standing = Standing::Bound(binding);
    match (id, world.stack()) {
        (Some(id), Some(stack)) => {
            if stack.udp_rebind(id, binding).is_err() {
                leave(world, key);
            }
        }
        _ => serve(world, key, binding),
    }
}

/// Both ends of a shadow, the other one if it is connected; `None` for what has no IP address.
fn ends(fd: RawFd) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let mut name: AddressBuffer = [0; size_of::<AddressBuffer>()];
    let canonical = |name: SocketAddr| SocketAddr::new(name.ip().to_canonical(), name.port());
    let len = sys::socket_name(fd, &mut name).ok()?;
    let local = args::parse_address(&name[..len]).map(canonical)?;
    let peer = sys::peer_name(fd, &mut name).ok().and_then(|len| args::parse_address(&name[..len])).map(canonical);
    Some((local, peer))
}

/// Whether datagrams between such ends may pass through an interface of ours.
fn is_ours(network: Option<&mut Network>, local: IpAddr, peer: Option<SocketAddr>) -> bool {
    let Some(network) = network else { return false };
    if local.is_loopback() && !network.serves_loopback() || is_link_local(local) {
        return false;
    }
    peer.is_none_or(|peer| is_reached(network, Some(local), peer.ip()))
}

/// Whether `remote` is reached through an interface of ours.
pub fn is_reached(network: &mut Network, local: Option<IpAddr>, remote: IpAddr) -> bool {
    matches!(network.stack.route(local, remote, clock::now()), Hop::Ready(_) | Hop::Resolving(_))
}

/// Whether an address means nothing without an interface (RFC 4007).
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn bound_address(fd: RawFd, family: c_int, local: IpAddr) -> ListenAddress {
    let is_v6_only = || sys::option_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|only| only != 0);
    match local {
        _ if !local.is_unspecified() => ListenAddress::One(local),
        // Of a socket of AF_INET6 it is the mapped wildcard.
        IpAddr::V4(_) => ListenAddress::AnyV4,
        IpAddr::V6(_) if family == libc::AF_INET6 && is_v6_only() => ListenAddress::AnyV6,
        IpAddr::V6(_) => ListenAddress::Any,
    }
}

/// Has the stack receive for a socket, if this process has a queue.
fn serve(world: &mut World, key: Key, binding: Binding) {
    attach::attach(world, clock::now());
    if !world.network.as_ref().is_some_and(Network::is_attached) {
        return;
    }
    let Some(fd) = world.descriptions.get(key).and_then(|description| description.fds.first().copied()) else { return };
    let limit = receive_limit(fd, world.datagram(key).is_some_and(|datagram| datagram.is_tuned));
    let Some(stack) = world.stack() else { return };
    match stack.udp_open(binding, limit, key.to_bits()) {
        Ok(id) => {
            if let Some(datagram) = world.datagram(key) {
                datagram.id = Some(id);
            }
            tracing::debug!(?binding, "receiving datagrams");
        }
        Err(error) => {
            tracing::warn!(%error, "a UDP socket is left to the kernel");
            leave(world, key);
        }
    }
}

/// Leaves everything from now on to the shadow. What the stack has received is still to be read.
pub fn leave(world: &mut World, key: Key) {
    let Some(datagram) = world.datagram(key) else { return };
    datagram.standing = Standing::Alone;
    match (datagram.id, world.stack()) {
        (Some(id), Some(stack)) => stack.udp_release(id),
        _ => world.give_to_kernel(key),
    }
}

/// SO_RCVBUF, which is the system's default on a socket that is not `is_tuned`.
pub fn receive_limit(fd: RawFd, is_tuned: bool) -> usize {
    static DEFAULT: OnceLock<usize> = OnceLock::new();
    let ask = || sys::option_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF).map_or(0, |bytes| bytes.max(0) as usize);
    if is_tuned { ask() } else { *DEFAULT.get_or_init(ask) }
}

/// How a socket sends, which is the system's default on one that is not `is_tuned`.
pub fn sending(fd: RawFd, family: c_int, is_tuned: bool) -> Sending {
    static DEFAULTS: [OnceLock<Sending>; 2] = [const { OnceLock::new() }; 2];
    let is_v6 = family == libc::AF_INET6;
    if is_tuned { ask_sending(fd) } else { *DEFAULTS[usize::from(is_v6)].get_or_init(|| ask_sending(fd)) }
}

fn ask_sending(fd: RawFd) -> Sending {
    /// What there is no option for on a socket of AF_INET, and needs none.
    const UNUSED: c_int = 0;
    let ask = |level, name| sys::option_int(fd, level, name).unwrap_or(UNUSED);
    let discovery = ask(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    Sending {
        ttl: ask(libc::IPPROTO_IP, libc::IP_TTL) as u8,
        tos: ask(libc::IPPROTO_IP, libc::IP_TOS) as u8,
        may_fragment: matches!(discovery, libc::IP_PMTUDISC_DONT | libc::IP_PMTUDISC_OMIT),
        hop_limit: ask(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) as u8,
        traffic_class: ask(libc::IPPROTO_IPV6, libc::IPV6_TCLASS) as u8,
    }
}

impl World {
    /// The UDP socket behind a key; `None` once it was closed, or given to the kernel.
    pub fn datagram(&mut self, key: Key) -> Option<&mut Datagram> {
        match self.descriptions.get_mut(key) {
            Some(Description { role: Role::Datagram(datagram), .. }) => Some(datagram),
            _ => None,
        }
    }
}
