//! The two netlink sockets: one to ask the kernel, one on which it tells of changes.

use super::super::sys;
use crate::Errno;
use crate::limits::NOTICES_PER_REFRESH;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};

/// Room for what the kernel sends at once: it never makes a netlink datagram of more than 32 KiB by itself.
const DATAGRAM_LEN_MAX: usize = 32 * 1024;

/// The groups of rtnetlink(7) whose notices may change a next hop.
const GROUPS: [libc::c_uint; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// A socket for questions that have one answer.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Requests {
    pub fn open() -> io::Result<Requests> {
        Ok(Requests { socket: open()?, sequence: 0, datagram: Vec::with_capacity(DATAGRAM_LEN_MAX) })
    }

    /// Asks, and returns the answer; `None` if it is a mere acknowledgement (which NLM_F_ACK in `flags` asks for).
    ///
    /// # Errors
    /// The kernel's answer. `EINVAL` also when it is not understood.
    pub fn ask(&mut self, question: RouteNetlinkMessage, flags: u16) -> Result<Option<RouteNetlinkMessage>, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        self.datagram.resize(message.buffer_len(), 0);
        message.serialize(&mut self.datagram);
        self.socket.send_to(&self.datagram, &SocketAddr::new(0, 0), 0).map_err(errno)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Option<RouteNetlinkMessage>, Errno> {
        loop {
            receive(&self.socket, &mut self.datagram, 0).map_err(errno)?;
            let message = NetlinkMessage::deserialize(&self.datagram).map_err(|_| Errno::EINVAL)?;
            // Else it is the answer to an earlier question, whose reading failed.
            if message.header.sequence_number == self.sequence {
                return match message.payload {
                    NetlinkPayload::InnerMessage(answer) => Ok(Some(answer)),
                    NetlinkPayload::Error(error) => error.code.map_or(Ok(None), |code| Err(Errno(-code.get()))),
                    _ => Err(Errno::EINVAL),
                };
            }
        }
    }
}

impl AsRawFd for Requests {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What the kernel tells of.
pub(super) enum Notice {
    /// A neighbour's new state, or (true) its end.
    Neighbour(NeighbourMessage, bool),
    /// Links, addresses, routes or rules have changed.
    Other,
}

/// A socket for notices of changes.
pub(super) struct Notices {
    socket: Socket,
    datagram: Vec<u8>,
}

impl Notices {
    pub fn open() -> io::Result<Notices> {
        let mut socket = open()?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Notices { socket, datagram: Vec::with_capacity(DATAGRAM_LEN_MAX) })
    }

    /// Hands the notices that are waiting to `visit`, a bounded number of them; false if some are lost.
    pub fn read(&mut self, mut visit: impl FnMut(Notice)) -> bool {
        for _ in 0..NOTICES_PER_REFRESH {
            match receive(&self.socket, &mut self.datagram, libc::MSG_DONTWAIT) {
                Ok(()) => messages(&self.datagram).for_each(|message| notice(message).into_iter().for_each(&mut visit)),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

impl AsRawFd for Notices {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What a message says; only those of neighbours are read whole. Resolution by user space (RTM_GETNEIGH) is no change.
fn notice(message: &[u8]) -> Option<Notice> {
    match u16::from_ne_bytes([message[4], message[5]]) {
        libc::RTM_GETNEIGH => None,
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => match NetlinkMessage::deserialize(message).ok()?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
                Some(Notice::Neighbour(message, false))
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
                Some(Notice::Neighbour(message, true))
            }
            _ => None,
        },
        _ => Some(Notice::Other),
    }
}

/// The messages of a datagram, each with its header of 16 bytes (nlmsg_len first), aligned to 4. netlink(7).
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = datagram.get(..len).filter(|_| len >= 16)?;
        datagram = &datagram[len.next_multiple_of(4).min(datagram.len())..];
        Some(message)
    })
}

fn open() -> io::Result<Socket> {
    let fd = xdp_prog::high_fd(sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?)?;
    // SAFETY: the fd is a netlink socket, and handed over.
    Ok(unsafe { Socket::from_raw_fd(fd.into_raw_fd()) })
}

/// Reads a datagram, whatever signals come.
fn receive(socket: &Socket, datagram: &mut Vec<u8>, flags: libc::c_int) -> io::Result<()> {
    loop {
        datagram.clear();
        datagram.reserve(DATAGRAM_LEN_MAX);
        match socket.recv(datagram, flags) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return result.map(drop),
        }
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, len: u32) -> Vec<u8> {
        let mut bytes = [len.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec()].concat();
        bytes.resize(len.max(16) as usize, 0);
        bytes
    }

    #[test]
    fn datagrams_are_taken_apart() {
        let check = |datagram: &[u8], expected: &[usize]| {
            assert_eq!(messages(datagram).map(<[u8]>::len).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&[1, 2, 3], &[]);
        check(&message(24, 16), &[16]);
        check(&[message(24, 18), vec![0, 0], message(25, 20)].concat(), &[18, 20]);
        check(&[message(24, 18), vec![0, 0], message(25, 0)].concat(), &[18]);
        check(&message(24, 20)[..19], &[]);
    }

    #[test]
    fn notices_are_told_apart() {
        assert!(notice(&message(libc::RTM_GETNEIGH, 16)).is_none());
        assert!(matches!(notice(&message(libc::RTM_NEWROUTE, 16)), Some(Notice::Other)));
        assert!(notice(&message(libc::RTM_NEWNEIGH, 16)).is_none(), "too short for a neighbour");
    }

    #[test]
    fn an_error_of_the_kernel_is_an_errno() {
        let mut requests = Requests::open().expect("a netlink socket");
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        assert_eq!(requests.ask(question.clone(), 0).map(drop), Err(Errno::EINVAL));
        assert_eq!(requests.ask(question, 0).map(drop), Err(Errno::EINVAL));
    }
}
