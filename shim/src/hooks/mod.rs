//! The exported C functions, grouped as the man pages are.
//!
//! Each looks its fd up or passes through, converts its arguments, and returns what the socket said. No more: no
//! policy, no log, no lock of its own.

mod epoll;
mod fd;
mod io;
mod name;
mod option;
mod poll;
mod process;
mod socket;
mod syscall;

/// Looks up the next definitions of all of them.
pub fn resolve() {
    epoll::resolve();
    fd::resolve();
    io::resolve();
    name::resolve();
    option::resolve();
    poll::resolve();
    process::resolve();
    socket::resolve();
    syscall::resolve();
}
