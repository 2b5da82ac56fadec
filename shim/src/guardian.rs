//! The guardian: a small process that outlives this one, however it dies, and has the peers of its connections hear of
//! that.
//!
//! The kernel closes what a killed process had, and its peers read the end. Ours would wait for ever, if they only read:
//! nobody would send them anything. So the open connections are written down in shared memory
//! ([`register`](stack::kernel::register)), which costs no system call, and when this process is gone the guardian asks
//! each peer where it stands; to the answer the kernel, which has no such connection, says RST.
//!
//! It is this library, started as a program by the dynamic loader: it has nothing of the application's, neither memory
//! nor fds, is nobody's child, and sleeps until the end of the channel that the process holds.

use crate::limits::{GUARDIAN_BURST, GUARDIAN_PAUSES};
use crate::relay::close_own;
use crate::sys;
use crate::wait::readable;
use crate::{channel, fd_table};
use fd_table::Entry;
use stack::Errno;
use stack::kernel::register::{self, PLACE_LEN, SharedRegister};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What a guardian needs that takes privileges: to send packets of any content, and to read the library.
pub struct Prepared {
    raw: [OwnedFd; 2],
    library: OwnedFd,
}

/// The fds of the guardian; 2 is the library.
const CHANNEL: RawFd = 0;
const REGISTER: RawFd = 1;
const RAW: [RawFd; 2] = [3, 4];

/// The dynamic loader, at the place that the psABI gives it.
#[cfg(target_arch = "x86_64")]
const LOADER: &CStr = c"/lib64/ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &CStr = c"/lib/ld-linux-aarch64.so.1";

/// The library as the guardian sees it: whose path it may not be allowed to walk.
const LIBRARY_PATH: &CStr = c"/proc/self/fd/2";

impl Prepared {
    /// Opens it.
    ///
    /// # Errors
    /// Those of socket(2) and open(2).
    pub fn open() -> io::Result<Self> {
        Ok(Prepared { raw: register::open_raw()?, library: sys::open_own_library()? })
    }

    /// Its fds.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.raw.iter().chain([&self.library]).map(AsRawFd::as_raw_fd)
    }

    /// Starts a guardian. Returns the register, and this process's end of the channel.
    ///
    /// # Errors
    /// `EMFILE`. Those of clone(2), execve(2) and memfd_create(2). `ECHILD`: it would be the application's child.
    pub fn start(&self) -> io::Result<(SharedRegister, RawFd)> {
        // Whom processes without a parent are given to; the first process of a namespace, with which all others end.
        if sys::process_id() == 1 || sys::adopts_orphans() {
            return Err(io::Error::from_raw_os_error(libc::ECHILD));
        }
        let (register, file) = SharedRegister::create()?;
        let [ours, theirs] = channel::make().map_err(os_error)?;
        fd_table::set(ours, Entry::Internal);
        let [v4, v6] = &self.raw;
        let fds = [theirs, file.as_raw_fd(), self.library.as_raw_fd(), v4.as_raw_fd(), v6.as_raw_fd()];
        let started = sys::start_orphan(LOADER, &[c"userstack", LIBRARY_PATH], &fds);
        sys::close(theirs);
        match started {
            Ok(()) => Ok((register, ours)),
            Err(errno) => {
                close_own(ours);
                Err(os_error(errno))
            }
        }
    }
}

fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

/// What the guardian does.
pub fn guard() -> ! {
    sys::settle_apart(c"userstack");
    // It ends when the process does, or becomes another program.
    let _ = sys::poll(&mut [readable(CHANNEL)], None);
    for pause in GUARDIAN_PAUSES {
        let mut is_anybody_left = false;
        each(|_| is_anybody_left = true);
        if !is_anybody_left {
            break;
        }
        sleep(pause);
        let mut asked = 0;
        each(|entry| {
            // A peer that cannot be reached will not miss us.
            let _ = register::ask(RAW, entry);
            asked += 1;
            if asked % GUARDIAN_BURST == 0 {
                sleep(Duration::from_millis(1));
            }
        });
    }
    sys::exit(0)
}

/// Goes through the register.
fn each(mut visit: impl FnMut(&register::Entry)) {
    let mut offset = 0;
    let mut places = [0; PLACE_LEN * 64];
    // Where nothing was ever written there is no data.
    while let Ok(data) = sys::seek(REGISTER, offset, libc::SEEK_DATA) {
        offset = data - data % PLACE_LEN as i64;
        let Ok(len @ 1..) = sys::read_at(REGISTER, &mut places, offset) else { return };
        offset += len as i64;
        places[..len].as_chunks().0.iter().filter_map(register::Entry::parse).for_each(|entry| visit(&entry));
    }
}

fn sleep(length: Duration) {
    let _ = sys::poll(&mut [], Some(length));
}
