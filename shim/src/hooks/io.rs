//! read(2), write(2), send(2), recv(2), their variants, and sendfile(2); those with messages are in
//! [`message`](super::message).

use super::either::{Moved, Socket, either, moved};
use crate::args::{self, Answer};
use crate::calls::{datagram, receive, send, sendfile};
use crate::export::{__read_chk as read_chk, __recv_chk as recv_chk, __recvfrom_chk as recvfrom_chk};
use crate::limits::DISCARD_LEN_MAX;
use crate::memory;
use crate::message::{Incoming, Outgoing};
use crate::pieces::Pieces;
use crate::ret;
use libc::{MSG_TRUNC, c_int, c_void, iovec, off_t, off64_t, size_t, sockaddr, socklen_t, ssize_t};
use stack::Errno;
use stack::slab::Key;
use std::ptr;

/// Receives into one buffer.
///
/// # Safety
/// Nobody else touches `buf`.
unsafe fn receive_bytes(socket: Socket, buf: *mut c_void, len: size_t, flags: c_int) -> Moved {
    let socket = match socket {
        Socket::Stream(socket) => socket,
        Socket::Datagram(fd, socket) => {
            // SAFETY: the caller's promise.
            return datagram::receive(fd, socket, &mut unsafe { Incoming::bytes(buf, len)? }, flags);
        }
    };
    if flags & MSG_TRUNC != 0 {
        // tcp(7): the bytes are thrown away; `buf` may be null.
        return receive::receive(socket, Pieces::own(&mut vec![0; len.min(DISCARD_LEN_MAX)]), flags).map(Some);
    }
    // SAFETY: the caller's promise.
    receive::receive(socket, unsafe { Pieces::one(buf, len)? }, flags).map(Some)
}

/// read(2): one of nothing does nothing, which recv(2) does.
///
/// # Safety
/// As for `receive_bytes`.
unsafe fn read_bytes(socket: Socket, buf: *mut c_void, len: size_t) -> Moved {
    check_whole(buf, len)?;
    if len == 0 {
        return Ok(Some(0));
    }
    // SAFETY: the caller's promise.
    unsafe { receive_bytes(socket, buf, len, 0) }
}

/// read(2) and write(2) want all of a buffer to be where a program can have one, recv(2) and send(2) what they can use of it.
fn check_whole(buf: *const c_void, len: size_t) -> Result<(), Errno> {
    if memory::is_possible(buf.addr(), len) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Receives into one buffer, and says where from; recvfrom(2) has no address for a connection.
///
/// # Safety
/// As for `receive_bytes`, and for what `address_len` points to.
unsafe fn receive_from(
    socket: Socket,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    (address, address_len): (*mut sockaddr, *mut socklen_t),
) -> Moved {
    if let Socket::Datagram(fd, socket) = socket {
        // SAFETY: the caller's promise.
        let mut message = unsafe { Incoming::bytes_from(buf, len, (address, address_len))? };
        let received = datagram::receive(fd, socket, &mut message, flags)?;
        if let (Some(_), Some(name_len)) = (received, message.name_len()) {
            // SAFETY: the caller's promise.
            unsafe { args::answer(address_len, name_len)? };
        }
        return Ok(received);
    }
    // SAFETY: the caller's promise.
    let received = unsafe { receive_bytes(socket, buf, len, flags)? };
    if !address.is_null() {
        // SAFETY: the caller's promise.
        unsafe { Answer::new(address, address_len) }.write(&[], 0)?;
    }
    Ok(received)
}

/// readv(2): of nothing as read(2).
///
/// # Safety
/// As for `Pieces::several`.
unsafe fn read_pieces(socket: Socket, iov: *const iovec, count: c_int) -> Moved {
    // SAFETY: the caller's promise.
    let pieces = unsafe { Pieces::several(iov, count as size_t)? };
    match socket {
        _ if pieces.len() == 0 => Ok(Some(0)),
        Socket::Stream(socket) => receive::receive(socket, pieces, 0).map(Some),
        Socket::Datagram(fd, socket) => {
            // SAFETY: the caller's promise.
            datagram::receive(fd, socket, &mut unsafe { Incoming::pieces(iov, count as size_t)? }, 0)
        }
    }
}

/// Sends one buffer, perhaps to somebody: a connection ignores that.
///
/// # Safety
/// Nobody writes to `buf`. `address` is null or has `address_len` bytes.
unsafe fn send_bytes(
    socket: Socket,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    (address, address_len): (*const sockaddr, socklen_t),
) -> Moved {
    match socket {
        // SAFETY: the caller's promise.
        Socket::Stream(socket) => send::send(socket, unsafe { Pieces::one(buf, len)? }, flags).map(Some),
        Socket::Datagram(fd, socket) => {
            // SAFETY: the caller's promise.
            let message = unsafe { Outgoing::bytes_to(buf, len, address, address_len)? };
            datagram::send(fd, socket, &message, flags, false)
        }
    }
}

/// write(2).
///
/// # Safety
/// Nobody writes to `buf`.
unsafe fn write_bytes(socket: Socket, buf: *const c_void, len: size_t) -> Moved {
    check_whole(buf, len)?;
    // SAFETY: the caller's promise.
    unsafe { send_bytes(socket, buf, len, 0, NOBODY) }
}

/// writev(2).
///
/// # Safety
/// As for `Pieces::several`.
unsafe fn write_pieces(socket: Socket, iov: *const iovec, count: c_int) -> Moved {
    match socket {
        // SAFETY: the caller's promise.
        Socket::Stream(socket) => send::send(socket, unsafe { Pieces::several(iov, count as size_t)? }, 0).map(Some),
        Socket::Datagram(fd, socket) => {
            // SAFETY: the caller's promise.
            datagram::send(fd, socket, &unsafe { Outgoing::pieces(iov, count as size_t)? }, 0, false)
        }
    }
}

/// No destination.
const NOBODY: (*const sockaddr, socklen_t) = (ptr::null(), 0);

/// Sends a file; `offset` says where from and then where the rest is, unless it is null.
///
/// # Safety
/// Nobody else touches `offset`.
unsafe fn send_file(socket: Key, file: c_int, offset: *mut off64_t, count: size_t) -> Result<usize, Errno> {
    if offset.is_null() {
        return sendfile::sendfile(socket, file, None, count).map(|(sent, _)| sent);
    }
    // SAFETY: the caller's promise.
    let start = unsafe { args::value(offset)? };
    let (sent, end) = sendfile::sendfile(socket, file, Some(start), count)?;
    // SAFETY: the caller's promise.
    unsafe { args::answer(offset, end)? };
    Ok(sent)
}

export! {
    /// read(2).
    fn read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t = libc::read {
        let socket = either!(fd);
        // SAFETY: read(2): `buf` has room for `len` bytes.
        moved(unsafe { read_bytes(socket, buf, len) })
    }

    /// read(2), as _FORTIFY_SOURCE calls it: the real one aborts if `buf_len` is too small.
    fn __read_chk(fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t) -> ssize_t = read_chk {
        let socket = Some(either!(fd)).filter(|_| len <= buf_len)?;
        // SAFETY: read(2): `buf` has room for `len` bytes.
        moved(unsafe { read_bytes(socket, buf, len) })
    }

    /// recv(2).
    fn recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t = libc::recv {
        let socket = either!(fd);
        // SAFETY: recv(2): `buf` has room for `len` bytes.
        moved(unsafe { receive_bytes(socket, buf, len, flags) })
    }

    /// recv(2), fortified.
    fn __recv_chk(fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t, flags: c_int) -> ssize_t = recv_chk {
        let socket = Some(either!(fd)).filter(|_| len <= buf_len)?;
        // SAFETY: recv(2): `buf` has room for `len` bytes.
        moved(unsafe { receive_bytes(socket, buf, len, flags) })
    }

    /// recvfrom(2).
    fn recvfrom(
        fd: c_int, buf: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t,
    ) -> ssize_t = libc::recvfrom {
        let socket = either!(fd);
        // SAFETY: recvfrom(2): `buf` has room for `len` bytes, and `address_len` says how much `address` has.
        moved(unsafe { receive_from(socket, buf, len, flags, (address, address_len)) })
    }

    /// recvfrom(2), fortified.
    fn __recvfrom_chk(
        fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t, flags: c_int,
        address: *mut sockaddr, address_len: *mut socklen_t,
    ) -> ssize_t = recvfrom_chk {
        let socket = Some(either!(fd)).filter(|_| len <= buf_len)?;
        // SAFETY: recvfrom(2): `buf` has room for `len` bytes, and `address_len` says how much `address` has.
        moved(unsafe { receive_from(socket, buf, len, flags, (address, address_len)) })
    }

    /// readv(2).
    fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = libc::readv {
        let socket = either!(fd);
        // SAFETY: readv(2): `iov` has `count` pieces.
        moved(unsafe { read_pieces(socket, iov, count) })
    }

    /// write(2).
    fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t = libc::write {
        let socket = either!(fd);
        // SAFETY: write(2): `buf` has `len` bytes.
        moved(unsafe { write_bytes(socket, buf, len) })
    }

    /// send(2).
    fn send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t = libc::send {
        let socket = either!(fd);
        // SAFETY: send(2): `buf` has `len` bytes.
        moved(unsafe { send_bytes(socket, buf, len, flags, NOBODY) })
    }

    /// sendto(2).
    fn sendto(
        fd: c_int, buf: *const c_void, len: size_t, flags: c_int, address: *const sockaddr, address_len: socklen_t,
    ) -> ssize_t = libc::sendto {
        let socket = either!(fd);
        // SAFETY: sendto(2): `buf` has `len` bytes, `address` has `address_len`.
        moved(unsafe { send_bytes(socket, buf, len, flags, (address, address_len)) })
    }

    /// writev(2).
    fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = libc::writev {
        let socket = either!(fd);
        // SAFETY: writev(2): `iov` has `count` pieces.
        moved(unsafe { write_pieces(socket, iov, count) })
    }

    /// sendfile(2).
    fn sendfile(to: c_int, file: c_int, offset: *mut off_t, count: size_t) -> ssize_t = libc::sendfile {
        let socket = socket!(to);
        // SAFETY: sendfile(2): `offset` is one, if it is there.
        ret::count(unsafe { send_file(socket, file, offset, count) })
    }

    /// sendfile(2), under its name for large files.
    fn sendfile64(to: c_int, file: c_int, offset: *mut off64_t, count: size_t) -> ssize_t = libc::sendfile64 {
        let socket = socket!(to);
        // SAFETY: sendfile(2): `offset` is one, if it is there.
        ret::count(unsafe { send_file(socket, file, offset, count) })
    }
}
