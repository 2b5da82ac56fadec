//! Waking threads that sleep: an eventfd for each, taken for the time of the sleep.

use crate::{fd_table, sys};
use fd_table::Entry;
use stack::Errno;
use std::os::fd::RawFd;

/// Which waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakerId(usize);

struct Waker {
    event: RawFd,
    /// Written since it was taken: one write wakes for good.
    is_woken: bool,
}

/// As many wakers as threads ever slept at once.
#[derive(Default)]
pub struct Wakers {
    all: Vec<Waker>,
    free: Vec<WakerId>,
}

impl Wakers {
    /// Takes a waker for a sleep, and the fd to sleep on.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn take(&mut self) -> Result<(WakerId, RawFd), Errno> {
        if let Some(id) = self.free.pop() {
            return Ok((id, self.all[id.0].event));
        }
        let event = sys::event_fd()?;
        fd_table::set(event, Entry::Internal);
        self.all.push(Waker { event, is_woken: false });
        Ok((WakerId(self.all.len() - 1), event))
    }

    /// Gives it back.
    pub fn give_back(&mut self, id: WakerId) {
        // In a child of fork(2) that a signal handler made, it is gone.
        let Some(waker) = self.all.get_mut(id.0) else { return };
        if waker.is_woken {
            sys::clear_event(waker.event);
            waker.is_woken = false;
        }
        self.free.push(id);
    }

    /// Wakes the thread that has it.
    pub fn wake(&mut self, id: WakerId) {
        let Some(waker) = self.all.get_mut(id.0) else { return };
        if !waker.is_woken {
            waker.is_woken = true;
            sys::signal_event(waker.event);
        }
    }

    /// Wakes every thread that sleeps: what it sleeps on has changed.
    pub fn wake_all(&mut self) {
        for index in 0..self.all.len() {
            if !self.free.contains(&WakerId(index)) {
                self.wake(WakerId(index));
            }
        }
    }

    /// Closes them all, in a child of fork(2): they are the parent's threads'.
    pub fn forget(&mut self) {
        for Waker { event, .. } in self.all.drain(..) {
            fd_table::clear(event);
            sys::close(event);
        }
        self.free.clear();
    }
}
