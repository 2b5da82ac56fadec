//! Placeholders: real, unconnected TCP sockets that give accepted flows their fd numbers.
//!
//! They are made in batches and go back to the pool at close, so that a connection costs no system call. Whatever
//! slips past the hooks to a placeholder fails loudly: an unconnected TCP socket answers ENOTCONN or EPIPE.

use crate::limits::{PLACEHOLDER_BATCH, PLACEHOLDERS_MAX};
use crate::{fd_table, sys};
use fd_table::Entry;
use libc::c_int;
use stack::Errno;
use std::os::fd::RawFd;

/// A new placeholder. It is none of the standard streams, even where those are closed: a pool that holds them would
/// keep the application from opening them again.
fn make(family: c_int) -> Result<RawFd, Errno> {
    let fd = sys::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)?;
    if fd > libc::STDERR_FILENO {
        return Ok(fd);
    }
    let above = sys::fcntl(fd, libc::F_DUPFD_CLOEXEC, (libc::STDERR_FILENO + 1).into());
    sys::close(fd);
    above
}

/// The pool.
#[derive(Default)]
pub struct Placeholders {
    /// Unused ones of AF_INET and of AF_INET6; the next to be given out is the last.
    idle: [Vec<RawFd>; 2],
}

impl Placeholders {
    /// Takes a placeholder for a socket of `family`, as which it knows the same options; its entry in the fd table is the caller's to set.
    ///
    /// # Errors
    /// What socket(2) says when there is none and none can be made: `EMFILE`, `ENFILE`.
    pub fn take(&mut self, family: c_int) -> Result<RawFd, Errno> {
        if self.idle(family).is_empty() {
            self.refill(family)?;
        }
        self.idle(family).pop().ok_or(Errno::EMFILE)
    }

    fn idle(&mut self, family: c_int) -> &mut Vec<RawFd> {
        &mut self.idle[usize::from(family == libc::AF_INET6)]
    }

    fn refill(&mut self, family: c_int) -> Result<(), Errno> {
        let mut made = [0; PLACEHOLDER_BATCH];
        let mut count = 0;
        for fd in &mut made {
            match make(family) {
                Ok(new) if fd_table::fits(new) => *fd = new,
                Ok(new) => {
                    sys::close(new);
                    break;
                }
                Err(errno) if count == 0 => return Err(errno),
                Err(_) => break,
            }
            count += 1;
        }
        // The kernel counts up, and the lowest is to be given out first.
        for &fd in made[..count].iter().rev() {
            self.keep(fd, family);
        }
        Ok(())
    }

    /// Takes back a placeholder on which nothing has changed.
    pub fn give_back(&mut self, fd: RawFd, family: c_int) {
        if self.idle(family).len() < PLACEHOLDERS_MAX {
            self.keep(fd, family);
        } else {
            fd_table::clear(fd);
            sys::close(fd);
        }
    }

    fn keep(&mut self, fd: RawFd, family: c_int) {
        fd_table::set(fd, Entry::Pooled);
        self.idle(family).push(fd);
    }

    /// Forgets one: the application is about to put something else at its number.
    pub fn forget(&mut self, fd: RawFd) {
        self.idle.iter_mut().for_each(|idle| idle.retain(|&idle| idle != fd));
        fd_table::clear(fd);
    }
}
