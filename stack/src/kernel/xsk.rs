//! The link over an AF_XDP socket: its four rings and its frames. Documentation/networking/af_xdp.rst of the kernel.

use super::umem::{FRAME_CAPACITY, UmemFrames, os_error};
use super::{fork, sys};
use crate::Instant;
use crate::limits::{BURST_FRAMES_MAX, LINK_HEADER_LEN_MAX};
use crate::link::{Frame, Kick, Link};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::Duration;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
pub use xsk_rs::socket::XdpStatistics;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// XDP_MAX_TX_SKB_BUDGET of linux/if_xdp.h: how many frames one sendto(2) sends, 32 unless told.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// The largest packet that the kernel takes in copy mode: one frame in each of an skb's fragments (MAX_SKB_FRAGS).
const PACKET_LEN_MAX: usize = 17 * FRAME_CAPACITY;

/// One queue of an interface, received from and sent to through an AF_XDP socket.
pub struct XskLink {
    // libxdp unmaps the rings with the last of the four, and asks the socket about them then: `fd` comes after.
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    fd: sys::OwnFd,
    frames: UmemFrames,
    mtu: usize,
    /// Room for the descriptors of a burst.
    descriptors: Box<[FrameDesc; BURST_FRAMES_MAX]>,
    /// The beginning of a packet whose end did not fit the last burst.
    unfinished: Vec<Frame>,
    /// Whether the TX ring holds frames that the kernel may not know of.
    kick_due: bool,
}

/// Opens an AF_XDP socket with a high number: the one thing that needs CAP_NET_RAW. The hook of socket(2) hands it
/// out when libxdp asks for one, so that a process can attach after it has dropped its privileges.
///
/// # Errors
/// `EPERM`: no CAP_NET_RAW. `EAFNOSUPPORT`: a kernel without AF_XDP. `EMFILE`.
pub fn open_socket() -> io::Result<OwnedFd> {
    xdp_prog::high_fd(sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0)?)
}

impl XskLink {
    /// Binds a socket to a queue of an interface, with at most `frames_wish` frames, half of them to receive.
    ///
    /// `mtu` is the interface's; a packet that does not fit a frame comes and goes as several. `wait_ms` is for how many
    /// milliseconds it waits for a former owner's end.
    ///
    /// # Errors
    /// - `EBUSY`: the queue has an owner, in this process or another.
    /// - `EINVAL`: no such queue. `ENODEV`: no such interface.
    /// - `EPERM`: no CAP_NET_RAW. `ENOBUFS`: too little memory may be locked (RLIMIT_MEMLOCK).
    pub fn bind(interface: &CStr, queue: u32, mtu: usize, frames_wish: u32, wait_ms: u32) -> io::Result<XskLink> {
        let frames = UmemFrames::register(frames_wish)?;
        let (tx, rx, fill, completion) = bind_when_released(interface, queue, &frames, wait_ms)?;
        // Frames may outlive this link, so their memory is never unmapped.
        std::mem::forget(Umem::clone(frames.umem()));
        let mut link = XskLink {
            fd: sys::OwnFd(rx.fd().as_raw_fd()),
            rx,
            tx,
            fill,
            completion,
            frames,
            mtu: mtu.min(PACKET_LEN_MAX - LINK_HEADER_LEN_MAX),
            descriptors: Box::new([FrameDesc::default(); BURST_FRAMES_MAX]),
            unfinished: Vec::with_capacity(BURST_FRAMES_MAX),
            kick_due: false,
        };
        sys::close_on_exec(link.fd.0)?;
        fork::keep_rings(link.fd.0)?;
        fork::keep(link.frames.addresses())?;
        // An older kernel does not know the option: then a burst takes more kicks.
        let _ = sys::set_option(link.fd.0, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &link.frames.count());
        link.refill();
        Ok(link)
    }

    /// The socket: to wait for frames by poll(2), for the XSKMAP, and for a forked child to close.
    pub fn fd(&self) -> RawFd {
        self.fd.0
    }

    /// What the kernel has dropped, and where it found rings full or empty.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn statistics(&self) -> io::Result<XdpStatistics> {
        self.rx.fd().xdp_statistics()
    }

    /// Gives the free frames of the receiving side to the fill ring once there is a burst of them.
    fn refill(&mut self) {
        if self.frames.rx_free.len() < BURST_FRAMES_MAX {
            return;
        }
        // SAFETY: free frames are in no other ring, and the stack has no view of them.
        let count = unsafe { self.fill.produce(&self.frames.rx_free) };
        debug_assert_eq!(count, self.frames.rx_free.len(), "the fill ring has room for all frames");
        self.frames.rx_free.truncate(self.frames.rx_free.len() - count);
        if self.fill.needs_wakeup() {
            // It fails when the interface is down, and then there is nothing to receive.
            let _ = sys::wake_rx(self.fd.0);
        }
    }

    /// Frees the frames whose sending is complete.
    fn reclaim(&mut self) {
        loop {
            // SAFETY: the ring is this UMEM's.
            let count = unsafe { self.completion.consume(&mut self.descriptors[..]) };
            self.descriptors[..count].iter().for_each(|descriptor| self.frames.free_completed(descriptor));
            if count < BURST_FRAMES_MAX {
                return;
            }
        }
    }

    /// Moves the first `count` frames, at most a burst, to the TX ring.
    fn send(&mut self, from: &mut Vec<Frame>, count: usize) {
        for (descriptor, frame) in self.descriptors.iter_mut().zip(from.drain(..count)) {
            *descriptor = self.frames.descriptor(frame);
        }
        // SAFETY: these frames were the stack's, which has just given them up.
        let sent = unsafe { self.tx.produce(&self.descriptors[..count]) };
        debug_assert_eq!(sent, count, "the TX ring has room for all frames");
        self.kick_due = true;
    }

    /// How many frames the kernel has not yet taken from the TX ring.
    fn unsent(&mut self) -> u32 {
        self.frames.count() - self.tx.nb_free_exact()
    }
}

impl Link for XskLink {
    fn rx_burst(&mut self, _now: Instant, into: &mut Vec<Frame>) {
        let room = BURST_FRAMES_MAX - self.unfinished.len();
        into.append(&mut self.unfinished);
        // SAFETY: the ring is this UMEM's.
        let count = unsafe { self.rx.consume(&mut self.descriptors[..room]) };
        for descriptor in &self.descriptors[..count] {
            // SAFETY: the RX ring has just given this frame back.
            into.push(unsafe { self.frames.frame(descriptor, descriptor.lengths().data()) });
        }
        // A burst that is full may end within a packet; the kernel has submitted the rest of it already.
        let whole = into.iter().rposition(|frame| !frame.more).map_or(0, |last| last + 1);
        self.unfinished.extend(into.drain(whole..));
    }

    fn rx_pending(&mut self) -> bool {
        self.rx.nb_avail(1) > 0
    }

    fn recycle(&mut self, frame: Frame) {
        self.frames.free(frame);
        self.refill();
    }

    fn tx_frame(&mut self) -> Option<Frame> {
        if self.frames.tx_free.is_empty() {
            self.reclaim();
        }
        let descriptor = self.frames.tx_free.pop()?;
        // SAFETY: it was free: in no ring, and the stack has no view of it.
        Some(unsafe { self.frames.frame(&descriptor, 0) })
    }

    fn tx_burst(&mut self, _now: Instant, from: &mut Vec<Frame>) {
        self.reclaim();
        while !from.is_empty() {
            let room = BURST_FRAMES_MAX.min(self.tx.nb_free(BURST_FRAMES_MAX as u32) as usize).min(from.len());
            let Some(last) = from[..room].iter().rposition(|frame| !frame.more) else { break };
            self.send(from, last + 1);
        }
        self.refill();
    }

    /// One system call unless the kernel's budget ends it early: nobody else would send the rest.
    fn kick(&mut self) -> Kick {
        if !self.kick_due || !self.tx.needs_wakeup() {
            return Kick::Needless;
        }
        let mut unsent = u32::MAX;
        loop {
            let result = sys::wake_tx(self.fd.0);
            let before = std::mem::replace(&mut unsent, self.unsent());
            // EAGAIN says that the budget was used up. EBUSY, ENOBUFS and ENETDOWN end a kick for now.
            let stopped = result.is_err_and(|error| error.raw_os_error() != Some(libc::EAGAIN));
            if unsent == 0 || unsent >= before || stopped || !self.tx.needs_wakeup() {
                break;
            }
        }
        self.kick_due = unsent > 0;
        if self.kick_due { Kick::Unfinished } else { Kick::Done }
    }

    fn mtu(&self) -> usize {
        self.mtu
    }
}

type Rings = (TxQueue, RxQueue, FillQueue, CompQueue);

/// Binds, and waits a little for the queue's former owner: the kernel releases a queue some time after the close.
fn bind_when_released(interface: &CStr, queue: u32, frames: &UmemFrames, wait_ms: u32) -> io::Result<Rings> {
    let ring_len = QueueSize::new(frames.count()).map_err(io::Error::other)?;
    let config = SocketConfig::builder()
        .rx_queue_size(ring_len)
        .tx_queue_size(ring_len)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP | BindFlags::XDP_USE_SG)
        .build();
    let interface = Interface::new(interface.to_owned());
    let mut waited_ms = 0;
    loop {
        // SAFETY: the UMEM is not shared, and libxdp loads no program.
        match unsafe { Socket::new(config, frames.umem(), &interface, queue) }.map_err(os_error) {
            Ok((tx, rx, Some((fill, completion)))) => return Ok((tx, rx, fill, completion)),
            Ok((_, _, None)) => return Err(io::Error::other("the UMEM is already bound")),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && waited_ms < wait_ms => {
                waited_ms += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}
