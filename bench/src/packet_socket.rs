//! A packet socket on one interface: whole Ethernet frames in and out. packet(7).

use crate::epoll::check;
use std::{
    ffi::CString,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

/// Room for frames that wait to be read, in bytes: some thousand of the largest.
const RECEIVE_BUFFER_LEN: i32 = 16 << 20;

/// A packet socket; it never blocks.
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on an interface of this thread's network namespace, for all protocols but what is sent itself.
    ///
    /// # Errors
    /// What the system calls answered: no such interface, or no CAP_NET_RAW.
    pub fn open(interface: &str) -> io::Result<PacketSocket> {
        let name = CString::new(interface)?;
        // SAFETY: the name ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes no pointer. Protocol 0 receives nothing until bind names one.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel just made this descriptor for us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_LEN)?;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: `address` is a sockaddr_ll, and the length says so.
        check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })?;
        Ok(PacketSocket { fd })
    }

    /// Reads a frame into `buffer` and returns its length, which may be greater than the buffer's; `None` when there
    /// is none.
    ///
    /// # Errors
    /// What recv(2) answered.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the buffer is writable for its whole length.
        let answer = unsafe { libc::recv(self.fd.as_raw_fd(), start, len, libc::MSG_TRUNC) };
        match check(answer as i32) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            answer => answer.map(|len| Some(len as usize)),
        }
    }

    /// Sends a frame; one that the interface has no room for is lost, as on a wire.
    ///
    /// # Errors
    /// What send(2) answered.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame is readable for its whole length.
        let answer = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        match check(answer as i32) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_option(fd: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let (value, len) = (ptr::from_ref(&value).cast(), size_of::<i32>() as u32);
    // SAFETY: `value` points to an int, and the length says so.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, len) })?;
    Ok(())
}
