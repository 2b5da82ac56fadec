//! sigaction(2), signal(2), and what else sets a signal's handler.

use crate::{export as declared, signals};
use libc::{c_int, sighandler_t};

/// What one of the functions that return the handler of before does.
macro_rules! set {
    ($signal:ident, $handler:ident) => {{
        // SAFETY: these are the application's own arguments.
        let next = || unsafe { exported::next($signal, $handler) };
        let (found, before) = signals::change($signal, next)?;
        Some(before.handler(found))
    }};
}

export! {
    /// sigaction(2).
    fn sigaction(number: c_int, action: *const libc::sigaction, old: *mut libc::sigaction) -> c_int = libc::sigaction {
        // SAFETY: these are the application's own arguments.
        let next = || unsafe { exported::next(number, action, old) };
        let (failed, before) = signals::change(number, next)?;
        if failed == 0 && !old.is_null() {
            // SAFETY: sigaction(2): it has just been filled in.
            before.reveal(unsafe { &mut *old });
        }
        Some(failed)
    }

    /// signal(2).
    fn signal(number: c_int, handler: sighandler_t) -> sighandler_t = libc::signal {
        set!(number, handler)
    }

    /// bsd_signal(3).
    fn bsd_signal(number: c_int, handler: sighandler_t) -> sighandler_t = declared::bsd_signal {
        set!(number, handler)
    }

    /// The same by another name.
    fn ssignal(number: c_int, handler: sighandler_t) -> sighandler_t = declared::ssignal {
        set!(number, handler)
    }

    /// sysv_signal(3).
    fn sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t = declared::sysv_signal {
        set!(number, handler)
    }

    /// What signal(2) is to a program of _XOPEN_SOURCE.
    fn __sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t = declared::__sysv_signal {
        set!(number, handler)
    }

    /// sigset(3).
    fn sigset(number: c_int, handler: sighandler_t) -> sighandler_t = declared::sigset {
        // SAFETY: these are the application's own arguments.
        let next = || unsafe { exported::next(number, handler) };
        let (found, before) = signals::change_with_mask(number, next)?;
        Some(before.handler(found))
    }

    /// sigignore(3).
    fn sigignore(number: c_int) -> c_int = declared::sigignore {
        // SAFETY: the application's own argument.
        Some(signals::change(number, || unsafe { exported::next(number) })?.0)
    }

    /// siginterrupt(3).
    fn siginterrupt(number: c_int, interrupts: c_int) -> c_int = declared::siginterrupt {
        // SAFETY: the application's own arguments.
        Some(signals::change(number, || unsafe { exported::next(number, interrupts) })?.0)
    }
}
