//! setsockopt(2) on a UDP socket. The shadow has every option; what concerns us is asked of it, and a socket with an option
//! that we lack is left to it.

use crate::datagram::{self, Datagram};
use crate::world::{self, World};
use crate::{args, sys};
use libc::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, c_int};
use stack::Errno;
use stack::slab::Key;
use std::os::fd::RawFd;

/// setsockopt(2); `None` when the kernel is to do it.
///
/// # Errors
/// What the kernel says.
pub fn set(fd: RawFd, key: Key, level: c_int, name: c_int, value: &[u8]) -> Result<Option<()>, Errno> {
    let Ok(mut world) = world::enter() else { return Ok(None) };
    if world.datagram(key).is_none() {
        return Ok(None);
    }
    sys::set_option(fd, level, name, value)?;
    let concern = concern(level, name);
    if !(matches!(concern, Concern::Unknown) && is_off(value)) {
        follow(&mut world, fd, key, concern, value);
    }
    Ok(Some(()))
}

/// Whether an option that is unknown is none: switched off, or empty.
fn is_off(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == 0)
}

/// What an option is to us.
#[derive(Debug, Clone, Copy)]
enum Concern {
    /// It changes nothing for what goes through the rings.
    None,
    /// It changes how datagrams are sent, or how many wait.
    Tuning,
    /// It changes where they are received.
    Place,
    /// It says what is said of those that are received.
    Wanted(fn(&mut Datagram) -> &mut bool, c_int, c_int),
    /// SO_RCVTIMEO.
    ReceiveTimeout,
    /// SO_REUSEPORT.
    SharesPort,
    /// IP_RECVERR or IPV6_RECVERR.
    Errors,
    /// IPV6_MTU.
    FragmentLen,
    /// Only the kernel can do it.
    Unknown,
}

fn concern(level: c_int, name: c_int) -> Concern {
    match level {
        SOL_SOCKET => concern_of_socket(name),
        IPPROTO_IP => concern_of_v4(name),
        IPPROTO_IPV6 => concern_of_v6(name),
        _ => Concern::Unknown,
    }
}

fn concern_of_socket(name: c_int) -> Concern {
    match name {
        libc::SO_RCVTIMEO => Concern::ReceiveTimeout,
        libc::SO_REUSEPORT => Concern::SharesPort,
        libc::SO_RCVBUF | libc::SO_RCVBUFFORCE => Concern::Tuning,
        // Broadcasts are sent by the shadow, and so is what does not fit the rings, for which it waits itself.
        libc::SO_BROADCAST | libc::SO_SNDBUF | libc::SO_SNDBUFFORCE | libc::SO_SNDTIMEO => Concern::None,
        libc::SO_REUSEADDR | libc::SO_KEEPALIVE | libc::SO_LINGER | libc::SO_OOBINLINE | libc::SO_DEBUG => {
            Concern::None
        }
        // Hints.
        libc::SO_BUSY_POLL | libc::SO_INCOMING_CPU | libc::SO_ZEROCOPY => Concern::None,
        _ => Concern::Unknown,
    }
}

fn concern_of_v4(name: c_int) -> Concern {
    match name {
        libc::IP_TTL | libc::IP_TOS | libc::IP_MTU_DISCOVER => Concern::Tuning,
        libc::IP_PKTINFO => Concern::Wanted(|it| &mut it.wanted.v4_info, IPPROTO_IP, name),
        libc::IP_RECVTTL => Concern::Wanted(|it| &mut it.wanted.ttl, IPPROTO_IP, name),
        libc::IP_RECVTOS => Concern::Wanted(|it| &mut it.wanted.tos, IPPROTO_IP, name),
        libc::IP_RECVERR => Concern::Errors,
        // Everything to and from groups is the shadow's: IP_MULTICAST_IF to IP_MULTICAST_ALL (linux/in.h).
        32..=49 => Concern::None,
        libc::IP_FREEBIND | libc::IP_BIND_ADDRESS_NO_PORT => Concern::None,
        _ => Concern::Unknown,
    }
}

fn concern_of_v6(name: c_int) -> Concern {
    match name {
        libc::IPV6_UNICAST_HOPS | libc::IPV6_TCLASS => Concern::Tuning,
        libc::IPV6_V6ONLY => Concern::Place,
        libc::IPV6_MTU => Concern::FragmentLen,
        libc::IPV6_RECVPKTINFO => Concern::Wanted(|it| &mut it.wanted.v6_info, IPPROTO_IPV6, name),
        libc::IPV6_RECVHOPLIMIT => Concern::Wanted(|it| &mut it.wanted.hop_limit, IPPROTO_IPV6, name),
        libc::IPV6_RECVTCLASS => Concern::Wanted(|it| &mut it.wanted.traffic_class, IPPROTO_IPV6, name),
        // As for IPv4: IPV6_MULTICAST_IF to IPV6_LEAVE_ANYCAST but for one, and MCAST_JOIN_GROUP to MCAST_MSFILTER
        // (linux/in6.h). What does not fit the MTU is the shadow's.
        libc::IPV6_RECVERR => Concern::Errors,
        libc::IPV6_MTU_DISCOVER | libc::IPV6_DONTFRAG => Concern::None,
        17..=21 | 27..=29 | 42..=48 => Concern::None,
        _ => Concern::Unknown,
    }
}

/// Does what follows from an option that the shadow has taken.
fn follow(world: &mut World, fd: RawFd, key: Key, concern: Concern, value: &[u8]) {
    let Some(datagram) = world.datagram(key) else { return };
    match concern {
        Concern::None => {}
        Concern::Tuning => {
            (datagram.is_tuned, datagram.sending) = (true, None);
            if let (Some(id), Some(stack)) = (datagram.id, world.stack()) {
                stack.udp_set_receive_limit(id, datagram::receive_limit(fd, true));
            }
        }
        Concern::Place => stand_anew(datagram),
        Concern::Errors => datagram.wants_errors |= !is_off(value),
        // What getsockopt(2) says of it is something else.
        Concern::FragmentLen => datagram.fragment_len = args::option_int(value).unwrap_or(0).max(0) as usize,
        Concern::Wanted(flag, level, name) => {
            *flag(datagram) = sys::option_int(fd, level, name).is_ok_and(|on| on != 0);
        }
        Concern::SharesPort => {
            datagram.shares_port = sys::option_int(fd, SOL_SOCKET, libc::SO_REUSEPORT).is_ok_and(|on| on != 0);
            stand_anew(datagram);
        }
        Concern::ReceiveTimeout => {
            let mut value = [0; 16];
            let is_said = sys::option(fd, SOL_SOCKET, libc::SO_RCVTIMEO, &mut value).is_ok();
            if let (true, Ok(description)) = (is_said, world.description(key)) {
                description.settings.receive_timeout = super::super::option::timeout(&value).unwrap_or_default();
            }
        }
        Concern::Unknown => datagram::leave(world, key),
    }
}

fn stand_anew(datagram: &mut Datagram) {
    if datagram.standing != datagram::Standing::Alone {
        datagram.standing = datagram::Standing::Unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_the_kernels_unless_it_is_off() {
        for (level, name) in
            [(SOL_SOCKET, libc::SO_TIMESTAMP), (IPPROTO_IP, libc::IP_OPTIONS), (libc::IPPROTO_UDP, 104)]
        {
            assert!(matches!(concern(level, name), Concern::Unknown));
        }
        assert!(is_off(&[0; 4]) && is_off(&[]) && !is_off(&1i32.to_ne_bytes()));
    }

    #[test]
    fn groups_are_no_concern() {
        for name in [libc::IP_MULTICAST_IF, libc::IP_ADD_MEMBERSHIP, libc::IP_DROP_SOURCE_MEMBERSHIP, 42, 49] {
            assert!(matches!(concern(IPPROTO_IP, name), Concern::None));
        }
        for name in [libc::IPV6_MULTICAST_IF, libc::IPV6_ADD_MEMBERSHIP, libc::IPV6_DROP_MEMBERSHIP, 42] {
            assert!(matches!(concern(IPPROTO_IPV6, name), Concern::None));
        }
        assert!(matches!(concern(IPPROTO_IPV6, libc::IPV6_V6ONLY), Concern::Place));
    }
}
