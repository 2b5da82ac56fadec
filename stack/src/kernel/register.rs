//! The register of open connections: memory that a process shares with its guardian, which reads it when the process has
//! died, and what the guardian says to the peers.

use super::sys;
use crate::answer;
use crate::limits::FLOWS_MAX;
use crate::outside::Register;
use smoltcp::phy::ChecksumCapabilities;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use xdp_prog::high_fd;

/// Bytes of a place: 4 or 6 or, while it is empty, 0; the ports; a sequence number; the addresses, local first.
pub const PLACE_LEN: usize = 48;
const PORTS: usize = 4;
const SEQ: usize = 8;
const ADDRESSES: usize = 12;
const ADDRESS_LEN: usize = 16;

/// The register, to be written to.
pub struct SharedRegister {
    memory: NonNull<u8>,
}

// SAFETY: the memory is bound to no thread.
unsafe impl Send for SharedRegister {}

impl SharedRegister {
    /// An empty one, and the file that shows its contents. Memory is taken as it fills.
    ///
    /// # Errors
    /// Those of memfd_create(2) and mmap(2). `EFBIG`: RLIMIT_FSIZE.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let len = FLOWS_MAX * PLACE_LEN;
        let file = high_fd(sys::memory_file(c"userstack", len)?)?;
        // Not to be kept out of children: the successor goes on with it, and the others do not touch it.
        let memory = sys::share(file.as_raw_fd(), len)?;
        Ok((SharedRegister { memory }, file))
    }

    /// Where the bytes of a place begin.
    fn place(&self, place: usize) -> NonNull<u8> {
        assert!(place < FLOWS_MAX);
        // SAFETY: the mapping has FLOWS_MAX places.
        unsafe { self.memory.add(place * PLACE_LEN) }
    }

    fn version(&self, place: usize) -> &AtomicU8 {
        // SAFETY: the byte is mapped for the life of the process, and written to only by way of this.
        unsafe { AtomicU8::from_ptr(self.place(place).as_ptr()) }
    }
}

impl Register for SharedRegister {
    fn enter(&mut self, place: usize, local: SocketAddr, remote: SocketAddr, seq: u32) {
        let mut bytes = [0; PLACE_LEN];
        bytes[PORTS..PORTS + 2].copy_from_slice(&local.port().to_ne_bytes());
        bytes[PORTS + 2..PORTS + 4].copy_from_slice(&remote.port().to_ne_bytes());
        bytes[SEQ..SEQ + 4].copy_from_slice(&seq.to_ne_bytes());
        for (index, address) in [local.ip(), remote.ip()].into_iter().enumerate() {
            let octets: &[u8] = match &address {
                IpAddr::V4(address) => &address.octets(),
                IpAddr::V6(address) => &address.octets(),
            };
            let at = ADDRESSES + index * ADDRESS_LEN;
            bytes[at..at + octets.len()].copy_from_slice(octets);
        }
        let version = if local.is_ipv4() { 4 } else { 6 };
        // SAFETY: the place has so many bytes, and nobody reads them while this process lives.
        unsafe { self.place(place).copy_from_nonoverlapping(NonNull::from(&bytes).cast(), PLACE_LEN) };
        // Whenever the process dies, what has a version is whole.
        self.version(place).store(version, Ordering::Release);
    }

    fn strike(&mut self, place: usize) {
        self.version(place).store(0, Ordering::Release);
    }
}

/// What a place of the register says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    local: SocketAddr,
    remote: SocketAddr,
    /// A sequence number that the peer has seen.
    seq: u32,
}

impl Entry {
    /// Reads a place; `None` if it is empty.
    pub fn parse(bytes: &[u8; PLACE_LEN]) -> Option<Self> {
        let port = |index: usize| u16::from_ne_bytes([bytes[PORTS + index * 2], bytes[PORTS + index * 2 + 1]]);
        let address = |index: usize| {
            let octets = &bytes[ADDRESSES + index * ADDRESS_LEN..][..ADDRESS_LEN];
            match bytes[0] {
                4 => octets.first_chunk().map(|octets| Ipv4Addr::from_octets(*octets).into()),
                6 => octets.first_chunk().map(|octets| Ipv6Addr::from_octets(*octets).into()),
                _ => None,
            }
        };
        let end = |index| Some(SocketAddr::new(address(index)?, port(index)));
        let seq = u32::from_ne_bytes([bytes[SEQ], bytes[SEQ + 1], bytes[SEQ + 2], bytes[SEQ + 3]]);
        Some(Entry { local: end(0)?, remote: end(1)?, seq })
    }

    /// A segment that is outside the peer's window, whatever has been sent meanwhile, so that the peer says where it stands
    /// (RFC 9293, 3.10.7.4); and to that the kernel, which has no such connection, answers with the right RST.
    fn question(&self) -> Vec<u8> {
        let tcp = answer::empty(self.local, self.remote, self.seq, Some(0));
        let ip = answer::ip_of(self.local, self.remote, &tcp);
        let mut packet = vec![0; ip.buffer_len()];
        answer::emit(&ip, &tcp, &mut packet, &ChecksumCapabilities::default());
        packet
    }
}

/// Opens what sends packets with headers of its own over IPv4, and over IPv6; they receive nothing (raw(7)).
///
/// # Errors
/// `EPERM`: no CAP_NET_RAW. Others of socket(2).
pub fn open_raw() -> io::Result<[OwnedFd; 2]> {
    let open = |family| high_fd(sys::socket(family, libc::SOCK_RAW, libc::IPPROTO_RAW)?);
    Ok([open(libc::AF_INET)?, open(libc::AF_INET6)?])
}

/// Asks the peer of a connection whose process has died where it stands; `raw` is from `open_raw`.
///
/// # Errors
/// Those of sendto(2).
pub fn ask(raw: [RawFd; 2], entry: &Entry) -> io::Result<()> {
    let [v4, v6] = raw;
    match entry.remote {
        SocketAddr::V4(remote) => sys::send_packet(v4, &entry.question(), &sys::address_v4(*remote.ip(), 0)),
        SocketAddr::V6(remote) => sys::send_packet(v6, &entry.question(), &sys::address_v6(*remote.ip(), 0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{ACK, parse};

    fn read(file: &OwnedFd) -> Vec<Option<Entry>> {
        let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        let bytes = sys::read_file(std::ffi::CStr::from_bytes_with_nul(path.as_bytes()).unwrap()).unwrap();
        bytes.as_chunks().0.iter().take(4).map(Entry::parse).collect()
    }

    #[test]
    fn what_is_entered_is_read_until_it_is_struck() {
        let (mut register, file) = SharedRegister::create().unwrap();
        let v4 = ["10.0.0.1:80", "10.0.0.2:4711"].map(|end| end.parse().unwrap());
        let v6 = ["[2001:db8::1]:80", "[2001:db8::2]:4711"].map(|end| end.parse().unwrap());
        register.enter(0, v4[0], v4[1], 7);
        register.enter(2, v6[0], v6[1], 8);
        let entry = |[local, remote]: [SocketAddr; 2], seq| Some(Entry { local, remote, seq });
        assert_eq!(read(&file), [entry(v4, 7), None, entry(v6, 8), None]);
        register.strike(0);
        register.enter(2, v4[0], v4[1], 9);
        assert_eq!(read(&file), [None, None, entry(v4, 9), None]);
        register.enter(FLOWS_MAX - 1, v6[0], v6[1], 8);
    }

    #[test]
    fn the_question_is_a_bare_ack() {
        for [local, remote] in [["10.0.0.1:80", "10.0.0.2:4711"], ["[2001:db8::1]:80", "[2001:db8::2]:4711"]] {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let packet = Entry { local, remote, seq: 7 }.question();
            let segment = parse(&packet).unwrap();
            assert_eq!((segment.key.remote(), segment.key.local()), (local, remote));
            assert_eq!((segment.flags, segment.seq, segment.payload_len), (ACK, 7, 0));
        }
    }
}
