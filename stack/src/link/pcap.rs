//! Writes what passes a link, in both directions, as a capture file: classic pcap with nanoseconds.

use super::{Frame, Kick, Link};
use crate::Instant;
use crate::limits::{LINK_HEADER_LEN_MAX, PACKET_LEN_MAX};
use std::io::Write;

/// The magic number of a pcap file whose time stamps are in seconds and nanoseconds (draft-ietf-opsawg-pcap, 4).
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// LINKTYPE_ETHERNET.
const LINK_TYPE: u32 = 1;

/// The longest packet that is written whole; what is longer is cut.
const SNAP_LEN: usize = PACKET_LEN_MAX + LINK_HEADER_LEN_MAX;

/// Seconds, nanoseconds, length in the file, length on the link.
const RECORD_HEADER_LEN: usize = 16;

const NS_PER_S: i64 = 1_000_000_000;

/// What a capture file begins with. Its owner writes it once: the links of several queues can share a file.
pub fn file_header() -> [u8; 24] {
    let mut header = [0; 24];
    let (version_major, version_minor) = (2u16, 4u16);
    header[..4].copy_from_slice(&MAGIC_NANOSECONDS.to_ne_bytes());
    header[4..6].copy_from_slice(&version_major.to_ne_bytes());
    header[6..8].copy_from_slice(&version_minor.to_ne_bytes());
    header[16..20].copy_from_slice(&(SNAP_LEN as u32).to_ne_bytes());
    header[20..].copy_from_slice(&LINK_TYPE.to_ne_bytes());
    header
}

/// A link that is captured. Each packet is a record, and each record one write.
///
/// A write that fails ends the capture, never the traffic.
pub struct Pcap<L> {
    link: L,
    output: Option<Box<dyn Write + Send>>,
    /// The time of day at `Instant::ZERO`, in nanoseconds since 1970.
    epoch_ns: i64,
    /// The record under construction.
    record: Vec<u8>,
    /// How many frames the link has left at the front of what it was last given to send: they are captured already.
    left_over: usize,
}

impl<L: Link> Pcap<L> {
    /// Wraps `link`. `epoch_ns` is the time of day at `Instant::ZERO`, in nanoseconds since 1970.
    pub fn new(link: L, output: Box<dyn Write + Send>, epoch_ns: i64) -> Self {
        let record = Vec::with_capacity(RECORD_HEADER_LEN + SNAP_LEN);
        Pcap { link, output: Some(output), epoch_ns, record, left_over: 0 }
    }

    /// Writes the packets that `frames` hold, a record each.
    fn capture(&mut self, now: Instant, frames: &[Frame]) {
        if self.output.is_none() {
            return;
        }
        for packet in frames.split_inclusive(|frame| !frame.more) {
            self.begin_record(now, packet.iter().map(|frame| frame.len()).sum());
            for frame in packet {
                let room = RECORD_HEADER_LEN + SNAP_LEN - self.record.len();
                self.record.extend_from_slice(&frame[..frame.len().min(room)]);
            }
            self.write_record();
        }
    }

    fn begin_record(&mut self, now: Instant, len: usize) {
        let time_ns = now.total_micros() * 1000 + self.epoch_ns;
        let fields = [time_ns / NS_PER_S, time_ns % NS_PER_S, len.min(SNAP_LEN) as i64, len as i64];
        self.record.extend(fields.into_iter().flat_map(|field| (field as u32).to_ne_bytes()));
    }

    fn write_record(&mut self) {
        if let Some(output) = &mut self.output
            && let Err(error) = output.write_all(&self.record)
        {
            tracing::warn!("the capture ends: {error}");
            self.output = None;
        }
        self.record.clear();
    }
}

impl<L: Link> Link for Pcap<L> {
    fn rx_burst(&mut self, now: Instant, into: &mut Vec<Frame>) {
        let before = into.len();
        self.link.rx_burst(now, into);
        self.capture(now, &into[before..]);
    }

    fn rx_pending(&mut self) -> bool {
        self.link.rx_pending()
    }

    fn recycle(&mut self, frame: Frame) {
        self.link.recycle(frame);
    }

    fn tx_frame(&mut self) -> Option<Frame> {
        self.link.tx_frame()
    }

    fn tx_burst(&mut self, now: Instant, from: &mut Vec<Frame>) {
        self.capture(now, &from[self.left_over.min(from.len())..]);
        self.link.tx_burst(now, from);
        self.left_over = from.len();
    }

    fn kick(&mut self) -> Kick {
        self.link.kick()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::wire::{WireConfig, WireEnd, wire};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// An output that can be looked at, and that fails beyond a number of bytes.
    #[derive(Clone)]
    struct Output {
        bytes: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }

    impl Output {
        fn new(room: usize) -> Output {
            Output { bytes: Arc::default(), room }
        }

        fn bytes(&self) -> Vec<u8> {
            self.bytes.lock().expect("no panic before").clone()
        }
    }

    impl Write for Output {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let mut bytes = self.bytes.lock().expect("no panic before");
            if bytes.len() + buf.len() > self.room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(link: &mut impl Link, fill: u8, len: usize, more: bool) -> Frame {
        let mut frame = link.tx_frame().expect("a free frame");
        frame.set_len(len);
        frame.fill(fill);
        frame.more = more;
        frame
    }

    fn record(s: u32, ns: u32, parts: &[(u8, usize)]) -> Vec<u8> {
        let packet: Vec<u8> = parts.iter().flat_map(|(fill, len)| vec![*fill; *len]).collect();
        let len = packet.len() as u32;
        [s, ns, len, len].into_iter().flat_map(u32::to_ne_bytes).chain(packet).collect()
    }

    fn captured(room: usize) -> (Pcap<WireEnd>, WireEnd, Output) {
        let (near, far, _) = wire(WireConfig::default());
        let output = Output::new(room);
        (Pcap::new(near, Box::new(output.clone()), 5_000_000_007), far, output)
    }

    fn receive(link: &mut impl Link, now: Instant) -> usize {
        let mut burst = Vec::new();
        link.rx_burst(now, &mut burst);
        let count = burst.len();
        burst.into_iter().for_each(|frame| link.recycle(frame));
        count
    }

    #[test]
    fn both_directions_are_written_as_packets() {
        let (mut near, mut far, output) = captured(usize::MAX);
        let now = Instant::from_millis(1500);
        let mut burst = vec![frame(&mut near, 1, 60, false), frame(&mut near, 2, 2048, true)];
        burst.push(frame(&mut near, 3, 10, false));
        near.tx_burst(now, &mut burst);
        let answer = frame(&mut far, 4, 70, false);
        far.tx_burst(now, &mut vec![answer]);
        assert_eq!((receive(&mut far, now), receive(&mut near, now)), (3, 1));
        let expected = [&[(1, 60)][..], &[(2, 2048), (3, 10)], &[(4, 70)]].map(|parts| record(6, 500_000_007, parts));
        assert!(output.bytes() == expected.concat());
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_not_the_traffic() {
        let (mut near, mut far, output) = captured(100);
        for fill in 1..=3 {
            let frame = frame(&mut near, fill, 60, false);
            near.tx_burst(Instant::ZERO, &mut vec![frame]);
        }
        assert_eq!(receive(&mut far, Instant::ZERO), 3);
        assert_eq!(output.bytes(), record(5, 7, &[(1, 60)]));
    }

    /// A link that takes one frame of a burst.
    struct Narrow(WireEnd);

    impl Link for Narrow {
        fn rx_burst(&mut self, now: Instant, into: &mut Vec<Frame>) {
            self.0.rx_burst(now, into);
        }
        fn rx_pending(&mut self) -> bool {
            self.0.rx_pending()
        }
        fn recycle(&mut self, frame: Frame) {
            self.0.recycle(frame);
        }
        fn tx_frame(&mut self) -> Option<Frame> {
            self.0.tx_frame()
        }
        fn tx_burst(&mut self, now: Instant, from: &mut Vec<Frame>) {
            self.0.tx_burst(now, &mut from.drain(..1).collect());
        }
        fn kick(&mut self) -> Kick {
            self.0.kick()
        }
        fn mtu(&self) -> usize {
            self.0.mtu()
        }
    }

    #[test]
    fn what_is_offered_again_is_written_once() {
        let (near, _far, _) = wire(WireConfig::default());
        let output = Output::new(usize::MAX);
        let mut near = Pcap::new(Narrow(near), Box::new(output.clone()), 0);
        let mut burst = vec![frame(&mut near, 1, 60, false), frame(&mut near, 2, 60, false)];
        near.tx_burst(Instant::ZERO, &mut burst);
        let third = frame(&mut near, 3, 60, false);
        burst.push(third);
        near.tx_burst(Instant::ZERO, &mut burst);
        near.tx_burst(Instant::ZERO, &mut burst);
        let expected = [1, 2, 3].map(|fill| record(0, 0, &[(fill, 60)]));
        assert_eq!(output.bytes(), expected.concat());
    }

    #[test]
    fn the_header_is_the_one_that_readers_expect() {
        let header = file_header();
        assert_eq!(header[..4], 0xa1b2_3c4du32.to_ne_bytes());
        assert_eq!(header[4..8], [2u16.to_ne_bytes(), 4u16.to_ne_bytes()].concat());
        assert_eq!(header[20..], 1u32.to_ne_bytes());
    }
}
