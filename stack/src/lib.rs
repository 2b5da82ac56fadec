//! The TCP/IP stack: frames in, frames out, and sockets in between.
//!
//! The stack is a value. Time comes in as an argument, randomness as a seed, and the world as three traits:
//! [`link::Link`] (frames), [`outside::Routes`] (next hops) and [`outside::Steer`] (which packets come to us).
//! It knows no fd, no clock and no thread; [`kernel`] holds its only system calls and its only unsafe.
#![deny(unsafe_code)]

pub mod counters;
pub mod errno;
pub mod kernel;
pub mod limits;
pub mod link;
pub mod outside;
pub mod readiness;
pub mod socket;
pub mod stack;

pub use errno::Errno;
pub use readiness::Readiness;
pub use smoltcp::time::{Duration, Instant};
