//! What the load generators share: plain kernel sockets, an epoll set, latencies and CPU times.
//!
//! The client and the server know nothing of userstack: they are ordinary epoll programs, run over the kernel or preloaded.

pub mod arguments;
pub mod cpu;
pub mod epoll;
pub mod fault_link;
pub mod histogram;
pub mod net;
pub mod packet_socket;
pub mod responder;
pub mod syn_flood;
pub mod termination;

/// Length of a request and of a reply, in bytes.
pub const MESSAGE_LEN: usize = 64;
