//! The TCP/IP stack: frames in, frames out, and sockets in between.
//!
//! The stack is a value. Time comes in as an argument, randomness as a seed, and the world as three traits:
//! [`link::Link`] (frames), [`outside::Routes`] (next hops) and [`outside::Steer`] (which packets come to us).
//! It knows no fd, no clock and no thread; [`kernel`] holds its only system calls and its only unsafe.
#![deny(unsafe_code)]

mod acceptance;
mod ack_policy;
mod answer;
mod autotune;
mod buffers;
mod checksum;
mod cork;
pub mod counters;
mod datagram;
mod datagram_queue;
mod egress;
pub mod errno;
mod flow;
mod flow_table;
mod frame_device;
mod icmp;
mod isn;
pub mod kernel;
mod life;
pub mod limits;
pub mod link;
mod listener;
mod loss;
mod lowat;
mod memory;
mod opening;
pub mod outside;
mod packet;
mod path_mtu;
mod patience;
mod port_space;
pub mod readiness;
mod ready_list;
mod rebuild;
mod receive_window;
mod rx;
mod sack;
pub mod settings;
pub mod slab;
pub mod socket;
pub mod stack;
mod syn_cookie;
mod syn_queue;
mod tally;
mod tcp_error;
mod tcp_options;
mod time_wait;
mod timer_wheel;
mod timestamps;
mod tx;
mod udp_sockets;
mod unsent;
mod urgent;
mod wire_state;

pub use errno::Errno;
pub use readiness::Readiness;
pub use smoltcp::time::{Duration, Instant};
