//! Memory for the flows' buffers: mapped at once, paid for page by page as it is touched.

use std::io;
use std::ptr;

/// Maps `len` bytes of zeroed memory for the life of the process. They take no page before they are written to, and
/// count nothing towards the kernel's commit limit (MAP_NORESERVE).
///
/// # Errors
/// `ENOMEM`: no room in the address space. `EINVAL`: `len` is 0. mmap(2).
pub fn map_lazily(len: usize) -> io::Result<&'static mut [u8]> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let address = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is `len` bytes of zeroes that nobody else knows of, and it is never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(address.cast(), len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_more_than_there_is_can_be_mapped_and_used() {
        let memory = map_lazily(1 << 36).expect("64 GiB of address space");
        assert_eq!(memory[1 << 35], 0);
        memory[1 << 35] = 1;
        assert_eq!(memory[1 << 35], 1);
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        assert_eq!(map_lazily(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
