//! getsockopt(2), setsockopt(2), ioctl(2).

use crate::args::{self, Answer};
use crate::calls::{datagram, duplicate, flags, option};
use crate::relay::question;
use crate::{fd_table, ret};
use libc::{c_int, c_ulong, c_void, socklen_t};

export! {
    /// getsockopt(2).
    fn getsockopt(
        fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t,
    ) -> c_int = libc::getsockopt {
        // SAFETY: getsockopt(2): `value` has room for `len` bytes.
        let to = unsafe { Answer::new(value, len) };
        let Some(socket) = fd_table::serve(fd) else {
            let answer = question::get(fd, (level, name), to.room().ok()?)?;
            return ret::status(answer.and_then(|answer| to.write_option(&answer)));
        };
        let answer = socket.and_then(|socket| option::get(socket, level, name, to.room()?)).transpose()?;
        ret::status(answer.and_then(|answer| to.write_option(answer.bytes())))
    }

    /// setsockopt(2).
    fn setsockopt(
        fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t,
    ) -> c_int = libc::setsockopt {
        if let Some(socket) = fd_table::datagram(fd) {
            // SAFETY: as below.
            let value = unsafe { args::bytes(value, len as usize) }.ok()?;
            return ret::status(datagram::option::set(fd, socket, level, name, value).transpose()?);
        }
        let socket = fd_table::serve(fd);
        // SAFETY: setsockopt(2): `value` has `len` bytes.
        let value = unsafe { args::bytes(value, len as usize) }.ok()?;
        match socket {
            None => ret::status(question::set(fd, (level, name), value)?),
            Some(socket) => ret::status(socket.and_then(|socket| option::set(fd, socket, level, name, value)).transpose()?),
        }
    }

    /// ioctl(2).
    fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int
    = libc::ioctl as unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int {
        if let Some(flags) = flags::set_by(request) {
            let entry = duplicate::changeable(fd)?;
            return ret::number(flags::control(fd, entry, libc::F_SETFD, flags).transpose()?);
        }
        if let Some(socket) = fd_table::datagram(fd) {
            let request = flags::Request::parse(request)?;
            // SAFETY: as below.
            let value = unsafe { args::value(argument) }.ok()?;
            let answer = datagram::request(socket, request, value)?;
            // SAFETY: as below.
            return ret::status(unsafe { args::answer(argument, answer) });
        }
        let socket = socket!(fd);
        if flags::requests_signals(request) && flags::leave_to_signals(fd) {
            return None;
        }
        let request = flags::Request::parse(request)?;
        // SAFETY: ioctl_tty(2), FIONREAD and TIOCOUTQ, and FIONBIO: they take a pointer to an int.
        let mut value = unsafe { args::value(argument) }.ok()?;
        let done = flags::request(socket, request, &mut value).transpose()?;
        // SAFETY: as above.
        ret::status(done.and_then(|()| unsafe { args::answer(argument, value) }))
    }
}
