//! What leaves when: small segments, windows, acknowledgements; each by the section of its RFC.

#[allow(dead_code, reason = "each file of tests uses its part of the peer")]
mod peer;
#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use peer::Peer;
use script::{Heard, number, segment};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::Duration;
use stack::socket::FlowId;
use stack::socket::tcp::{How, TcpOptions, TcpState};

const SECOND: Duration = Duration::from_secs(1);

fn accepted() -> (Peer, FlowId) {
    Peer::accepted(TcpOptions::default())
}

/// What the application writes, and what leaves at once.
fn write(peer: &mut Peer, flow: FlowId, bytes: &[u8]) -> Vec<usize> {
    assert_eq!(peer.script.stack.tcp_send(flow, bytes), Ok(bytes.len()));
    peer.turn();
    lens(&peer.replies())
}

fn lens(said: &[Heard]) -> Vec<usize> {
    said.iter().map(|seen| seen.payload.len()).filter(|&len| len > 0).collect()
}

/// The peer acknowledges so many bytes more; what leaves then.
fn acknowledge(peer: &mut Peer, len: u32) -> Vec<usize> {
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(len);
    peer.send(peer.ack());
    lens(&peer.replies())
}

// Nagle's algorithm.

#[test]
fn rfc9293_3_7_4_what_is_small_waits_for_what_is_under_way() {
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, b"one"), [3]);
    assert_eq!(write(&mut peer, flow, b"two"), []);
    assert_eq!(write(&mut peer, flow, b"three"), []);
    // A whole segment waits for nothing; what is left over does, but for small segments only.
    assert_eq!(write(&mut peer, flow, &[7; 600]), [536]);
    assert_eq!(acknowledge(&mut peer, 3), [72]);
    assert_eq!(write(&mut peer, flow, b"four"), []);
    assert_eq!(acknowledge(&mut peer, 536), []);
    assert_eq!(acknowledge(&mut peer, 72), [4]);
}

// tcp(7) says of TCP_NODELAY only that segments are sent as soon as possible; Linux's own variant is Minshall's.
#[test]
fn the_tail_of_a_write_goes_with_its_whole_segments() {
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, &[7; 1_100]), [536, 536, 28]);
    assert_eq!(write(&mut peer, flow, &[7; 600]), [536]);
    assert_eq!(acknowledge(&mut peer, 1_072), []);
    assert_eq!(acknowledge(&mut peer, 28), [64]);
}

#[test]
fn rfc9293_3_7_4_nodelay_lets_it_go_at_once() {
    let (mut peer, flow) = Peer::accepted(TcpOptions { nodelay: true, ..TcpOptions::default() });
    assert_eq!(write(&mut peer, flow, b"one"), [3]);
    assert_eq!(write(&mut peer, flow, b"two"), [3]);
    // Set later, it lets go what has waited.
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, b"one"), [3]);
    assert_eq!(write(&mut peer, flow, b"two"), []);
    peer.script.stack.tcp_set_options(flow, TcpOptions { nodelay: true, ..TcpOptions::default() });
    peer.turn();
    assert_eq!(lens(&peer.replies()), [3]);
}

#[test]
fn rfc9293_3_7_4_the_last_bytes_go_with_the_fin() {
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, b"one"), [3]);
    assert_eq!(write(&mut peer, flow, b"last"), []);
    peer.script.stack.tcp_shutdown(flow, How::Write).unwrap();
    peer.turn();
    let seen = peer.only();
    assert_eq!((seen.control, seen.payload.as_slice()), (TcpControl::Fin, &b"last"[..]));
}

// Windows.

#[test]
fn rfc9293_3_8_6_2_1_a_small_window_is_not_filled_with_crumbs() {
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, &[7; 536 * 4]), [536; 4]);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(536 * 4);
    peer.send(TcpRepr { window_len: 1_000, ..peer.ack() });
    assert_eq!(write(&mut peer, flow, &[7; 2_000]), [536]);
    // It opens by bits: what leaves are whole segments.
    for (acknowledged, window, expected) in [(0, 1_010, vec![]), (0, 1_020, vec![]), (536, 1_000, vec![536])] {
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(acknowledged);
        peer.send(TcpRepr { window_len: window, ..peer.ack() });
        assert_eq!(lens(&peer.replies()), expected, "at {window}");
    }
}

#[test]
fn rfc9293_3_8_6_2_2_the_window_is_not_opened_by_crumbs() {
    let (mut peer, flow) = accepted();
    for _ in 0..66 {
        peer.send_bytes(&[7; 1000]);
        peer.silence(SECOND / 10);
    }
    peer.seq = peer.seq.wrapping_sub(66_000 - 61_440);
    let mut buf = vec![0; 65_535];
    for _ in 0..5 {
        peer.script.stack.tcp_recv(flow, &mut buf[..100]).unwrap();
        assert_eq!(peer.silence(SECOND / 10), []);
    }
    peer.script.stack.tcp_recv(flow, &mut buf).unwrap();
    peer.turn();
    let seen = peer.only();
    assert_eq!((seen.ack, seen.payload.len()), (Some(peer.seq), 0));
    assert!(seen.window > 30_000);
}

#[test]
fn rfc9293_3_8_6_1_a_probe_of_our_closed_window_is_answered_each_time() {
    let (mut peer, flow) = accepted();
    for _ in 0..66 {
        peer.send_bytes(&[7; 1000]);
        peer.silence(SECOND / 10);
    }
    peer.seq = peer.seq.wrapping_sub(66_000 - 61_440);
    for _ in 0..5 {
        peer.send(TcpRepr { payload: b"?", ..peer.ack() });
        let seen = peer.only();
        assert_eq!((seen.ack, seen.payload.len()), (Some(peer.seq), 0));
    }
    assert_eq!(peer.script.stack.tcp_queued(flow).0, 61_440);
}

/// A peer without memory closes a window in which something is under way, which it drops: what stands beyond it, ACK and
/// all, it drops too.
#[test]
fn rfc9293_3_10_7_4_an_ack_stands_in_the_window_that_was_shrunk() {
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, b"abc"), [3]);
    peer.send(TcpRepr { window_len: 0, payload: b"x", ..peer.ack() });
    peer.seq = peer.seq.wrapping_add(1);
    let said = peer.silence(SECOND / 10);
    let ack = said.iter().find(|seen| seen.ack == Some(peer.seq)).expect("the byte is acknowledged");
    assert_eq!((ack.seq, ack.payload.len()), (peer.rcv_nxt, 0));
    // It stands at the end again as soon as there is a window.
    peer.send(TcpRepr { payload: b"x", ..peer.ack() });
    let said = peer.silence(SECOND / 10);
    assert_eq!(
        said.iter().find(|seen| seen.payload.is_empty()).map(|seen| seen.seq),
        Some(peer.rcv_nxt.wrapping_add(3))
    );
}

/// The numbers of a segment are looked at before anything else in it is believed.
#[test]
fn rfc9293_3_10_7_4_what_is_outside_the_window_acknowledges_nothing() {
    let (mut peer, flow) = accepted();
    assert_eq!(write(&mut peer, flow, b"abc"), [3]);
    let done = peer.rcv_nxt.wrapping_add(3);
    for seq in [peer.seq.wrapping_add(65_535), peer.seq.wrapping_sub(1), peer.seq.wrapping_add(1 << 30)] {
        peer.send(segment(TcpControl::None, seq, Some(done), b""));
        assert_eq!(peer.script.stack.tcp_queued(flow).1, 3, "{seq}");
        peer.silence(SECOND / 10);
    }
    acknowledge(&mut peer, 3);
    assert_eq!(peer.script.stack.tcp_queued(flow).1, 0);
}

/// A peer that has filled the window, of which something was lost, says so from the window's end.
#[test]
fn rfc9293_3_10_7_4_an_ack_at_the_right_edge_counts() {
    let (mut peer, flow) = accepted();
    assert_eq!(peer.script.stack.tcp_send(flow, b"abc"), Ok(3));
    peer.turn();
    let seen = peer.only();
    let (edge, done) = (peer.seq.wrapping_add(seen.window.into()), peer.rcv_nxt.wrapping_add(3));
    peer.send(segment(TcpControl::None, edge.wrapping_add(1), Some(done), b""));
    assert_eq!(peer.script.stack.tcp_queued(flow).1, 3);
    peer.send(segment(TcpControl::None, edge, Some(done), b""));
    assert_eq!(peer.script.stack.tcp_queued(flow).1, 0);
}

/// Nor does what has no ACK say anything, of its window either.
#[test]
fn rfc9293_3_10_7_4_what_has_no_ack_is_dropped() {
    let (mut peer, flow) = accepted();
    peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    peer.send(segment(TcpControl::Fin, peer.seq, None, b"nobody's"));
    assert_eq!(write(&mut peer, flow, &[7; 3_000]), [1]);
    assert_eq!(peer.script.stack.tcp_queued(flow).0, 0);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
}

#[test]
fn rfc9293_3_10_7_4_old_bytes_are_acknowledged_each_time() {
    let (mut peer, flow) = accepted();
    peer.send_bytes(b"abc");
    peer.silence(SECOND / 10);
    for _ in 0..5 {
        peer.send(TcpRepr { seq_number: number(peer.seq.wrapping_sub(3)), payload: b"abc", ..peer.ack() });
        assert_eq!(peer.only().ack, Some(peer.seq));
    }
    // Of what is partly old the rest counts.
    peer.send(TcpRepr { seq_number: number(peer.seq.wrapping_sub(2)), payload: b"bcd", ..peer.ack() });
    assert_eq!(peer.script.stack.tcp_queued(flow).0, 4);
}

// Acknowledgements.

#[test]
fn rfc9293_3_8_6_3_every_second_whole_segment_is_acknowledged_at_once() {
    let (mut peer, flow) = accepted();
    let mut buf = vec![0; 65_535];
    let mut acks = 0;
    for _ in 0..100 {
        peer.send_bytes(&[7; 1460]);
        acks += peer.replies().len();
        peer.script.stack.tcp_recv(flow, &mut buf).unwrap();
    }
    assert!(acks >= 50, "{acks} ACKs of 100 segments");
}

#[test]
fn rfc9293_3_8_6_3_no_ack_waits_half_a_second() {
    let (mut peer, flow) = accepted();
    for _ in 0..40 {
        peer.send_bytes(b"x");
        let said = peer.silence(SECOND / 2);
        assert_eq!(said.last().map(|seen| seen.ack), Some(Some(peer.seq)));
    }
    assert_eq!(peer.script.stack.tcp_queued(flow).0, 40);
}

#[test]
fn tcp_7_quickack_acknowledges_at_once_and_waits_if_refused() {
    let (mut peer, flow) = accepted();
    peer.send_bytes(b"x");
    peer.silence(SECOND);
    peer.script.stack.tcp_set_quick_ack(flow, false);
    peer.send_bytes(b"x");
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.silence(SECOND / 10).len(), 1);
    peer.script.stack.tcp_set_quick_ack(flow, true);
    peer.send_bytes(b"x");
    peer.silence(SECOND / 100);
    peer.send_bytes(b"x");
    assert_eq!(peer.only().ack, Some(peer.seq));
}

// Timers.

/// Linux's TCP_RTO_MIN: no less than 200 ms beyond the round trip, however short that is; but a probe may go before.
#[test]
fn rfc6298_2_4_the_least_timeout_is_200_ms() {
    let (mut peer, flow) = accepted();
    for _ in 0..10 {
        assert_eq!(write(&mut peer, flow, b"x"), [1]);
        peer.silence(SECOND / 1000);
        acknowledge(&mut peer, 1);
    }
    let start = peer.script.now;
    assert_eq!(write(&mut peer, flow, b"x"), [1]);
    let again = peer.silence(SECOND)[0].at - start;
    assert!(again >= SECOND / 5 && again < SECOND / 4, "{again}");
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
}

#[test]
fn rfc6298_5_3_each_ack_of_something_new_starts_the_timer_anew() {
    let (mut peer, flow) = Peer::accepted(TcpOptions { nodelay: true, ..TcpOptions::default() });
    for _ in 0..10 {
        assert_eq!(write(&mut peer, flow, b"x"), [1]);
    }
    for _ in 0..9 {
        assert_eq!(peer.silence(SECOND * 3 / 20), []);
        acknowledge(&mut peer, 1);
    }
}

/// Linux looks at the time only when it has sent again: what is acknowledged a little late ends no flow.
#[test]
fn rfc5482_a_user_timeout_below_the_retransmission_timeout_waits_for_it() {
    let (mut peer, flow) = Peer::accepted(TcpOptions { user_timeout_ms: 1, ..TcpOptions::default() });
    peer.script.stack.tcp_send(flow, b"abc").unwrap();
    assert_eq!(peer.silence(SECOND / 10).len(), 1);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    assert_eq!(peer.silence(SECOND / 5).len(), 1);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Closed);
}
