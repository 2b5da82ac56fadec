//! Memory for the flows' buffers: mapped at once, paid for page by page as it is touched.

use std::io;
use std::ptr::{self, NonNull};

/// Memory of its own, which may be lent to one borrower at a time. What is never given back to the kernel as a whole
/// can be emptied (`clean`).
#[derive(Debug)]
pub struct Region {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is the only owner of its memory.
unsafe impl Send for Region {}

impl Region {
    /// Maps `len` bytes of zeroed memory for the life of the process. They take no page before they are written to, and
    /// count nothing towards the kernel's commit limit (MAP_NORESERVE).
    ///
    /// # Errors
    /// `ENOMEM`: no room in the address space. `EINVAL`: `len` is 0. mmap(2).
    pub fn map(len: usize) -> io::Result<Region> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Region { address: NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }

    /// No memory at all.
    pub const fn empty() -> Region {
        Region { address: NonNull::dangling(), len: 0 }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where it begins, as a number.
    pub fn address(&self) -> usize {
        self.address.as_ptr() as usize
    }

    /// Cuts off the first `len` bytes.
    pub fn split_front(&mut self, len: usize) -> Region {
        assert!(len <= self.len);
        let front = Region { address: self.address, len };
        // SAFETY: at most one byte behind the memory.
        self.address = unsafe { self.address.add(len) };
        self.len -= len;
        front
    }

    /// What stands in it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is mapped for good, and nobody else has it: who borrowed it is gone (`lend`).
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }

    /// Lends the first `len` bytes.
    ///
    /// # Safety
    /// The slice is gone before `bytes`, `clean`, `split_front` or `lend` is called again.
    pub(super) unsafe fn lend(&mut self, len: usize) -> &'static mut [u8] {
        assert!(len <= self.len);
        // SAFETY: as long as the slice lives nobody else has this memory, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), len) }
    }

    /// Gives its pages back to the kernel; it reads as zeroes from now on. A system call.
    pub fn clean(&mut self) {
        self.advise(libc::MADV_DONTNEED);
    }

    /// Has it backed by small pages only: one touched byte is not to take 2 MB.
    pub fn keep_pages_small(&mut self) {
        self.advise(libc::MADV_NOHUGEPAGE);
    }

    fn advise(&mut self, advice: libc::c_int) {
        // SAFETY: the memory is this region's alone, and both pieces of advice leave it mapped.
        let advised = unsafe { libc::madvise(self.address.as_ptr().cast(), self.len, advice) };
        // A kernel that knows nothing of it (EINVAL) goes on as before.
        debug_assert!(advised == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_more_than_there_is_can_be_mapped_and_used() {
        let mut region = Region::map(1 << 36).expect("64 GiB of address space");
        assert_eq!(region.bytes()[1 << 35], 0);
        // SAFETY: the slice is used no more when the region is.
        let memory = unsafe { region.lend(1 << 36) };
        memory[1 << 35] = 1;
        assert_eq!(region.bytes()[1 << 35], 1);
        region.clean();
        assert_eq!(region.bytes()[1 << 35], 0);
    }

    #[test]
    fn it_is_cut_without_overlap() {
        let mut region = Region::map(1 << 16).expect("64 KiB");
        let start = region.address();
        let front = region.split_front(1 << 12);
        assert_eq!((front.address(), front.len()), (start, 1 << 12));
        assert_eq!((region.address(), region.len()), (start + (1 << 12), 15 << 12));
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        assert_eq!(Region::map(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
