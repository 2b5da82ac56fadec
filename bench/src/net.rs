//! Non-blocking TCP sockets over IPv4, with no more system calls than a transaction needs.

use crate::epoll::check;
use std::{
    io,
    mem::size_of,
    net::SocketAddrV4,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

/// Makes a listener with SO_REUSEADDR; the backlog is as long as net.core.somaxconn allows.
///
/// # Errors
/// What socket(2), setsockopt(2), bind(2) or listen(2) answered.
pub fn listen(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = tcp_socket()?;
    let fd = socket.as_raw_fd();
    let on = 1_i32;
    let (on, on_len) = (ptr::from_ref(&on).cast(), size_of::<i32>() as u32);
    // SAFETY: `on` points to an int, and the length says so.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, on, on_len) })?;
    let name = sockaddr(address);
    // SAFETY: `name` is a sockaddr_in, and the length says so.
    check(unsafe { libc::bind(fd, ptr::from_ref(&name).cast(), size_of::<libc::sockaddr_in>() as u32) })?;
    // SAFETY: the call takes no pointer.
    check(unsafe { libc::listen(fd, i32::MAX) })?;
    Ok(socket)
}

/// Takes one flow off the listener's accept queue; `None` when it is empty.
///
/// # Errors
/// What accept4(2) answered.
pub fn accept(listener: BorrowedFd) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the peer's name is not asked for, so no memory is touched.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags) });
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unless_would_block(fd)?.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Starts to connect; the socket is writable once connected.
///
/// # Errors
/// What socket(2) or connect(2) answered, but for EINPROGRESS.
pub fn connect(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = tcp_socket()?;
    let name = sockaddr(address);
    let name_len = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: `name` is a sockaddr_in, and the length says so.
    match check(unsafe { libc::connect(socket.as_raw_fd(), ptr::from_ref(&name).cast(), name_len) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Reads what is there into `buffer`: 0 is the end of the stream, `None` that nothing is there yet.
///
/// # Errors
/// What recv(2) answered.
pub fn recv(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is writable for its whole length.
    let answer = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    Ok(unless_would_block(check(answer as i32))?.map(|len| len as usize))
}

/// Writes `bytes` whole: requests and replies are small beside any send buffer, so what does not fit at once is an error.
///
/// # Errors
/// What send(2) answered; `WriteZero` when it took only a part.
pub fn send(socket: BorrowedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the slice is readable for its whole length.
    let answer = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    let sent = check(answer as i32)?;
    if sent as usize == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Allows as many open descriptors as the hard limit does. getrlimit(2).
///
/// # Errors
/// What getrlimit(2) or setrlimit(2) answered.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and of the type that the call expects.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is readable and of the type that the call expects.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(())
}

fn tcp_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointer.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn unless_would_block(answer: io::Result<i32>) -> io::Result<Option<i32>> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        answer => answer.map(Some),
    }
}
