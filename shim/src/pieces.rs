//! The buffers of a call: where its bytes come from or go to, as one piece or several.
//!
//! Whether they are there shows when they are used, as with the kernel: a call that finds nothing to move does not find
//! out. What moves at once moves whole or, where a part of its memory is missing, not at all.

use crate::args;
use crate::limits::{IOVECS_MAX, TRANSFER_LEN_MAX};
use crate::memory::{self, Access};
use libc::{c_void, iovec, size_t};
use stack::Errno;
use std::marker::PhantomData;
use std::{ptr, slice};

/// Buffers, one after the other.
#[derive(Clone, Copy)]
pub struct Pieces<'a> {
    /// The array of them; `None` for the one in `single`.
    array: Option<*const iovec>,
    single: iovec,
    count: usize,
    /// How many bytes they have.
    len: usize,
    lifetime: PhantomData<&'a mut [u8]>,
}

impl<'a> Pieces<'a> {
    /// One buffer.
    ///
    /// # Errors
    /// `EFAULT`: beyond what a program can have.
    ///
    /// # Safety
    /// The buffer is memory that nobody else touches while the result is used, or it is not there.
    pub unsafe fn one(buf: *const c_void, len: size_t) -> Result<Self, Errno> {
        let len = len.min(TRANSFER_LEN_MAX);
        match memory::is_possible(buf.addr(), len) {
            true => Ok(Self::single(buf.cast_mut(), len)),
            false => Err(Errno::EFAULT),
        }
    }

    /// A buffer of our own.
    pub fn own(bytes: &'a mut [u8]) -> Self {
        Self::single(bytes.as_mut_ptr().cast(), bytes.len())
    }

    fn single(iov_base: *mut c_void, iov_len: usize) -> Self {
        Pieces { array: None, single: iovec { iov_base, iov_len }, count: 1, len: iov_len, lifetime: PhantomData }
    }

    /// The buffers of readv(2) or writev(2).
    ///
    /// # Errors
    /// `EINVAL`: too many, or a negative length. `EFAULT`: the array is not there, or a buffer is beyond what a program
    /// can have.
    ///
    /// # Safety
    /// As for `one`, for each of them.
    pub unsafe fn several(iov: *const iovec, count: usize) -> Result<Self, Errno> {
        if count > IOVECS_MAX {
            return Err(Errno::EINVAL);
        }
        if !memory::is_there(iov.addr(), count * size_of::<iovec>(), Access::Read) {
            return Err(Errno::EFAULT);
        }
        let mut pieces = Pieces { array: Some(iov), count, ..Self::single(ptr::null_mut(), 0) };
        for index in 0..count {
            let iovec { iov_base, iov_len } = pieces.piece(index);
            if iov_len > isize::MAX as usize {
                return Err(Errno::EINVAL);
            }
            if !memory::is_possible(iov_base.addr(), iov_len) {
                return Err(Errno::EFAULT);
            }
            pieces.len = (pieces.len + iov_len).min(TRANSFER_LEN_MAX);
        }
        Ok(pieces)
    }

    /// The bytes that they have, all together.
    pub fn len(&self) -> usize {
        self.len
    }

    fn piece(&self, index: usize) -> iovec {
        debug_assert!(index < self.count);
        let Some(array) = self.array else { return self.single };
        // SAFETY: `several` has seen that there are so many.
        let at = unsafe { array.add(index) };
        // SAFETY: as above, aligned or not.
        unsafe { at.read_unaligned() }
    }

    /// Where `len` bytes from `from` on lie.
    fn parts(self, from: usize, len: usize) -> impl Iterator<Item = (*mut u8, usize)> + use<'a> {
        let (mut skip, mut left) = (from, len);
        (0..self.count).filter_map(move |index| {
            let iovec { iov_base, iov_len } = self.piece(index);
            let skipped = skip.min(iov_len);
            let part_len = (iov_len - skipped).min(left);
            (skip, left) = (skip - skipped, left - part_len);
            (part_len > 0).then(|| (iov_base.cast::<u8>().wrapping_add(skipped), part_len))
        })
    }

    fn check(self, from: usize, len: usize, access: Access) -> Result<(), Errno> {
        let are_there = self.parts(from, len).all(|(at, len)| memory::is_there(at.addr(), len, access));
        if are_there { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// `len` bytes from `from` on, to be sent.
    ///
    /// # Errors
    /// `EFAULT`: not all of them are there.
    pub fn bytes(self, from: usize, len: usize) -> Result<impl Iterator<Item = &'a [u8]>, Errno> {
        self.check(from, len, Access::Read)?;
        // SAFETY: it is there, and `one` and `several` were promised that nobody else writes to it.
        Ok(self.parts(from, len).map(|(at, len)| unsafe { slice::from_raw_parts(at, len) }))
    }

    /// Room for `len` bytes from `from` on.
    ///
    /// # Errors
    /// As for `bytes`.
    pub fn room(&mut self, from: usize, len: usize) -> Result<impl Iterator<Item = &mut [u8]>, Errno> {
        self.check(from, len, Access::Write)?;
        // SAFETY: it is there, and `one` and `several` were promised that nobody else touches it.
        Ok(self.parts(from, len).map(|(at, len)| unsafe { slice::from_raw_parts_mut(at, len) }))
    }
}

/// The buffers of sendmsg(2) or recvmsg(2), and the rest of the message.
///
/// # Errors
/// `EMSGSIZE`: too many buffers. Else as for `Pieces::several`.
///
/// # Safety
/// As for `Pieces::several`.
pub unsafe fn message<'a>(message: *const libc::msghdr) -> Result<(libc::msghdr, Pieces<'a>), Errno> {
    // SAFETY: `value` looks whether it is there.
    let header = unsafe { args::value(message)? };
    if (header.msg_namelen as libc::c_int) < 0 {
        return Err(Errno::EINVAL);
    }
    if header.msg_iovlen > IOVECS_MAX {
        return Err(Errno::EMSGSIZE);
    }
    // SAFETY: the caller's promise.
    let pieces = unsafe { Pieces::several(header.msg_iov, header.msg_iovlen)? };
    Ok((header, pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(buf: *const u8, iov_len: usize) -> iovec {
        iovec { iov_base: buf.cast_mut().cast(), iov_len }
    }

    fn pieces<'a>(iov: &'a [iovec]) -> Pieces<'a> {
        // SAFETY: the tests below make them of memory of their own.
        unsafe { Pieces::several(iov.as_ptr(), iov.len()) }.expect("they are good")
    }

    #[test]
    fn a_part_crosses_pieces() {
        let (mut one, mut two) = ([1u8, 2, 3], [4u8, 5]);
        let iov = [piece(one.as_mut_ptr(), 3), piece(ptr::null(), 0), piece(two.as_mut_ptr(), 2)];
        let mut all = pieces(&iov);
        assert_eq!(all.len(), 5);
        let part: Vec<u8> = all.bytes(1, 3).expect("there").flatten().copied().collect();
        assert_eq!(part, [2, 3, 4]);
        for room in all.room(2, 2).expect("there") {
            room.fill(9);
        }
        assert_eq!((one, two), ([1, 2, 9], [9, 5]));
    }

    #[test]
    fn what_is_missing_is_missed_only_where_it_is_used() {
        let byte = [1u8];
        let iov = [piece(byte.as_ptr(), 1), piece(ptr::without_provenance(8), 100)];
        let all = pieces(&iov);
        assert_eq!(all.bytes(0, 1).map(Iterator::count), Ok(1));
        assert_eq!(all.bytes(0, 2).map(Iterator::count), Err(Errno::EFAULT));
        assert_eq!(all.bytes(101, 0).map(Iterator::count), Ok(0));
    }

    #[test]
    fn arrays_are_bounded() {
        let byte = [1u8];
        let mut iov = vec![piece(byte.as_ptr(), 1); IOVECS_MAX + 1];
        // SAFETY: it is an array of so many buffers.
        let several = |iov: &[iovec]| unsafe { Pieces::several(iov.as_ptr(), iov.len()) }.map(|pieces| pieces.len());
        assert_eq!(several(&iov), Err(Errno::EINVAL));
        assert_eq!(several(&iov[1..]), Ok(IOVECS_MAX));
        iov[0].iov_len = usize::MAX;
        assert_eq!(several(&iov[..2]), Err(Errno::EINVAL));
        iov[0].iov_len = isize::MAX as usize;
        assert_eq!(several(&iov[..2]), Err(Errno::EFAULT));
    }
}
