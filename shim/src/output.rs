//! The files that the settings name: opened while the process prepares, since it may drop its privileges.

use crate::{fd_table, sys};
use fd_table::Entry;
use libc::c_int;
use stack::Errno;
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::RawFd;

/// A file for the user.
#[derive(Debug, Clone, Copy)]
pub struct Output(RawFd);

impl Output {
    /// Opens or creates a file that one process writes from its beginning, if there is to be one.
    pub fn open(path: Option<&CString>) -> Option<Self> {
        Self::open_with(path?, 0)
    }

    /// The same for a file to which every process adds.
    pub fn open_to_append(path: Option<&CString>) -> Option<Self> {
        Self::open_with(path?, libc::O_APPEND)
    }

    fn open_with(path: &CString, flags: c_int) -> Option<Self> {
        match sys::create(path, flags).and_then(sys::move_high) {
            Ok(fd) => {
                fd_table::set(fd, Entry::Internal);
                Some(Output(fd))
            }
            Err(error) => {
                tracing::error!(%error, ?path, "cannot write the file");
                None
            }
        }
    }

    /// Empties the file and writes its beginning.
    ///
    /// # Errors
    /// What ftruncate(2) and write(2) say.
    pub fn begin(self, bytes: &[u8]) -> Result<(), Errno> {
        sys::truncate(self.0)?;
        sys::seek(self.0, 0, libc::SEEK_SET)?;
        sys::write(self.0, bytes).map(drop)
    }

    /// The fd, for a child of fork(2) to close.
    pub fn fd(self) -> RawFd {
        self.0
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::write(self.0, bytes).map_err(|errno| io::Error::from_raw_os_error(errno.0))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
