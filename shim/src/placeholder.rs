//! Placeholders: what the kernel has at the numbers of accepted flows.
//!
//! There is one real, unconnected TCP socket for each family, and a flow's fd is a copy of it: so its number is the lowest
//! free one (accept(2)), and a flow costs no file. Whatever slips past the hooks to a placeholder fails loudly: an
//! unconnected TCP socket answers ENOTCONN or EPIPE. A flow for which the kernel has to remember something gets a socket
//! of its own.

use crate::{fd_table, sys};
use fd_table::Entry;
use libc::c_int;
use stack::Errno;
use std::os::fd::RawFd;

/// The sockets that are copied.
#[derive(Default)]
pub struct Placeholders {
    /// Of AF_INET and of AF_INET6.
    models: [Option<RawFd>; 2],
}

impl Placeholders {
    /// A placeholder for a socket of `family`, as which it knows the same options; its entry in the fd table is the
    /// caller's to set.
    ///
    /// # Errors
    /// `EMFILE`: no number is free. What socket(2) says.
    pub fn take(&mut self, family: c_int) -> Result<RawFd, Errno> {
        let model = match self.models[usize::from(family == libc::AF_INET6)] {
            Some(model) => model,
            None => self.make_model(family)?,
        };
        let fd = sys::fcntl(model, libc::F_DUPFD_CLOEXEC, 0)?;
        if fd_table::fits(fd) {
            return Ok(fd);
        }
        sys::close(fd);
        Err(Errno::EMFILE)
    }

    fn make_model(&mut self, family: c_int) -> Result<RawFd, Errno> {
        let model = make(family).and_then(sys::move_high)?;
        fd_table::set(model, Entry::Internal);
        self.models[usize::from(family == libc::AF_INET6)] = Some(model);
        Ok(model)
    }
}

fn make(family: c_int) -> Result<RawFd, Errno> {
    sys::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
}

/// Puts a socket of its own in the place of the copies at `fds`.
///
/// # Errors
/// What socket(2) says.
pub fn part(fds: &[RawFd], family: c_int) -> Result<(), Errno> {
    let own = make(family)?;
    let placed = fds.iter().try_for_each(|&fd| sys::duplicate_to(own, fd, libc::O_CLOEXEC));
    sys::close(own);
    placed
}
