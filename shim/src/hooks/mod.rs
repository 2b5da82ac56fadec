//! The exported C functions, grouped as the man pages are.
//!
//! Each looks its fd up or passes through, converts its arguments, and returns what the socket said. No more: no
//! policy, no log, no lock of its own.

mod cancel;
mod either;
mod epoll;
mod fd;
mod io;
mod jump;
mod message;
mod name;
mod option;
mod poll;
mod positioned;
mod process;
mod program;
mod signal;
mod socket;
mod stream;
mod syscall;

/// Looks up the next definitions of all of them.
pub fn resolve() {
    cancel::resolve();
    cancel::resolve_forwards();
    epoll::resolve();
    fd::resolve();
    io::resolve();
    jump::resolve_forwards();
    message::resolve();
    name::resolve();
    option::resolve();
    poll::resolve();
    positioned::resolve();
    process::resolve();
    process::resolve_forwards();
    program::resolve();
    program::resolve_forwards();
    signal::resolve();
    socket::resolve();
    stream::resolve();
    stream::resolve_forwards();
    syscall::resolve();
}
