//! A link with faults between two interfaces, for kernels without netem: the wire and the faults of the simulations
//! (a delay, a rate and a queue; loss, duplication, reordering and corruption by a seed), on the real clock.
//!
//! The interfaces carry nothing else, and whoever sends to them has its offloads off: what a frame lacks (a checksum, a
//! segmentation) nobody makes up for here.

use crate::{epoll::check, packet_socket::PacketSocket};
use stack::{
    Instant,
    limits::LINK_HEADER_LEN_MAX,
    link::{
        Link,
        fault::{Fault, FaultClock, Faults},
        wire::{WireClock, WireConfig, WireEnd, wire},
    },
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
    time::{self, Duration},
};

/// Frames that one side takes before the other has its turn.
const BURST_FRAMES: usize = 64;

/// Frames that each side may hold, which faults hold back.
const HELD_FRAMES_MAX: usize = 1 << 12;

/// The largest IP packet, in bytes.
const MTU: usize = 9000;

/// What the link is like, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// From the last bit's departure to its arrival.
    pub delay: Duration,
    /// Bits a second; `None` is as fast as it goes.
    pub rate_bps: Option<u64>,
    /// How many packets may wait for the line; a packet beyond is dropped.
    pub queue_packets_max: usize,
    /// What befalls packets.
    pub faults: Faults,
    /// What the faults follow from.
    pub seed: u64,
}

impl Default for Conditions {
    /// No delay, no bottleneck, no faults.
    fn default() -> Self {
        let queue_packets_max = usize::MAX;
        Conditions { delay: Duration::ZERO, rate_bps: None, queue_packets_max, faults: Faults::default(), seed: 1 }
    }
}

/// The link: two sides, each a socket and an end of the wire.
pub struct FaultLink {
    sides: [Side; 2],
    wire: WireClock,
    started: time::Instant,
}

struct Side {
    socket: PacketSocket,
    end: Fault<WireEnd>,
    faults: FaultClock,
}

impl FaultLink {
    /// Joins two interfaces of this thread's network namespace.
    ///
    /// # Errors
    /// What opening the sockets answered.
    pub fn open(interfaces: [&str; 2], conditions: Conditions) -> io::Result<FaultLink> {
        let config = WireConfig {
            delay: stack::Duration::from_micros(conditions.delay.as_micros() as u64),
            rate_bps: conditions.rate_bps,
            queue_packets_max: conditions.queue_packets_max,
            mtu: MTU,
            frame_len: MTU + LINK_HEADER_LEN_MAX,
            frames: HELD_FRAMES_MAX,
        };
        let (near, far, clock) = wire(config);
        let side = |interface, end, seed| -> io::Result<Side> {
            let end = Fault::new(end, conditions.faults, seed);
            Ok(Side { socket: PacketSocket::open(interface)?, faults: end.clock(), end })
        };
        let sides = [side(interfaces[0], near, conditions.seed)?, side(interfaces[1], far, !conditions.seed)?];
        Ok(FaultLink { sides, wire: clock, started: time::Instant::now() })
    }

    /// Moves what has come and what is due, then sleeps until there is more of either, or for `sleep_max`.
    ///
    /// # Errors
    /// What the sockets answered.
    pub fn turn(&mut self, sleep_max: Duration) -> io::Result<()> {
        let mut frames = Vec::new();
        let mut moved = false;
        for from in 0..2 {
            moved |= self.take_in(from)?;
        }
        for side in &mut self.sides {
            side.end.rx_burst(now(self.started), &mut frames);
            moved |= !frames.is_empty();
            for frame in frames.drain(..) {
                side.socket.send(&frame)?;
                side.end.recycle(frame);
            }
        }
        if moved { Ok(()) } else { self.sleep(sleep_max) }
    }

    /// Puts a burst of frames that have come to one side onto the wire. True if there was one.
    fn take_in(&mut self, from: usize) -> io::Result<bool> {
        let (left, right) = self.sides.split_at_mut(1);
        let (near, far) = if from == 0 { (&mut left[0], &right[0]) } else { (&mut right[0], &left[0]) };
        let now = now(self.started);
        let mut burst = Vec::with_capacity(BURST_FRAMES);
        for taken in 0..BURST_FRAMES {
            // What does not find a frame waits in the socket.
            let Some(mut frame) = near.end.tx_frame() else { break };
            let capacity = frame.capacity();
            frame.set_len(capacity);
            let len = near.socket.receive(&mut frame)?.filter(|&len| len <= capacity);
            frame.set_len(len.unwrap_or(0));
            if len.is_some() && !finds_neighbours(&frame) {
                burst.push(frame);
                continue;
            }
            if len.is_some() {
                far.socket.send(&frame)?;
            }
            near.end.recycle(frame);
            if len.is_none() {
                near.end.tx_burst(now, &mut burst);
                return Ok(taken > 0);
            }
        }
        near.end.tx_burst(now, &mut burst);
        Ok(true)
    }

    fn sleep(&self, sleep_max: Duration) -> io::Result<()> {
        let due = self.sides.iter().map(|side| side.faults.next_release()).chain([self.wire.next_arrival()]);
        let now = now(self.started);
        let left = due.flatten().min().map(|due| Duration::from_micros((due.max(now) - now).total_micros()));
        let sleep = left.map_or(sleep_max, |left| left.min(sleep_max));
        let timeout = libc::timespec { tv_sec: sleep.as_secs() as i64, tv_nsec: sleep.subsec_nanos().into() };
        let mut fds = [0, 1].map(|side: usize| {
            let fd = self.sides[side].socket.as_fd().as_raw_fd();
            libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
        });
        // SAFETY: both pointers are to values that live across the call, and there are as many descriptors as it is told.
        match check(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as u64, &timeout, ptr::null()) }) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

fn now(started: time::Instant) -> Instant {
    Instant::from_micros(started.elapsed().as_micros() as i64)
}

/// Whether a frame is ARP or ICMPv6. They meet with no faults: ARP has no checksum, and a bit of it that is flipped would
/// stay in a kernel's tables for a minute.
fn finds_neighbours(frame: &[u8]) -> bool {
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x06, ..] => true,
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, rest @ ..] => rest.get(6) == Some(&58),
        _ => false,
    }
}
