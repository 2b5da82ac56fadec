//! Which fds are ours: a lock-free table from the fd to what stands behind it, and the only gate of the hooks.
//!
//! An entry is one word, read without a lock. Its key carries a generation, so that who takes the lock later sees
//! whether the fd has become another one in between.

use crate::limits::FDS_MAX;
use crate::{inherited, old_sets, thread};
use libc::c_int;
use stack::Errno;
use stack::slab::Key;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What stands behind an fd of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A socket: the key of its description.
    Socket(Key),
    /// A UDP socket: the key of its description.
    Datagram(Key),
    /// An epoll instance that holds sockets of ours: the key of its set.
    Epoll(Key),
    /// One of the parent process that this one has not used yet: the key of what is known of it.
    OldEpoll(Key),
    /// A flow of a process before this one: the key of what is known of it.
    Inherited(Key),
    /// An fd of our own (a ring, a map). The application does not know of it.
    Internal,
}

// An entry: a key's index below, its generation above, and between them the kind and two flags.
const INDEX_BITS: u32 = 24;
const KIND_SHIFT: u32 = 24;
const KIND_MASK: u64 = 7 << KIND_SHIFT;
const PLACEHOLDER: u64 = 1 << 27;
const CLOEXEC: u64 = 1 << 28;
const KEY_MASK: u64 = (!0 << 32) | ((1 << INDEX_BITS) - 1);
const _: () = assert!(FDS_MAX <= 1 << INDEX_BITS);

const KIND_SOCKET: u64 = 1 << KIND_SHIFT;
const KIND_EPOLL: u64 = 2 << KIND_SHIFT;
const KIND_INTERNAL: u64 = 3 << KIND_SHIFT;
const KIND_INHERITED: u64 = 4 << KIND_SHIFT;
const KIND_DATAGRAM: u64 = 5 << KIND_SHIFT;
const KIND_OLD_EPOLL: u64 = 6 << KIND_SHIFT;

/// Zero is the kernel's, so that the table is made of untouched pages.
static TABLE: [AtomicU64; FDS_MAX] = [const { AtomicU64::new(0) }; FDS_MAX];

/// One more than the highest fd that was ever ours.
static END: AtomicUsize = AtomicUsize::new(0);

impl Entry {
    fn pack(self) -> u64 {
        match self {
            Entry::Socket(key) => KIND_SOCKET | key.to_bits(),
            Entry::Datagram(key) => KIND_DATAGRAM | key.to_bits(),
            Entry::Epoll(key) => KIND_EPOLL | key.to_bits(),
            Entry::OldEpoll(key) => KIND_OLD_EPOLL | key.to_bits(),
            Entry::Inherited(key) => KIND_INHERITED | key.to_bits(),
            Entry::Internal => KIND_INTERNAL,
        }
    }

    fn unpack(word: u64) -> Option<Self> {
        match word & KIND_MASK {
            KIND_SOCKET => Some(Entry::Socket(Key::from_bits(word & KEY_MASK))),
            KIND_DATAGRAM => Some(Entry::Datagram(Key::from_bits(word & KEY_MASK))),
            KIND_EPOLL => Some(Entry::Epoll(Key::from_bits(word & KEY_MASK))),
            KIND_OLD_EPOLL => Some(Entry::OldEpoll(Key::from_bits(word & KEY_MASK))),
            KIND_INHERITED => Some(Entry::Inherited(Key::from_bits(word & KEY_MASK))),
            KIND_INTERNAL => Some(Entry::Internal),
            _ => None,
        }
    }
}

fn slot(fd: RawFd) -> Option<&'static AtomicU64> {
    TABLE.get(usize::try_from(fd).ok()?)
}

/// What stands behind `fd`; `None` is the kernel's.
#[inline]
pub fn get(fd: RawFd) -> Option<Entry> {
    Entry::unpack(slot(fd)?.load(Ordering::Acquire))
}

/// The description behind `fd`, if it is a socket of ours.
#[inline]
pub fn socket(fd: c_int) -> Option<Key> {
    match get(fd)? {
        Entry::Socket(key) | Entry::Datagram(key) => Some(key),
        _ => None,
    }
}

/// The description behind `fd`, if it is a UDP socket of ours.
#[inline]
pub fn datagram(fd: c_int) -> Option<Key> {
    match get(fd)? {
        Entry::Datagram(key) => Some(key),
        _ => None,
    }
}

/// The description to serve a call of the application on `fd` with; `None`: the kernel serves it, and so it does a UDP
/// socket where [`datagram`] is not asked for.
///
/// # Errors
/// `EBADF`: an fd that the application does not know of.
#[inline]
pub fn serve(fd: c_int) -> Option<Result<Key, Errno>> {
    match get(fd)? {
        Entry::Socket(key) => Some(Ok(key)),
        Entry::Epoll(_) | Entry::OldEpoll(_) | Entry::Datagram(_) => None,
        Entry::Inherited(key) => {
            inherited::obtain(key);
            None
        }
        // Our own libraries use them.
        Entry::Internal => (!thread::is_inside()).then_some(Err(Errno::EBADF)),
    }
}

/// What stands behind `fd` once it is used: an inherited flow becomes the kernel's.
#[inline]
pub fn used(fd: RawFd) -> Option<Entry> {
    match get(fd)? {
        Entry::Inherited(key) => {
            inherited::obtain(key);
            get(fd)
        }
        Entry::OldEpoll(key) => {
            old_sets::renew(key);
            get(fd)
        }
        entry => Some(entry),
    }
}

/// The set behind `fd`, if it is an epoll instance that holds sockets of ours.
///
/// # Errors
/// `EBADF`: it is still the parent process's, because none of this process's own could be put in its place.
#[inline]
pub fn epoll(fd: c_int) -> Option<Result<Key, Errno>> {
    match used(fd)? {
        Entry::Epoll(key) => Some(Ok(key)),
        Entry::OldEpoll(_) => Some(Err(Errno::EBADF)),
        _ => None,
    }
}

/// Whether the application must be told that `fd` is not open.
pub fn is_hidden(fd: RawFd) -> bool {
    get(fd) == Some(Entry::Internal)
}

/// Whether `fd` is small enough for the table.
pub fn fits(fd: RawFd) -> bool {
    slot(fd).is_some()
}

/// Makes `fd` ours. One that does not fit in the table stays the kernel's.
pub fn set(fd: RawFd, entry: Entry) {
    store(fd, entry.pack());
}

/// Makes `fd` ours: what stands on a placeholder, whose close-on-exec flag, as the application knows it, is `cloexec`.
/// The kernel's own flag is always set, since a placeholder must not be inherited by another program.
pub fn set_placeholder(fd: RawFd, entry: Entry, cloexec: bool) {
    store(fd, entry.pack() | PLACEHOLDER | if cloexec { CLOEXEC } else { 0 });
}

/// What was a flow of this process is one that it inherited, in a child of fork(2).
pub fn become_inherited(fd: RawFd, key: Key) {
    if let Some(slot) = slot(fd) {
        let flags = slot.load(Ordering::Acquire) & (PLACEHOLDER | CLOEXEC);
        slot.store(Entry::Inherited(key).pack() | flags, Ordering::Release);
    }
}

fn store(fd: RawFd, word: u64) {
    if let Some(slot) = slot(fd) {
        slot.store(word, Ordering::Release);
        END.fetch_max(fd as usize + 1, Ordering::Relaxed);
    }
}

/// Makes `fd` the kernel's.
pub fn clear(fd: RawFd) {
    if let Some(slot) = slot(fd)
        && slot.load(Ordering::Relaxed) != 0
    {
        slot.store(0, Ordering::Release);
    }
}

/// The close-on-exec flag of a placeholder, as the application knows it; `None` for any other fd: ask the kernel.
pub fn placeholder_cloexec(fd: RawFd) -> Option<bool> {
    let word = slot(fd)?.load(Ordering::Acquire);
    (word & PLACEHOLDER != 0).then_some(word & CLOEXEC != 0)
}

/// F_SETFD on a placeholder.
pub fn set_placeholder_cloexec(fd: RawFd, cloexec: bool) {
    if let Some(slot) = slot(fd) {
        if cloexec {
            slot.fetch_or(CLOEXEC, Ordering::AcqRel);
        } else {
            slot.fetch_and(!CLOEXEC, Ordering::AcqRel);
        }
    }
}

/// The fds of ours in `range`, in order.
pub fn ours_in(range: RangeInclusive<usize>) -> impl Iterator<Item = (RawFd, Entry)> {
    let end = END.load(Ordering::Relaxed).min(range.end().saturating_add(1));
    (*range.start()..end).filter_map(|fd| Some((fd as RawFd, get(fd as RawFd)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(generation: u64, index: u64) -> Key {
        Key::from_bits(generation << 32 | index)
    }

    #[test]
    fn an_entry_comes_out_as_it_went_in() {
        let keys = [key(0, 0), key(1, 0), key(u64::from(u32::MAX), FDS_MAX as u64 - 1)];
        let entries = keys.iter().flat_map(|&key| {
            [Entry::Socket(key), Entry::Datagram(key), Entry::Epoll(key), Entry::Inherited(key), Entry::OldEpoll(key)]
        });
        for entry in entries.chain([Entry::Internal]) {
            assert_eq!(Entry::unpack(entry.pack()), Some(entry));
        }
        assert_eq!(Entry::unpack(0), None);
    }

    #[test]
    fn fds_outside_the_table_are_the_kernels() {
        for fd in [-1, FDS_MAX as RawFd, RawFd::MAX, RawFd::MIN] {
            set(fd, Entry::Internal);
            assert_eq!(get(fd), None);
            assert!(!fits(fd));
            assert_eq!(placeholder_cloexec(fd), None);
        }
    }

    #[test]
    fn close_on_exec_is_kept_for_placeholders_only() {
        let fd = 1_000_001;
        set_placeholder(fd, Entry::Socket(key(7, 9)), false);
        assert_eq!(placeholder_cloexec(fd), Some(false));
        set_placeholder_cloexec(fd, true);
        assert_eq!(placeholder_cloexec(fd), Some(true));
        assert_eq!(socket(fd), Some(key(7, 9)));
        set(fd, Entry::Socket(key(8, 9)));
        assert_eq!(placeholder_cloexec(fd), None);
        clear(fd);
        assert_eq!(get(fd), None);
    }

    #[test]
    fn a_range_lists_what_is_ours_in_it() {
        for fd in [1_000_100, 1_000_102, 1_000_104] {
            set(fd, Entry::Internal);
        }
        let listed: Vec<RawFd> = ours_in(1_000_101..=1_000_104).map(|(fd, _)| fd).collect();
        assert_eq!(listed, [1_000_102, 1_000_104]);
        assert!(ours_in(2_000_000..=usize::MAX).next().is_none());
    }
}
