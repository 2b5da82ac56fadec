//! preadv2(2), pwritev2(2): at the present position, which a socket has; any other one is the kernel's to refuse.

use crate::calls::{receive, send};
use crate::pieces::Pieces;
use crate::ret;
use libc::{MSG_DONTWAIT, RWF_NOWAIT, c_int, iovec, off_t, off64_t, size_t, ssize_t};
use stack::Errno;
use stack::slab::Key;

/// The position that is none: where read(2) would go on.
const PRESENT: off64_t = -1;

/// What recv(2) calls the flags.
///
/// # Errors
/// `EOPNOTSUPP`: other ones.
fn message_flags(flags: c_int) -> Result<c_int, Errno> {
    match flags {
        0 => Ok(0),
        RWF_NOWAIT => Ok(MSG_DONTWAIT),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// # Safety
/// As for `Pieces::several`.
unsafe fn read_pieces(socket: Key, iov: *const iovec, count: c_int, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let pieces = unsafe { Pieces::several(iov, count as size_t)? };
    if pieces.len() == 0 { Ok(0) } else { receive::receive(socket, pieces, message_flags(flags)?) }
}

/// # Safety
/// As for `Pieces::several`.
unsafe fn write_pieces(socket: Key, iov: *const iovec, count: c_int, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let pieces = unsafe { Pieces::several(iov, count as size_t)? };
    send::send(socket, pieces, message_flags(flags)?)
}

export! {
    /// preadv2(2).
    fn preadv2(fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t = libc::preadv2 {
        let socket = Some(socket!(fd)).filter(|_| offset == PRESENT)?;
        // SAFETY: readv(2): `iov` has `count` pieces.
        ret::count(unsafe { read_pieces(socket, iov, count, flags) })
    }

    /// preadv2(2), under its name for large files.
    fn preadv64v2(fd: c_int, iov: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t = libc::preadv64v2 {
        let socket = Some(socket!(fd)).filter(|_| offset == PRESENT)?;
        // SAFETY: readv(2): `iov` has `count` pieces.
        ret::count(unsafe { read_pieces(socket, iov, count, flags) })
    }

    /// pwritev2(2).
    fn pwritev2(fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t = libc::pwritev2 {
        let socket = Some(socket!(fd)).filter(|_| offset == PRESENT)?;
        // SAFETY: writev(2): `iov` has `count` pieces.
        ret::count(unsafe { write_pieces(socket, iov, count, flags) })
    }

    /// pwritev2(2), under its name for large files.
    fn pwritev64v2(fd: c_int, iov: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t = libc::pwritev64v2 {
        let socket = Some(socket!(fd)).filter(|_| offset == PRESENT)?;
        // SAFETY: writev(2): `iov` has `count` pieces.
        ret::count(unsafe { write_pieces(socket, iov, count, flags) })
    }
}
