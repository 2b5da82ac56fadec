//! An AF_XDP socket bound to a queue of the interface.

use super::network::INTERFACE;
use std::ffi::CString;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, SocketConfig, UmemConfig};
use xsk_rs::{FrameDesc, RxQueue, Socket, Umem};

const FRAME_COUNT: u32 = 64;
/// How long a frame that must come is waited for before the test fails, in milliseconds.
const PATIENCE_MS: i32 = 10_000;

/// Receives up to 64 frames in all.
pub struct Receiver {
    umem: Umem,
    rx: RxQueue,
    _others: Box<dyn std::any::Any>,
}

impl Receiver {
    pub fn bind(queue: u32) -> Receiver {
        let frame_count = NonZeroU32::new(FRAME_COUNT).unwrap();
        let (umem, frames) = Umem::new(UmemConfig::default(), frame_count, false).unwrap();
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_USE_SG)
            .build();
        let interface = Interface::new(CString::new(INTERFACE).unwrap());
        // SAFETY: the UMEM has no other socket.
        let (tx, rx, rings) = unsafe { Socket::new(config, &umem, &interface, queue) }.unwrap();
        let (mut fill, completion) = rings.expect("the first socket of a UMEM has its rings");
        // SAFETY: the frames are this UMEM's, and the kernel has none of them yet.
        assert_eq!(unsafe { fill.produce(&frames) }, frames.len());
        Receiver { umem, rx, _others: Box::new((tx, fill, completion)) }
    }

    /// The socket's fd.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the receiver holds the socket, so the fd is open as long as the borrow lives.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// Waits for a frame and returns it, joined if it came in several buffers.
    pub fn receive(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        loop {
            let mut descriptor = FrameDesc::default();
            // SAFETY: the frames that come are this UMEM's.
            let received = unsafe { self.rx.poll_and_consume_one(&mut descriptor, PATIENCE_MS) }.unwrap();
            assert_eq!(received, 1, "no frame came");
            // SAFETY: the frame is ours until it is given back, which it never is.
            let data = unsafe { self.umem.data(&descriptor) };
            frame.extend(data.contents());
            if !descriptor.has_more_frames() {
                return frame;
            }
        }
    }

    /// Whether a frame waits.
    pub fn has_frame(&mut self) -> bool {
        self.rx.nb_avail_exact() > 0
    }
}
