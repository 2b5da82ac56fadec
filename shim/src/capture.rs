//! `USERSTACK_PCAP`: one capture file for all links of the process.

use crate::{clock, config, fd_table, sys};
use fd_table::Entry;
use stack::Errno;
use stack::link::Link;
use stack::link::pcap::{self, Pcap};
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// Wraps a link, so that what passes it is captured, if that is asked for.
pub fn wrap(link: impl Link + 'static) -> Box<dyn Link> {
    match config::get().and_then(|settings| settings.pcap.as_deref()).and_then(file) {
        Some(file) => Box::new(Pcap::new(link, Box::new(file), clock::wall_offset().as_nanos() as i64)),
        None => Box::new(link),
    }
}

/// The file; each write appends a whole record.
#[derive(Clone, Copy)]
struct File(RawFd);

fn file(path: &CStr) -> Option<File> {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    *FILE.get_or_init(|| match open(path) {
        Ok(fd) => Some(File(fd)),
        Err(error) => {
            tracing::error!(%error, ?path, "cannot capture");
            None
        }
    })
}

fn open(path: &CStr) -> Result<RawFd, Errno> {
    let fd = sys::move_high(sys::create(path)?)?;
    fd_table::set(fd, Entry::Internal);
    sys::write(fd, &pcap::file_header())?;
    Ok(fd)
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::write(self.0, bytes).map_err(|errno| io::Error::from_raw_os_error(errno.0))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
