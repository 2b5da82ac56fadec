//! Segment for segment: what a server of ours sends to a scripted peer that loses, repeats and is silent.

#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use proptest::prelude::*;
use script::{Heard, Script, segment, syn};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::Duration;
use stack::socket::FlowId;
use stack::socket::info::Path;

/// The segment size that the peer asks for.
const MSS: u32 = 1000;
/// How long the peer takes to answer the SYN-ACK.
const RTT_MS: u64 = 100;
/// The peer's initial sequence number.
const ISN: u32 = u32::MAX - 2_000;

/// An ACK without data.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    ack: u32,
    /// The first SACK block, in the peer's own numbers.
    block: Option<(u32, u32)>,
}

/// A peer that has opened a flow; all its numbers count from 0.
struct Peer {
    window: u16,
    script: Script,
    flow: FlowId,
    /// The stack's initial sequence number.
    isn: u32,
    heard: Vec<Heard>,
}

impl Peer {
    fn with_sack() -> Peer {
        Peer::open(true)
    }

    fn without_sack() -> Peer {
        Peer::open(false)
    }

    /// The peer connects; its ACK takes `RTT_MS`.
    fn open(sack_permitted: bool) -> Peer {
        let mut script = Script::new();
        let listener = script.listen(1);
        let max_seg_size = Some(MSS as u16);
        let window = 65_000;
        let syn = TcpRepr { max_seg_size, window_scale: None, sack_permitted, window_len: window, ..syn(ISN) };
        let isn = script::only(script.say(syn)).seq;
        script.wait(Duration::from_millis(RTT_MS));
        let ack = segment(TcpControl::None, ISN.wrapping_add(1), Some(isn.wrapping_add(1)), &[]);
        script.say(TcpRepr { window_len: window, ..ack });
        let flow = script.stack.tcp_accept(listener).unwrap();
        Peer { window, script, flow, isn, heard: Vec::new() }
    }

    /// The wire's number of the peer's byte `at`.
    fn seq(&self, at: u32) -> u32 {
        ISN.wrapping_add(1 + at)
    }

    /// A segment from the peer's byte `at` on, that acknowledges the stack's bytes before `ack` and those in `blocks`.
    fn says(&mut self, at: u32, ack: u32, payload: &[u8], blocks: &[(u32, u32)]) {
        let number = |at: u32| self.isn.wrapping_add(1 + at);
        let mut sack_ranges = [None; 3];
        for (range, (start, end)) in sack_ranges.iter_mut().zip(blocks) {
            *range = Some((number(*start), number(*end)));
        }
        let segment = segment(TcpControl::None, self.seq(at), Some(number(ack)), payload);
        let heard = self.script.say(TcpRepr { window_len: self.window, sack_ranges, ..segment });
        self.heard.extend(heard);
    }

    fn acknowledge(&mut self, ack: u32, blocks: &[(u32, u32)]) {
        self.says(0, ack, &[], blocks);
    }

    fn sends(&mut self, at: u32, len: usize) {
        self.says(at, 0, &vec![0; len], &[]);
    }

    fn wait_ms(&mut self, len_ms: u64) {
        self.heard.extend(self.script.wait(Duration::from_millis(len_ms)));
    }

    fn application_sends(&mut self, len: usize) {
        assert_eq!(self.script.stack.tcp_send(self.flow, &vec![0; len]), Ok(len));
        self.heard.extend(self.script.turn());
    }

    fn application_receives(&mut self) -> usize {
        self.script.stack.tcp_recv(self.flow, &mut [0; 4096]).unwrap()
    }

    fn path(&self) -> Path {
        self.script.stack.tcp_info(self.flow, self.script.now).unwrap().path
    }

    /// Where the segments with data begin and end that the stack has sent since it was last asked.
    fn ranges(&mut self) -> Vec<(u32, u32)> {
        let with_data = self.heard.drain(..).filter(|heard| !heard.payload.is_empty());
        let range = |heard: Heard| {
            let start = heard.seq.wrapping_sub(self.isn).wrapping_sub(1);
            (start, start.wrapping_add(heard.payload.len() as u32))
        };
        with_data.map(range).collect()
    }

    /// Where they begin.
    fn data(&mut self) -> Vec<u32> {
        self.ranges().iter().map(|range| range.0).collect()
    }

    /// Where the latest of them ends.
    fn data_end(&mut self) -> u32 {
        self.ranges().iter().map(|range| range.1).max().unwrap_or(0)
    }

    /// The ACKs without data that the stack has sent since it was last asked.
    fn replies(&mut self) -> Vec<Reply> {
        let start = self.seq(0);
        let empty = self.heard.drain(..).filter(|heard| heard.payload.is_empty());
        empty
            .map(|heard| Reply { ack: heard.ack.unwrap().wrapping_sub(start), block: heard.blocks.first().copied() })
            .collect()
    }
}

/// Sequence numbers of segments `from..to`, counted in segments.
fn segments(range: std::ops::Range<u32>) -> Vec<u32> {
    range.map(|at| at * MSS).collect()
}

#[test]
fn rfc_6928_section_2_ten_segments_at_first() {
    let mut peer = Peer::with_sack();
    peer.application_sends(60_000);
    assert_eq!(peer.data(), segments(0..10));
}

#[test]
fn rfc_5681_section_3_1_slow_start_doubles() {
    let mut peer = Peer::with_sack();
    peer.application_sends(60_000);
    peer.data();
    peer.wait_ms(RTT_MS);
    peer.acknowledge(2 * MSS, &[]);
    assert_eq!(peer.data(), segments(10..14));
}

#[test]
fn rfc_3042_each_duplicate_ack_lets_a_new_segment_out() {
    let mut peer = Peer::with_sack();
    peer.application_sends(60_000);
    peer.data();
    peer.acknowledge(0, &[(MSS, 2 * MSS)]);
    assert_eq!(peer.data(), segments(10..11));
    peer.acknowledge(0, &[(MSS, 3 * MSS)]);
    assert_eq!(peer.data(), segments(11..12));
}

#[test]
fn rfc_8985_section_6_2_reordering_within_a_quarter_of_a_round_trip_is_no_loss() {
    let mut peer = Peer::with_sack();
    peer.application_sends(10_000);
    peer.data();
    for end in 2..10 {
        peer.acknowledge(0, &[(MSS, end * MSS)]);
    }
    peer.wait_ms(RTT_MS / 4 - 1);
    assert_eq!(peer.data(), []);
    peer.acknowledge(10 * MSS, &[]);
    peer.wait_ms(10 * RTT_MS);
    assert_eq!(peer.data(), []);
}

#[test]
fn rfc_6675_section_5_only_the_holes_are_sent_again() {
    let mut peer = Peer::with_sack();
    peer.application_sends(10_000);
    peer.data();
    peer.acknowledge(0, &[(MSS, 3 * MSS), (4 * MSS, 10 * MSS)]);
    assert_eq!(peer.data(), []);
    peer.wait_ms(RTT_MS / 4 + 1);
    assert_eq!(peer.data(), [0, 3 * MSS]);
    peer.acknowledge(10 * MSS, &[]);
    peer.wait_ms(10 * RTT_MS);
    assert_eq!(peer.data(), []);
}

#[test]
fn rfc_8985_section_6_2_a_lost_retransmission_is_sent_once_more() {
    let mut peer = Peer::with_sack();
    peer.application_sends(60_000);
    peer.data();
    peer.acknowledge(0, &[(MSS, 10 * MSS)]);
    peer.wait_ms(RTT_MS / 4 + 1);
    let sent = peer.data();
    assert_eq!(sent.iter().filter(|seq| **seq == 0).count(), 1);
    let end = sent.iter().max().unwrap() + MSS;
    peer.acknowledge(0, &[(MSS, end)]);
    peer.wait_ms(RTT_MS);
    // What went out after the retransmission.
    let later = peer.data();
    let end = later.iter().max().unwrap() + MSS;
    peer.acknowledge(0, &[(MSS, end)]);
    peer.wait_ms(RTT_MS / 4 + 1);
    assert!(peer.data().contains(&0));
}

#[test]
fn rfc_6582_section_3_2_a_partial_ack_has_the_next_one_sent_again() {
    let mut peer = Peer::without_sack();
    peer.application_sends(10_000);
    peer.data();
    for _ in 0..3 {
        peer.acknowledge(0, &[]);
    }
    peer.wait_ms(RTT_MS / 4 + 1);
    assert_eq!(peer.data(), [0]);
    peer.acknowledge(4 * MSS, &[]);
    assert_eq!(peer.data(), [4 * MSS]);
    peer.acknowledge(10 * MSS, &[]);
    peer.wait_ms(10 * RTT_MS);
    assert_eq!(peer.data(), []);
}

#[test]
fn rfc_8985_section_7_a_lost_tail_is_probed_after_two_round_trips() {
    let mut peer = Peer::with_sack();
    peer.application_sends(4_000);
    peer.data();
    peer.wait_ms(2 * RTT_MS - 1);
    assert_eq!(peer.data(), []);
    peer.wait_ms(5);
    assert_eq!(peer.data(), [3 * MSS]);
    // The probe shows what is missing.
    peer.acknowledge(0, &[(3 * MSS, 4 * MSS)]);
    peer.wait_ms(RTT_MS / 4 + 1);
    assert_eq!(peer.data(), [0, MSS, 2 * MSS]);
}

#[test]
fn rfc_6298_section_5_the_timer_backs_off() {
    let mut peer = Peer::with_sack();
    peer.application_sends(1_000);
    assert_eq!(peer.data(), [0]);
    // The first round trip of 100 ms leaves a variation of 50 ms: 100 + 4 * 50 ms, doubled each time.
    for timeout_ms in [300, 600, 1200, 2400] {
        peer.wait_ms(timeout_ms - 1);
        assert_eq!(peer.data(), [], "before {timeout_ms} ms");
        peer.wait_ms(1);
        assert_eq!(peer.data(), [0], "after {timeout_ms} ms");
    }
}

#[test]
fn rfc_6298_section_3_a_segment_that_was_sent_twice_is_not_measured() {
    let mut peer = Peer::with_sack();
    assert_eq!((peer.path().round_trip.total_micros(), peer.path().timeout.total_millis()), (100_000, 300));
    peer.application_sends(1_000);
    peer.wait_ms(310);
    assert_eq!(peer.data(), [0, 0]);
    peer.acknowledge(MSS, &[]);
    assert_eq!(peer.path().round_trip.total_micros(), 100_000);
    peer.application_sends(1_000);
    peer.wait_ms(20);
    peer.acknowledge(2 * MSS, &[]);
    assert_eq!(peer.path().round_trip.total_micros(), 90_000);
}

#[test]
fn rfc_5681_section_3_1_one_segment_after_a_timeout() {
    let mut peer = Peer::with_sack();
    peer.application_sends(60_000);
    peer.data();
    peer.wait_ms(3 * RTT_MS);
    // The probe for the tail.
    assert_eq!(peer.data(), [9 * MSS]);
    peer.wait_ms(4 * RTT_MS);
    assert_eq!(peer.data(), [0]);
    peer.acknowledge(MSS, &[]);
    assert_eq!(peer.data(), [MSS, 2 * MSS]);
}

#[test]
fn rfc_9293_section_3_8_6_1_a_closed_window_is_probed_and_opens() {
    let mut peer = Peer::with_sack();
    peer.application_sends(20_000);
    peer.data();
    peer.window = 0;
    peer.acknowledge(10 * MSS, &[]);
    peer.wait_ms(1_500);
    assert_eq!(peer.data(), [10 * MSS]);
    peer.window = 65_000;
    peer.acknowledge(10 * MSS, &[]);
    assert!(peer.data().contains(&(10 * MSS)));
}

#[test]
fn rfc_2018_section_4_every_duplicate_ack_has_the_block_that_caused_it() {
    let mut peer = Peer::with_sack();
    for (at, block) in [(2, (2, 3)), (4, (4, 5)), (3, (2, 5)), (7, (7, 8))] {
        peer.sends(at * MSS, MSS as usize);
        let block = Some((peer.seq(block.0 * MSS), peer.seq(block.1 * MSS)));
        assert_eq!(peer.replies(), [Reply { ack: 0, block }], "after segment {at}");
    }
}

#[test]
fn data_that_was_overtaken_is_not_lost_with_its_old_ack() {
    let mut peer = Peer::with_sack();
    peer.application_sends(3_000);
    peer.data();
    peer.says(500, 3 * MSS, &[0; 500], &[]);
    peer.says(0, 0, &[0; 500], &[]);
    assert_eq!(peer.application_receives(), 1000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// A peer may say whatever it likes: nothing panics, nothing spins, and what it asks for in the end it gets.
    #[test]
    fn whatever_the_peer_acknowledges_the_stack_comes_to_rest(
        sack: bool,
        steps in proptest::collection::vec(
            (0u32..25_000, (0u32..30_000, 1u32..9_000), (0u32..30_000, 1u32..9_000), 0u16..20_000, 0u64..400), 1..30),
    ) {
        let mut peer = if sack { Peer::with_sack() } else { Peer::without_sack() };
        peer.application_sends(20_500);
        let mut end = 0;
        for (ack, first, second, window, wait_ms) in steps {
            peer.window = window;
            peer.acknowledge(ack, &[(first.0, first.0 + first.1), (second.0, second.0 + second.1)]);
            peer.wait_ms(wait_ms);
            end = end.max(peer.data_end());
        }
        peer.window = 65_000;
        for _ in 0..200 {
            end = end.max(peer.data_end());
            peer.acknowledge(end, &[]);
            peer.wait_ms(300);
            if end == 20_500 {
                return Ok(());
            }
        }
        prop_assert!(false, "sent no more than {end}");
    }
}
