//! getsockname(2), getpeername(2).

use crate::args::Answer;
use crate::calls::name::{self, End};
use crate::ret;
use libc::{c_int, sockaddr, socklen_t};

export! {
    /// getsockname(2).
    fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int = libc::getsockname {
        let socket = socket!(fd);
        // SAFETY: getsockname(2): `address` has room for `len` bytes.
        let to = unsafe { Answer::new(address, len) };
        ret::status(name::name(socket, End::Local, to).transpose()?)
    }

    /// getpeername(2).
    fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int = libc::getpeername {
        let socket = socket!(fd);
        // SAFETY: getpeername(2): `address` has room for `len` bytes.
        let to = unsafe { Answer::new(address, len) };
        ret::status(name::name(socket, End::Remote, to).transpose()?)
    }
}
