//! smoltcp's `Device` over one packet: at most one comes in, at most one goes out.

use crate::Instant;
use crate::answer::EMPTY_PACKET_LEN_MAX;
use crate::limits::{LINK_HEADER_LEN_MAX, PACKET_LEN_MAX};
use crate::link::Frame;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};

/// Where one packet is written: a free frame, or, for packets larger than a frame, memory of its own.
pub struct Outgoing {
    frame: Option<Frame>,
    jumbo: Box<[u8]>,
    header_len: usize,
    packet_len: usize,
}

impl Outgoing {
    /// Nothing written, no frame.
    pub fn new() -> Self {
        let jumbo = vec![0; LINK_HEADER_LEN_MAX + PACKET_LEN_MAX].into_boxed_slice();
        Outgoing { frame: None, jumbo, header_len: 0, packet_len: 0 }
    }

    /// Lends a free frame, and keeps `header_len` bytes in front of the packet for the Ethernet header. Whatever was
    /// lent before comes back.
    pub fn lend(&mut self, frame: Option<Frame>, header_len: usize) -> Option<Frame> {
        debug_assert!(header_len <= LINK_HEADER_LEN_MAX);
        self.header_len = header_len;
        self.packet_len = 0;
        std::mem::replace(&mut self.frame, frame)
    }

    /// The packet that was written, if any.
    pub fn packet(&mut self) -> Option<&mut [u8]> {
        let (start, len) = (self.header_len, self.packet_len);
        (len > 0).then(|| &mut self.memory(start + len)[start..start + len])
    }

    /// The same, with room for any packet without payload.
    pub fn packet_with_room(&mut self) -> &mut [u8] {
        let (start, len) = (self.header_len, self.packet_len.max(EMPTY_PACKET_LEN_MAX));
        &mut self.memory(start + len)[start..start + len]
    }

    /// Makes the packet as long as it has become.
    pub fn set_packet_len(&mut self, len: usize) {
        self.packet_len = len;
    }

    /// Puts the Ethernet header in front of the packet and gives the whole; `None` where no frame was lent.
    pub fn finish(&mut self, header: &[u8]) -> Option<Finished<'_>> {
        let len = self.header_len + self.packet_len;
        let header_len = self.header_len;
        self.memory(len)[..header_len].copy_from_slice(header);
        self.packet_len = 0;
        let mut frame = self.frame.take()?;
        if len <= frame.capacity() {
            frame.set_len(len);
            return Some(Finished::Frame(frame));
        }
        Some(Finished::Jumbo { bytes: &self.jumbo[..len], first: frame })
    }

    /// The memory in which a frame of `len` bytes is written.
    fn memory(&mut self, len: usize) -> &mut [u8] {
        match &mut self.frame {
            Some(frame) if len <= frame.capacity() => {
                frame.set_len(len);
                frame
            }
            _ => &mut self.jumbo[..len],
        }
    }
}

/// A frame to be sent.
pub enum Finished<'a> {
    /// In the frame that was lent.
    Frame(Frame),
    /// Larger than that: to be spread over it and others.
    Jumbo {
        /// The whole.
        bytes: &'a [u8],
        /// The frame that was lent.
        first: Frame,
    },
}

/// The device that one call into smoltcp sees.
pub struct FrameDevice<'a> {
    /// The packet that comes in.
    pub incoming: Option<&'a [u8]>,
    /// Where a packet goes out.
    pub outgoing: &'a mut Outgoing,
    /// The MTU in bytes.
    pub mtu: usize,
}

impl Device for FrameDevice<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = &'a mut Outgoing
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, &mut Outgoing)> {
        Some((Incoming(self.incoming.take()?), self.outgoing))
    }

    fn transmit(&mut self, _: Instant) -> Option<&mut Outgoing> {
        Some(self.outgoing)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // What comes in was verified by `packet::parse`; what goes out is not ready before `packet::seal`.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// The packet that comes in.
pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for &mut Outgoing {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let start = self.header_len;
        self.packet_len = len;
        f(&mut self.memory(start + len)[start..])
    }
}
