//! Signals that come while a wait looks and spins, and not in the kernel: held back until it sleeps there, so that none is
//! handled without the wait ending with EINTR, as signal(7) says.

use crate::sys::SignalMask;
use libc::sigset_t;
use std::mem::zeroed;
use std::ptr;

/// All signals, held back for as long as this lives.
pub struct HeldSignals {
    before: sigset_t,
}

impl HeldSignals {
    /// Holds them back. One system call, as is letting them go.
    pub fn hold() -> Self {
        // SAFETY: all zeroes is a sigset_t.
        let (mut all, mut before): (sigset_t, sigset_t) = unsafe { zeroed() };
        // SAFETY: `all` is a sigset_t.
        unsafe { libc::sigfillset(&mut all) };
        // SAFETY: both are sigset_t.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) };
        HeldSignals { before }
    }

    /// What a sleep is to let through: what the application gave, or what it had before.
    pub fn mask(&self, given: SignalMask) -> SignalMask {
        if given.0.is_null() { SignalMask(&self.before) } else { given }
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the mask that there was; the present one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}
