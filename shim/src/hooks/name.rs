//! getsockname(2), getpeername(2).

use crate::args::Answer;
use crate::calls::name::{self, End};
use crate::{fd_table, ret};
use libc::{c_int, sockaddr, socklen_t};

/// Answers for a socket of ours, or for a relay; `None` when the kernel is to answer.
fn answer(fd: c_int, end: End, to: Answer) -> Option<c_int> {
    match fd_table::serve(fd) {
        Some(socket) => ret::status(socket.and_then(|socket| name::name(socket, end, to)).transpose()?),
        None => ret::status(name::name_of_relay(fd, end, to)?),
    }
}

export! {
    /// getsockname(2).
    fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int = libc::getsockname {
        // SAFETY: getsockname(2): `address` has room for `len` bytes.
        answer(fd, End::Local, unsafe { Answer::new(address, len) })
    }

    /// getpeername(2).
    fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int = libc::getpeername {
        // SAFETY: getpeername(2): `address` has room for `len` bytes.
        answer(fd, End::Remote, unsafe { Answer::new(address, len) })
    }
}
