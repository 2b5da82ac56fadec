//! Whether memory that a call names is there: the kernel finds out while it copies, and says EFAULT.
//!
//! A page that was found good is noted, so that looking at it again is one load. Any other is tried by a system call that
//! changes nothing. So a page that was good for an earlier call, and that the program has unmapped since, is taken for good:
//! touching it ends as the program's own touch would.

use crate::limits::PAGES_NOTED;
use crate::sys;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest page of the machines we run on.
const PAGE_LEN: usize = 4096;

/// Where user space ends: 47 bits of address on x86-64 without the last page, 48 on AArch64.
const USER_END: usize = if cfg!(target_arch = "x86_64") { (1 << 47) - PAGE_LEN } else { 1 << 48 };

/// Good pages, each at the place that its number says: the number, and below it two bits.
static NOTED: [AtomicU64; PAGES_NOTED] = [const { AtomicU64::new(0) }; PAGES_NOTED];

const WRITABLE: u64 = 1;
/// Keeps page 0 from being what an empty place says.
const PRESENT: u64 = 2;
const PAGE_SHIFT: u32 = 2;

/// What is to be done with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To be read from.
    Read,
    /// To be written to.
    Write,
}

/// Whether memory could be the program's by its address: what the kernel calls access_ok().
pub fn is_possible(address: usize, len: usize) -> bool {
    address.checked_add(len).is_some_and(|end| end <= USER_END)
}

/// Whether all of this memory is there for `access`.
#[inline]
pub fn is_there(address: usize, len: usize, access: Access) -> bool {
    if len == 0 {
        return true;
    }
    if !is_possible(address, len) {
        return false;
    }
    let mut pages = address / PAGE_LEN..(address + len - 1) / PAGE_LEN + 1;
    while !pages.is_empty() && is_noted(pages.start, access) {
        pages.start += 1;
    }
    pages.is_empty() || are_found(pages, access)
}

fn place(page: usize) -> &'static AtomicU64 {
    // Allocators align their arenas to large powers of two: those of one size are not all to meet at one place.
    &NOTED[(page ^ (page / PAGES_NOTED)) % PAGES_NOTED]
}

#[inline]
fn is_noted(page: usize, access: Access) -> bool {
    let noted = place(page).load(Ordering::Relaxed);
    let wanted = (page as u64) << PAGE_SHIFT | PRESENT | WRITABLE;
    match access {
        Access::Read => noted | WRITABLE == wanted,
        Access::Write => noted == wanted,
    }
}

/// Tries pages, and notes those that are good; false at the first that is not.
#[cold]
fn are_found(pages: Range<usize>, access: Access) -> bool {
    let (start, len) = (pages.start * PAGE_LEN, pages.len() * PAGE_LEN);
    // One call for several; if it is refused, some may be of a kind that it does not take.
    let are_good = pages.len() > 1 && sys::populate(start, len, access == Access::Write);
    for page in pages {
        let is_good = are_good
            || match access {
                Access::Read => sys::is_word_readable(page * PAGE_LEN),
                Access::Write => sys::is_word_writable(page * PAGE_LEN),
            };
        if !is_good {
            return false;
        }
        // A page that is good to write to stays noted as such.
        if !is_noted(page, access) && !is_noted(page, Access::Write) {
            let writable = if access == Access::Write { WRITABLE } else { 0 };
            place(page).store((page as u64) << PAGE_SHIFT | PRESENT | writable, Ordering::Relaxed);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONSTANT: [u8; 3 * PAGE_LEN] = [7; 3 * PAGE_LEN];

    #[test]
    fn memory_of_ours_is_there() {
        let mut bytes = vec![0u8; 10 * PAGE_LEN];
        let address = bytes.as_mut_ptr() as usize;
        for _ in 0..2 {
            assert!(is_there(address, bytes.len(), Access::Write));
            assert!(is_there(address + 1, 1, Access::Read));
        }
        assert!(bytes.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn constants_are_there_to_be_read_only() {
        let address = CONSTANT.as_ptr() as usize;
        for _ in 0..2 {
            assert!(is_there(address, CONSTANT.len(), Access::Read));
            assert!(!is_there(address, CONSTANT.len(), Access::Write));
            assert!(!is_there(address, 1, Access::Write));
        }
    }

    #[test]
    fn what_nobody_has_is_not_there() {
        for (address, len) in
            [(0, 1), (8, 8), (USER_END - 1, 2), (usize::MAX, 1), (usize::MAX, usize::MAX), (1 << 46, 1)]
        {
            assert!(!is_there(address, len, Access::Read), "{address:x}");
            assert!(!is_there(address, len, Access::Write), "{address:x}");
        }
        assert!(is_there(0, 0, Access::Write));
    }
}
