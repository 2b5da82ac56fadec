//! An epoll set.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Readable, or at the end of the stream.
pub const READABLE: u32 = libc::EPOLLIN as u32;
/// Room to write; of a connecting socket: connected.
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// Say each change of readiness once.
pub const EDGE_TRIGGERED: u32 = libc::EPOLLET as u32;

const EVENTS_MAX: usize = 256;

/// An epoll set and room for one batch of its events. epoll(7).
pub struct Epoll {
    set: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// Makes an empty set.
    ///
    /// # Errors
    /// What epoll_create1(2) answered.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor for us alone.
        let set = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { set, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Adds `fd` under `token`; closing it takes it out again.
    ///
    /// # Errors
    /// What epoll_ctl(2) answered.
    pub fn add(&self, fd: BorrowedFd, interest: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` lives across the call, which only reads it.
        check(unsafe { libc::epoll_ctl(self.set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Waits for a batch of events, at most `timeout_ms` (-1: for ever), and returns each one's token and readiness.
    ///
    /// # Errors
    /// What epoll_wait(2) answered, but for EINTR, which is an empty batch.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<impl Iterator<Item = (u64, u32)>> {
        self.events.clear();
        let room = self.events.spare_capacity_mut();
        let (first, room_len) = (room.as_mut_ptr().cast(), room.len() as i32);
        // SAFETY: the vector has room for as many events as the call is told.
        let ready = match check(unsafe { libc::epoll_wait(self.set.as_raw_fd(), first, room_len, timeout_ms) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            answer => answer?,
        };
        // SAFETY: the kernel filled that many.
        unsafe { self.events.set_len(ready as usize) };
        Ok(self.events.iter().map(|event| (event.u64, event.events)))
    }
}

/// The answer of a system call, or errno.
pub(crate) fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
