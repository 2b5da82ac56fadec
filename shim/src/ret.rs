//! What a hook returns: the only writer of errno, and only on failure.

use crate::cancel::CANCELLED;
use libc::{c_int, ssize_t};
use stack::Errno;

/// Not the application's: the call is the kernel's. Its fd has become so during the call, or is as yet no connection.
pub const BEGIN_AGAIN: Errno = Errno(512);

fn fail(errno: Errno) {
    // SAFETY: glibc's pointer to this thread's errno is always valid.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as above, and no other thread has it.
    unsafe { *location = errno.0 };
}

/// -1 and errno.
pub fn failure<T: From<i8>>(errno: Errno) -> Option<T> {
    fail(errno);
    Some(T::from(-1))
}

/// 0, or -1 and errno.
pub fn status(result: Result<(), Errno>) -> Option<c_int> {
    number(result.map(|()| 0))
}

/// A number (an fd, a count, flags), or -1 and errno.
pub fn number(result: Result<c_int, Errno>) -> Option<c_int> {
    match result {
        Ok(number) => Some(number),
        Err(BEGIN_AGAIN | CANCELLED) => None,
        Err(errno) => failure(errno),
    }
}

/// A number of bytes, or -1 and errno.
pub fn count(result: Result<usize, Errno>) -> Option<ssize_t> {
    match result {
        Ok(count) => Some(count as ssize_t),
        Err(BEGIN_AGAIN | CANCELLED) => None,
        Err(errno) => failure(errno),
    }
}
