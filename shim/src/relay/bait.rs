//! The bait: a byte that always lies unread at our end of a relay, so that its close, and our death, are `ECONNRESET` at the
//! other one, and not the end of a stream that was complete (unix(7)).
//!
//! First it is one that was sent for it, later the last that came. Bytes are looked at beyond it (SO_PEEK_OFF), and then as
//! many are taken.

use crate::sys::{self, PassedFd};
use libc::SOL_SOCKET;
use stack::Errno;
use std::os::fd::RawFd;

/// Lays the first one, on a new socketpair.
///
/// # Errors
/// What setsockopt(2) says.
pub fn lay(end: RawFd, other: RawFd) -> Result<(), Errno> {
    sys::set_option(end, SOL_SOCKET, libc::SO_PEEK_OFF, &0i32.to_ne_bytes())?;
    sys::send(other, &[0])?;
    look(end, &mut [0]).map(drop)
}

/// Looks at the next bytes, with an fd that came with the last of them.
///
/// # Errors
/// As for `sys::receive_with_fd`.
pub fn look(end: RawFd, into: &mut [u8]) -> Result<(usize, PassedFd), Errno> {
    sys::receive_with_fd(end, into, libc::MSG_PEEK)
}

/// Takes as many as were looked at away: the last of them is the bait now. `scratch` is as long.
pub fn take(end: RawFd, scratch: &mut [u8]) {
    let mut taken = 0;
    while taken < scratch.len() {
        // A byte with an fd is received alone. What is there cannot fail to be received.
        match sys::receive(end, &mut scratch[taken..]) {
            Ok(len) if len > 0 => taken += len,
            _ => return,
        }
    }
}

/// Removes it: everything has come to its end, and a close of our end says no more than that.
pub fn remove(end: RawFd) {
    let _ = sys::receive(end, &mut [0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baited() -> [RawFd; 2] {
        let [end, other] = sys::socket_pair(libc::SOCK_STREAM).expect("a pair");
        lay(end, other).expect("a fresh pair");
        [end, other]
    }

    fn next(end: RawFd) -> Result<Vec<u8>, Errno> {
        let mut bytes = [0; 16];
        let (len, fd) = look(end, &mut bytes)?;
        fd.into_iter().flatten().for_each(sys::close);
        take(end, &mut [0; 16][..len]);
        Ok(bytes[..len].to_vec())
    }

    #[test]
    fn bytes_come_once_and_in_order_and_then_the_end() {
        let [end, other] = baited();
        assert_eq!(next(end), Err(Errno::EAGAIN));
        for bytes in [&b"one"[..], b"2", b"three"] {
            sys::send(other, bytes).expect("there is room");
            assert_eq!(next(end).as_deref(), Ok(bytes));
            assert_eq!(next(end), Err(Errno::EAGAIN));
        }
        sys::send_with_fd(other, b"q", Some(other)).expect("there is room");
        sys::send(other, b"more").expect("there is room");
        assert_eq!(next(end).as_deref(), Ok(&b"q"[..]));
        assert_eq!(next(end).as_deref(), Ok(&b"more"[..]));
        sys::close(other);
        assert_eq!(next(end).as_deref(), Ok(&b""[..]));
        sys::close(end);
    }

    #[test]
    fn a_close_after_the_end_is_none_but_that() {
        let [end, other] = baited();
        remove(end);
        sys::close(end);
        assert_eq!(sys::receive(other, &mut [0; 16]), Ok(0));
        sys::close(other);
    }

    #[test]
    fn a_close_of_our_end_is_a_reset_at_the_other() {
        for bytes in [&b""[..], b"bytes"] {
            let [end, other] = baited();
            if !bytes.is_empty() {
                sys::send(other, bytes).expect("there is room");
                assert_eq!(next(end).as_deref(), Ok(bytes));
            }
            sys::close(end);
            assert_eq!(sys::receive(other, &mut [0; 16]), Err(Errno::ECONNRESET));
            assert_eq!(sys::receive(other, &mut [0; 16]), Ok(0));
            assert_eq!(sys::send(other, b"x"), Err(Errno::EPIPE));
            sys::close(other);
        }
    }
}
