//! A message, as recvmsg(2) and sendmsg(2) have it: buffers, an address, and control messages (cmsg(3)). What
//! the calls that have less leave out is empty.

use crate::args;
use crate::calls::zerocopy::EXTENDED_ERR_LEN_MAX;
use crate::memory::{self, Access};
use crate::pieces::{self, Pieces};
use crate::sys;
use libc::{MSG_CMSG_CLOEXEC, MSG_CTRUNC, c_int, c_void, iovec, msghdr, size_t, sockaddr, socklen_t};
use stack::Errno;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;

/// A message without anything in it.
fn empty() -> msghdr {
    // SAFETY: all zeroes is a msghdr: no address, no buffers, no control messages.
    unsafe { mem::zeroed() }
}

/// One buffer, and a header that has none.
struct Single(iovec);

impl Single {
    fn new(buf: *const c_void, len: size_t) -> Self {
        Single(iovec { iov_base: buf.cast_mut(), iov_len: len })
    }

    /// The header as the kernel takes it, with this buffer.
    fn complete(&mut self, header: &msghdr) -> msghdr {
        msghdr { msg_iov: &raw mut self.0, msg_iovlen: 1, ..*header }
    }
}

/// Room for a message that is received.
pub struct Incoming<'a> {
    /// What the application gave, and then what it is answered.
    header: msghdr,
    /// The only buffer, if `header` names none.
    single: Option<Single>,
    pieces: Pieces<'a>,
    /// How much of the room for control messages is used.
    control_len: usize,
}

impl Incoming<'_> {
    /// One buffer.
    ///
    /// # Errors
    /// As for `Pieces::one`.
    ///
    /// # Safety
    /// As for `Pieces::one`.
    pub unsafe fn bytes(buf: *mut c_void, len: size_t) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let pieces = unsafe { Pieces::one(buf, len)? };
        Ok(Incoming { header: empty(), single: Some(Single::new(buf, pieces.len())), pieces, control_len: 0 })
    }

    /// One buffer, and room for an address unless that is null.
    ///
    /// # Errors
    /// `EINVAL`: a negative length. `EFAULT`: it is not there. Else as for `bytes`.
    ///
    /// # Safety
    /// As for `bytes`, and for the address and its length.
    pub unsafe fn bytes_from(
        buf: *mut c_void,
        len: size_t,
        (address, address_len): (*mut sockaddr, *mut socklen_t),
    ) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let mut message = unsafe { Self::bytes(buf, len)? };
        if !address.is_null() {
            message.header.msg_name = address.cast();
            // SAFETY: the caller's promise.
            message.header.msg_namelen = unsafe { args::value(address_len)? };
            if (message.header.msg_namelen as c_int) < 0 {
                return Err(Errno::EINVAL);
            }
        }
        Ok(message)
    }

    /// Several buffers.
    ///
    /// # Errors
    /// As for `Pieces::several`.
    ///
    /// # Safety
    /// As for `Pieces::several`.
    pub unsafe fn pieces(iov: *const iovec, count: usize) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let pieces = unsafe { Pieces::several(iov, count)? };
        let header = msghdr { msg_iov: iov.cast_mut(), msg_iovlen: count, ..empty() };
        Ok(Incoming { header, single: None, pieces, control_len: 0 })
    }

    /// A whole message.
    ///
    /// # Errors
    /// As for `pieces::message`.
    ///
    /// # Safety
    /// As for `pieces::message`; nobody else touches its room for an address and for control messages.
    pub unsafe fn message(message: *const msghdr) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let (header, pieces) = unsafe { pieces::message(message)? };
        Ok(Incoming { header, single: None, pieces, control_len: 0 })
    }

    /// How many bytes there is room for.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Room for the first `len` bytes.
    ///
    /// # Errors
    /// `EFAULT`: it is not there.
    pub fn room(&mut self, len: usize) -> Result<impl Iterator<Item = &mut [u8]>, Errno> {
        self.pieces.room(0, len)
    }

    /// Has the kernel receive it, and answer. Returns what recvmsg(2) does.
    ///
    /// # Errors
    /// What recvmsg(2) says.
    pub fn receive_from_kernel(&mut self, fd: RawFd, flags: c_int) -> Result<usize, Errno> {
        let Some(single) = &mut self.single else {
            let received = sys::receive_message(fd, &mut self.header, flags)?;
            self.control_len = self.header.msg_controllen;
            return Ok(received);
        };
        let mut header = single.complete(&self.header);
        let received = sys::receive_message(fd, &mut header, flags)?;
        self.header.msg_namelen = header.msg_namelen;
        Ok(received)
    }

    /// Answers with an address, as much of it as there is room for.
    ///
    /// # Errors
    /// `EFAULT`: the room is not there.
    pub fn set_name(&mut self, address: &[u8]) -> Result<(), Errno> {
        if self.header.msg_name.is_null() {
            return Ok(());
        }
        let fits = address.len().min(self.header.msg_namelen as usize);
        write(self.header.msg_name, &address[..fits])?;
        self.header.msg_namelen = address.len() as socklen_t;
        Ok(())
    }

    /// Answers with flags, of which some are those of the call.
    pub fn set_flags(&mut self, flags: c_int, of_call: c_int) {
        self.header.msg_flags |= flags;
        self.header.msg_flags |= of_call & MSG_CMSG_CLOEXEC;
    }

    /// No answers yet.
    pub fn begin(&mut self) {
        (self.header.msg_flags, self.control_len) = (0, 0);
    }

    /// Adds a control message: as much as fits, and MSG_CTRUNC if that is not all (put_cmsg() of Linux).
    ///
    /// # Errors
    /// `EFAULT`: the room is not there.
    pub fn add_control(&mut self, level: c_int, kind: c_int, data: &[u8]) -> Result<(), Errno> {
        let room = if self.header.msg_control.is_null() { 0 } else { self.header.msg_controllen - self.control_len };
        let len = CONTROL_HEADER_LEN + data.len();
        if room < len {
            self.header.msg_flags |= MSG_CTRUNC;
        }
        if room < CONTROL_HEADER_LEN {
            return Ok(());
        }
        let fits = len.min(room);
        let mut bytes = [0; CONTROL_HEADER_LEN + CONTROL_DATA_LEN_MAX];
        bytes[..8].copy_from_slice(&fits.to_ne_bytes());
        bytes[8..12].copy_from_slice(&level.to_ne_bytes());
        bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
        bytes[CONTROL_HEADER_LEN..len].copy_from_slice(data);
        write(self.header.msg_control.wrapping_byte_add(self.control_len), &bytes[..fits])?;
        self.control_len += fits.next_multiple_of(CONTROL_ALIGN).min(room);
        Ok(())
    }

    /// How long the address is that it was answered with: longer, perhaps, than what there was room for.
    pub fn name_len(&self) -> Option<socklen_t> {
        (!self.header.msg_name.is_null()).then_some(self.header.msg_namelen)
    }

    /// Answers in the application's own header.
    ///
    /// # Errors
    /// `EFAULT`: it cannot be written to.
    ///
    /// # Safety
    /// Nobody else touches `to`, which this is made of.
    pub unsafe fn answer(self, to: *mut msghdr) -> Result<(), Errno> {
        // SAFETY: the caller's promise.
        unsafe { args::answer(to, msghdr { msg_controllen: self.control_len, ..self.header }) }
    }
}

/// Bytes of a cmsghdr, what they are aligned to, and the longest data that we have for one.
const CONTROL_HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const CONTROL_ALIGN: usize = align_of::<libc::cmsghdr>();
const CONTROL_DATA_LEN_MAX: usize = EXTENDED_ERR_LEN_MAX;

fn write(to: *mut c_void, bytes: &[u8]) -> Result<(), Errno> {
    if !memory::is_there(to.addr(), bytes.len(), Access::Write) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: it is there, and `Incoming` was promised that nobody else touches it.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast(), bytes.len()) };
    Ok(())
}

/// Whom a message is to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// It does not say.
    Unsaid,
    /// An IP address and a port.
    Socket(SocketAddr),
    /// Something else, of which the kernel may know what to make.
    Strange,
}

impl Destination {
    /// # Safety
    /// As for `args::address`.
    unsafe fn new(address: *const sockaddr, len: socklen_t) -> Self {
        if address.is_null() || len == 0 {
            return Destination::Unsaid;
        }
        // SAFETY: the caller's promise.
        unsafe { args::address(address, len) }.map_or(Destination::Strange, Destination::Socket)
    }
}

/// A control message: its level, its type and its data.
pub type Control<'a> = (c_int, c_int, &'a [u8]);

/// A message that is sent.
pub struct Outgoing<'a> {
    /// To whom.
    pub destination: Destination,
    /// Its bytes.
    pub pieces: Pieces<'a>,
    /// Its control messages.
    control: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// One buffer.
    ///
    /// # Errors
    /// As for `Pieces::one`.
    ///
    /// # Safety
    /// As for `Pieces::one`.
    pub unsafe fn bytes(buf: *const c_void, len: size_t) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let pieces = unsafe { Pieces::one(buf, len)? };
        Ok(Outgoing { destination: Destination::Unsaid, pieces, control: &[] })
    }

    /// One buffer to somebody.
    ///
    /// # Errors
    /// As for `bytes`.
    ///
    /// # Safety
    /// As for `bytes` and `args::address`.
    pub unsafe fn bytes_to(
        buf: *const c_void,
        len: size_t,
        address: *const sockaddr,
        address_len: socklen_t,
    ) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let message = unsafe { Self::bytes(buf, len)? };
        // SAFETY: the caller's promise.
        Ok(Outgoing { destination: unsafe { Destination::new(address, address_len) }, ..message })
    }

    /// Several buffers.
    ///
    /// # Errors
    /// As for `Pieces::several`.
    ///
    /// # Safety
    /// As for `Pieces::several`.
    pub unsafe fn pieces(iov: *const iovec, count: usize) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let pieces = unsafe { Pieces::several(iov, count)? };
        Ok(Outgoing { destination: Destination::Unsaid, pieces, control: &[] })
    }

    /// A whole message.
    ///
    /// # Errors
    /// As for `pieces::message`. `EFAULT`: its control messages are not there.
    ///
    /// # Safety
    /// As for `pieces::message` and `args::address`; nobody writes to its control messages.
    pub unsafe fn message(message: *const msghdr) -> Result<Self, Errno> {
        // SAFETY: the caller's promise.
        let (header, pieces) = unsafe { pieces::message(message)? };
        // SAFETY: the caller's promise.
        let destination = unsafe { Destination::new(header.msg_name.cast(), header.msg_namelen) };
        let control_len = if header.msg_control.is_null() { 0 } else { header.msg_controllen };
        // SAFETY: the caller's promise.
        let control = unsafe { args::bytes(header.msg_control, control_len)? };
        Ok(Outgoing { destination, pieces, control })
    }

    /// Its control messages; an error where they are not well-formed.
    pub fn control(&self) -> impl Iterator<Item = Result<Control<'a>, Errno>> + use<'a> {
        let mut rest = self.control;
        std::iter::from_fn(move || {
            let header: &[u8; CONTROL_HEADER_LEN] = rest.first_chunk()?;
            let [_, _, level, kind] = [0, 4, 8, 12].map(|at| i32::from_ne_bytes([0, 1, 2, 3].map(|i| header[at + i])));
            let len = usize::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| header[at]));
            let Some(data) = rest.get(CONTROL_HEADER_LEN..len) else {
                rest = &[];
                return Some(Err(Errno::EINVAL));
            };
            rest = &rest[len.next_multiple_of(CONTROL_ALIGN).min(rest.len())..];
            Some(Ok((level, kind, data)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming<'a>(control: &mut [u64], len: usize) -> Incoming<'a> {
        let header = msghdr { msg_control: control.as_mut_ptr().cast(), msg_controllen: len, ..empty() };
        Incoming { header, single: None, pieces: Pieces::own(&mut []), control_len: 0 }
    }

    fn listed(control: &[u8]) -> Result<Vec<Control<'_>>, Errno> {
        let message = Outgoing { destination: Destination::Unsaid, pieces: Pieces::own(&mut []), control };
        message.control().collect()
    }

    #[test]
    fn control_messages_are_read_as_they_were_written() {
        let mut control = [0u64; 8];
        let mut message = incoming(&mut control, 64);
        message.add_control(1, 2, &[7; 12]).expect("there is room");
        message.add_control(3, 4, &[9]).expect("there is room");
        assert_eq!((message.control_len, message.header.msg_flags), (32 + 24, 0));
        let bytes: Vec<u8> = control[..7].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(listed(&bytes), Ok(vec![(1, 2, &[7; 12][..]), (3, 4, &[9])]));
        assert_eq!(listed(&bytes[..40]), Ok(vec![(1, 2, &[7; 12][..])]));
        assert_eq!(listed(&bytes[..20]), Err(Errno::EINVAL));
    }

    #[test]
    fn control_messages_that_do_not_fit_are_cut_off() {
        for (room, used) in [(0, 0), (15, 0), (17, 17), (24, 24), (28, 28)] {
            let mut control = [0u64; 8];
            let mut message = incoming(&mut control, room);
            message.add_control(1, 2, &[7; 13]).expect("what there is room for is there");
            assert_eq!((message.control_len, message.header.msg_flags), (used, MSG_CTRUNC), "{room}");
            assert_eq!(control[0], used as u64);
        }
    }
}
