//! close(2), dup(2), fcntl(2), and their variants.

use crate::calls::{duplicate, flags};
use crate::export::{closefrom as close_from, fcntl64 as fcntl_64};
use crate::{ret, thread};
use libc::{c_int, c_long, c_uint};

export! {
    /// close(2). Our own libraries close our own fds.
    fn close(fd: c_int) -> c_int = libc::close {
        let entry = duplicate::changeable(fd).filter(|_| !thread::is_inside())?;
        ret::status(duplicate::close(fd, entry))
    }

    /// close_range(2).
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = libc::close_range {
        ret::status(duplicate::close_range(first, last, flags)?)
    }

    /// closefrom(3).
    fn closefrom(first: c_int) -> () = close_from {
        duplicate::close_range(first.max(0) as c_uint, c_uint::MAX, 0)?.ok()
    }

    /// dup(2).
    fn dup(fd: c_int) -> c_int = libc::dup {
        let entry = duplicate::changeable(fd)?;
        ret::number(duplicate::duplicate(fd, entry, 0, false))
    }

    /// dup2(2).
    fn dup2(fd: c_int, to: c_int) -> c_int = libc::dup2 {
        let _ = duplicate::changeable(fd).or_else(|| duplicate::changeable(to)).filter(|_| fd != to)?;
        ret::number(duplicate::replace(fd, to, 0))
    }

    /// dup3(2).
    fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int = libc::dup3 {
        let _ = duplicate::changeable(fd).or_else(|| duplicate::changeable(to)).filter(|_| fd != to)?;
        ret::number(duplicate::replace(fd, to, flags))
    }

    /// fcntl(2).
    fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int
    = libc::fcntl as unsafe extern "C" fn(c_int, c_int, ...) -> c_int {
        let entry = duplicate::changeable(fd)?;
        if flags::asks_for_signals(command, argument) && flags::leave_to_signals(fd) {
            return None;
        }
        ret::number(flags::control(fd, entry, command, argument).transpose()?)
    }

    /// fcntl(2), under its name for large files.
    fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int
    = fcntl_64 as unsafe extern "C" fn(c_int, c_int, ...) -> c_int {
        let entry = duplicate::changeable(fd)?;
        if flags::asks_for_signals(command, argument) && flags::leave_to_signals(fd) {
            return None;
        }
        ret::number(flags::control(fd, entry, command, argument).transpose()?)
    }
}
