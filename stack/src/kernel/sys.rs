//! System calls made without libc's functions, which inside a preloaded library are our own hooks.

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

/// An fd of ours, closed by the system call itself: the hook of close(2) keeps fds of ours open.
pub(super) struct OwnFd(pub RawFd);

impl Drop for OwnFd {
    fn drop(&mut self) {
        // SAFETY: the owner of this number is gone with this value. close(2) touches no memory.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// socket(2), close-on-exec.
pub(super) fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: three numbers; no memory is touched.
    let fd = check(unsafe { libc::syscall(libc::SYS_socket, domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made this fd, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// setsockopt(2) with a value of plain memory.
pub(super) fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let value_ptr: *const T = value;
    let len = size_of::<T>();
    // SAFETY: the kernel reads `len` bytes of a live value.
    check(unsafe { libc::syscall(libc::SYS_setsockopt, fd, level, name, value_ptr, len) }).map(drop)
}

/// sendto(2) of nothing to nobody without waiting: what starts an AF_XDP socket's transmission.
pub(super) fn wake_tx(fd: RawFd) -> io::Result<()> {
    let (nothing, nobody) = (ptr::null::<u8>(), ptr::null::<libc::sockaddr>());
    // SAFETY: a length of 0 and no address: no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_sendto, fd, nothing, 0, libc::MSG_DONTWAIT, nobody, 0) }).map(drop)
}

/// recvfrom(2) of nothing from nobody without waiting: what makes a driver look at its fill ring again.
pub(super) fn wake_rx(fd: RawFd) -> io::Result<()> {
    let (nothing, nobody) = (ptr::null_mut::<u8>(), ptr::null_mut::<libc::sockaddr>());
    let no_len = ptr::null_mut::<libc::socklen_t>();
    // SAFETY: a length of 0 and no address: no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_recvfrom, fd, nothing, 0, libc::MSG_DONTWAIT, nobody, no_len) }).map(drop)
}

/// sendto(2) of a packet to an address, without waiting.
pub(super) fn send_packet<A>(fd: RawFd, packet: &[u8], address: &A) -> io::Result<()> {
    let address_ptr: *const A = address;
    let (packet_ptr, len) = (packet.as_ptr(), size_of::<A>());
    // SAFETY: the kernel reads `packet.len()` live bytes, and `len` bytes of a live socket address.
    let sent =
        unsafe { libc::syscall(libc::SYS_sendto, fd, packet_ptr, packet.len(), libc::MSG_DONTWAIT, address_ptr, len) };
    check(sent).map(drop)
}

/// The kernel's form of an address.
pub(super) fn address_v4(address: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: address.to_bits().to_be() },
        sin_zero: [0; 8],
    }
}

/// The same for IPv6; `scope_id` is an interface's index, or 0.
pub(super) fn address_v6(address: Ipv6Addr, port: u16, scope_id: u32) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: port.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.octets() },
        sin6_scope_id: scope_id,
    }
}

/// A file of zeroes in memory, which takes memory as it is written to: memfd_create(2).
///
/// # Errors
/// `EFBIG`: RLIMIT_FSIZE forbids one of this length (ftruncate(2) would send SIGXFSZ).
pub(super) fn memory_file(name: &CStr, len: usize) -> io::Result<OwnedFd> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit for the kernel to fill in.
    check(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) }.into())?;
    if limit.rlim_cur < len as libc::rlim_t {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let name_ptr = name.as_ptr();
    // SAFETY: a live name that ends in a zero byte.
    let fd = check(unsafe { libc::syscall(libc::SYS_memfd_create, name_ptr, libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made this fd, and nobody else knows its number.
    let file = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // SAFETY: two numbers; no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_ftruncate, fd, len) })?;
    Ok(file)
}

/// Maps a file of `len` bytes, to be written to and seen by whoever else maps or reads it, for the life of the process.
pub(super) fn share(file: RawFd, len: usize) -> io::Result<NonNull<u8>> {
    let (anywhere, access) = (ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a new mapping takes nobody's place.
    let memory = unsafe { libc::mmap(anywhere, len, access, libc::MAP_SHARED, file, 0) };
    match NonNull::new(memory) {
        Some(memory) if memory.as_ptr() != libc::MAP_FAILED => Ok(memory.cast()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// ioctl(2) on a structure that the request reads and writes.
///
/// # Safety
/// `request` takes a pointer to a `T`, and what pointers that `T` holds are as the request wants them.
pub(super) unsafe fn ioctl<T>(fd: RawFd, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    let argument_ptr: *mut T = argument;
    // SAFETY: the caller vouches for the request, and the structure is live and exclusively ours.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument_ptr) }).map(drop)
}

/// fcntl(2), F_SETFD.
pub(super) fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: three numbers; no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Whether a file is there, access(2).
pub(super) fn exists(path: &CStr) -> bool {
    let path_ptr = path.as_ptr();
    // SAFETY: a live path that ends in a zero byte.
    unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path_ptr, libc::F_OK) == 0 }
}

/// The whole of a file.
pub fn read_file(path: &CStr) -> io::Result<Vec<u8>> {
    let path_ptr = path.as_ptr();
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a live path that ends in a zero byte.
    let fd = check(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path_ptr, flags, 0) })?;
    let file = OwnFd(fd as RawFd);
    let mut bytes = Vec::new();
    let mut page = [0u8; 4096];
    loop {
        let page_ptr = page.as_mut_ptr();
        // SAFETY: the kernel writes at most the page's length into a live page.
        match check(unsafe { libc::syscall(libc::SYS_read, file.0, page_ptr, page.len()) })? as usize {
            0 => return Ok(bytes),
            len => bytes.extend_from_slice(&page[..len]),
        }
    }
}

/// Writes a few bytes at once into a file that is there: a setting of proc(5).
pub(super) fn write_setting(path: &CStr, value: &[u8]) -> io::Result<()> {
    let path_ptr = path.as_ptr();
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: a live path that ends in a zero byte.
    let fd = check(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path_ptr, flags, 0) })?;
    let file = OwnFd(fd as RawFd);
    let value_ptr = value.as_ptr();
    // SAFETY: the kernel reads `value.len()` live bytes.
    check(unsafe { libc::syscall(libc::SYS_write, file.0, value_ptr, value.len()) }).map(drop)
}

/// A system call's result, or the errno that it left.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole() {
        let read = read_file(c"/proc/self/exe").expect("a readable file");
        assert!(read == std::fs::read("/proc/self/exe").expect("a readable file"));
        assert_eq!(read_file(c"/nowhere").unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert!(exists(c"/proc/self/maps") && !exists(c"/nowhere"));
    }
}
