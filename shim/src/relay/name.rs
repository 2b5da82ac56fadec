//! A relay's name: the abstract address (unix(7)) of our end, which tells whoever holds the other end, in whatever
//! program, whose flow it is.

use crate::sys::{self, AddressBuffer};
use libc::c_int;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// Both ends of a flow, and the family of the socket that it belonged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// AF_INET or AF_INET6.
    pub family: c_int,
    /// getsockname(2).
    pub local: SocketAddr,
    /// getpeername(2).
    pub remote: SocketAddr,
}

/// A leading zero makes an address abstract.
const MARK: &[u8] = b"\0userstack-relay:";

/// The rest of it is so many bytes in hexadecimal digits, since /proc/net/unix is a text: a number that makes the address
/// the only one of its kind, the family, and twice an IPv6 address (or a mapped one) and a port.
const LEN: usize = 8 + 1 + 2 * (16 + 2);

impl Name {
    /// The name as a sockaddr_un: the bytes and their number.
    pub fn format(&self, unique: u64) -> (AddressBuffer, usize) {
        let ip = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let [from, to] = [self.local, self.remote].map(|address| (ip(address), address.port().to_be_bytes()));
        let bytes = [&unique.to_be_bytes()[..], &[self.family as u8], &from.0, &from.1, &to.0, &to.1].concat();
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
        let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        let family = (libc::AF_UNIX as u16).to_ne_bytes();
        let all = family.into_iter().chain(MARK.iter().copied()).chain(digits);
        let mut address = [0; size_of::<AddressBuffer>()];
        let len = all.zip(&mut address).map(|(byte, slot)| *slot = byte).count();
        (address, len)
    }

    /// The inverse; `None` for any other address.
    pub fn parse(address: &[u8]) -> Option<Self> {
        let digits = address.get(2..)?.strip_prefix(MARK)?;
        let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let byte = |pair: &[u8]| Some(value(pair[0])? << 4 | value(pair[1])?);
        let bytes: Vec<u8> = digits.chunks_exact(2).map(byte).collect::<Option<_>>()?;
        if bytes.len() != LEN || digits.len() % 2 != 0 {
            return None;
        }
        let (family, addresses) = (c_int::from(bytes[8]), &bytes[9..]);
        let end = |bytes: &[u8]| {
            let ip: [u8; 16] = bytes[..16].try_into().ok()?;
            let port = u16::from_be_bytes(bytes[16..].try_into().ok()?);
            let ip = Ipv6Addr::from(ip);
            let ip = if family == libc::AF_INET { IpAddr::V4(ip.to_ipv4_mapped()?) } else { IpAddr::V6(ip) };
            Some(SocketAddr::new(ip.to_canonical(), port))
        };
        Some(Name { family, local: end(&addresses[..18])?, remote: end(&addresses[18..])? })
    }

    /// The name of the relay whose other end is at `fd`, if it is one: its peer has such an address, it has none itself
    /// (one that was accepted would have its listener's), and it was made by who may be trusted with an fd of ours.
    pub fn of(fd: RawFd) -> Option<Self> {
        let mut address: AddressBuffer = [0; size_of::<AddressBuffer>()];
        let len = sys::peer_name(fd, &mut address).ok()?;
        let name = Name::parse(&address[..len])?;
        let is_unnamed = sys::socket_name(fd, &mut address).ok()? == size_of::<libc::sa_family_t>();
        let mut credentials = [0; size_of::<libc::ucred>()];
        sys::option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut credentials).ok()?;
        let maker = u32::from_ne_bytes(credentials[4..8].try_into().ok()?);
        (is_unnamed && (maker == 0 || maker == sys::user_id())).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(family: c_int, local: &str, remote: &str) {
        let [local, remote] = [local, remote].map(|address| address.parse().expect("an address"));
        let name = Name { family, local, remote };
        let (address, len) = name.format(0x0123_4567_89ab_cdef);
        assert!(len <= size_of::<libc::sockaddr_un>(), "{len}");
        assert!(address[3..len].iter().all(u8::is_ascii_graphic));
        assert_eq!(Name::parse(&address[..len]), Some(name));
        assert_eq!(Name::parse(&address[..len - 1]), None);
        assert_eq!(Name::parse(&address[..len + 1]), None);
    }

    #[test]
    fn a_name_comes_out_as_it_went_in() {
        check(libc::AF_INET, "10.1.2.3:80", "192.0.2.7:65535");
        check(libc::AF_INET6, "10.1.2.3:80", "192.0.2.7:65535");
        check(libc::AF_INET6, "[2001:db8::1]:443", "[fd07::2]:1");
    }

    #[test]
    fn other_addresses_are_no_names() {
        for address in
            [&b""[..], b"\x01\0", b"\x01\0/run/socket", b"\x01\0\0userstack-relay:", b"\x01\0\0userstack-relay:zz"]
        {
            assert_eq!(Name::parse(address), None);
        }
    }
}
