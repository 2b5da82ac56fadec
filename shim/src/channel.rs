//! What a process says to the one that has the flows that it inherited: fixed messages over a socketpair that is made at
//! fork(2), and closed by exec(2) and by the end of either.

use crate::wait::readable;
use crate::{clock, sys};
use stack::Errno;
use std::os::fd::RawFd;
use std::time::Duration;

/// A message. A number is the key of the owner's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The flow is wanted; the fd beside it takes the answer.
    Obtain(u64),
    /// The sender has no copy of the flow any more, or has got it.
    Release(u64),
    /// The sender forks, and its child has what it has; the fd beside it is the end of the child's channel.
    Fork,
}

const LEN: usize = 16;
const OBTAIN: u64 = 1;
const RELEASE: u64 = 2;
const FORK: u64 = 3;

impl Message {
    fn pack(self) -> [u8; LEN] {
        let (kind, flow) = match self {
            Message::Obtain(flow) => (OBTAIN, flow),
            Message::Release(flow) => (RELEASE, flow),
            Message::Fork => (FORK, 0),
        };
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&kind.to_ne_bytes());
        bytes[8..].copy_from_slice(&flow.to_ne_bytes());
        bytes
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let kind = u64::from_ne_bytes(*bytes.first_chunk()?);
        let flow = u64::from_ne_bytes(*bytes.get(8..LEN)?.first_chunk()?);
        match kind {
            OBTAIN => Some(Message::Obtain(flow)),
            RELEASE => Some(Message::Release(flow)),
            FORK => Some(Message::Fork),
            _ => None,
        }
    }
}

/// A new channel: two ends, neither of them the application's.
///
/// # Errors
/// What socketpair(2) says.
pub fn make() -> Result<[RawFd; 2], Errno> {
    let [one, other] = sys::socket_pair(libc::SOCK_SEQPACKET)?;
    let one = sys::move_high(one).inspect_err(|_| sys::close(other))?;
    Ok([one, sys::move_high(other).inspect_err(|_| sys::close(one))?])
}

/// Says something, with a copy of an fd.
///
/// # Errors
/// `EAGAIN`: the other side does not listen. `EPIPE`: it is gone.
pub fn say(channel: RawFd, message: Message, fd: Option<RawFd>) -> Result<(), Errno> {
    sys::send_with_fd(channel, &message.pack(), fd).map(drop)
}

/// Takes the next message, and the fd beside it.
///
/// # Errors
/// `EAGAIN`: none. `EPIPE`: the other side is gone, or says what nobody would.
pub fn listen(channel: RawFd) -> Result<(Message, Option<RawFd>), Errno> {
    let mut bytes = [0; LEN];
    let (len, fd) = sys::receive_with_fd(channel, &mut bytes, 0)?;
    let fd = fd.and_then(Result::ok);
    match Message::unpack(&bytes[..len]) {
        Some(message) => Ok((message, fd)),
        None => {
            fd.into_iter().for_each(sys::close);
            Err(Errno::EPIPE)
        }
    }
}

/// Answers a request for a flow.
///
/// # Errors
/// As for `say`.
pub fn answer(reply: RawFd, flow: RawFd) -> Result<(), Errno> {
    sys::send_with_fd(reply, &[1], Some(flow)).map(drop)
}

/// Takes the answer.
///
/// # Errors
/// `EAGAIN`: not yet. `ECONNRESET`: there is no such flow any more, or nobody to answer.
pub fn take_answer(reply: RawFd) -> Result<RawFd, Errno> {
    match sys::receive_with_fd(reply, &mut [0], 0) {
        Ok((_, Some(Ok(flow)))) => Ok(flow),
        Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
        _ => Err(Errno::ECONNRESET),
    }
}

/// Repeats `receive` until it says something else than `EAGAIN`, or for so long; nothing in between ends the wait, not even
/// a signal handler.
///
/// # Errors
/// What `receive` says; `ETIMEDOUT`.
pub fn await_message<T>(
    fd: RawFd,
    limit: Duration,
    mut receive: impl FnMut(RawFd) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let until = clock::after(clock::now(), limit);
    loop {
        let received = receive(fd);
        if !matches!(received, Err(Errno::EAGAIN)) {
            return received;
        }
        let left = until.map(|until| clock::until(clock::now(), until)).unwrap_or_default();
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let _ = sys::poll(&mut [readable(fd)], Some(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_through_with_their_fds() {
        let [one, other] = make().expect("a channel");
        assert_eq!(listen(other), Err(Errno::EAGAIN));
        say(one, Message::Obtain(1 << 40), Some(one)).expect("there is room");
        say(one, Message::Release(7), None).expect("there is room");
        let (message, fd) = listen(other).expect("a message");
        assert_eq!(message, Message::Obtain(1 << 40));
        sys::close(fd.expect("an fd beside it"));
        assert_eq!(listen(other), Ok((Message::Release(7), None)));
        sys::send(one, b"nonsense").expect("there is room");
        assert_eq!(listen(other), Err(Errno::EPIPE));
        sys::close(one);
        assert_eq!(listen(other), Err(Errno::EPIPE));
        assert_eq!(say(other, Message::Fork, None), Err(Errno::EPIPE));
        sys::close(other);
    }

    #[test]
    fn an_answer_is_an_fd_or_a_lost_connection() {
        let [one, other] = make().expect("a channel");
        assert_eq!(take_answer(one), Err(Errno::EAGAIN));
        answer(other, other).expect("there is room");
        sys::close(take_answer(one).expect("an fd"));
        sys::close(other);
        assert_eq!(take_answer(one), Err(Errno::ECONNRESET));
        sys::close(one);
    }
}
