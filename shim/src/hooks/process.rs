//! _exit(2), vfork(2), and what gives up privileges: setuid(2) and its variants.

use crate::{attach, exit, fork};
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
