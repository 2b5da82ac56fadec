//! _exit(2).

use crate::exit;
use libc::c_int;

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
}
