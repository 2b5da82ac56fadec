//! Raw system calls: what the shim asks of the kernel for itself, past its own hooks, of which syscall(2) is one.

use crate::args::Room;
use crate::limits::ITEMS_MAX;
use libc::{c_int, c_long, c_short, epoll_event, pollfd};
use stack::Errno;
use stack::kernel::high_fd_floor;
use std::ffi::CStr;
use std::mem::size_of;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

/// A system call's arguments, each widened to a word, as the kernel takes it.
macro_rules! words {
    [$($argument:expr),*] => {{
        let mut arguments = [0; 6];
        let given = [$($argument as c_long),*];
        arguments[..given.len()].copy_from_slice(&given);
        arguments
    }};
}

/// Makes a system call.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {{
        let arguments = words![$($argument),*];
        // SAFETY: what the arguments point to lives until the call returns, and is as long as it says.
        outcome(unsafe { raw(libc::$number, arguments) })
    }};
}

mod process;
mod rights;
mod signal;

pub use process::{adopts_orphans, open_own_library, settle_apart, start_orphan};
pub use rights::{PassedFd, receive_message, receive_with_fd, send_with_fd};
pub use signal::{
    SignalMask, block_more, block_signals, queue_signal, raise, raise_sigpipe, sleep_in_epoll, sleep_in_poll, unblock,
    wait_for_change, wake_for_change,
};

/// What the kernel returned: a negative number is an error's (syscalls(2)).
pub fn outcome(answer: c_long) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| Errno(-answer as c_int))
}

/// The instruction itself, as syscall(2) has it for this architecture.
///
/// # Safety
/// The arguments are as the system call wants them.
#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let answer;
    // SAFETY: the caller's promise. The kernel changes no register but rax, rcx and r11.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// As above.
///
/// # Safety
/// The arguments are as the system call wants them.
#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let answer;
    // SAFETY: the caller's promise. The kernel changes no register but x0.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => answer, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    answer
}

/// close(2).
pub fn close(fd: RawFd) {
    // After EINTR, too, the fd is closed (close(2), "Dealing with error returns").
    let _ = call!(SYS_close, fd);
}

/// close_range(2).
pub fn close_range(first: u32, last: u32, flags: c_int) -> Result<(), Errno> {
    call!(SYS_close_range, first, last, flags).map(drop)
}

/// write(2).
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    call!(SYS_write, fd, bytes.as_ptr(), bytes.len())
}

/// read(2).
pub fn read(fd: RawFd, into: &mut [u8]) -> Result<usize, Errno> {
    call!(SYS_read, fd, into.as_mut_ptr(), into.len())
}

/// pread64(2).
pub fn read_at(fd: RawFd, into: &mut [u8], offset: i64) -> Result<usize, Errno> {
    call!(SYS_pread64, fd, into.as_mut_ptr(), into.len(), offset)
}

/// lseek(2).
pub fn seek(fd: RawFd, offset: i64, whence: c_int) -> Result<i64, Errno> {
    call!(SYS_lseek, fd, offset, whence).map(|at| at as i64)
}

/// Opens a file to read it.
pub fn open(path: &CStr) -> Result<RawFd, Errno> {
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC).map(|fd| fd as RawFd)
}

/// Opens or creates a file, for writing; `flags` are more of open(2)'s.
pub fn create(path: &CStr, flags: c_int) -> Result<RawFd, Errno> {
    let flags = flags | libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o644).map(|fd| fd as RawFd)
}

/// Empties a file: ftruncate(2).
pub fn truncate(fd: RawFd) -> Result<(), Errno> {
    call!(SYS_ftruncate, fd, 0).map(drop)
}

/// getpid(2), from the kernel: a child of vfork(2) shares whatever we would remember.
pub fn process_id() -> i32 {
    call!(SYS_getpid).map_or(0, |pid| pid as i32)
}

/// geteuid(2).
pub fn user_id() -> u32 {
    call!(SYS_geteuid).map_or(0, |id| id as u32)
}

/// Random bytes, for what must not be guessed; at least their time of day before the kernel has any.
pub fn random() -> u64 {
    let mut bytes = [0u8; 8];
    match call!(SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), libc::GRND_NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => crate::clock::wall_offset().as_nanos() as u64 ^ crate::clock::now().total_micros() as u64,
    }
}

/// socket(2).
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> Result<RawFd, Errno> {
    call!(SYS_socket, family, kind, protocol).map(|fd| fd as RawFd)
}

/// bind(2), to an address as the kernel knows it.
pub fn bind(fd: RawFd, address: &[u8]) -> Result<(), Errno> {
    call!(SYS_bind, fd, address.as_ptr(), address.len()).map(drop)
}

/// getsockname(2); returns how much of `into` it filled.
pub fn socket_name(fd: RawFd, into: &mut [u8]) -> Result<usize, Errno> {
    let mut len = into.len() as libc::socklen_t;
    call!(SYS_getsockname, fd, into.as_mut_ptr(), &raw mut len)?;
    Ok((len as usize).min(into.len()))
}

/// accept4(2); fills `address` with the peer's and returns its length beside the fd.
pub fn accept(fd: RawFd, address: &mut [u8], flags: c_int) -> Result<(RawFd, usize), Errno> {
    let mut len = address.len() as libc::socklen_t;
    let accepted = call!(SYS_accept4, fd, address.as_mut_ptr(), &raw mut len, flags)?;
    Ok((accepted as RawFd, (len as usize).min(address.len())))
}

/// The interface that a socket is bound to, by its index: socket(7), SO_BINDTODEVICE.
pub fn bound_device(fd: RawFd) -> Option<u32> {
    let mut index = [0; size_of::<u32>()];
    option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &mut index).ok()?;
    Some(u32::from_ne_bytes(index)).filter(|&index| index != 0)
}

/// The machine's memory, in bytes; 0 if that is not known.
pub fn memory_len() -> usize {
    // SAFETY: sysconf takes a number and touches nothing.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: the same.
    let page_len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.max(0) as usize * page_len.max(0) as usize
}

/// The processor that this thread runs on: getcpu(2).
pub fn processor() -> u32 {
    let mut processor = 0u32;
    let _ = call!(SYS_getcpu, &raw mut processor, 0, 0);
    processor
}

/// listen(2).
pub fn listen(fd: RawFd, backlog: c_int) -> Result<(), Errno> {
    call!(SYS_listen, fd, backlog).map(drop)
}

/// shutdown(2).
pub fn shutdown(fd: RawFd, how: c_int) -> Result<(), Errno> {
    call!(SYS_shutdown, fd, how).map(drop)
}

/// socketpair(2) in AF_UNIX: two connected sockets, close-on-exec.
pub fn socket_pair(kind: c_int) -> Result<[RawFd; 2], Errno> {
    let mut pair = [-1; 2];
    call!(SYS_socketpair, libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr())?;
    Ok(pair)
}

/// getpeername(2); returns how much of `into` it filled.
pub fn peer_name(fd: RawFd, into: &mut [u8]) -> Result<usize, Errno> {
    let mut len = into.len() as libc::socklen_t;
    call!(SYS_getpeername, fd, into.as_mut_ptr(), &raw mut len)?;
    Ok((len as usize).min(into.len()))
}

/// getsockopt(2); returns how much of `into` it filled.
pub fn option(fd: RawFd, level: c_int, name: c_int, into: &mut [u8]) -> Result<usize, Errno> {
    let mut len = into.len() as libc::socklen_t;
    call!(SYS_getsockopt, fd, level, name, into.as_mut_ptr(), &raw mut len)?;
    Ok((len as usize).min(into.len()))
}

/// setsockopt(2).
pub fn set_option(fd: RawFd, level: c_int, name: c_int, value: &[u8]) -> Result<(), Errno> {
    call!(SYS_setsockopt, fd, level, name, value.as_ptr(), value.len()).map(drop)
}

/// connect(2), to an address as the kernel knows it.
pub fn connect(fd: RawFd, address: &[u8]) -> Result<(), Errno> {
    call!(SYS_connect, fd, address.as_ptr(), address.len()).map(drop)
}

/// getsockopt(2) of an int.
pub fn option_int(fd: RawFd, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value = [0; size_of::<c_int>()];
    option(fd, level, name, &mut value).map(|_| c_int::from_ne_bytes(value))
}

/// sendmsg(2).
pub fn send_message(fd: RawFd, message: &libc::msghdr, flags: c_int) -> Result<usize, Errno> {
    call!(SYS_sendmsg, fd, ptr::from_ref(message), flags)
}

/// recv(2), without waiting.
pub fn receive(fd: RawFd, into: &mut [u8]) -> Result<usize, Errno> {
    call!(SYS_recvfrom, fd, into.as_mut_ptr(), into.len(), libc::MSG_DONTWAIT)
}

/// send(2), without waiting and without SIGPIPE.
pub fn send(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    call!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// epoll_create1(2), close-on-exec and high.
pub fn epoll_high() -> Result<RawFd, Errno> {
    epoll_create(libc::EPOLL_CLOEXEC).and_then(move_high)
}

/// Whether the other end of a socketpair is closed: EPOLLHUP.
pub fn is_hung_up(fd: RawFd) -> bool {
    let mut fds = [pollfd { fd, events: 0, revents: 0 }];
    poll(&mut fds, Some(Duration::ZERO)) == Ok(1) && fds[0].revents & libc::POLLHUP != 0
}

/// fcntl(2).
pub fn fcntl(fd: RawFd, command: c_int, argument: c_long) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, command, argument).map(|answer| answer as c_int)
}

/// Locks a file for this process, beside others that do (F_SETLK), until it closes an fd of it.
///
/// # Errors
/// What fcntl(2) says.
pub fn lock_shared(fd: RawFd) -> Result<(), Errno> {
    let lock = whole(libc::F_RDLCK);
    call!(SYS_fcntl, fd, libc::F_SETLK, &raw const lock).map(drop)
}

/// Ends that.
pub fn unlock(fd: RawFd) {
    let lock = whole(libc::F_UNLCK);
    // It can only fail on a closed fd.
    let _ = call!(SYS_fcntl, fd, libc::F_SETLK, &raw const lock);
}

/// Whether other processes have locked it.
pub fn is_locked_by_others(fd: RawFd) -> bool {
    let mut found = whole(libc::F_WRLCK);
    call!(SYS_fcntl, fd, libc::F_GETLK, &raw mut found).is_ok() && c_int::from(found.l_type) != libc::F_UNLCK
}

fn whole(kind: c_int) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

/// dup3(2).
pub fn duplicate_to(fd: RawFd, to: RawFd, flags: c_int) -> Result<(), Errno> {
    call!(SYS_dup3, fd, to, flags).map(drop)
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: RawFd, nonblocking: bool) -> Result<(), Errno> {
    let flags = fcntl(fd, libc::F_GETFL, 0)?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        fcntl(fd, libc::F_SETFL, wanted.into())?;
    }
    Ok(())
}

/// A close-on-exec copy of `fd` above the numbers that the application is given.
pub fn duplicate_high(fd: RawFd) -> Result<RawFd, Errno> {
    let floor = high_fd_floor().map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
    fcntl(fd, libc::F_DUPFD_CLOEXEC, floor.into())
}

/// The same, and closes `fd`.
pub fn move_high(fd: RawFd) -> Result<RawFd, Errno> {
    let high = duplicate_high(fd);
    close(fd);
    high
}

/// A non-blocking eventfd(2), high.
pub fn event_fd() -> Result<RawFd, Errno> {
    let fd = call!(SYS_eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)?;
    move_high(fd as RawFd)
}

/// Makes an eventfd readable.
pub fn signal_event(fd: RawFd) {
    // It can only fail when it is readable already.
    let _ = write(fd, &1u64.to_ne_bytes());
}

/// Makes an eventfd unreadable.
pub fn clear_event(fd: RawFd) {
    // It can only fail when it is unreadable already.
    let _ = read(fd, &mut [0; 8]);
}

/// epoll_create1(2).
pub fn epoll_create(flags: c_int) -> Result<RawFd, Errno> {
    call!(SYS_epoll_create1, flags).map(|fd| fd as RawFd)
}

/// epoll_ctl(2).
pub fn epoll_control(epfd: RawFd, operation: c_int, fd: RawFd, events: u32, data: u64) -> Result<(), Errno> {
    let mut event = epoll_event { events, u64: data };
    call!(SYS_epoll_ctl, epfd, operation, fd, &raw mut event).map(drop)
}

/// What the kernel takes for a time and a signal mask.
fn timespec(timeout: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    }
}

/// epoll_wait(2) without waiting.
pub fn look_in_epoll(epfd: RawFd, events: &mut Room<epoll_event>) -> Result<usize, Errno> {
    call!(SYS_epoll_pwait, epfd, events.address(), events.len().min(ITEMS_MAX), 0, 0, 0)
}

/// The same for events of our own.
pub fn epoll_look(epfd: RawFd, events: &mut [epoll_event]) -> Result<usize, Errno> {
    call!(SYS_epoll_pwait, epfd, events.as_mut_ptr(), events.len(), 0, 0, 0)
}

/// ppoll(2): returns how many of `fds` have something to say; without `timeout` it waits for ever.
pub fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> Result<usize, Errno> {
    // The kernel writes the time that is left.
    let mut time = timeout.map(timespec);
    let time = time.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    call!(SYS_ppoll, fds.as_mut_ptr(), fds.len(), time, 0, 0)
}

/// Which of `events` are true of an fd now, and of those that are always asked for.
pub fn look(fd: RawFd, events: c_short) -> c_short {
    let mut fds = [pollfd { fd, events, revents: 0 }];
    poll(&mut fds, Some(Duration::ZERO)).map_or(0, |_| fds[0].revents)
}

/// Whether one fd is readable now.
pub fn is_readable(fd: RawFd) -> bool {
    look(fd, libc::POLLIN) & libc::POLLIN != 0
}

/// Faults pages in, to be read or written to; false if one of them is not there, or is of a kind that this cannot do:
/// madvise(2), MADV_POPULATE_READ and MADV_POPULATE_WRITE.
pub fn populate(address: usize, len: usize, writable: bool) -> bool {
    let advice = if writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    call!(SYS_madvise, address, len, advice).is_ok()
}

/// Whether an aligned word of memory can be read: futex(2) compares it, and then moves no one.
pub fn is_word_readable(address: usize) -> bool {
    let (compare, other) = (libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG, 0u32);
    call!(SYS_futex, address, compare, 0, 0, &raw const other, 0) != Err(Errno::EFAULT)
}

/// Whether an aligned word of memory can be written to: futex(2) ors nothing into it, and then wakes no one.
pub fn is_word_writable(address: usize) -> bool {
    /// FUTEX_OP_OR with 0, then FUTEX_OP_CMP_EQ with 0 (linux/futex.h).
    const OR_NOTHING: c_int = 2 << 28;
    let (wake, other) = (libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG, 0u32);
    call!(SYS_futex, &raw const other, wake, 0, 0, address, OR_NOTHING) != Err(Errno::EFAULT)
}

/// Ends the process, past every hook and handler.
pub fn exit(status: c_int) -> ! {
    loop {
        let _ = call!(SYS_exit_group, status);
    }
}

/// Whether a thread of this process is there.
pub fn has_thread(thread: libc::pid_t) -> bool {
    call!(SYS_tgkill, process_id(), thread, 0).is_ok()
}

/// setsid(2).
pub fn new_session() {
    // It can only fail for who leads a process group already.
    let _ = call!(SYS_setsid);
}

/// Waits for the end of a child: 0, or what it ended with.
pub fn wait_for(child: libc::pid_t) -> c_int {
    let mut status = 0;
    while call!(SYS_wait4, child, &raw mut status, 0, 0) == Err(Errno::EINTR) {}
    status
}

/// Memory of a socket address as the kernel writes it.
pub type AddressBuffer = [u8; size_of::<libc::sockaddr_storage>()];
