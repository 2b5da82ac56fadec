//! socket(2), bind(2), listen(2), accept(2), connect(2), shutdown(2).

use crate::args::{self, Answer};
use crate::calls::{accept, bind, connect, datagram, listen, open, shutdown};
use crate::{fd_table, ret};
use libc::{c_int, sockaddr, socklen_t};

export! {
    /// socket(2).
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = libc::socket {
        ret::number(open::open(domain, kind, protocol)?)
    }

    /// bind(2).
    fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int = libc::bind {
        // SAFETY: bind(2): `address` has `len` bytes. What is wrong with them, the kernel says.
        let bytes = unsafe { args::bytes(address.cast(), len as usize) }.ok()?;
        if let Some(socket) = fd_table::datagram(fd) {
            return ret::status(datagram::bind(fd, socket, bytes).transpose()?);
        }
        let socket = socket!(fd);
        ret::status(bind::bind(fd, socket, bytes).transpose()?)
    }

    /// listen(2).
    fn listen(fd: c_int, backlog: c_int) -> c_int = libc::listen {
        let socket = socket!(fd);
        ret::status(listen::listen(fd, socket, backlog).transpose()?)
    }

    /// accept(2).
    fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int = libc::accept {
        let socket = socket!(fd);
        // SAFETY: accept(2): `address` has room for `len` bytes, if it is there.
        let peer = unsafe { Answer::new(address, len) };
        ret::number(accept::accept(fd, socket, peer, 0))
    }

    /// accept4(2).
    fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int = libc::accept4 {
        let socket = socket!(fd);
        // SAFETY: accept(2): `address` has room for `len` bytes, if it is there.
        let peer = unsafe { Answer::new(address, len) };
        ret::number(accept::accept(fd, socket, peer, flags))
    }

    /// connect(2).
    fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int = libc::connect {
        if let Some(socket) = fd_table::datagram(fd) {
            // SAFETY: as below. What is wrong with them, the kernel says.
            let bytes = unsafe { args::bytes(address.cast(), len as usize) }.ok()?;
            return ret::status(datagram::connect(fd, socket, bytes).transpose()?);
        }
        let socket = socket!(fd);
        // SAFETY: connect(2): `address` has `len` bytes.
        if unsafe { args::family(address, len) } == Some(libc::AF_UNSPEC) {
            return ret::status(connect::disconnect(socket).transpose()?);
        }
        // SAFETY: as above.
        let remote = unsafe { args::address(address, len) };
        ret::status(connect::connect(fd, socket, remote).transpose()?)
    }

    /// shutdown(2).
    fn shutdown(fd: c_int, how: c_int) -> c_int = libc::shutdown {
        if let Some(socket) = fd_table::datagram(fd) {
            return ret::status(datagram::shutdown(fd, socket, how).transpose()?);
        }
        let socket = socket!(fd);
        ret::status(shutdown::shutdown(fd, socket, how).transpose()?)
    }
}
