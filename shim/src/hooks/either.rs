//! A socket of either kind, for the functions that serve both.

use crate::{fd_table, ret};
use libc::{c_int, ssize_t};
use stack::Errno;
use stack::slab::Key;

/// A socket of ours.
#[derive(Debug, Clone, Copy)]
pub enum Socket {
    /// TCP.
    Stream(Key),
    /// UDP, and the fd that it was found at.
    Datagram(c_int, Key),
}

/// The socket of ours at an fd; as `fd_table::serve`.
pub fn socket(fd: c_int) -> Option<Result<Socket, Errno>> {
    match fd_table::datagram(fd) {
        Some(key) => Some(Ok(Socket::Datagram(fd, key))),
        None => fd_table::serve(fd).map(|served| served.map(Socket::Stream)),
    }
}

/// The socket of ours at an fd, in a function that `export` exports; as `socket` does for TCP alone.
macro_rules! either {
    ($fd:expr) => {
        match crate::hooks::either::socket($fd)? {
            Ok(socket) => socket,
            Err(errno) => return crate::ret::failure(errno),
        }
    };
}
pub(super) use either;

/// How many bytes a call has moved; `None`: the kernel is to make it.
pub type Moved = Result<Option<usize>, Errno>;

/// Returns that.
pub fn moved(moved: Moved) -> Option<ssize_t> {
    ret::count(moved.transpose()?)
}
