//! What the tests share: an interface of a test's own, frames to send to it, and AF_XDP sockets to receive them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod attached;
pub mod frame;
pub mod network;
pub mod receiver;
