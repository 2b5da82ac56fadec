//! Signals that are held back for a short time: until a thread is started that shall have none, or a handler is changed.

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
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the mask that there was; the present one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}
