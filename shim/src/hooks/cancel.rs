//! pthread_cancel(3), pthread_setcanceltype(3).

use crate::cancel;
use libc::{c_int, pthread_t};

export! {
    /// pthread_cancel(3): who sleeps in a call of ours is woken.
    fn pthread_cancel(thread: pthread_t) -> c_int = crate::export::pthread_cancel {
        // SAFETY: pthread_cancel(3): there is such a thread.
        Some(cancel::cancel(thread, || unsafe { exported::next(thread) }))
    }
}

forward! {
    /// pthread_setcanceltype(3).
    fn pthread_setcanceltype(kind) = { cancel::note_type(kind as c_int) };
}
