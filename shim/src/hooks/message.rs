//! recvmsg(2), sendmsg(2), and their variants for several messages.

use super::either::{self, Moved, Socket, moved};
use crate::calls::{datagram, receive, send, zerocopy};
use crate::limits::IOVECS_MAX;
use crate::message::{Incoming, Outgoing};
use crate::pieces;
use crate::{adopt, args, clock, escape, fork, ret, rights, sys, thread};
use libc::{MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_WAITFORONE, c_int, c_uint, mmsghdr, msghdr, ssize_t, timespec};
use stack::Errno;
use std::mem::offset_of;
use std::time::Duration;

/// Of linux/tcp.h: it is called as the option is.
const TCP_CM_INQ: c_int = libc::TCP_INQ;

/// Receives a message.
///
/// # Safety
/// As for `Incoming::message`; nobody else touches the message.
unsafe fn receive_message(socket: Socket, message: *mut msghdr, flags: c_int) -> Moved {
    match socket {
        Socket::Stream(socket) if flags & MSG_ERRQUEUE != 0 => {
            // SAFETY: the caller's promise.
            let mut incoming = unsafe { Incoming::message(message)? };
            let notice = zerocopy::next(socket)?;
            incoming.begin();
            incoming.set_name(&[])?;
            incoming.set_flags(MSG_ERRQUEUE, flags);
            incoming.add_control(notice.level, notice.kind, notice.data())?;
            // SAFETY: the caller's promise.
            unsafe { incoming.answer(message)? };
            Ok(Some(0))
        }
        Socket::Stream(socket) => {
            // SAFETY: the caller's promise.
            let (header, pieces) = unsafe { pieces::message(message)? };
            let received = receive::receive(socket, pieces, flags)?;
            // Who has no room for control messages is told nothing.
            let unread = if header.msg_controllen > 0 { receive::unread(socket) } else { None };
            if let Some(unread) = unread.filter(|_| flags & MSG_OOB == 0) {
                // SAFETY: the caller's promise.
                let mut incoming = unsafe { Incoming::message(message)? };
                incoming.begin();
                incoming.set_name(&[])?;
                incoming.set_flags(0, flags);
                incoming.add_control(libc::IPPROTO_TCP, TCP_CM_INQ, &unread.to_ne_bytes())?;
                // SAFETY: the caller's promise.
                unsafe { incoming.answer(message)? };
                return Ok(Some(received));
            }
            // SAFETY: the caller's promise.
            unsafe { args::finish_message(message, flags)? };
            Ok(Some(received))
        }
        Socket::Datagram(fd, socket) => {
            // SAFETY: the caller's promise.
            let mut incoming = unsafe { Incoming::message(message)? };
            let received = datagram::receive(fd, socket, &mut incoming, flags)?;
            if received.is_some() {
                // SAFETY: the caller's promise.
                unsafe { incoming.answer(message)? };
            }
            Ok(received)
        }
    }
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

/// Whether fds may come with a message of the kernel's.
///
/// # Safety
/// Nobody writes to the message.
unsafe fn may_bring_rights(message: *const msghdr) -> bool {
    // SAFETY: `value` looks whether it is there.
    let has_room = unsafe { args::value(message) }.is_ok_and(|message| message.msg_controllen > 0);
    has_room && fork::is_served() && !thread::is_inside()
}

/// The same of one of several.
///
/// # Safety
/// As for `may_bring_rights`, for each of `count` messages.
unsafe fn may_one_bring_rights(messages: *mut mmsghdr, count: c_uint) -> bool {
    // SAFETY: the caller's promise.
    (0..(count as usize).min(IOVECS_MAX)).any(|at| unsafe { may_bring_rights(header_of(messages.wrapping_add(at))) })
}

/// Sends a message; `more` will follow at once.
///
/// # Safety
/// As for `Outgoing::message`.
unsafe fn send_message(socket: Socket, message: *const msghdr, flags: c_int, more: bool) -> Moved {
    match socket {
        Socket::Stream(socket) => {
            // SAFETY: the caller's promise.
            let (_, pieces) = unsafe { pieces::message(message)? };
            send::send(socket, pieces, flags).map(Some)
        }
        Socket::Datagram(fd, socket) => {
            // SAFETY: the caller's promise.
            datagram::send(fd, socket, &unsafe { Outgoing::message(message)? }, flags, more)
        }
    }
}

/// The message in an element of recvmmsg(2)'s array.
fn header_of(message: *mut mmsghdr) -> *mut msghdr {
    message.wrapping_byte_add(offset_of!(mmsghdr, msg_hdr)).cast()
}

/// Where its length is answered.
fn len_of(message: *mut mmsghdr) -> *mut c_uint {
    message.wrapping_byte_add(offset_of!(mmsghdr, msg_len)).cast()
}

/// How many messages a call has moved, and why no more: an error counts only for the first (recvmmsg(2), sendmmsg(2)).
fn counted(count: usize, end: Result<(), Errno>) -> Result<c_int, Errno> {
    if count > 0 { Ok(count as c_int) } else { end.map(|()| 0) }
}

/// Receives messages, until `timeout` is over: that is looked at after each. `None`: the kernel is to do it.
///
/// # Safety
/// As for `receive_message`, for each of `count` messages.
unsafe fn receive_messages(
    socket: Socket,
    messages: *mut mmsghdr,
    count: usize,
    flags: c_int,
    timeout: Option<Duration>,
) -> Result<Option<c_int>, Errno> {
    let until = timeout.and_then(|timeout| clock::after(clock::now(), timeout));
    let mut flags = flags;
    let mut received = 0;
    let mut end = Ok(());
    while received < count {
        let message = messages.wrapping_add(received);
        // SAFETY: the caller's promise.
        match unsafe { receive_message(socket, header_of(message), flags & !MSG_WAITFORONE) } {
            Ok(Some(len)) => {
                // SAFETY: the caller's promise.
                unsafe { args::answer(len_of(message), len as c_uint)? };
                received += 1;
            }
            Ok(None) if received == 0 => return Ok(None),
            // Given to the kernel in between: the next call asks it.
            Ok(None) => break,
            Err(errno) => {
                end = Err(errno);
                break;
            }
        }
        if flags & MSG_WAITFORONE != 0 {
            flags |= MSG_DONTWAIT;
        }
        if until.is_some_and(|until| until <= clock::now()) {
            break;
        }
    }
    counted(received, end).map(Some)
}

/// Sends messages. `None`: the kernel is to do it.
///
/// # Safety
/// As for `send_message`, for each of `count` messages.
unsafe fn send_messages(
    socket: Socket,
    messages: *mut mmsghdr,
    count: usize,
    flags: c_int,
) -> Result<Option<c_int>, Errno> {
    let count = count.min(IOVECS_MAX);
    let mut sent = 0;
    let mut end = Ok(());
    while sent < count {
        let message = messages.wrapping_add(sent);
        let header = header_of(message);
        // SAFETY: the caller's promise.
        let moved = match unsafe { send_message(socket, header, flags, sent + 1 < count) } {
            Ok(None) => match socket {
                Socket::Stream(_) => return Ok(None),
                // SAFETY: `send_message` has seen that it is there.
                Socket::Datagram(fd, _) => sys::send_message(fd, unsafe { &*header }, flags),
            },
            moved => moved.map(Option::unwrap_or_default),
        };
        match moved {
            Ok(len) => {
                // SAFETY: the caller's promise.
                unsafe { args::answer(len_of(message), len as c_uint)? };
                sent += 1;
            }
            Err(errno) => {
                end = Err(errno);
                break;
            }
        }
    }
    if let Socket::Datagram(_, key) = socket {
        datagram::flush(key);
    }
    counted(sent, end).map(Some)
}

export! {
    /// recvmsg(2).
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = libc::recvmsg {
        let Some(socket) = either::socket(fd) else {
            // SAFETY: recvmsg(2): `message` is one.
            if !unsafe { may_bring_rights(message) } {
                return None;
            }
            // SAFETY: the application's own arguments.
            let received = unsafe { exported::next(fd, message, flags) };
            if received >= 0 {
                // SAFETY: recvmsg(2): `message` is one.
                unsafe { rights(message) }.into_iter().for_each(adopt::adopt);
            }
            return Some(received);
        };
        // SAFETY: recvmsg(2): `message` is one.
        moved(socket.and_then(|socket| unsafe { receive_message(socket, message, flags) }))
    }

    /// sendmsg(2).
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = libc::sendmsg {
        let Some(socket) = either::socket(fd) else {
            // SAFETY: sendmsg(2): `message` is one.
            unsafe { rights(message) }.into_iter().for_each(escape::share);
            return None;
        };
        // SAFETY: sendmsg(2): `message` is one.
        moved(socket.and_then(|socket| unsafe { send_message(socket, message, flags, false) }))
    }

    /// recvmmsg(2): Linux leaves in `timeout` the time that was not used.
    fn recvmmsg(
        fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec,
    ) -> c_int = libc::recvmmsg {
        let Some(socket) = either::socket(fd) else {
            // SAFETY: recvmmsg(2): `messages` has `count` elements.
            if !unsafe { may_one_bring_rights(messages, count) } {
                return None;
            }
            // SAFETY: the application's own arguments.
            let received = unsafe { exported::next(fd, messages, count, flags, timeout) };
            for at in 0..usize::try_from(received).unwrap_or_default() {
                // SAFETY: recvmmsg(2): it has filled in so many.
                unsafe { rights(header_of(messages.wrapping_add(at))) }.into_iter().for_each(adopt::adopt);
            }
            return Some(received);
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(errno) => return ret::number(Err(errno)),
        };
        let start = clock::now();
        // SAFETY: recvmmsg(2): `timeout` is a time, if it is there.
        let limit = unsafe { args::timeout(timeout) };
        // SAFETY: recvmmsg(2): `messages` has `count` elements.
        let received = limit.and_then(|limit| unsafe { receive_messages(socket, messages, count as usize, flags, limit) });
        if let (Ok(Some(limit)), Ok(Some(_))) = (limit, received) {
            let left = limit.saturating_sub(clock::until(start, clock::now()));
            // SAFETY: as above. It was read from there.
            let _ = unsafe { args::answer(timeout, args::timespec(left)) };
        }
        ret::number(received.transpose()?)
    }

    /// sendmmsg(2).
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int = libc::sendmmsg {
        let Some(socket) = either::socket(fd) else {
            for at in 0..(count as usize).min(IOVECS_MAX) {
                // SAFETY: sendmmsg(2): `messages` has `count` elements.
                unsafe { rights(header_of(messages.wrapping_add(at))) }.into_iter().for_each(escape::share);
            }
            return None;
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(errno) => return ret::number(Err(errno)),
        };
        // SAFETY: sendmmsg(2): `messages` has `count` elements.
        ret::number(unsafe { send_messages(socket, messages, count as usize, flags) }.transpose()?)
    }
}
