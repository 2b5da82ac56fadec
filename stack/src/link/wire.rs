//! A wire in memory: two ends, a constant delay, a rate and a queue, all on the virtual clock.

use super::{Frame, Kick, Link};
use crate::limits::{BURST_FRAMES_MAX, LINK_HEADER_LEN_MAX, WIRE_PACKETS_MAX};
use crate::{Duration, Instant};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a wire is like, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct WireConfig {
    /// From the last bit's departure to its arrival.
    pub delay: Duration,
    /// Bits a second; `None` is infinitely fast.
    pub rate_bps: Option<u64>,
    /// How many packets may wait for the line or be on it; a packet beyond is dropped (tail drop).
    pub queue_packets_max: usize,
    /// The largest IP packet, in bytes.
    pub mtu: usize,
    /// The size of a frame, in bytes; a larger packet arrives as several.
    pub frame_len: usize,
    /// How many frames each end has.
    pub frames: usize,
}

impl Default for WireConfig {
    /// No delay, no bottleneck, Ethernet's MTU, frames as large as those of a UMEM.
    fn default() -> Self {
        WireConfig {
            delay: Duration::ZERO,
            rate_bps: None,
            queue_packets_max: usize::MAX,
            mtu: 1500,
            frame_len: 2048,
            frames: 512,
        }
    }
}

/// Both directions, by the index of the end that receives.
type Directions = Arc<Mutex<[Direction; 2]>>;

/// What is under way to one end.
#[derive(Default)]
struct Direction {
    packets: VecDeque<PacketOnWire>,
    /// When the line has sent all that it was given, in nanoseconds.
    line_free_ns: i64,
}

struct PacketOnWire {
    departs: Instant,
    arrives: Instant,
    bytes: Vec<u8>,
}

/// One end of a wire.
pub struct WireEnd {
    config: WireConfig,
    directions: Directions,
    /// The index of this end's inward direction.
    inward: usize,
    free: Vec<&'static mut [u8]>,
    /// How many frames may still be made; they are made when they are first needed.
    unmade: usize,
    /// The latest time that this end was told.
    now: Instant,
}

/// A look at a wire from outside: what a virtual clock is moved by.
#[derive(Clone)]
pub struct WireClock(Directions);

impl WireClock {
    /// When the next packet arrives at either end; it may be in the past when the end has not looked yet.
    pub fn next_arrival(&self) -> Option<Instant> {
        lock(&self.0).iter().filter_map(|direction| direction.packets.front()).map(|packet| packet.arrives).min()
    }
}

/// Makes a wire whose largest packet fits a burst.
pub fn wire(config: WireConfig) -> (WireEnd, WireEnd, WireClock) {
    assert!(config.mtu + LINK_HEADER_LEN_MAX <= config.frame_len * BURST_FRAMES_MAX);
    let directions = Directions::default();
    let end = |inward| WireEnd {
        config,
        directions: Arc::clone(&directions),
        inward,
        free: Vec::new(),
        unmade: config.frames,
        now: Instant::ZERO,
    };
    (end(0), end(1), WireClock(Arc::clone(&directions)))
}

impl Link for WireEnd {
    fn rx_burst(&mut self, now: Instant, into: &mut Vec<Frame>) {
        self.now = now;
        let directions = Arc::clone(&self.directions);
        let inward = &mut lock(&directions)[self.inward];
        let mut room = BURST_FRAMES_MAX;
        while let Some(packet) = inward.packets.front().filter(|packet| packet.arrives <= now) {
            let frames = packet.bytes.len().div_ceil(self.config.frame_len);
            if frames > room {
                break;
            }
            room -= frames;
            // As with an empty fill ring: a packet that finds no frames is lost.
            if frames <= self.free.len() + self.unmade {
                self.deliver(&packet.bytes, into);
            }
            inward.packets.pop_front();
        }
    }

    fn rx_pending(&mut self) -> bool {
        let directions = lock(&self.directions);
        directions[self.inward].packets.front().is_some_and(|packet| packet.arrives <= self.now)
    }

    fn recycle(&mut self, frame: Frame) {
        self.free.push(frame.into_memory());
    }

    fn tx_frame(&mut self) -> Option<Frame> {
        self.free_memory().map(|memory| Frame::new(memory, 0, false))
    }

    fn tx_burst(&mut self, now: Instant, from: &mut Vec<Frame>) {
        self.now = now;
        let directions = Arc::clone(&self.directions);
        let outward = &mut lock(&directions)[1 - self.inward];
        let mut bytes = Vec::new();
        for frame in from.drain(..) {
            bytes.extend_from_slice(&frame);
            let ends_packet = !frame.more;
            self.free.push(frame.into_memory());
            if ends_packet {
                outward.send(&self.config, now, std::mem::take(&mut bytes));
            }
        }
        debug_assert!(bytes.is_empty(), "the last frame of a packet is missing");
    }

    fn kick(&mut self) -> Kick {
        Kick::Needless
    }

    fn mtu(&self) -> usize {
        self.config.mtu
    }
}

impl WireEnd {
    /// Copies a packet into as many free frames as it needs.
    fn deliver(&mut self, bytes: &[u8], into: &mut Vec<Frame>) {
        let mut parts = bytes.chunks(self.config.frame_len).peekable();
        while let Some(part) = parts.next() {
            let Some(memory) = self.free_memory() else { return };
            memory[..part.len()].copy_from_slice(part);
            into.push(Frame::new(memory, part.len(), parts.peek().is_some()));
        }
    }

    fn free_memory(&mut self) -> Option<&'static mut [u8]> {
        if self.free.is_empty() && self.unmade > 0 {
            self.unmade -= 1;
            self.free.push(retired_or_new(self.config.frame_len));
        }
        self.free.pop()
    }
}

impl Drop for WireEnd {
    fn drop(&mut self) {
        lock(&RETIRED).append(&mut self.free);
    }
}

/// The frames of wires that are no more: thousands of simulations in one process need not leak theirs.
static RETIRED: Mutex<Vec<&'static mut [u8]>> = Mutex::new(Vec::new());

fn retired_or_new(len: usize) -> &'static mut [u8] {
    let mut retired = lock(&RETIRED);
    match retired.iter().rposition(|memory| memory.len() == len) {
        Some(index) => retired.swap_remove(index),
        None => Box::leak(vec![0; len].into_boxed_slice()),
    }
}

impl Direction {
    /// Puts a packet onto the line, behind those that wait for it, or drops it.
    fn send(&mut self, config: &WireConfig, now: Instant, bytes: Vec<u8>) {
        let departed = self.packets.partition_point(|packet| packet.departs <= now);
        if self.packets.len() - departed >= config.queue_packets_max || self.packets.len() >= WIRE_PACKETS_MAX {
            return;
        }
        let on_line_ns = config.rate_bps.map_or(0, |rate| bytes.len() as u64 * 8 * 1_000_000_000 / rate);
        self.line_free_ns = self.line_free_ns.max(now.total_micros() * 1000) + on_line_ns as i64;
        let departs = Instant::from_micros((self.line_free_ns + 999) / 1000);
        self.packets.push_back(PacketOnWire { departs, arrives: departs + config.delay, bytes });
    }
}

/// A test that panicked with the lock held is over; the others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Sends a packet of `len` bytes, all `fill`, in frames as large as the link has them.
    fn send(end: &mut WireEnd, now: Instant, fill: u8, len: usize) {
        let mut burst = Vec::new();
        let mut rest = len;
        while rest > 0 {
            let mut frame = end.tx_frame().expect("a free frame");
            let part = rest.min(frame.capacity());
            rest -= part;
            frame.set_len(part);
            frame.fill(fill);
            frame.more = rest > 0;
            burst.push(frame);
        }
        end.tx_burst(now, &mut burst);
        assert!(burst.is_empty());
    }

    /// The (first byte, length) of every packet that has arrived.
    fn receive(end: &mut WireEnd, now: Instant) -> Vec<(u8, usize)> {
        let mut burst = Vec::new();
        end.rx_burst(now, &mut burst);
        let mut packets = Vec::new();
        let mut len = 0;
        for frame in burst {
            len += frame.len();
            if !frame.more {
                packets.push((frame[0], std::mem::take(&mut len)));
            }
            end.recycle(frame);
        }
        packets
    }

    #[test]
    fn a_packet_arrives_whole_after_the_delay() {
        let (mut left, mut right, clock) = wire(WireConfig { delay: Duration::from_millis(5), ..Default::default() });
        send(&mut left, at(1), 7, 60);
        assert_eq!(clock.next_arrival(), Some(at(6)));
        assert_eq!(receive(&mut right, at(5)), []);
        assert!(!right.rx_pending());
        assert_eq!(receive(&mut right, at(6)), [(7, 60)]);
        assert_eq!(receive(&mut left, at(6)), []);
        assert_eq!(clock.next_arrival(), None);
    }

    #[test]
    fn a_large_packet_takes_several_frames() {
        let (mut left, mut right, _) = wire(WireConfig { mtu: 9000, ..Default::default() });
        send(&mut left, at(0), 1, 9014);
        send(&mut left, at(0), 2, 2048);
        let mut burst = Vec::new();
        right.rx_burst(at(0), &mut burst);
        assert_eq!(burst.iter().map(|frame| frame.more).collect::<Vec<_>>(), [true, true, true, true, false, false]);
        burst.into_iter().for_each(|frame| right.recycle(frame));
    }

    #[test]
    fn the_rate_spaces_packets_and_the_queue_is_bounded() {
        let config = WireConfig { rate_bps: Some(8_000_000), queue_packets_max: 2, ..Default::default() };
        let (mut left, mut right, _) = wire(config);
        for fill in 1..=4 {
            send(&mut left, at(0), fill, 1000);
        }
        assert_eq!(receive(&mut right, at(1)), [(1, 1000)]);
        assert_eq!(receive(&mut right, at(9)), [(2, 1000)]);
    }

    #[test]
    fn a_burst_has_a_bound_and_whole_packets() {
        let (mut left, mut right, _) = wire(WireConfig { mtu: 9000, ..Default::default() });
        for fill in 0..20 {
            send(&mut left, at(0), fill, 9014);
        }
        assert_eq!(receive(&mut right, at(0)).len(), BURST_FRAMES_MAX / 5);
        assert_eq!(receive(&mut right, at(0)).len(), 20 - BURST_FRAMES_MAX / 5);
    }

    #[test]
    fn frames_are_bounded_and_come_back() {
        let (mut left, mut right, _) = wire(WireConfig { frames: 2, ..Default::default() });
        let held = [left.tx_frame().expect("one"), left.tx_frame().expect("two")];
        assert!(left.tx_frame().is_none());
        held.into_iter().for_each(|frame| left.recycle(frame));
        for fill in 1..=3 {
            send(&mut left, at(0), fill, 60);
        }
        assert_eq!(receive(&mut right, at(0)), [(1, 60), (2, 60)]);
        send(&mut left, at(0), 4, 60);
        assert_eq!(receive(&mut right, at(0)), [(4, 60)]);
    }
}
