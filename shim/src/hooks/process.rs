//! _exit(2), abort(3), vfork(2), and what gives up privileges: setuid(2) and its variants.

use crate::export::{_Exit as exit_at_once, quick_exit as quick_exit_};
use crate::{attach, exit, fork, signals};
use libc::{c_int, uid_t};

/// What a function returns: a way to write `!`, which stable Rust has no other name for.
trait Returns {
    type Type;
}

impl<T> Returns for fn() -> T {
    type Type = T;
}

type Never = <fn() -> ! as Returns>::Type;

export! {
    /// _exit(2): what is queued still goes out.
    fn _exit(status: c_int) -> Never = libc::_exit {
        exit::leave();
        None
    }

    /// _Exit(3).
    fn _Exit(status: c_int) -> Never = exit_at_once {
        exit::leave();
        None
    }

    /// quick_exit(3).
    fn quick_exit(status: c_int) -> Never = quick_exit_ {
        exit::leave();
        None
    }

    /// abort(3): with a handler of the application's, which may not return here, nothing is closed for it.
    fn abort() -> Never = libc::abort {
        if !signals::is_handled(libc::SIGABRT) {
            exit::leave();
        }
        None
    }

    /// setuid(2): memcached gives up root before it listens.
    fn setuid(uid: uid_t) -> c_int = libc::setuid {
        attach::before_privileges_change();
        None
    }

    /// seteuid(2).
    fn seteuid(uid: uid_t) -> c_int = libc::seteuid {
        attach::before_privileges_change();
        None
    }

    /// setreuid(2).
    fn setreuid(real: uid_t, effective: uid_t) -> c_int = libc::setreuid {
        attach::before_privileges_change();
        None
    }

    /// setresuid(2).
    fn setresuid(real: uid_t, effective: uid_t, saved: uid_t) -> c_int = libc::setresuid {
        attach::before_privileges_change();
        None
    }
}

forward! {
    /// vfork(2), which POSIX lets be fork(2): a child that shares our memory could not be given its parent's flows.
    fn vfork(_none) = {
        if fork::child_needs_memory() {
            return libc::fork as *const () as usize;
        }
    };
}
