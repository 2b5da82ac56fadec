//! Conversations with a scripted peer that falls silent, attacks, or answers late, each by the section of its RFC.

mod peer;
#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use peer::Peer;
use proptest::prelude::*;
use script::{Heard, PEER, WINDOW, number, segment};
use sim::{PORT, SERVER, pattern};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::socket::tcp::{TcpOptions, TcpState};
use stack::{Duration, Errno, Instant};
use std::net::SocketAddr;

const SECOND: Duration = Duration::from_secs(1);

fn keepalive(idle_s: u32, interval_s: u32, probes: u32) -> TcpOptions {
    TcpOptions {
        keepalive: true,
        keepalive_idle_s: idle_s,
        keepalive_interval_s: interval_s,
        keepalive_probes: probes,
        ..TcpOptions::default()
    }
}

/// Asserts that `seen` is an ACK of where the stack stands, without bytes.
fn check_is_challenge(peer: &Peer, seen: &Heard) {
    assert_eq!((seen.control, seen.seq, seen.ack), (TcpControl::None, peer.rcv_nxt, Some(peer.seq)));
    assert!(seen.payload.is_empty());
}

// Attack.

#[test]
fn rfc5961_3_2_a_reset_has_to_be_exact() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    let reset = |peer: &Peer, ahead: u32| TcpRepr {
        control: TcpControl::Rst,
        seq_number: number(peer.seq.wrapping_add(ahead)),
        ack_number: None,
        ..peer.ack()
    };
    // In the window: a challenge; outside: nothing.
    peer.send(reset(&peer, 1));
    let seen = peer.only();
    check_is_challenge(&peer, &seen);
    peer.send(reset(&peer, 70_000));
    peer.send(reset(&peer, u32::MAX));
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    // The answer of a peer that meant it.
    peer.send(reset(&peer, 0));
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Closed);
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::ECONNRESET));
}

#[test]
fn rfc5961_3_2_a_reset_after_bytes_that_are_not_acknowledged_yet() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    // Past the quick ACKs, so that RCV.NXT runs ahead of the latest ACK.
    peer.send_bytes(b"x");
    assert_eq!(peer.silence(SECOND / 500).len(), 1);
    for _ in 1..17 {
        peer.send_bytes(b"x");
    }
    assert_eq!(peer.replies().len(), 15);
    peer.send(TcpRepr { control: TcpControl::Rst, ..peer.ack() });
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Closed);
}

#[test]
fn rfc5961_4_2_a_syn_is_challenged() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    for (seq, ack) in [(peer.seq, None), (peer.seq.wrapping_add(100_000), None), (peer.seq, Some(peer.rcv_nxt))] {
        peer.send(segment(TcpControl::Syn, seq, ack, b""));
        let seen = peer.only();
        check_is_challenge(&peer, &seen);
        peer.silence(SECOND);
    }
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
}

#[test]
fn rfc5961_5_2_an_ack_outside_the_window_is_challenged_and_its_bytes_are_dropped() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    // Queued but, for want of a window, not sent: smoltcp alone would take an ACK of it.
    peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    peer.script.stack.tcp_send(flow, b"not yet").unwrap();
    peer.turn();
    // The probe of the closed window.
    assert_eq!(peer.only().payload, b"n");
    let too_old = peer.rcv_nxt.wrapping_sub(u32::from(WINDOW) + 2);
    for ack in [peer.rcv_nxt.wrapping_add(2), too_old, peer.rcv_nxt.wrapping_add(1 << 30)] {
        peer.send(TcpRepr { ack_number: Some(number(ack)), payload: b"forged", window_len: 0, ..peer.ack() });
        let seen = peer.only();
        // SND.NXT stands behind the probe's byte, where the peer would ignore this.
        let expected = (TcpControl::None, peer.rcv_nxt, Some(peer.seq));
        assert_eq!((seen.control, seen.seq, seen.ack), expected);
        assert_eq!(peer.script.stack.tcp_queued(flow), (0, 7));
        peer.script.now += SECOND / 2;
    }
    // A little old is a segment that was overtaken: its bytes count.
    peer.send(TcpRepr {
        ack_number: Some(number(peer.rcv_nxt.wrapping_sub(1))),
        payload: b"late",
        window_len: 0,
        ..peer.ack()
    });
    assert_eq!(peer.script.stack.tcp_queued(flow).0, 4);
}

#[test]
fn rfc5961_7_challenge_acks_of_a_flow_are_spaced() {
    let (mut peer, _flow) = Peer::accepted(TcpOptions::default());
    for _ in 0..100 {
        peer.send(TcpRepr { control: TcpControl::Syn, ack_number: None, ..peer.ack() });
    }
    assert_eq!(peer.replies().len(), 1);
    assert_eq!(peer.script.stack.counters().drop_unacceptable, 100);
}

#[test]
fn rfc9293_3_10_7_4_bytes_behind_a_fin_are_ignored() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    peer.send(TcpRepr { control: TcpControl::Fin, payload: b"last", ..peer.ack() });
    peer.send(TcpRepr { payload: b"last+more", ..peer.ack() });
    peer.send(TcpRepr { seq_number: number(peer.seq + 5), payload: b"more", ..peer.ack() });
    let mut buf = [0; 20];
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut buf), Ok(4));
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut buf), Ok(0));
}

/// A segment out of thin air: numbers relative to the right ones, and what happens around it.
#[derive(Debug, Clone)]
struct Forged {
    control: TcpControl,
    seq_ahead: i32,
    ack_ahead: Option<i32>,
    window: u16,
    payload_len: usize,
    pause_ms: u64,
    reads: bool,
    writes: bool,
}

fn forged() -> impl Strategy<Value = Forged> {
    let ahead = || prop_oneof![8 => -40i32..40, 2 => -70_000i32..70_000, 1 => any::<i32>()];
    let controls = [TcpControl::None, TcpControl::Psh, TcpControl::Fin, TcpControl::Syn, TcpControl::Rst];
    let control = prop_oneof![6 => Just(TcpControl::None), 1 => prop::sample::select(controls.to_vec())];
    let window = prop_oneof![Just(0u16), Just(1), any::<u16>()];
    let around = (0u64..3_000, any::<bool>(), any::<bool>());
    (control, ahead(), proptest::option::weighted(0.9, ahead()), window, 0usize..60, around).prop_map(
        |(control, seq_ahead, ack_ahead, window, payload_len, (pause_ms, reads, writes))| Forged {
            control,
            seq_ahead,
            ack_ahead,
            window,
            payload_len,
            pause_ms,
            reads,
            writes,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes, the stack lives on, and what it hands over are the bytes that stand at those numbers.
    #[test]
    fn forged_segments_do_no_harm(script in proptest::collection::vec(forged(), 1..80)) {
        let (mut peer, flow) = Peer::accepted(TcpOptions::default());
        let start = peer.seq;
        let mut read = 0;
        for forged in script {
            let seq = peer.seq.wrapping_add_signed(forged.seq_ahead);
            let payload: Vec<u8> =
                (0..forged.payload_len).map(|at| pattern(seq.wrapping_sub(start) as usize + at)).collect();
            let ack = forged.ack_ahead.map(|ahead| peer.rcv_nxt.wrapping_add_signed(ahead));
            let was_open = peer.script.stack.tcp_state(flow) != TcpState::Closed;
            let Forged { control, window, .. } = forged;
            peer.send(TcpRepr { window_len: window, ..segment(control, seq, ack, &payload) });
            if was_open && peer.script.stack.tcp_state(flow) == TcpState::Closed {
                prop_assert!(matches!(control, TcpControl::Rst | TcpControl::None | TcpControl::Psh));
            }
            if forged.writes {
                let _ = peer.script.stack.tcp_send(flow, b"something");
            }
            if forged.reads {
                let mut buf = [0; 200];
                let len = peer.script.stack.tcp_recv(flow, &mut buf).unwrap_or(0);
                prop_assert!(buf[..len].iter().copied().eq((read..read + len).map(pattern)));
                read += len;
                peer.seq = peer.seq.max(start.wrapping_add(read as u32));
            }
            for seen in peer.silence(Duration::from_millis(forged.pause_ms)) {
                peer.rcv_nxt = peer.rcv_nxt.max(seen.seq.wrapping_add(seen.payload.len() as u32));
            }
        }
    }
}

#[test]
fn rfc9293_3_10_7_1_stray_segments_are_reset() {
    let check = |control, ack, payload: &'static [u8], expected: (u32, Option<u32>)| {
        let mut peer = Peer::new();
        peer.send(segment(control, 5_000, ack, payload));
        let seen = peer.only();
        assert_eq!(
            (seen.control, seen.seq, seen.ack),
            (TcpControl::Rst, expected.0, expected.1),
            "{control:?} {ack:?}"
        );
    };
    // With an ACK the RST begins there; without one it acknowledges the segment.
    check(TcpControl::None, Some(77), b"", (77, None));
    check(TcpControl::Psh, Some(77), b"12345", (77, None));
    check(TcpControl::Syn, Some(77), b"", (77, None));
    check(TcpControl::Fin, Some(77), b"", (77, None));
    check(TcpControl::Syn, None, b"", (0, Some(5_001)));
    check(TcpControl::None, None, b"12345", (0, Some(5_005)));
    check(TcpControl::Fin, None, b"12345", (0, Some(5_006)));
    let mut peer = Peer::new();
    peer.send(segment(TcpControl::Rst, 5_000, None, b""));
    assert_eq!(peer.replies(), []);
}

// Silence.

/// When a flow whose 3 bytes nobody acknowledges gives up, after they were sent.
fn gives_up_after(options: TcpOptions, expected: Duration) {
    let (mut peer, flow) = Peer::accepted(options);
    peer.script.stack.tcp_send(flow, b"abc").unwrap();
    let said = peer.silence(expected - SECOND / 100);
    assert!(said.len() > 1 && said.iter().all(|seen| seen.payload == b"abc"), "{said:?}");
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    // Without a word, as on Linux.
    assert_eq!(peer.silence(SECOND / 50), []);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Closed);
    assert_eq!(peer.script.stack.tcp_send(flow, b"x"), Err(Errno::ETIMEDOUT));
    assert_eq!(peer.script.stack.tcp_send(flow, b"x"), Err(Errno::EPIPE));
}

#[test]
fn rfc9293_3_8_3_bytes_unacknowledged_for_tcp_retries2_end_the_flow() {
    gives_up_after(TcpOptions::default(), Duration::from_millis(924_600));
}

#[test]
fn rfc5482_user_timeout_ends_the_flow() {
    gives_up_after(TcpOptions { user_timeout_ms: 10_000, ..TcpOptions::default() }, SECOND * 10);
}

#[test]
fn rfc9293_3_8_3_progress_renews_the_patience() {
    let (mut peer, flow) = Peer::accepted(TcpOptions { user_timeout_ms: 10_000, ..TcpOptions::default() });
    peer.script.stack.tcp_send(flow, b"abc").unwrap();
    for _ in 0..3 {
        peer.silence(SECOND * 8);
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1);
        peer.send(peer.ack());
    }
    assert_eq!(peer.script.stack.tcp_queued(flow).1, 0);
    // With nothing to wait for a flow lives for ever.
    assert_eq!(peer.silence(SECOND * 100_000), []);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
}

/// Closes the window in front of the flow's bytes and answers its probes for a while.
fn probed(options: TcpOptions, len: Duration, closes: bool) -> (Peer, stack::socket::FlowId, usize) {
    let (mut peer, flow) = Peer::accepted(options);
    peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    peer.script.stack.tcp_send(flow, b"abc").unwrap();
    if closes {
        peer.script.stack.tcp_close(flow, false);
    }
    let mut probes = 0;
    peer.pass(len, |peer, _| {
        probes += 1;
        peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    });
    (peer, flow, probes)
}

#[test]
fn rfc9293_3_8_6_1_a_closed_window_is_probed_as_long_as_probes_are_answered() {
    let (mut peer, flow, probes) = probed(TcpOptions::default(), SECOND * 20_000, false);
    assert!(probes > 100, "{probes}");
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    // The window opens: the bytes come.
    peer.send(peer.ack());
    assert_eq!(peer.only().payload, b"abc");
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(3);
    peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    // Unanswered they end the flow.
    peer.script.stack.tcp_send(flow, b"def").unwrap();
    peer.silence(SECOND * 1_000);
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
}

#[test]
fn rfc5482_user_timeout_bounds_a_closed_window() {
    let options = TcpOptions { user_timeout_ms: 30_000, ..TcpOptions::default() };
    let (mut peer, flow, _) = probed(options, SECOND * 40, false);
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
}

#[test]
fn an_orphan_in_front_of_a_closed_window_ends_after_tcp_orphan_retries() {
    let (peer, _, _) = probed(TcpOptions::default(), SECOND * 100, true);
    assert_eq!(peer.script.stack.flow_count(), 1);
    let (peer, _, _) = probed(TcpOptions::default(), SECOND * 110, true);
    assert_eq!(peer.script.stack.flow_count(), 0);
}

#[test]
fn an_orphan_that_makes_progress_goes_on() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    peer.script.stack.tcp_send(flow, &[7; 40]).unwrap();
    peer.script.stack.tcp_close(flow, false);
    for _ in 0..40 {
        peer.silence(SECOND * 10);
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1);
        peer.send(peer.ack());
    }
    assert_eq!(peer.script.stack.flow_count(), 1);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1);
    peer.send(peer.ack());
    // FIN_WAIT_2 of an orphan lasts tcp_fin_timeout.
    peer.silence(SECOND * 59);
    assert_eq!(peer.script.stack.flow_count(), 1);
    peer.silence(SECOND * 2);
    assert_eq!(peer.script.stack.flow_count(), 0);
}

#[test]
fn rfc9293_3_8_4_keepalive_probes_an_idle_peer_and_resets_a_dead_one() {
    let (mut peer, flow) = Peer::accepted(keepalive(100, 10, 3));
    let start = peer.script.now;
    let said = peer.silence(SECOND * 1_000);
    let times: Vec<Duration> = said.iter().map(|seen| seen.at - start).collect();
    assert_eq!(times, [SECOND * 100, SECOND * 110, SECOND * 120, SECOND * 130]);
    for probe in &said[..3] {
        // As Linux's: the number before the next one, and no byte.
        let before = peer.rcv_nxt.wrapping_sub(1);
        assert_eq!((probe.control, probe.seq, probe.ack), (TcpControl::None, before, Some(peer.seq)));
        assert!(probe.payload.is_empty());
    }
    assert_eq!((said[3].control, said[3].seq), (TcpControl::Rst, peer.rcv_nxt));
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut [0; 8]), Err(Errno::ETIMEDOUT));
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut [0; 8]), Ok(0));
}

#[test]
fn rfc9293_3_8_4_keepalive_lets_a_peer_that_answers_live() {
    let (mut peer, flow) = Peer::accepted(keepalive(100, 10, 3));
    let mut times: Vec<Instant> = Vec::new();
    peer.pass(SECOND * 1_000, |peer, seen| {
        times.push(seen.at);
        // Two go unanswered each time.
        if times.len().is_multiple_of(3) {
            peer.send(peer.ack());
        }
    });
    assert_eq!(times.len(), 3 * 8);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
}

#[test]
fn keepalive_gives_way_to_bytes_that_are_unacknowledged_and_to_the_user_timeout() {
    let (mut peer, flow) = Peer::accepted(keepalive(1, 1, 1));
    peer.script.stack.tcp_send(flow, b"abc").unwrap();
    assert!(peer.silence(SECOND * 500).iter().all(|seen| seen.payload == b"abc"));
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);

    let (mut peer, flow) = Peer::accepted(TcpOptions { user_timeout_ms: 25_000, ..keepalive(10, 5, 1) });
    let said = peer.silence(SECOND * 24);
    assert_eq!((said.len(), peer.script.stack.tcp_state(flow)), (3, TcpState::Established));
    peer.silence(SECOND * 2);
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
}

#[test]
fn a_busy_flow_with_keepalive_keeps_one_timer() {
    let (mut peer, flow) = Peer::accepted(keepalive(7200, 75, 9));
    for _ in 0..1_000 {
        peer.script.stack.tcp_send(flow, b"x").unwrap();
        peer.turn();
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1);
        peer.silence(SECOND * 2 / 5);
        peer.send(peer.ack());
        peer.silence(SECOND * 2);
    }
    assert!(peer.script.stack.timer_count() < 5, "{}", peer.script.stack.timer_count());
}

#[test]
fn rfc5482_user_timeout_bounds_a_connect() {
    let mut peer = Peer::new();
    let options = TcpOptions { user_timeout_ms: 5_000, ..TcpOptions::default() };
    let local = SocketAddr::new(SERVER, PORT);
    let flow = peer.script.stack.tcp_connect(local, PEER, options, 1, peer.script.now).unwrap();
    peer.silence(SECOND * 4);
    assert_eq!(peer.script.stack.tcp_connected(flow), Err(Errno::EINPROGRESS));
    peer.silence(SECOND * 2);
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
}

#[test]
fn a_connected_flow_whose_peer_says_nothing_more_is_not_waiting() {
    let mut peer = Peer::new();
    let local = SocketAddr::new(SERVER, PORT);
    let flow = peer.script.stack.tcp_connect(local, PEER, keepalive(2_000, 1, 1), 1, peer.script.now).unwrap();
    peer.turn();
    peer.rcv_nxt = peer.only().seq.wrapping_add(1);
    // One that acknowledges something else changes nothing but for the RST.
    peer.send(TcpRepr {
        control: TcpControl::Syn,
        seq_number: number(77),
        ack_number: Some(number(peer.rcv_nxt.wrapping_add(1))),
        ..peer.ack()
    });
    assert_eq!(peer.only().control, TcpControl::Rst);
    peer.send(TcpRepr { control: TcpControl::Syn, ..peer.ack() });
    peer.seq += 1;
    let seen = peer.only();
    check_is_challenge(&peer, &seen);
    // No time-out, and keepalive runs.
    assert_eq!(peer.silence(SECOND * 1_999), []);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    assert_eq!(peer.silence(SECOND / 2 * 3).len(), 1);
}

// Acknowledging.

#[test]
fn rfc9293_3_8_6_3_acks_are_quick_at_first_and_then_delayed() {
    let (mut peer, _flow) = Peer::accepted(TcpOptions::default());
    // The first one waits for an answer, but not as long as a delayed one.
    peer.send_bytes(b"x");
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.silence(SECOND / 500)[0].ack, Some(peer.seq));
    for _ in 1..16 {
        peer.send_bytes(b"x");
        assert_eq!(peer.only().ack, Some(peer.seq));
    }
    peer.send_bytes(b"x");
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.silence(SECOND / 50)[0].ack, Some(peer.seq));
}

#[test]
fn rfc9293_3_8_6_3_a_flow_that_answers_delays_its_acks() {
    let (mut peer, flow) = Peer::accepted(TcpOptions::default());
    peer.send_bytes(b"request");
    assert_eq!(peer.silence(SECOND / 500).len(), 1);
    peer.send_bytes(b"request");
    assert_eq!(peer.replies().len(), 1);
    peer.script.stack.set_token(stack::socket::Socket::Flow(flow), 1);
    for _ in 0..3 {
        peer.script.stack.tcp_send(flow, b"answer").unwrap();
        peer.turn();
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(6);
        assert_eq!(peer.only().ack, Some(peer.seq));
        peer.send_bytes(b"request");
    }
    assert_eq!(peer.replies(), []);
}

#[test]
fn tcp_info_says_where_a_flow_stands() {
    let (mut peer, flow) = Peer::accepted(keepalive(10, 5, 9));
    peer.script.stack.tcp_send(flow, &[7; 500]).unwrap();
    peer.silence(SECOND * 2);
    let info = peer.script.stack.tcp_info(flow, peer.script.now).unwrap();
    // The peer offered no MSS and no scaling.
    assert_eq!((info.state, info.path_mtu, info.advertised_mss), (TcpState::Established, 1500, 1460));
    assert_eq!((info.send_mss, info.unacknowledged, info.probes, info.peer_window_shift), (536, 1, 0, None));
    assert!(info.retransmissions > 0);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(500);
    peer.send_bytes(b"x");
    peer.silence(SECOND * 11);
    let info = peer.script.stack.tcp_info(flow, peer.script.now).unwrap();
    assert_eq!((info.unacknowledged, info.probes), (0, 1));
    assert_eq!((info.since_data, info.since_heard), (SECOND * 11, SECOND * 11));
}
