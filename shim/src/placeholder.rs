//! Placeholders: real, unconnected TCP sockets that give accepted flows their fd numbers.
//!
//! They are made in batches and go back to the pool at close, so that a connection costs no system call. Whatever
//! slips past the hooks to a placeholder fails loudly: an unconnected TCP socket answers ENOTCONN or EPIPE.

use crate::limits::{PLACEHOLDER_BATCH, PLACEHOLDERS_MAX};
use crate::{fd_table, sys};
use fd_table::Entry;
use stack::Errno;
use std::os::fd::RawFd;

/// A new placeholder. It is none of the standard streams, even where those are closed: a pool that holds them would
/// keep the application from opening them again.
fn make() -> Result<RawFd, Errno> {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)?;
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
    /// Unused ones; the next to be given out is the last.
    idle: Vec<RawFd>,
}

impl Placeholders {
    /// Takes a placeholder; its entry in the fd table is the caller's to set.
    ///
    /// # Errors
    /// What socket(2) says when there is none and none can be made: `EMFILE`, `ENFILE`.
    pub fn take(&mut self) -> Result<RawFd, Errno> {
        if self.idle.is_empty() {
            self.refill()?;
        }
        self.idle.pop().ok_or(Errno::EMFILE)
    }

    fn refill(&mut self) -> Result<(), Errno> {
        let mut made = [0; PLACEHOLDER_BATCH];
        let mut count = 0;
        for fd in &mut made {
            match make() {
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
            self.keep(fd);
        }
        Ok(())
    }

    /// Takes back a placeholder on which nothing has changed.
    pub fn give_back(&mut self, fd: RawFd) {
        if self.idle.len() < PLACEHOLDERS_MAX {
            self.keep(fd);
        } else {
            fd_table::clear(fd);
            sys::close(fd);
        }
    }

    fn keep(&mut self, fd: RawFd) {
        fd_table::set(fd, Entry::Pooled);
        self.idle.push(fd);
    }

    /// Forgets one: the application is about to put something else at its number.
    pub fn forget(&mut self, fd: RawFd) {
        self.idle.retain(|&idle| idle != fd);
        fd_table::clear(fd);
    }
}
