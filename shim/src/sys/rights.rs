//! System calls on messages, and the fds that go with them (unix(7), SCM_RIGHTS).

use super::{outcome, raw};
use libc::{c_int, c_long};
use stack::Errno;
use std::mem::size_of;
use std::os::fd::RawFd;

/// recvmsg(2).
pub fn receive_message(fd: RawFd, message: *mut libc::msghdr, flags: c_int) -> Result<usize, Errno> {
    call!(SYS_recvmsg, fd, message, flags)
}

/// A control message with one fd (unix(7), SCM_RIGHTS), in words of a little-endian machine.
const RIGHTS_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<RawFd>();
const RIGHTS_KIND: u64 = libc::SOL_SOCKET as u64 | (libc::SCM_RIGHTS as u64) << 32;
const _: () = assert!(cfg!(target_endian = "little") && size_of::<libc::cmsghdr>() == 16);

/// A message of one piece and a control message.
fn message(piece: &mut libc::iovec, control: &mut [u64; 3], control_len: usize) -> libc::msghdr {
    // SAFETY: all zeroes is a msghdr: no address, no pieces, no control message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (piece, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), control_len);
    message
}

/// Sends bytes with a copy of `passed`, if there is one, without waiting and without SIGPIPE.
pub fn send_with_fd(fd: RawFd, bytes: &[u8], passed: Option<RawFd>) -> Result<usize, Errno> {
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [RIGHTS_LEN as u64, RIGHTS_KIND, passed.map_or(0, |fd| fd as u32 as u64)];
    let message = message(&mut piece, &mut control, if passed.is_some() { RIGHTS_LEN } else { 0 });
    call!(SYS_sendmsg, fd, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// An fd that came with bytes, or was lost on the way.
pub type PassedFd = Option<Result<RawFd, Errno>>;

/// Receives bytes and an fd that came with the last of them, close-on-exec, without waiting; `EMFILE` is one that was lost.
pub fn receive_with_fd(fd: RawFd, into: &mut [u8], flags: c_int) -> Result<(usize, PassedFd), Errno> {
    let mut piece = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = [0; 3];
    // With no room for more than one fd, the kernel closes any other.
    let mut message = message(&mut piece, &mut control, RIGHTS_LEN);
    let len = call!(SYS_recvmsg, fd, &raw mut message, flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC)?;
    let passed = message.msg_controllen >= RIGHTS_LEN && control[..2] == [RIGHTS_LEN as u64, RIGHTS_KIND];
    let lost = (message.msg_flags & libc::MSG_CTRUNC != 0).then_some(Err(Errno::EMFILE));
    Ok((len, if passed { Some(Ok(control[2] as u32 as RawFd)) } else { lost }))
}
