//! recvmsg(2) and all that is less, on a UDP socket: from the stack's queue, or from the shadow's.

use crate::datagram::{self, Datagram, Wanted};
use crate::description::{Description, Role};
use crate::message::Incoming;
use crate::turns::First;
use crate::wait::{self, Patience};
use crate::world::World;
use crate::{args, clock, fd_table, stats};
use libc::{
    IP_PKTINFO, IP_TOS, IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPV6_HOPLIMIT, IPV6_PKTINFO, IPV6_TCLASS, MSG_DONTWAIT,
    MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, c_int,
};
use stack::Errno;
use stack::slab::Key;
use stack::socket::UdpId;
use stack::socket::udp::Arrival;
use std::net::IpAddr;
use std::os::fd::RawFd;

/// Receives a datagram into `message` and returns how many bytes of it, or, with MSG_TRUNC, how many it had. `None` when
/// the kernel is to do it.
///
/// # Errors
/// - `EAGAIN`: nothing is there, and the socket does not block or its SO_RCVTIMEO is over. `EINTR`.
/// - What the kernel says of the shadow: `ECONNREFUSED` and other ICMP errors of a connected socket.
pub fn receive(fd: RawFd, key: Key, message: &mut Incoming<'_>, flags: c_int) -> Result<Option<usize>, Errno> {
    if flags & MSG_ERRQUEUE != 0 {
        return Ok(None);
    }
    let patience = Patience { shadow: Some(fd), ..Patience::RECEIVE }.unless(flags & MSG_DONTWAIT != 0);
    // A call that waits looks again in any case: the first time, it leaves the shadow alone.
    let mut is_first = true;
    let received = wait::complete(key, patience, |world| {
        datagram::settle(world, key);
        let is_first = std::mem::take(&mut is_first);
        match attempt(world, fd, key, message, flags, is_first) {
            Err(Errno::EAGAIN) if world.is_rx_pending() => {
                world.turn(clock::now());
                attempt(world, fd, key, message, flags, is_first)
            }
            received => received,
        }
    });
    match received {
        Ok(received) => Ok(Some(received)),
        // It was given to the kernel, before this call or while it waited.
        Err(Errno::EBADF) if fd_table::get(fd).is_none() => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn attempt(
    world: &mut World,
    fd: RawFd,
    key: Key,
    message: &mut Incoming<'_>,
    flags: c_int,
    is_first: bool,
) -> Result<usize, Errno> {
    let World { descriptions, network, .. } = world;
    let description = descriptions.get_mut(key).ok_or(Errno::EBADF)?;
    let may_block = !description.nonblocking && flags & MSG_DONTWAIT == 0;
    let is_told = description.nonblocking && !description.watches.is_empty() || may_block && is_first;
    // Another thread may have closed the one that the call was made by.
    let fd = description.fds.first().copied().unwrap_or(fd);
    let &mut Description { family, ref mut role, .. } = description;
    let Role::Datagram(datagram) = role else { return Err(Errno::EBADF) };
    let stack = network.as_mut().map(|network| &mut network.stack);
    let ours = stack.zip(datagram.id).filter(|(stack, id)| stack.udp_next(*id).is_some());
    let peek = flags & MSG_PEEK != 0;
    match datagram.turns.first(ours.is_some(), is_told) {
        First::Stack => {}
        First::Nowhere => return Err(Errno::EAGAIN),
        First::Shadow => match message.receive_from_kernel(fd, flags | MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => datagram.turns.shadow_is_empty(),
            received => {
                datagram.turns.came_from_shadow(peek);
                stats::count(&stats::DATAGRAMS_FROM_KERNEL);
                return received;
            }
        },
    }
    let Some((stack, id)) = ours else {
        // A call that waits for a socket that is shut down finds its end (recv(2)).
        return if datagram.is_read_shut && may_block { Ok(0) } else { Err(Errno::EAGAIN) };
    };
    datagram.turns.came_from_stack(peek);
    let arrival = take(stack, id, message, peek)?;
    let index = network.as_ref().map_or(0, |network| network.index_of(arrival.interface));
    say(message, &arrival, datagram, family, index, flags)?;
    Ok(if flags & MSG_TRUNC != 0 { arrival.len } else { arrival.len.min(message.len()) })
}

fn take(stack: &mut stack::stack::Stack, id: UdpId, message: &mut Incoming<'_>, peek: bool) -> Result<Arrival, Errno> {
    let len = stack.udp_next(id).map_or(0, |next| next.len).min(message.len());
    stack.udp_receive(id, message.room(len)?, peek)
}

/// Says what recvmsg(2) says beside the bytes; `index` is that of the interface.
fn say(
    message: &mut Incoming<'_>,
    arrival: &Arrival,
    datagram: &Datagram,
    family: c_int,
    index: u32,
    flags: c_int,
) -> Result<(), Errno> {
    message.begin();
    let (mut name, name_len) = args::format_address(arrival.source, family);
    if datagram::is_link_local(arrival.source.ip()) {
        args::set_scope(&mut name, index);
    }
    message.set_name(&name[..name_len])?;
    let wanted = datagram.wanted;
    if family == libc::AF_INET6 && wanted.v6_info {
        let destination = match arrival.destination {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        // struct in6_pktinfo.
        let mut info = [0; 20];
        info[..16].copy_from_slice(&destination.octets());
        info[16..].copy_from_slice(&index.to_ne_bytes());
        message.add_control(IPPROTO_IPV6, IPV6_PKTINFO, &info)?;
    }
    match arrival.destination {
        IpAddr::V4(destination) => say_v4(message, arrival, wanted, destination.octets(), index)?,
        IpAddr::V6(_) => say_v6(message, arrival, wanted)?,
    }
    let truncated = if arrival.len > message.len() { MSG_TRUNC } else { 0 };
    message.set_flags(truncated, flags);
    Ok(())
}

/// In the order of Linux's ip_cmsg_recv_offset().
fn say_v4(
    message: &mut Incoming<'_>,
    arrival: &Arrival,
    wanted: Wanted,
    destination: [u8; 4],
    index: u32,
) -> Result<(), Errno> {
    if wanted.v4_info {
        // struct in_pktinfo: the local address and the destination are one.
        let info = [index.to_ne_bytes(), destination, destination];
        message.add_control(IPPROTO_IP, IP_PKTINFO, info.as_flattened())?;
    }
    if wanted.ttl {
        message.add_control(IPPROTO_IP, IP_TTL, &c_int::from(arrival.hop_limit).to_ne_bytes())?;
    }
    if wanted.tos {
        message.add_control(IPPROTO_IP, IP_TOS, &[arrival.traffic_class])?;
    }
    Ok(())
}

/// In the order of Linux's ip6_datagram_recv_specific_ctl().
fn say_v6(message: &mut Incoming<'_>, arrival: &Arrival, wanted: Wanted) -> Result<(), Errno> {
    if wanted.hop_limit {
        message.add_control(IPPROTO_IPV6, IPV6_HOPLIMIT, &c_int::from(arrival.hop_limit).to_ne_bytes())?;
    }
    if wanted.traffic_class {
        message.add_control(IPPROTO_IPV6, IPV6_TCLASS, &c_int::from(arrival.traffic_class).to_ne_bytes())?;
    }
    Ok(())
}

/// The length of the next datagram, if that is the stack's; `None`: the shadow knows.
pub fn next_len(world: &mut World, key: Key) -> Option<usize> {
    let World { descriptions, network, .. } = world;
    let description = descriptions.get_mut(key)?;
    description.refresh_shadow();
    let Role::Datagram(datagram) = &mut description.role else { return None };
    let next = network.as_ref()?.stack.udp_next(datagram.id?)?;
    let is_ours = datagram.turns.first(true, true) == First::Stack;
    if is_ours {
        datagram.turns.came_from_stack(true);
    } else {
        datagram.turns.came_from_shadow(true);
    }
    is_ours.then_some(next.len)
}
