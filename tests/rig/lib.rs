//! The rig of the whole-system tests: two hosts joined by a veth pair, programs on them that run on the kernel or
//! preloaded, and what both the kernel and the library count meanwhile.
//!
//! A [`Hosts`] is two network namespaces; a [`Program`] is started on one of its hosts, and a [`Running`] one is
//! killed when it is dropped, so that a failed test leaves nothing behind.

mod command;
mod exchange;
mod hosts;
mod kernel_tcp;
mod line;
mod machine;
mod namespace;
mod process;
mod program;
mod routed;
mod running;
mod scratch;
pub mod servers;
mod stats;
mod steering;
mod wait;
pub mod www;

pub use command::{Output, run_command};
pub use exchange::Exchange;
pub use hosts::{Family, Host, Hosts, INTERFACE, Wiring};
pub use kernel_tcp::KernelTcp;
pub use machine::{library, workspace};
pub use namespace::Namespace;
pub use process::{descriptor_count, exists, resident_bytes, with_children};
pub use program::{Program, Stack};
pub use routed::Routed;
pub use running::{Finished, Running};
pub use scratch::Scratch;
pub use stack::link::fault::Faults;
pub use stats::Stats;
pub use steering::{attached_mode, is_claimed};
pub use userstack_bench::fault_link::Conditions;
pub use wait::{HANG_GUARD, until};
