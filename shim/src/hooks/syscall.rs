//! syscall(2): the calls that a program makes by their numbers, past the functions that have their names.
//!
//! libuv closes its sockets so. A number whose function is exported here goes to that function, if the fd is ours; any
//! other is the kernel's.

use super::poll;
use crate::fd_table::{self, Entry};
use crate::signals::{self, KernelAction};
use crate::{args, exit, fork, ret, thread};
use libc::{c_int, c_long, fd_set, pollfd, sigset_t};
use stack::Errno;

/// Whether a call on `fd` is ours: the hook of the same name would serve it.
fn is_ours(fd: c_long) -> bool {
    matches!(
        fd_table::get(fd as c_int),
        Some(Entry::Socket(_) | Entry::Datagram(_) | Entry::Epoll(_) | Entry::OldEpoll(_) | Entry::Inherited(_))
    )
}

/// Whether some fds of a poll are ours. The C library's function is not the system call: it may read, unlike the
/// kernel, a time that is not there.
fn is_our_poll(fds: c_long, count: c_long) -> bool {
    // SAFETY: poll(2): as many elements.
    unsafe { poll::ours(fds as *mut pollfd, count as _) }.is_some()
}

/// Whether some fds of a select are ours.
fn is_our_select(count: c_long, sets: [c_long; 3]) -> bool {
    // SAFETY: select(2): each is there or not, and has room for `count` bits.
    unsafe { poll::our_sets(count as c_int, sets.map(|set| set as *mut fd_set)) }.is_some()
}

/// The mask of pselect6: the last of its arguments points to the two that a function would have.
fn mask_of(last: c_long) -> Result<*const sigset_t, Errno> {
    if last == 0 {
        return Ok(std::ptr::null());
    }
    // SAFETY: select(2): a pointer to the set, and its size.
    unsafe { args::value(last as *const *const sigset_t) }
}

/// Calls the function of a name, which is our own hook, with as many arguments as it has.
macro_rules! function {
    ($name:ident($($argument:expr),* $(; $variadic:expr)?)) => {
        // SAFETY: the arguments are the application's own, for the system call of that name, which takes the same.
        Some(unsafe { libc::$name($($argument as _),* $(, $variadic)?) } as c_long)
    };
}

export! {
    /// syscall(2). io_uring is answered as a kernel without it does: what is on a ring is not seen here, and programs
    /// fall back to the calls that are.
    fn syscall(
        number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long,
    ) -> c_long = libc::syscall as unsafe extern "C" fn(c_long, ...) -> c_long {
        if thread::is_inside() {
            return None;
        }
        if number == libc::SYS_rt_sigaction {
            // SAFETY: the application's own arguments.
            let next = || unsafe { exported::next(number, a, b, c, d, e, f) };
            let (failed, before) = signals::change(a as c_int, next)?;
            if failed == 0 && c != 0 {
                // SAFETY: rt_sigaction(2): it has just been filled in.
                before.reveal_kernels(unsafe { &mut *(c as *mut KernelAction) });
            }
            return Some(failed);
        }
        let may_be_ours = match number {
            libc::SYS_socket
            | libc::SYS_close_range
            | libc::SYS_poll
            | libc::SYS_ppoll
            | libc::SYS_select
            | libc::SYS_pselect6
            | libc::SYS_io_uring_setup
            | libc::SYS_exit_group => true,
            libc::SYS_epoll_ctl => is_ours(a) || is_ours(c),
            libc::SYS_dup2 | libc::SYS_dup3 => is_ours(a) || is_ours(b),
            _ => is_ours(a),
        };
        // The latter is a system call itself.
        if !may_be_ours || !fork::is_served() {
            return None;
        }
        match number {
            libc::SYS_socket => function!(socket(a, b, c)),
            libc::SYS_close_range => function!(close_range(a, b, c)),
            libc::SYS_poll if is_our_poll(a, b) => function!(poll(a, b, c)),
            libc::SYS_ppoll if is_our_poll(a, b) => function!(ppoll(a, b, c, d)),
            libc::SYS_select if is_our_select(a, [b, c, d]) => function!(select(a, b, c, d, e)),
            libc::SYS_pselect6 if is_our_select(a, [b, c, d]) => match mask_of(f) {
                Ok(mask) => function!(pselect(a, b, c, d, e, mask)),
                Err(errno) => ret::failure(errno),
            },
            libc::SYS_io_uring_setup => ret::failure(Errno::ENOSYS),
            libc::SYS_exit_group => {
                exit::leave();
                None
            }
            libc::SYS_epoll_ctl => function!(epoll_ctl(a, b, c, d)),
            libc::SYS_read => function!(read(a, b, c)),
            libc::SYS_write => function!(write(a, b, c)),
            libc::SYS_readv => function!(readv(a, b, c)),
            libc::SYS_writev => function!(writev(a, b, c)),
            libc::SYS_recvfrom => function!(recvfrom(a, b, c, d, e, f)),
            libc::SYS_sendto => function!(sendto(a, b, c, d, e, f)),
            libc::SYS_recvmsg => function!(recvmsg(a, b, c)),
            libc::SYS_sendmsg => function!(sendmsg(a, b, c)),
            libc::SYS_recvmmsg => function!(recvmmsg(a, b, c, d, e)),
            libc::SYS_sendmmsg => function!(sendmmsg(a, b, c, d)),
            libc::SYS_bind => function!(bind(a, b, c)),
            libc::SYS_listen => function!(listen(a, b)),
            libc::SYS_accept => function!(accept(a, b, c)),
            libc::SYS_accept4 => function!(accept4(a, b, c, d)),
            libc::SYS_connect => function!(connect(a, b, c)),
            libc::SYS_shutdown => function!(shutdown(a, b)),
            libc::SYS_close => function!(close(a)),
            libc::SYS_dup => function!(dup(a)),
            libc::SYS_dup2 => function!(dup2(a, b)),
            libc::SYS_dup3 => function!(dup3(a, b, c)),
            libc::SYS_fcntl => function!(fcntl(a, b; c)),
            libc::SYS_ioctl => function!(ioctl(a, b; c)),
            libc::SYS_getsockname => function!(getsockname(a, b, c)),
            libc::SYS_getpeername => function!(getpeername(a, b, c)),
            libc::SYS_getsockopt => function!(getsockopt(a, b, c, d, e)),
            libc::SYS_setsockopt => function!(setsockopt(a, b, c, d, e)),
            libc::SYS_sendfile => function!(sendfile(a, b, c, d)),
            libc::SYS_epoll_wait => function!(epoll_wait(a, b, c, d)),
            libc::SYS_epoll_pwait => function!(epoll_pwait(a, b, c, d, e)),
            _ => None,
        }
    }
}
