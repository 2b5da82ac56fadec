//! The application's memory: what is read or written through its pointers, beside the bytes that move
//! ([`pieces`](crate::pieces)).

use crate::memory::{self, Access};
use crate::sys::AddressBuffer;
use libc::{c_int, c_void, msghdr, sockaddr, socklen_t, timespec, timeval};
use stack::Errno;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;
use std::time::Duration;

/// Bytes that the application gave for the call alone: an address, the value of an option.
///
/// # Errors
/// `EFAULT`: they are not there.
///
/// # Safety
/// Nobody writes to `buf` while the result is used.
pub unsafe fn bytes<'a>(buf: *const c_void, len: usize) -> Result<&'a [u8], Errno> {
    match len {
        0 => Ok(&[]),
        _ if !memory::is_there(buf.addr(), len, Access::Read) => Err(Errno::EFAULT),
        // SAFETY: it is there, and the caller's promise.
        _ => Ok(unsafe { std::slice::from_raw_parts(buf.cast(), len) }),
    }
}

/// An array that the application gave, to be changed.
///
/// # Errors
/// `EFAULT`: it is not there.
///
/// # Safety
/// Nobody else touches it while the result is used.
pub unsafe fn slice_mut<'a, T>(buf: *mut T, len: usize) -> Result<&'a mut [T], Errno> {
    match len.checked_mul(size_of::<T>()) {
        Some(0) => Ok(&mut []),
        Some(bytes) if memory::is_there(buf.addr(), bytes, Access::Write) => {
            // SAFETY: it is there, and the caller's promise.
            Ok(unsafe { std::slice::from_raw_parts_mut(buf, len) })
        }
        _ => Err(Errno::EFAULT),
    }
}

/// An array that the application gave for answers, of which only those are used that there are answers for.
#[derive(Debug)]
pub struct Room<T> {
    at: *mut T,
    len: usize,
}

impl<T> Room<T> {
    /// Room for `len` answers.
    ///
    /// # Errors
    /// `EFAULT`: beyond what a program can have.
    ///
    /// # Safety
    /// Nobody else touches what is there while the result is used.
    pub unsafe fn new(at: *mut T, len: usize) -> Result<Self, Errno> {
        let is_possible = len.checked_mul(size_of::<T>()).is_some_and(|bytes| memory::is_possible(at.addr(), bytes));
        if is_possible { Ok(Room { at, len }) } else { Err(Errno::EFAULT) }
    }

    /// How many answers there is room for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// What is behind the first `count`.
    pub fn behind(&mut self, count: usize) -> Room<T> {
        let count = count.min(self.len);
        Room { at: self.at.wrapping_add(count), len: self.len - count }
    }

    /// Where the kernel is to answer: it sees itself whether there is room.
    pub fn address(&mut self) -> *mut T {
        self.at
    }

    /// The first `count`, or as many as there are.
    ///
    /// # Errors
    /// `EFAULT`: they are not there.
    pub fn first(&mut self, count: usize) -> Result<&mut [T], Errno> {
        // SAFETY: `new` was promised so.
        unsafe { slice_mut(self.at, count.min(self.len)) }
    }
}

/// Says what recvmsg(2) says beside the bytes: of a TCP socket neither an address nor control data.
///
/// # Errors
/// `EFAULT`: it cannot be written to.
///
/// # Safety
/// Nobody else touches `message`.
pub unsafe fn finish_message(message: *mut msghdr, flags: c_int) -> Result<(), Errno> {
    // SAFETY: `value` looks whether it is there.
    let mut header = unsafe { value(message)? };
    if !header.msg_name.is_null() {
        header.msg_namelen = 0;
    }
    header.msg_controllen = 0;
    header.msg_flags = flags & (libc::MSG_CMSG_CLOEXEC | libc::MSG_OOB);
    // SAFETY: the caller's promise.
    unsafe { answer(message, header) }
}

/// A value that the application gave by pointer, aligned or not.
///
/// # Errors
/// `EFAULT`: it is not there.
///
/// # Safety
/// What is there is a T.
pub unsafe fn value<T: Copy>(value: *const T) -> Result<T, Errno> {
    if !memory::is_there(value.addr(), size_of::<T>(), Access::Read) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: it is there, and the caller's promise.
    Ok(unsafe { value.read_unaligned() })
}

/// Answers through a pointer of the application's, aligned or not.
///
/// # Errors
/// `EFAULT`: there is no room.
///
/// # Safety
/// Nobody else touches what is there.
pub unsafe fn answer<T>(to: *mut T, value: T) -> Result<(), Errno> {
    if !memory::is_there(to.addr(), size_of::<T>(), Access::Write) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: it is there, and the caller's promise.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// A timespec as a duration; `None` (null) waits for ever.
///
/// # Errors
/// `EINVAL`: a negative or unnormalised one.
///
/// # Safety
/// As for `value`.
pub unsafe fn timeout(time: *const timespec) -> Result<Option<Duration>, Errno> {
    if time.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let time = unsafe { value(time)? };
    match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(Errno::EINVAL),
    }
}

/// The timeout of select(2).
///
/// # Errors
/// `EINVAL`: a negative one.
///
/// # Safety
/// As for `value`.
pub unsafe fn timeout_micros(time: *const timeval) -> Result<Option<Duration>, Errno> {
    if time.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    duration(unsafe { value(time)? }).ok_or(Errno::EINVAL).map(Some)
}

/// A timeval as a duration; `None` if it is negative.
pub fn duration(time: timeval) -> Option<Duration> {
    let (seconds, micros) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_usec).ok()?);
    Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
}

/// The inverse of `duration`.
pub fn timeval(duration: Duration) -> timeval {
    timeval { tv_sec: duration.as_secs() as libc::time_t, tv_usec: duration.subsec_micros().into() }
}

/// A duration as a timespec.
pub fn timespec(duration: Duration) -> timespec {
    timespec { tv_sec: duration.as_secs() as libc::time_t, tv_nsec: duration.subsec_nanos().into() }
}

/// The timeout of epoll_wait(2) and poll(2): milliseconds, negative for ever.
pub fn timeout_millis(millis: c_int) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

/// The family of an address that the application gave, if it is one and all of it is there.
///
/// # Safety
/// Nobody writes to `address`.
pub unsafe fn family(address: *const sockaddr, len: socklen_t) -> Option<c_int> {
    let len = Some(len as usize).filter(|&len| len <= size_of::<AddressBuffer>())?;
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(address.cast(), len) }.ok()?;
    bytes.first_chunk().map(|family| u16::from_ne_bytes(*family).into())
}

/// An address that the application gave, if it is an IP address and not longer than any address.
///
/// # Safety
/// `address` is null or has `len` readable bytes.
pub unsafe fn address(address: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    if len as usize > size_of::<AddressBuffer>() {
        return None;
    }
    // SAFETY: the caller's promise.
    parse_address(unsafe { bytes(address.cast(), len as usize) }.ok()?)
}

const V4_LEN: usize = size_of::<libc::sockaddr_in>();
const V6_LEN: usize = size_of::<libc::sockaddr_in6>();

/// A sockaddr_in or sockaddr_in6 as the kernel knows it.
pub fn parse_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = c_int::from(u16::from_ne_bytes(bytes.first_chunk().copied()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET if bytes.len() >= V4_LEN => {
            let ip: [u8; 4] = bytes[4..8].try_into().ok()?;
            Some((Ipv4Addr::from(ip), port).into())
        }
        // Without its scope id, which is optional (ipv6(7)).
        libc::AF_INET6 if bytes.len() >= V6_LEN - 4 => {
            let ip: [u8; 16] = bytes[8..24].try_into().ok()?;
            Some((Ipv6Addr::from(ip), port).into())
        }
        _ => None,
    }
}

/// The same the other way round: the bytes and their number. A socket of `family` AF_INET6 says an IPv4 address as a
/// mapped one (ipv6(7)).
pub fn format_address(address: SocketAddr, family: c_int) -> (AddressBuffer, usize) {
    let mut bytes = [0; size_of::<AddressBuffer>()];
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match (family, address.ip()) {
        (libc::AF_INET6, ip) => {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            bytes[8..24].copy_from_slice(&ip.octets());
            (bytes, V6_LEN)
        }
        (_, IpAddr::V4(ip)) => {
            bytes[4..8].copy_from_slice(&ip.octets());
            (bytes, V4_LEN)
        }
        (_, IpAddr::V6(_)) => unreachable!("an AF_INET socket has IPv4 addresses"),
    }
}

/// Says in an address of AF_INET6 which interface it is of.
pub fn set_scope(address: &mut AddressBuffer, index: u32) {
    address[24..V6_LEN].copy_from_slice(&index.to_ne_bytes());
}

/// Where the application wants an answer of bytes: an address or the value of an option. As much as fits is written,
/// and how long it is.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    to: *mut u8,
    len: *mut socklen_t,
}

impl Answer {
    /// # Safety
    /// `len` is null or points to a length, and `to` is null or has as many writable bytes, until `write` is called.
    pub unsafe fn new<T>(to: *mut T, len: *mut socklen_t) -> Self {
        Answer { to: to.cast(), len }
    }

    /// Whether there is a place for an answer.
    pub fn is_wanted(self) -> bool {
        !self.to.is_null()
    }

    /// How many bytes there is room for.
    ///
    /// # Errors
    /// As for `write`.
    pub fn room(self) -> Result<usize, Errno> {
        // SAFETY: `new` was promised so.
        let room = unsafe { value(self.len)? };
        if (room as c_int) < 0 { Err(Errno::EINVAL) } else { Ok(room as usize) }
    }

    /// Writes what fits of `bytes`, and `len` (which may be more) as the length.
    ///
    /// # Errors
    /// `EFAULT`: no place. `EINVAL`: a negative length.
    pub fn write(self, bytes: &[u8], len: usize) -> Result<(), Errno> {
        let fits = bytes.len().min(self.room()?);
        if !memory::is_there(self.to.addr(), fits, Access::Write) {
            return Err(Errno::EFAULT);
        }
        // SAFETY: `new` was promised `room` bytes here.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.to, fits) };
        // SAFETY: `new` was promised so.
        unsafe { answer(self.len, len as socklen_t) }
    }

    /// Writes the value of an option, cut off to the room that there is.
    ///
    /// # Errors
    /// As for `write`.
    pub fn write_option(self, bytes: &[u8]) -> Result<(), Errno> {
        self.write(bytes, bytes.len().min(self.room()?))
    }

    /// Writes an address, if one is wanted.
    ///
    /// # Errors
    /// As for `write`.
    pub fn write_address(self, address: SocketAddr, family: c_int) -> Result<(), Errno> {
        let (bytes, len) = format_address(address, family);
        self.write(&bytes[..len], len)
    }
}

/// The value of an option that is an int, or longer.
///
/// # Errors
/// `EINVAL`: it is too short.
pub fn option_int(value: &[u8]) -> Result<c_int, Errno> {
    value.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, family: c_int, said: &str) {
        let (bytes, len) = format_address(address.parse().expect("an address"), family);
        assert_eq!(parse_address(&bytes[..len]), Some(said.parse().expect("an address")));
    }

    #[test]
    fn addresses_are_said_in_the_sockets_family() {
        check("10.1.2.3:80", libc::AF_INET, "10.1.2.3:80");
        check("[2001:db8::1]:443", libc::AF_INET6, "[2001:db8::1]:443");
        check("10.1.2.3:80", libc::AF_INET6, "[::ffff:10.1.2.3]:80");
    }

    #[test]
    fn what_is_not_an_ip_address_is_the_kernels() {
        assert_eq!(parse_address(&[]), None);
        assert_eq!(parse_address(&[0; 28]), None);
        assert_eq!(parse_address(&[libc::AF_INET as u8, 0, 0, 80, 10, 0, 0, 1]), None);
    }

    #[test]
    fn an_answer_is_cut_off_and_says_its_whole_length() {
        let mut room = [0u8; 4];
        let mut len: socklen_t = 2;
        // SAFETY: `room` has the two bytes that `len` says.
        let answer = unsafe { Answer::new(room.as_mut_ptr(), &raw mut len) };
        assert_eq!(answer.write(&[1, 2, 3], 3), Ok(()));
        assert_eq!((room, len), ([1, 2, 0, 0], 3));
    }

    #[test]
    fn a_timeout_must_be_normalised() {
        for (tv_sec, tv_nsec, expected) in [
            (0, 0, Ok(Some(Duration::ZERO))),
            (1, 999_999_999, Ok(Some(Duration::new(1, 999_999_999)))),
            (1, 1_000_000_000, Err(Errno::EINVAL)),
            (-1, 0, Err(Errno::EINVAL)),
        ] {
            // SAFETY: a reference to a timespec.
            assert_eq!(unsafe { timeout(&timespec { tv_sec, tv_nsec }) }, expected);
        }
    }
}
