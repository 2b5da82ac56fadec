//! sendmsg(2) and all that is less, on a UDP socket: through the rings, or by the shadow.

use crate::attach;
use crate::datagram::{self, Standing};
use crate::description::{Description, Role};
use crate::limits::ERROR_LOOK_PERIOD;
use crate::message::{Destination, Outgoing};
use crate::sys;
use crate::world::{self, World};
use crate::{args, clock, stats};
use libc::{
    IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, MSG_CONFIRM, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, c_int,
};
use stack::outside::InterfaceId;
use stack::slab::Key;
use stack::socket::udp::{Binding, Dispatch};
use stack::{Errno, Readiness};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// Bytes of an IPv6 and a UDP header.
const V6_HEADERS_LEN: usize = 40 + 8;

/// Flags that change nothing for what goes through the rings.
const HARMLESS: c_int = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM;

/// Sends a datagram and returns its length; `None` when the kernel is to do it. `more` will follow at once.
///
/// # Errors
/// `EFAULT`: its bytes are not there.
pub fn send(fd: RawFd, key: Key, message: &Outgoing<'_>, flags: c_int, more: bool) -> Result<Option<usize>, Errno> {
    // A handler that interrupts us finds the kernel's socket.
    let Ok(mut world) = world::enter() else { return Ok(None) };
    let is_sent = is_plain(&mut world, key, flags) && send_ours(&mut world, fd, key, message)?;
    if is_sent {
        if world.datagram(key).is_some_and(|datagram| datagram.wants_errors) {
            world.flush(clock::now());
        } else if !more {
            world.flush_reply();
        }
        return Ok(Some(message.pieces.len()));
    }
    hand_over(&mut world, key, flags);
    Ok(None)
}

/// Sends what calls with `more` have left.
pub fn flush(key: Key) {
    if let Ok(mut world) = world::enter()
        && world.datagram(key).is_some()
        && world.is_flush_pending()
    {
        world.flush_reply();
    }
}

/// Whether nothing is asked for that only the shadow does.
fn is_plain(world: &mut World, key: Key, flags: c_int) -> bool {
    let Some(datagram) = world.datagram(key) else { return false };
    flags & !HARMLESS == 0 && !datagram.is_corked && !datagram.is_write_shut
}

/// What goes out so far leaves before what the shadow sends.
fn hand_over(world: &mut World, key: Key, flags: c_int) {
    stats::count(&stats::DATAGRAMS_BY_KERNEL);
    if world.is_flush_pending()
        && let Some(stack) = world.stack()
    {
        stack.flush(clock::now());
    }
    let Some(datagram) = world.datagram(key) else { return };
    datagram.is_corked = flags & MSG_MORE != 0;
    if datagram.standing == Standing::Unbound {
        // The kernel gives it a port.
        datagram.standing = Standing::Unknown;
    }
}

/// Sends a datagram through the rings; false when it is for the shadow.
fn send_ours(world: &mut World, fd: RawFd, key: Key, message: &Outgoing<'_>) -> Result<bool, Errno> {
    datagram::settle(world, key);
    let Some(mut binding) = bound(world, key) else { return Ok(false) };
    let Some(family) = world.descriptions.get(key).map(|description| description.family) else { return Ok(false) };
    let to = match (message.destination, binding) {
        (Destination::Socket(to), _) if to.is_ipv6() == (family == libc::AF_INET6) => to,
        (Destination::Unsaid, Some(Binding { peer: Some(peer), .. })) => peer,
        _ => return Ok(false),
    };
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    if to.ip().is_unspecified() {
        // This host; the kernel says by which address.
        return Ok(false);
    }
    if binding.is_none() {
        bind_for(world, fd, key, family, to.ip());
        binding = bound(world, key).flatten();
    }
    let (Some(binding), Some(source)) = (binding, Source::of(message)) else { return Ok(false) };
    let now = clock::now();
    let World { descriptions, network, .. } = world;
    let (Some(Description { role: Role::Datagram(datagram), .. }), Some(network)) =
        (descriptions.get_mut(key), network)
    else {
        return Ok(false);
    };
    let Some(id) = datagram.id else { return Ok(false) };
    if binding.peer.is_some() || datagram.wants_errors {
        let is_time = datagram.error_looked_at.is_none_or(|at| now >= at + ERROR_LOOK_PERIOD);
        if datagram.wants_errors || is_time && datagram.error_looked_at.replace(now).is_some() {
            datagram.turns.shadow |= datagram::look(fd, 0);
        }
        // The shadow says what it is.
        if datagram.turns.shadow.contains(Readiness::ERROR) {
            datagram.turns.shadow = Readiness::READABLE;
            return Ok(false);
        }
    }
    let Some(interface) = source.interface(|index| network.interface_of(index)) else { return Ok(false) };
    let sending = *datagram.sending.get_or_insert_with(|| datagram::sending(fd, family, datagram.is_tuned));
    let is_v4 = to.is_ipv4();
    if !is_v4 && (1..V6_HEADERS_LEN + message.pieces.len()).contains(&datagram.fragment_len) {
        return Ok(false);
    }
    let dispatch = Dispatch {
        to,
        from: source.address,
        interface,
        hop_limit: if is_v4 { sending.ttl } else { sending.hop_limit },
        traffic_class: if is_v4 { sending.tos } else { sending.traffic_class },
        may_fragment: is_v4 && sending.may_fragment,
        len: message.pieces.len(),
    };
    Ok(network.stack.udp_send(id, &dispatch, message.pieces.bytes(0, dispatch.len)?, now))
}

/// Where a socket is bound: `Some(None)` if it is not; `None`: it is the kernel's, or the shadow's alone.
fn bound(world: &mut World, key: Key) -> Option<Option<Binding>> {
    match world.datagram(key)?.standing {
        Standing::Bound(binding) => Some(Some(binding)),
        Standing::Unbound => Some(None),
        Standing::Unknown | Standing::Alone => None,
    }
}

/// Has the kernel give a socket a port, if its first datagram goes through an interface of ours; one whose does not is
/// the kernel's.
fn bind_for(world: &mut World, fd: RawFd, key: Key, family: c_int, to: IpAddr) {
    attach::prepare(world);
    if !world.network.as_mut().is_some_and(|network| datagram::is_reached(network, None, to)) {
        return datagram::leave(world, key);
    }
    let any: IpAddr =
        if family == libc::AF_INET6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let (address, len) = args::format_address(SocketAddr::new(any, 0), family);
    if sys::bind(fd, &address[..len]).is_ok()
        && let Some(datagram) = world.datagram(key)
    {
        datagram.standing = Standing::Unknown;
        datagram::settle(world, key);
    }
}

/// Where a datagram is to come from, as its control messages say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Source {
    address: Option<IpAddr>,
    /// The index of an interface; 0: any.
    index: u32,
}

impl Source {
    /// `None`: they say something that only the kernel knows.
    fn of(message: &Outgoing<'_>) -> Option<Self> {
        let mut source = Source::default();
        for control in message.control() {
            let (level, kind, data) = control.ok()?;
            let word = |at: usize| data.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).copied();
            let (address, index): (IpAddr, _) = match (level, kind) {
                // struct in_pktinfo.
                (IPPROTO_IP, IP_PKTINFO) => (Ipv4Addr::from(word(4)?).into(), word(0)?),
                // struct in6_pktinfo.
                (IPPROTO_IPV6, IPV6_PKTINFO) => (Ipv6Addr::from(*data.first_chunk::<16>()?).to_canonical(), word(16)?),
                _ => return None,
            };
            source.address = Some(address).filter(|address| !address.is_unspecified());
            source.index = u32::from_ne_bytes(index);
        }
        Some(source)
    }

    /// The interface; `Some(None)`: any. `None`: one that is not ours, as `find` says.
    fn interface(self, find: impl FnOnce(u32) -> Option<InterfaceId>) -> Option<Option<InterfaceId>> {
        if self.index == 0 { Some(None) } else { find(self.index).map(Some) }
    }
}
