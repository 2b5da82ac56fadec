//! The UMEM's frames: each is in a ring, with the stack, or free on the side (receive or send) that it belongs to.

use crate::limits::{UMEM_FRAMES_MAX, UMEM_FRAMES_MIN};
use crate::link::Frame;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::ptr::NonNull;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

/// A frame's share of the UMEM, in bytes: the kernel's minimum, and two to a page.
const FRAME_LEN: usize = 2048;

/// Where a packet starts within it: XDP_PACKET_HEADROOM, which the kernel leaves free in front of what it receives.
const PACKET_OFFSET: usize = 256;

/// How much of a packet a frame holds.
pub(super) const FRAME_CAPACITY: usize = FRAME_LEN - PACKET_OFFSET;

/// A frame's descriptor as the UMEM made it (one cannot be made from an address), where its packet starts, and the
/// side that it belongs to.
struct Slot {
    original: FrameDesc,
    memory: NonNull<u8>,
    is_rx: bool,
}

/// A registered UMEM and its free frames.
///
/// Half of the frames are there to receive and half to send, and each comes back to its side, so that neither
/// direction can take the other's frames.
pub(super) struct UmemFrames {
    umem: Umem,
    slots: Box<[Slot]>,
    /// Free frames to receive into, for the fill ring.
    pub rx_free: Vec<FrameDesc>,
    /// Free frames to send from.
    pub tx_free: Vec<FrameDesc>,
}

// SAFETY: the pointers lead into the UMEM, which is bound to no thread.
unsafe impl Send for UmemFrames {}

impl UmemFrames {
    /// Registers a UMEM of `wish` frames (rounded up to a power of two), or of fewer when the process may not lock
    /// as much memory (RLIMIT_MEMLOCK).
    ///
    /// # Errors
    /// `ENOBUFS`: not even `UMEM_FRAMES_MIN` frames may be locked. `EPERM`: no AF_XDP sockets without CAP_NET_RAW.
    pub fn register(wish: u32) -> io::Result<UmemFrames> {
        let mut count = wish.clamp(UMEM_FRAMES_MIN, UMEM_FRAMES_MAX).next_power_of_two();
        loop {
            match Self::register_exactly(count) {
                Err(error) if is_out_of_memory(&error) && count > UMEM_FRAMES_MIN => count /= 2,
                result => return result,
            }
        }
    }

    fn register_exactly(count: u32) -> io::Result<UmemFrames> {
        let ring_len = QueueSize::new(count).map_err(io::Error::other)?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME_LEN as u32).map_err(io::Error::other)?)
            .fill_queue_size(ring_len)
            .comp_queue_size(ring_len)
            .build()
            .map_err(io::Error::other)?;
        let count = NonZeroU32::new(count).ok_or(io::ErrorKind::InvalidInput)?;
        let (umem, mut originals) = Umem::new(config, count, false).map_err(os_error)?;
        let half = originals.len() / 2;
        let slots = originals.iter().enumerate().map(|(index, original)| Slot {
            original: *original,
            memory: memory_of(&umem, *original),
            is_rx: index < half,
        });
        let slots = slots.collect();
        let tx_free = originals.split_off(half);
        Ok(UmemFrames { umem, slots, rx_free: originals, tx_free })
    }

    /// The UMEM, to bind a socket over it.
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// How many frames there are.
    pub fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The addresses of the UMEM.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.start();
        start..start + self.slots.len() * FRAME_LEN
    }

    /// The stack's view of a frame that holds `len` bytes.
    ///
    /// # Safety
    /// The frame is in no ring, and no other `Frame` of it exists.
    pub unsafe fn frame(&self, descriptor: &FrameDesc, len: usize) -> Frame {
        let slot = &self.slots[descriptor.addr() / FRAME_LEN];
        debug_assert_eq!(slot.original.addr(), descriptor.addr(), "the steering program moves no packet");
        // SAFETY: the memory is mapped for the life of the process, and the caller vouches that nobody else uses it.
        let memory = unsafe { std::slice::from_raw_parts_mut(slot.memory.as_ptr(), FRAME_CAPACITY) };
        Frame::new(memory, len, descriptor.has_more_frames())
    }

    /// The descriptor to send a frame by. The frame is given up, and is free again when its address comes back.
    pub fn descriptor(&mut self, frame: Frame) -> FrameDesc {
        let (len, more) = (frame.len(), frame.more);
        let index = self.index(frame);
        if self.slots[index].is_rx {
            self.change_sides(index);
        }
        let mut descriptor = self.slots[index].original;
        // SAFETY: the frame has been given up, so this is the only view of its memory.
        let mut data = unsafe { self.umem.data_mut(&mut descriptor) };
        data.cursor().set_pos(len);
        descriptor.set_options(if more { XDP_PKT_CONTD } else { 0 });
        descriptor
    }

    /// Frees a frame that the stack had.
    pub fn free(&mut self, frame: Frame) {
        let index = self.index(frame);
        self.free_slot(index);
    }

    /// Frees a frame that the completion ring has given back.
    pub fn free_completed(&mut self, descriptor: &FrameDesc) {
        self.free_slot(descriptor.addr() / FRAME_LEN);
    }

    fn free_slot(&mut self, index: usize) {
        let slot = &self.slots[index];
        let side = if slot.is_rx { &mut self.rx_free } else { &mut self.tx_free };
        side.push(slot.original);
    }

    /// A received frame that is sent on changes sides with a free one: otherwise the fill ring could run dry, and
    /// with nothing received nobody would come to look whether the sending is complete.
    fn change_sides(&mut self, index: usize) {
        if let Some(other) = self.tx_free.pop() {
            self.slots[other.addr() / FRAME_LEN].is_rx = true;
            self.slots[index].is_rx = false;
            self.rx_free.push(other);
        }
    }

    fn index(&self, frame: Frame) -> usize {
        (frame.into_memory().as_ptr().addr() - self.start()) / FRAME_LEN
    }

    fn start(&self) -> usize {
        self.slots[0].memory.addr().get() - PACKET_OFFSET
    }
}

/// XDP_PKT_CONTD of linux/if_xdp.h: the packet goes on in the next descriptor.
const XDP_PKT_CONTD: u32 = 1;

/// Where a frame's packet starts.
fn memory_of(umem: &Umem, mut descriptor: FrameDesc) -> NonNull<u8> {
    // SAFETY: no ring and nobody else has any frame of this new UMEM.
    let mut data = unsafe { umem.data_mut(&mut descriptor) };
    data.cursor().set_pos(FRAME_CAPACITY);
    assert_eq!(data.contents().len(), FRAME_CAPACITY);
    NonNull::from(data.contents_mut()).cast()
}

/// The kernel's error inside one of xsk-rs.
pub(super) fn os_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    }
}

fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
