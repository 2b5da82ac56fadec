//! The only system calls and the only unsafe of the stack: AF_XDP rings, netlink, the steering maps.
#![allow(unsafe_code)]

pub(crate) mod arena;
mod fork;
pub mod interface;
pub(crate) mod lent_socket;
pub mod loopback;
pub mod netlink;
pub mod register;
pub mod steer;
mod sys;
mod umem;
pub mod xsk;

pub use fork::share_with_child;
pub use sys::read_file;
pub use xdp_prog::{AttachedMode, Mode, Steering, high_fd_floor};
