//! read(2), write(2), send(2), recv(2), their variants, and sendfile(2).

use crate::args::{self, Answer};
use crate::calls::{receive, send, sendfile};
use crate::export::{__read_chk as read_chk, __recv_chk as recv_chk, __recvfrom_chk as recvfrom_chk};
use crate::limits::DISCARD_LEN_MAX;
use crate::pieces::{self, Pieces};
use crate::{adopt, escape, fd_table, fork, memory, ret, rights, sys, thread};
use libc::{MSG_TRUNC, c_int, c_void, iovec, msghdr, off_t, off64_t, size_t, sockaddr, socklen_t, ssize_t};
use stack::Errno;
use stack::slab::Key;

/// Receives into one buffer.
///
/// # Safety
/// Nobody else touches `buf`.
unsafe fn receive_bytes(socket: Key, buf: *mut c_void, len: size_t, flags: c_int) -> Result<usize, Errno> {
    if flags & MSG_TRUNC != 0 {
        // tcp(7): the bytes are thrown away; `buf` may be null.
        return receive::receive(socket, Pieces::own(&mut vec![0; len.min(DISCARD_LEN_MAX)]), flags);
    }
    // SAFETY: the caller's promise.
    receive::receive(socket, unsafe { Pieces::one(buf, len)? }, flags)
}

/// read(2): one of nothing does nothing, which recv(2) does.
///
/// # Safety
/// As for `receive_bytes`.
unsafe fn read_bytes(socket: Key, buf: *mut c_void, len: size_t) -> Result<usize, Errno> {
    check_whole(buf, len)?;
    if len == 0 {
        return Ok(0);
    }
    // SAFETY: the caller's promise.
    unsafe { receive_bytes(socket, buf, len, 0) }
}

/// read(2) and write(2) want all of a buffer to be where a program can have one, recv(2) and send(2) what they can use of it.
fn check_whole(buf: *const c_void, len: size_t) -> Result<(), Errno> {
    if memory::is_possible(buf.addr(), len) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Receives into one buffer, and says that there is no address: recvfrom(2) has none for a connected socket.
///
/// # Safety
/// As for `receive_bytes`, and for what `address_len` points to.
unsafe fn receive_from(
    socket: Key,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    (address, address_len): (*mut sockaddr, *mut socklen_t),
) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let received = unsafe { receive_bytes(socket, buf, len, flags)? };
    if !address.is_null() {
        // SAFETY: the caller's promise.
        unsafe { Answer::new(address, address_len) }.write(&[], 0)?;
    }
    Ok(received)
}

/// Receives a message.
///
/// # Safety
/// As for `pieces::message`; nobody else touches the message.
unsafe fn receive_message(socket: Key, message: *mut msghdr, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let (_, pieces) = unsafe { pieces::message(message)? };
    let received = receive::receive(socket, pieces, flags)?;
    // SAFETY: the caller's promise.
    unsafe { args::finish_message(message, flags)? };
    Ok(received)
}

/// The fds that come or go with a message. Where it cannot be read, the kernel says so.
///
/// # Safety
/// Nobody writes to the message.
unsafe fn rights(message: *const msghdr) -> Vec<c_int> {
    // SAFETY: `value` looks whether it is there.
    let Ok(message) = (unsafe { args::value(message) }) else { return Vec::new() };
    // SAFETY: the caller's promise.
    let control = unsafe { args::bytes(message.msg_control, message.msg_controllen) };
    control.map(rights::fds).unwrap_or_default()
}

/// Receives a message of the kernel's, if fds may come with it; `None` if not.
///
/// # Safety
/// As for `receive_message`.
unsafe fn receive_rights(fd: c_int, message: *mut msghdr, flags: c_int) -> Option<Result<usize, Errno>> {
    // SAFETY: `value` looks whether it is there.
    let has_room = unsafe { args::value(message) }.is_ok_and(|message| message.msg_controllen > 0);
    if !has_room || !fork::is_served() || thread::is_inside() {
        return None;
    }
    let received = sys::receive_message(fd, message, flags);
    if received.is_ok() {
        // SAFETY: the caller's promise.
        unsafe { rights(message) }.into_iter().for_each(adopt::adopt);
    }
    Some(received)
}

/// readv(2): of nothing as read(2).
///
/// # Safety
/// As for `Pieces::several`.
unsafe fn read_pieces(socket: Key, iov: *const iovec, count: c_int) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let pieces = unsafe { Pieces::several(iov, count as size_t)? };
    if pieces.len() == 0 { Ok(0) } else { receive::receive(socket, pieces, 0) }
}

/// Sends one buffer.
///
/// # Safety
/// Nobody writes to `buf`.
unsafe fn send_bytes(socket: Key, buf: *const c_void, len: size_t, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    send::send(socket, unsafe { Pieces::one(buf, len)? }, flags)
}

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
        let socket = socket!(fd);
        // SAFETY: read(2): `buf` has room for `len` bytes.
        ret::count(unsafe { read_bytes(socket, buf, len) })
    }

    /// read(2), as _FORTIFY_SOURCE calls it: the real one aborts if `buf_len` is too small.
    fn __read_chk(fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t) -> ssize_t = read_chk {
        let socket = Some(socket!(fd)).filter(|_| len <= buf_len)?;
        // SAFETY: read(2): `buf` has room for `len` bytes.
        ret::count(unsafe { read_bytes(socket, buf, len) })
    }

    /// recv(2).
    fn recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t = libc::recv {
        let socket = socket!(fd);
        // SAFETY: recv(2): `buf` has room for `len` bytes.
        ret::count(unsafe { receive_bytes(socket, buf, len, flags) })
    }

    /// recv(2), fortified.
    fn __recv_chk(fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t, flags: c_int) -> ssize_t = recv_chk {
        let socket = Some(socket!(fd)).filter(|_| len <= buf_len)?;
        // SAFETY: recv(2): `buf` has room for `len` bytes.
        ret::count(unsafe { receive_bytes(socket, buf, len, flags) })
    }

    /// recvfrom(2).
    fn recvfrom(
        fd: c_int, buf: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t,
    ) -> ssize_t = libc::recvfrom {
        let socket = socket!(fd);
        // SAFETY: recvfrom(2): `buf` has room for `len` bytes, and `address_len` says how much `address` has.
        ret::count(unsafe { receive_from(socket, buf, len, flags, (address, address_len)) })
    }

    /// recvfrom(2), fortified.
    fn __recvfrom_chk(
        fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t, flags: c_int,
        address: *mut sockaddr, address_len: *mut socklen_t,
    ) -> ssize_t = recvfrom_chk {
        let socket = Some(socket!(fd)).filter(|_| len <= buf_len)?;
        // SAFETY: recvfrom(2): `buf` has room for `len` bytes, and `address_len` says how much `address` has.
        ret::count(unsafe { receive_from(socket, buf, len, flags, (address, address_len)) })
    }

    /// recvmsg(2).
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = libc::recvmsg {
        let Some(socket) = fd_table::serve(fd) else {
            // SAFETY: recvmsg(2): `message` is one.
            return ret::count(unsafe { receive_rights(fd, message, flags)? });
        };
        // SAFETY: recvmsg(2): `message` is one.
        ret::count(socket.and_then(|socket| unsafe { receive_message(socket, message, flags) }))
    }

    /// readv(2).
    fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = libc::readv {
        let socket = socket!(fd);
        // SAFETY: readv(2): `iov` has `count` pieces.
        ret::count(unsafe { read_pieces(socket, iov, count) })
    }

    /// write(2).
    fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t = libc::write {
        let socket = socket!(fd);
        // SAFETY: write(2): `buf` has `len` bytes.
        ret::count(check_whole(buf, len).and_then(|()| unsafe { send_bytes(socket, buf, len, 0) }))
    }

    /// send(2).
    fn send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t = libc::send {
        let socket = socket!(fd);
        // SAFETY: send(2): `buf` has `len` bytes.
        ret::count(unsafe { send_bytes(socket, buf, len, flags) })
    }

    /// sendto(2): a connected socket ignores the address.
    fn sendto(
        fd: c_int, buf: *const c_void, len: size_t, flags: c_int, address: *const sockaddr, address_len: socklen_t,
    ) -> ssize_t = libc::sendto {
        let socket = socket!(fd);
        // SAFETY: sendto(2): `buf` has `len` bytes.
        ret::count(unsafe { send_bytes(socket, buf, len, flags) })
    }

    /// sendmsg(2).
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = libc::sendmsg {
        let Some(socket) = fd_table::serve(fd) else {
            // SAFETY: sendmsg(2): `message` is one.
            unsafe { rights(message) }.into_iter().for_each(escape::release);
            return None;
        };
        // SAFETY: sendmsg(2): `message` is one.
        let message = unsafe { pieces::message(message) };
        ret::count(socket.and_then(|socket| send::send(socket, message?.1, flags)))
    }

    /// writev(2).
    fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = libc::writev {
        let socket = socket!(fd);
        // SAFETY: writev(2): `iov` has `count` pieces.
        let pieces = unsafe { Pieces::several(iov, count as size_t) };
        ret::count(pieces.and_then(|pieces| send::send(socket, pieces, 0)))
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
