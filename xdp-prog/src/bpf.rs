//! The kernel's BPF objects by fd and by id: thin wrappers around libbpf's wrappers of bpf(2).

use crate::fd::high_fd;
use libbpf_sys as sys;
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// libbpf returns a negated errno.
pub(crate) fn check(returned: c_int) -> io::Result<c_int> {
    if returned < 0 { Err(io::Error::from_raw_os_error(-returned)) } else { Ok(returned) }
}

/// An object's name: at most 15 bytes and a NUL.
pub(crate) fn name(bytes: &[c_char; 16]) -> &CStr {
    // SAFETY: c_char and u8 have the same size and alignment, and any bit pattern is valid for both.
    let bytes: &[u8; 16] = unsafe { &*bytes.as_ptr().cast() };
    CStr::from_bytes_until_nul(bytes).unwrap_or_default()
}

macro_rules! open_by_id {
    ($(#[$doc:meta])* $function:ident, $libbpf:ident) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// `ENOENT`: it is gone. `EAGAIN`: it is still being made. `EPERM`: without CAP_SYS_ADMIN.
        pub(crate) fn $function(id: u32) -> io::Result<OwnedFd> {
            // SAFETY: takes a number only.
            let fd = check(unsafe { sys::$libbpf(id) })?;
            // SAFETY: the kernel has just made this fd, and nobody else knows its number.
            high_fd(unsafe { OwnedFd::from_raw_fd(fd) })
        }
    };
}

open_by_id! {
    /// Opens the program with this id.
    program_by_id, bpf_prog_get_fd_by_id
}
open_by_id! {
    /// Opens the map with this id.
    map_by_id, bpf_map_get_fd_by_id
}
open_by_id! {
    /// Opens the link with this id.
    link_by_id, bpf_link_get_fd_by_id
}

/// The id of the link that follows `id`; `ENOENT` after the last.
pub(crate) fn link_id_after(id: u32) -> io::Result<u32> {
    let mut next = 0;
    // SAFETY: `next` is live for libbpf to write to.
    check(unsafe { sys::bpf_link_get_next_id(id, &mut next) })?;
    Ok(next)
}

/// What the kernel says of a map.
pub(crate) fn map_info(map: &OwnedFd) -> io::Result<sys::bpf_map_info> {
    let mut info = sys::bpf_map_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: `info` has `len` bytes for the kernel to fill in.
    check(unsafe { sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &mut info, &mut len) })?;
    Ok(info)
}

/// What the kernel says of a link.
pub(crate) fn link_info(link: &OwnedFd) -> io::Result<sys::bpf_link_info> {
    let mut info = sys::bpf_link_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: `info` has `len` bytes for the kernel to fill in.
    check(unsafe { sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &mut info, &mut len) })?;
    Ok(info)
}

/// What the kernel says of a program, and the ids of the first `N` of its maps.
pub(crate) fn program_info<const N: usize>(program: &OwnedFd) -> io::Result<(sys::bpf_prog_info, [u32; N])> {
    let mut map_ids = [0; N];
    let mut info =
        sys::bpf_prog_info { nr_map_ids: N as u32, map_ids: map_ids.as_mut_ptr() as u64, ..Default::default() };
    let mut len = size_of_val(&info) as u32;
    // SAFETY: `info` has `len` bytes for the kernel to fill in, and `map_ids` room for `nr_map_ids` ids.
    check(unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut len) })?;
    Ok((info, map_ids))
}
