//! fdopen(3), dprintf(3), splice(2): what reads and writes past every hook. The kernel has the fd from then on.

use crate::escape;
use crate::export::{__vdprintf_chk as vdprintf_chk, vdprintf as vd_printf};
use libc::{FILE, c_char, c_int, c_uint, c_void, loff_t, size_t, ssize_t};

export! {
    /// fdopen(3).
    fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE = libc::fdopen {
        escape::release(fd);
        None
    }

    /// vdprintf(3): the ABI passes a va_list by reference.
    fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int = vd_printf {
        escape::release(fd);
        None
    }

    /// vdprintf(3), fortified.
    fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int = vdprintf_chk {
        escape::release(fd);
        None
    }

    /// splice(2).
    fn splice(
        from: c_int, from_offset: *mut loff_t, to: c_int, to_offset: *mut loff_t, len: size_t, flags: c_uint,
    ) -> ssize_t = libc::splice {
        escape::release(from);
        escape::release(to);
        None
    }
}

forward! {
    /// dprintf(3).
    fn dprintf(fd) = { escape::release(fd as c_int) };

    /// dprintf(3), fortified.
    fn __dprintf_chk(fd) = { escape::release(fd as c_int) };
}
