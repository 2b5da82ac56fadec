//! MSG_ZEROCOPY of send(2), by the kernel's msg_zerocopy.rst: what is sent is copied all the same, as the error queue
//! then says; at once, because the application may have its buffer back.

use crate::description::Role;
use crate::ret::BEGIN_AGAIN;
use crate::world;
use libc::c_int;
use stack::slab::Key;
use stack::{Errno, Readiness};

/// Of linux/errqueue.h.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// struct sock_extended_err; behind it comes the room for an address.
const EXTENDED_ERR_LEN: usize = 16;
pub const EXTENDED_ERR_LEN_MAX: usize = EXTENDED_ERR_LEN + size_of::<libc::sockaddr_in6>();

/// The calls of a socket that were to copy nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Zerocopy {
    /// The number of the next one.
    next: u32,
    /// The first and the last one that the application has not been told of. Each is done when the next is made, so
    /// there is no gap.
    done: Option<(u32, u32)>,
}

impl Zerocopy {
    /// Whether the error queue is not empty.
    pub fn is_done(&self) -> bool {
        self.done.is_some()
    }

    fn sent(&mut self) {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.done = Some((self.done.map_or(number, |(first, _)| first), number));
    }
}

/// An element of the error queue, as a control message.
pub struct Notice {
    /// Its level.
    pub level: c_int,
    /// Its type.
    pub kind: c_int,
    data: [u8; EXTENDED_ERR_LEN_MAX],
    len: usize,
}

impl Notice {
    /// Its data.
    pub fn data(&self) -> &[u8] {
        &self.data[..self.len]
    }
}

/// A call with MSG_ZEROCOPY has sent something: with SO_ZEROCOPY, that is told of.
pub fn note(key: Key) {
    let Ok(mut world) = world::enter() else { return };
    if let Ok(description) = world.description(key)
        && description.settings.zerocopy
        && matches!(description.role, Role::Flow(_))
    {
        description.zerocopy.sent();
        world.announce(key, Readiness::ERROR);
    }
}

/// recvmsg(2) with MSG_ERRQUEUE.
///
/// # Errors
/// `EAGAIN`: nothing is there. It is never waited for.
pub fn next(key: Key) -> Result<Notice, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    if !matches!(description.role, Role::Flow(_)) {
        return Err(BEGIN_AGAIN);
    }
    let (first, last) = description.zerocopy.done.take().ok_or(Errno::EAGAIN)?;
    let (level, kind, address_len) = match description.family {
        libc::AF_INET => (libc::IPPROTO_IP, libc::IP_RECVERR, size_of::<libc::sockaddr_in>()),
        _ => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, size_of::<libc::sockaddr_in6>()),
    };
    let mut data = [0; EXTENDED_ERR_LEN_MAX];
    (data[4], data[6]) = (SO_EE_ORIGIN_ZEROCOPY, SO_EE_CODE_ZEROCOPY_COPIED);
    data[8..12].copy_from_slice(&first.to_ne_bytes());
    data[12..16].copy_from_slice(&last.to_ne_bytes());
    Ok(Notice { level, kind, data, len: EXTENDED_ERR_LEN + address_len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_follow_each_other_are_told_of_together() {
        let mut calls = Zerocopy { next: u32::MAX, done: None };
        assert!(!calls.is_done());
        calls.sent();
        calls.sent();
        assert_eq!(calls.done.take(), Some((u32::MAX, 0)));
        calls.sent();
        assert_eq!(calls.done, Some((1, 1)));
    }
}
