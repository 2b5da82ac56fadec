//! Keeps memory of ours out of forked children: a queue is busy for as long as anybody maps its rings.

use super::sys;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

/// All of it.
static KEPT: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

/// Whether the next forked child has this memory, to go on in its parent's place: it must be the only one that does.
///
/// # Errors
/// Those of madvise(2).
pub fn share_with_child(share: bool) -> io::Result<()> {
    let advice = if share { libc::MADV_DOFORK } else { libc::MADV_DONTFORK };
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.iter().try_for_each(|addresses| advise(addresses, advice))
}

/// Keeps the rings of an AF_XDP socket, which libxdp has mapped, out of forked children.
///
/// # Errors
/// Those of reading `/proc/self/maps`, and of madvise(2).
pub(super) fn keep_rings(socket: RawFd) -> io::Result<()> {
    let maps = sys::read_file(c"/proc/self/maps")?;
    let inode = inode(socket)?;
    maps.split(|byte| *byte == b'\n')
        .filter_map(|line| mapping(std::str::from_utf8(line).ok()?))
        .filter(|mapping| mapping.inode == inode && mapping.is_socket)
        .try_for_each(|mapping| keep(mapping.addresses))
}

/// Keeps a range of whole pages out of forked children.
///
/// # Errors
/// Those of madvise(2), MADV_DONTFORK.
pub(super) fn keep(addresses: Range<usize>) -> io::Result<()> {
    advise(&addresses, libc::MADV_DONTFORK)?;
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(addresses);
    Ok(())
}

fn advise(addresses: &Range<usize>, advice: libc::c_int) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(addresses.start);
    // SAFETY: this advice changes nothing in this process, only what a child inherits.
    match unsafe { libc::madvise(start, addresses.len(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn inode(fd: RawFd) -> io::Result<u64> {
    // SAFETY: zeroes are a valid stat: it is plain data.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is live, and the kernel fills it in.
    match unsafe { libc::fstat(fd, &mut stat) } {
        0 => Ok(stat.st_ino),
        _ => Err(io::Error::last_os_error()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    addresses: Range<usize>,
    inode: u64,
    /// Inodes are unique only within a file system.
    is_socket: bool,
}

/// A line of `/proc/self/maps`: addresses, permissions, offset, device, inode, path. proc_pid_maps(5).
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let addresses = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    let inode = fields.nth(3)?.parse().ok()?;
    Some(Mapping { addresses, inode, is_socket: fields.next().is_some_and(|path| path.starts_with("socket:")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_understood() {
        let check = |line, expected| assert_eq!(mapping(line), expected, "{line}");
        let ring = Mapping { addresses: 0x7f00_1000..0x7f00_3000, inode: 4711, is_socket: true };
        check("7f001000-7f003000 rw-s 80000000 00:08 4711     socket:[4711]", Some(ring));
        let file = Mapping { addresses: 0x1000..0x2000, inode: 4711, is_socket: false };
        check("1000-2000 r-xp 00000000 fe:01 4711     /usr/bin/a program", Some(file));
        let anonymous = Mapping { addresses: 0x1000..0x2000, inode: 0, is_socket: false };
        check("1000-2000 rw-p 00000000 00:00 0 ", Some(anonymous));
        check("", None);
        check("nonsense", None);
    }
}
