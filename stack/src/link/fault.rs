//! Faults on a link, by a seed: loss, duplication, reordering, corruption and delay of what is received.

use super::{Frame, Kick, Link};
use crate::limits::BURST_FRAMES_MAX;
use crate::{Duration, Instant};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How often what befalls a received packet. A packet can meet with several faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Packets lost, in a thousand.
    pub loss_permille: u32,
    /// Packets that arrive twice, in a thousand.
    pub duplicate_permille: u32,
    /// Packets with one bit flipped, in a thousand.
    pub corrupt_permille: u32,
    /// Packets held back, so that later ones overtake them, in a thousand.
    pub reorder_permille: u32,
    /// How long such a packet is held back at most.
    pub reorder_delay_max: Duration,
    /// How long every packet is held back.
    pub delay: Duration,
}

/// A link whose received packets meet with faults. What is sent is left alone: wrap both ends of a wire.
pub struct Fault<L: Link> {
    link: L,
    faults: Faults,
    random: SplitMix64,
    arrived: Vec<Frame>,
    /// Packets by their release and, at the same instant, by their arrival. The link's frames are their bound.
    held: BTreeMap<(Instant, u64), Vec<Frame>>,
    arrivals: u64,
    clock: FaultClock,
    /// The latest time that this link was told.
    now: Instant,
}

/// A look at a faulty link from outside: what a virtual clock is moved by.
#[derive(Clone)]
pub struct FaultClock(Arc<AtomicI64>);

impl FaultClock {
    /// When the next packet that was held back is due.
    pub fn next_release(&self) -> Option<Instant> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != i64::MAX).then(|| Instant::from_micros(micros))
    }
}

impl<L: Link> Fault<L> {
    /// Wraps `link`; the same seed and the same traffic give the same faults.
    pub fn new(link: L, faults: Faults, seed: u64) -> Self {
        Fault {
            link,
            faults,
            random: SplitMix64(seed),
            arrived: Vec::with_capacity(BURST_FRAMES_MAX),
            held: BTreeMap::new(),
            arrivals: 0,
            clock: FaultClock(Arc::new(AtomicI64::new(i64::MAX))),
            now: Instant::ZERO,
        }
    }

    /// When the packets that are held back are due.
    pub fn clock(&self) -> FaultClock {
        self.clock.clone()
    }

    /// Decides what becomes of a packet that has just arrived.
    fn befall(&mut self, now: Instant, mut packet: Vec<Frame>) {
        if self.random.hits(self.faults.loss_permille) {
            packet.into_iter().for_each(|frame| self.link.recycle(frame));
            return;
        }
        if self.random.hits(self.faults.duplicate_permille)
            && let Some(copy) = self.copy(&packet)
        {
            self.hold(now, copy);
        }
        if self.random.hits(self.faults.corrupt_permille) {
            self.flip_a_bit(&mut packet);
        }
        self.hold(now, packet);
    }

    fn hold(&mut self, now: Instant, packet: Vec<Frame>) {
        let mut release = now + self.faults.delay;
        if self.random.hits(self.faults.reorder_permille) {
            let micros_max = self.faults.reorder_delay_max.total_micros();
            release += Duration::from_micros(self.random.below(micros_max + 1));
        }
        self.arrivals += 1;
        self.held.insert((release, self.arrivals), packet);
    }

    /// A second copy, unless the link is short of frames.
    fn copy(&mut self, packet: &[Frame]) -> Option<Vec<Frame>> {
        let mut copies = Vec::with_capacity(packet.len());
        for frame in packet {
            let Some(mut copy) = self.link.tx_frame() else {
                copies.into_iter().for_each(|frame| self.link.recycle(frame));
                return None;
            };
            copy.set_len(frame.len());
            copy.copy_from_slice(frame);
            copy.more = frame.more;
            copies.push(copy);
        }
        Some(copies)
    }

    fn flip_a_bit(&mut self, packet: &mut [Frame]) {
        let frame_index = self.random.below(packet.len() as u64) as usize;
        let frame = &mut packet[frame_index];
        if !frame.is_empty() {
            let bit = self.random.below(frame.len() as u64 * 8) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Moves what is due to `into`, as many whole packets as a burst holds.
    fn release(&mut self, now: Instant, into: &mut Vec<Frame>) {
        let mut room = BURST_FRAMES_MAX;
        while let Some(first) = self.held.first_entry() {
            if first.key().0 > now || first.get().len() > room {
                break;
            }
            room -= first.get().len();
            into.append(&mut first.remove());
        }
        let next = self.held.first_key_value().map_or(i64::MAX, |((release, _), _)| release.total_micros());
        self.clock.0.store(next, Ordering::Relaxed);
    }
}

impl<L: Link> Link for Fault<L> {
    fn rx_burst(&mut self, now: Instant, into: &mut Vec<Frame>) {
        self.now = now;
        let mut arrived = std::mem::take(&mut self.arrived);
        self.link.rx_burst(now, &mut arrived);
        let mut packet = Vec::new();
        for frame in arrived.drain(..) {
            let ends_packet = !frame.more;
            packet.push(frame);
            if ends_packet {
                self.befall(now, std::mem::take(&mut packet));
            }
        }
        self.arrived = arrived;
        self.release(now, into);
    }

    fn rx_pending(&mut self) -> bool {
        let due = self.held.first_key_value().is_some_and(|((release, _), _)| *release <= self.now);
        due || self.link.rx_pending()
    }

    fn recycle(&mut self, frame: Frame) {
        self.link.recycle(frame);
    }

    fn tx_frame(&mut self) -> Option<Frame> {
        self.link.tx_frame()
    }

    fn tx_burst(&mut self, now: Instant, from: &mut Vec<Frame>) {
        self.link.tx_burst(now, from);
    }

    fn kick(&mut self) -> Kick {
        self.link.kick()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }
}

impl<L: Link> Drop for Fault<L> {
    fn drop(&mut self) {
        for frame in std::mem::take(&mut self.held).into_values().flatten() {
            self.link.recycle(frame);
        }
    }
}

/// A small generator whose every seed is good (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn hits(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::wire::{WireConfig, WireEnd, wire};
    use proptest::prelude::*;

    const PACKETS: u64 = 2000;
    const LEN: usize = 100;

    /// Sends `PACKETS` numbered packets, one a millisecond, and returns the bytes of what arrives, in order.
    fn run(faults: Faults, seed: u64) -> Vec<Vec<u8>> {
        let (mut left, right, _) = wire(WireConfig::default());
        let mut right = Fault::new(right, faults, seed);
        let mut arrived = Vec::new();
        for number in 0..PACKETS {
            let now = Instant::from_millis(number as i64);
            send(&mut left, now, number);
            receive(&mut right, now, &mut arrived);
        }
        while let Some(release) = right.clock().next_release() {
            receive(&mut right, release, &mut arrived);
        }
        arrived
    }

    fn send(left: &mut WireEnd, now: Instant, number: u64) {
        let mut frame = left.tx_frame().expect("a free frame");
        frame.set_len(LEN);
        frame.fill(0);
        frame[..8].copy_from_slice(&number.to_be_bytes());
        left.tx_burst(now, &mut vec![frame]);
    }

    fn receive(right: &mut Fault<WireEnd>, now: Instant, arrived: &mut Vec<Vec<u8>>) {
        let mut burst = Vec::new();
        right.rx_burst(now, &mut burst);
        for frame in burst {
            arrived.push(frame.to_vec());
            right.recycle(frame);
        }
    }

    fn numbers(arrived: &[Vec<u8>]) -> Vec<u64> {
        arrived.iter().map(|bytes| u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))).collect()
    }

    #[test]
    fn without_faults_nothing_changes() {
        assert_eq!(numbers(&run(Faults::default(), 1)), (0..PACKETS).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let faults = Faults {
            loss_permille: 100,
            duplicate_permille: 100,
            corrupt_permille: 100,
            reorder_permille: 100,
            reorder_delay_max: Duration::from_millis(20),
            delay: Duration::from_millis(3),
        };
        assert_eq!(run(faults, 42), run(faults, 42));
        assert_ne!(run(faults, 42), run(faults, 43));
    }

    #[test]
    fn loss_takes_about_its_share() {
        let arrived = run(Faults { loss_permille: 250, ..Faults::default() }, 1).len() as u64;
        assert!((PACKETS * 70 / 100..PACKETS * 80 / 100).contains(&arrived), "{arrived}");
        assert_eq!(run(Faults { loss_permille: 1000, ..Faults::default() }, 1).len(), 0);
    }

    #[test]
    fn duplicates_follow_their_originals() {
        let arrived = numbers(&run(Faults { duplicate_permille: 1000, ..Faults::default() }, 1));
        assert_eq!(arrived, (0..PACKETS).flat_map(|number| [number, number]).collect::<Vec<_>>());
    }

    #[test]
    fn corruption_flips_one_bit() {
        for (number, bytes) in run(Faults { corrupt_permille: 1000, ..Faults::default() }, 1).iter().enumerate() {
            let mut sent = [0; LEN];
            sent[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let flipped: u32 = sent.iter().zip(bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(flipped, 1);
        }
    }

    #[test]
    fn reordering_loses_nothing() {
        let faults =
            Faults { reorder_permille: 200, reorder_delay_max: Duration::from_millis(10), ..Faults::default() };
        let mut arrived = numbers(&run(faults, 1));
        assert!(!arrived.is_sorted());
        arrived.sort_unstable();
        assert_eq!(arrived, (0..PACKETS).collect::<Vec<_>>());
    }

    #[test]
    fn delay_holds_a_packet_until_it_is_due() {
        let (mut left, right, _) = wire(WireConfig::default());
        let faults = Faults { delay: Duration::from_millis(5), ..Faults::default() };
        let mut right = Fault::new(right, faults, 1);
        let mut arrived = Vec::new();
        send(&mut left, Instant::from_millis(1), 0);
        receive(&mut right, Instant::from_millis(1), &mut arrived);
        assert_eq!(right.clock().next_release(), Some(Instant::from_millis(6)));
        assert!(arrived.is_empty() && !right.rx_pending());
        receive(&mut right, Instant::from_millis(6), &mut arrived);
        assert_eq!(numbers(&arrived), [0]);
        assert_eq!(right.clock().next_release(), None);
    }

    proptest! {
        /// However few frames there are and whatever befalls the packets, no frame is lost.
        #[test]
        fn frames_come_back(
            rates in prop::array::uniform4(0u32..=1000),
            frames in 1usize..20,
            packets in 0u64..50,
            seed: u64,
        ) {
            let [loss_permille, duplicate_permille, corrupt_permille, reorder_permille] = rates;
            let reorder_delay_max = Duration::from_millis(10);
            let delay = Duration::ZERO;
            let faults = Faults {
                loss_permille, duplicate_permille, corrupt_permille, reorder_permille, reorder_delay_max, delay,
            };
            let (mut left, right, _) = wire(WireConfig { frames, ..WireConfig::default() });
            let mut right = Fault::new(right, faults, seed);
            let mut arrived = Vec::new();
            for number in 0..packets {
                send(&mut left, Instant::from_millis(number as i64), number);
                receive(&mut right, Instant::from_millis(number as i64), &mut arrived);
            }
            receive(&mut right, Instant::from_secs(60), &mut arrived);
            let free = std::iter::from_fn(|| right.tx_frame()).collect::<Vec<_>>();
            prop_assert_eq!(free.len(), frames);
            free.into_iter().for_each(|frame| right.recycle(frame));
        }
    }
}
