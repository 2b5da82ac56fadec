//! The program that is attached to an interface, seen from outside the loader.

use libbpf_sys as sys;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The id of the interface's XDP program, in any mode; 0 if there is none.
pub fn program_id(interface_index: u32) -> u32 {
    let mut id = 0;
    // SAFETY: `id` is live for libbpf to write to.
    let queried = unsafe { sys::bpf_xdp_query_id(interface_index as i32, 0, &mut id) };
    assert_eq!(queried, 0);
    id
}

/// What a program does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// XDP_PASS.
    Pass,
    /// XDP_REDIRECT.
    Redirect,
}
pub use Verdict::{Pass, Redirect};

/// The attached program, to be run on frames that are never sent.
pub struct Program {
    fd: OwnedFd,
    interface_index: u32,
}

impl Program {
    pub fn of(interface_index: u32) -> Program {
        // SAFETY: takes a number.
        let fd = unsafe { sys::bpf_prog_get_fd_by_id(program_id(interface_index)) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: just made, and ours alone.
        Program { fd: unsafe { OwnedFd::from_raw_fd(fd) }, interface_index }
    }

    /// Runs the program on a frame as if it had arrived at `queue`. BPF_PROG_TEST_RUN of bpf(2).
    pub fn run(&self, queue: u32, frame: &[u8]) -> Verdict {
        let context = sys::xdp_md {
            data_end: frame.len() as u32,
            ingress_ifindex: self.interface_index,
            rx_queue_index: queue,
            ..Default::default()
        };
        let mut options = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as u64,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            ctx_in: (&raw const context).cast(),
            ctx_size_in: size_of_val(&context) as u32,
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: `options` points to the frame and the context, with their lengths, and both are live.
        let ran = unsafe { sys::bpf_prog_test_run_opts(self.fd.as_raw_fd(), &mut options) };
        assert_eq!(ran, 0, "{}", io::Error::last_os_error());
        match options.retval {
            sys::XDP_PASS => Pass,
            sys::XDP_REDIRECT => Redirect,
            other => panic!("XDP action {other}"),
        }
    }
}
