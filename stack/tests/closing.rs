//! How flows close: every order of FINs, what comes too late, what is thrown away, and what is left afterwards.

#[allow(dead_code, reason = "each file of tests uses its part of the peer")]
mod peer;
#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use peer::Peer;
use script::{Heard, number, segment, syn};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::socket::FlowId;
use stack::socket::tcp::{How, TcpOptions, TcpState};
use stack::{Duration, Errno};

const SECOND: Duration = Duration::from_secs(1);

fn accepted() -> (Peer, FlowId) {
    Peer::accepted(TcpOptions::default())
}

/// The peer's FIN, and its number.
fn send_fin(peer: &mut Peer) {
    peer.send(TcpRepr { control: TcpControl::Fin, ..peer.ack() });
    peer.seq += 1;
}

/// The only thing that was said is a FIN at the right place; the peer takes it in.
fn take_fin(peer: &mut Peer) -> Heard {
    let seen = peer.only();
    assert_eq!((seen.control, seen.seq), (TcpControl::Fin, peer.rcv_nxt));
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1);
    seen
}

fn state(peer: &Peer, flow: FlowId) -> TcpState {
    peer.script.stack.tcp_state(flow)
}

/// The only thing that was said is a RST at the right place, and nothing is left of the flow.
fn check_is_reset(peer: &mut Peer) {
    let seen = peer.only();
    assert_eq!((seen.control, seen.seq), (TcpControl::Rst, peer.rcv_nxt));
    peer.silence(SECOND);
    assert_eq!(peer.script.stack.flow_count(), 0);
}

#[test]
fn rfc9293_3_6_case_1_we_close_first() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_close(flow, false);
    peer.turn();
    take_fin(&mut peer);
    assert_eq!(state(&peer, flow), TcpState::FinWait1);
    peer.send(peer.ack());
    assert_eq!((state(&peer, flow), peer.replies()), (TcpState::FinWait2, vec![]));
    send_fin(&mut peer);
    let seen = peer.only();
    assert_eq!((seen.control, seen.seq, seen.ack), (TcpControl::None, peer.rcv_nxt, Some(peer.seq)));
    // TIME-WAIT, without a socket.
    assert_eq!(peer.script.stack.flow_count(), 0);
    assert!(!peer.script.stack.is_idle());
    // That ACK was lost: the FIN comes again, and is acknowledged again, and TIME-WAIT begins anew.
    peer.silence(SECOND * 50);
    peer.send(TcpRepr { control: TcpControl::Fin, seq_number: number(peer.seq - 1), ..peer.ack() });
    assert_eq!(peer.only().ack, Some(peer.seq));
    assert_eq!(peer.silence(SECOND * 59), []);
    assert!(!peer.script.stack.is_idle());
    peer.silence(SECOND * 2);
    assert!(peer.script.stack.is_idle());
}

#[test]
fn rfc9293_3_6_case_2_the_peer_closes_first() {
    let (mut peer, flow) = accepted();
    send_fin(&mut peer);
    assert_eq!(state(&peer, flow), TcpState::CloseWait);
    peer.silence(SECOND);
    // Its half is over; ours goes on as long as we like.
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut [0; 8]), Ok(0));
    peer.script.stack.tcp_send(flow, b"still here").unwrap();
    peer.turn();
    assert_eq!(peer.only().payload, b"still here");
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(10);
    peer.send(peer.ack());
    peer.silence(SECOND * 1_000);
    peer.script.stack.tcp_close(flow, false);
    peer.turn();
    take_fin(&mut peer);
    assert_eq!(state(&peer, flow), TcpState::LastAck);
    peer.send(peer.ack());
    assert_eq!(peer.replies(), []);
    // No TIME-WAIT for who closes last.
    assert_eq!(peer.script.stack.flow_count(), 0);
    assert!(peer.script.stack.is_idle());
}

#[test]
fn rfc9293_3_6_case_3_both_close_at_once() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_close(flow, false);
    peer.turn();
    let rcv_nxt = peer.rcv_nxt;
    take_fin(&mut peer);
    // Its FIN has crossed ours.
    peer.send(TcpRepr { control: TcpControl::Fin, ack_number: Some(number(rcv_nxt)), ..peer.ack() });
    peer.seq += 1;
    assert_eq!((state(&peer, flow), peer.only().ack), (TcpState::Closing, Some(peer.seq)));
    peer.send(peer.ack());
    assert_eq!((peer.script.stack.flow_count(), peer.replies()), (0, vec![]));
    assert!(!peer.script.stack.is_idle());
}

#[test]
fn rfc9293_3_6_a_fin_acknowledges_ours_and_ends_the_stream_behind_its_bytes() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_shutdown(flow, How::Write).unwrap();
    peer.turn();
    take_fin(&mut peer);
    peer.send(TcpRepr { control: TcpControl::Fin, payload: b"last words", ..peer.ack() });
    let mut buf = [0; 20];
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut buf), Ok(10));
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut buf), Ok(0));
}

#[test]
fn tcp_7_a_half_closed_flow_that_its_owner_keeps_waits_for_ever() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_shutdown(flow, How::Write).unwrap();
    peer.turn();
    take_fin(&mut peer);
    peer.send(peer.ack());
    assert_eq!(peer.silence(SECOND * 10_000), []);
    assert_eq!(state(&peer, flow), TcpState::FinWait2);
    peer.send_bytes(b"at last");
    assert_eq!(peer.script.stack.tcp_queued(flow).0, 7);
}

#[test]
fn rfc9293_3_8_1_a_fin_is_sent_again() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_close(flow, false);
    let said = peer.silence(SECOND * 5);
    assert!(said.len() > 2 && said.iter().all(|seen| (seen.control, seen.seq) == (TcpControl::Fin, peer.rcv_nxt)));
}

/// RFC 9293, 3.6.1; Linux's tcp_rcv_state_process: nobody will ever read it.
#[test]
fn rfc9293_3_6_1_bytes_after_close_are_reset() {
    // In FIN-WAIT-1, in FIN-WAIT-2, and with a FIN behind them.
    for (acknowledges, control) in [(0, TcpControl::Psh), (1, TcpControl::Psh), (1, TcpControl::Fin)] {
        let (mut peer, flow) = accepted();
        peer.script.stack.tcp_close(flow, false);
        peer.turn();
        let rcv_nxt = peer.rcv_nxt;
        take_fin(&mut peer);
        peer.rcv_nxt = rcv_nxt.wrapping_add(acknowledges);
        peer.send(TcpRepr { control, payload: b"too late", ..peer.ack() });
        check_is_reset(&mut peer);
        // No TIME-WAIT either.
        assert!(peer.script.stack.is_idle());
    }
}

#[test]
fn rfc9293_3_6_1_close_with_unread_bytes_resets() {
    let (mut peer, flow) = accepted();
    peer.send_bytes(b"unread");
    peer.silence(SECOND);
    peer.script.stack.tcp_close(flow, false);
    peer.turn();
    check_is_reset(&mut peer);
}

#[test]
fn socket_7_linger_0_resets_and_forgets_what_is_queued() {
    let (mut peer, flow) = accepted();
    peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    peer.script.stack.tcp_send(flow, b"never sent").unwrap();
    peer.turn();
    peer.replies();
    peer.script.stack.tcp_close(flow, true);
    peer.turn();
    let seen = peer.only();
    assert_eq!((seen.control, seen.payload.len()), (TcpControl::Rst, 0));
    assert!(peer.script.stack.is_idle());
}

/// One that has sent much, and is sending the first of it again.
#[test]
fn rfc5961_3_2_our_reset_is_exact_whatever_is_under_way() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_send(flow, &[7; 9 * 536]).unwrap();
    let said = peer.silence(SECOND);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(9 * 536);
    assert!(said.len() > 10 && said.last().unwrap().seq.wrapping_add(536) != peer.rcv_nxt);
    peer.script.stack.tcp_close(flow, true);
    peer.turn();
    check_is_reset(&mut peer);
}

/// smoltcp goes on where nothing goes out yet: neither bare ACKs nor what may be acknowledged follow it.
#[test]
fn rfc9293_3_10_7_4_bare_acks_stand_at_what_was_sent_or_at_the_windows_end() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_send(flow, &[7; 537]).unwrap();
    peer.silence(SECOND / 4);
    peer.script.stack.tcp_send(flow, &[7; 535]).unwrap();
    peer.turn();
    let mut sent: Vec<Heard> = peer.replies();
    let end = peer.rcv_nxt.wrapping_add(536);
    let part = TcpRepr { ack_number: Some(number(end.wrapping_sub(13))), window_len: 0, ..peer.ack() };
    peer.send(TcpRepr { seq_number: number(peer.seq + 1), payload: b"x", ..part });
    sent.extend(peer.replies());
    let edge = sent.iter().map(|seen| seen.seq.wrapping_add(seen.payload.len() as u32).wrapping_sub(end) as i32).max();
    assert!(sent.iter().any(|seen| seen.payload.is_empty() && seen.seq == end.wrapping_sub(13)), "{sent:?}");
    peer.rcv_nxt = end.wrapping_add_signed(edge.unwrap().max(0));
    peer.send(TcpRepr { ack_number: Some(number(peer.rcv_nxt.wrapping_add(1))), ..peer.ack() });
    // The peer has it all, and says so.
    peer.pass(SECOND * 10, |peer, seen| {
        if seen.seq == peer.rcv_nxt {
            peer.rcv_nxt = peer.rcv_nxt.wrapping_add(seen.payload.len() as u32);
        }
        peer.send(peer.ack());
    });
    peer.send(peer.ack());
    assert_eq!(peer.script.stack.tcp_queued(flow).1, 0);
}

#[test]
fn rfc9293_3_10_7_4_a_reset_in_each_state() {
    type Way = fn(&mut Peer, FlowId);
    let half_close: Way = |peer, flow| {
        peer.script.stack.tcp_shutdown(flow, How::Write).unwrap();
        peer.turn();
        take_fin(peer);
    };
    let ways: [(Way, TcpState, Errno); 4] = [
        (|_, _| {}, TcpState::Established, Errno::ECONNRESET),
        (|peer, _| send_fin(peer), TcpState::CloseWait, Errno::EPIPE),
        (half_close, TcpState::FinWait1, Errno::ECONNRESET),
        (
            |peer, flow| {
                peer.script.stack.tcp_shutdown(flow, How::Write).unwrap();
                peer.turn();
                take_fin(peer);
                peer.send(peer.ack());
            },
            TcpState::FinWait2,
            Errno::ECONNRESET,
        ),
    ];
    for (way, expected, cause) in ways {
        let (mut peer, flow) = accepted();
        way(&mut peer, flow);
        assert_eq!(state(&peer, flow), expected);
        peer.silence(SECOND / 100);
        peer.send(TcpRepr { control: TcpControl::Rst, ..peer.ack() });
        assert_eq!((state(&peer, flow), peer.replies()), (TcpState::Closed, vec![]), "{expected:?}");
        assert_eq!(peer.script.stack.tcp_take_error(flow), Some(cause), "{expected:?}");
    }
}

#[test]
fn rfc9293_3_10_4_a_close_in_syn_sent_says_nothing() {
    let mut peer = Peer::new();
    let flow = peer.script.connect(5_000);
    peer.turn();
    assert_eq!(peer.only().control, TcpControl::Syn);
    peer.script.stack.tcp_close(flow, false);
    assert_eq!(peer.silence(SECOND * 100), []);
    assert_eq!(peer.script.stack.flow_count(), 0);
}

/// A flow that is in TIME-WAIT.
fn waiting() -> Peer {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_close(flow, false);
    peer.turn();
    take_fin(&mut peer);
    send_fin(&mut peer);
    assert_eq!(peer.only().ack, Some(peer.seq));
    peer
}

#[test]
fn rfc9293_3_10_7_4_what_time_wait_answers() {
    let mut peer = waiting();
    // Old bytes, and a SYN that is no newer than what was there, are told where the flow stood.
    for old in [
        TcpRepr { seq_number: number(peer.seq.wrapping_sub(5)), payload: b"old", ..peer.ack() },
        segment(TcpControl::Syn, peer.seq.wrapping_sub(1), None, b""),
    ] {
        peer.silence(SECOND);
        peer.send(old);
        let seen = peer.only();
        assert_eq!((seen.control, seen.seq, seen.ack), (TcpControl::None, peer.rcv_nxt, Some(peer.seq)));
    }
    peer.send(peer.ack());
    assert_eq!(peer.replies(), []);
    // A RST counts if it is exact (RFC 5961, 3.2).
    peer.send(TcpRepr { control: TcpControl::Rst, seq_number: number(peer.seq.wrapping_add(1)), ..peer.ack() });
    assert!(!peer.script.stack.is_idle());
    peer.send(TcpRepr { control: TcpControl::Rst, ..peer.ack() });
    assert_eq!(peer.replies(), []);
    assert!(peer.script.stack.is_idle());
}

/// Two ends in TIME-WAIT that disagree would tell each other so for ever; tcp_invalid_ratelimit of Linux.
#[test]
fn rfc5961_7_acks_of_time_wait_are_spaced() {
    let mut peer = waiting();
    peer.silence(SECOND);
    for _ in 0..100 {
        peer.send(TcpRepr { seq_number: number(peer.seq.wrapping_sub(5)), ..peer.ack() });
    }
    assert_eq!(peer.replies().len(), 1);
    peer.silence(SECOND);
    peer.send(TcpRepr { seq_number: number(peer.seq.wrapping_sub(5)), ..peer.ack() });
    assert_eq!(peer.replies().len(), 1);
}

#[test]
fn rfc6191_2_time_wait_gives_way_to_a_newer_syn() {
    let mut peer = waiting();
    peer.send(syn(peer.seq.wrapping_add(1)));
    let seen = peer.only();
    assert_eq!((seen.control, seen.ack), (TcpControl::Syn, Some(peer.seq.wrapping_add(2))));
}

/// A window that is taken back although it was used: what is sent again probes it (tcp_retransmit_timer of Linux).
#[test]
fn rfc9293_3_8_6_a_window_that_is_taken_back_is_probed() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_send(flow, b"sent, and not acknowledged").unwrap();
    peer.turn();
    assert_eq!(peer.only().payload.len(), 26);
    peer.send(TcpRepr { window_len: 0, ..peer.ack() });
    let said = peer.silence(SECOND * 5);
    assert!(said.len() > 2 && said.iter().all(|seen| seen.seq == peer.rcv_nxt), "{said:?}");
    // Nobody reads the answer, and an owner that has closed does not wait for ever.
    peer.script.stack.tcp_close(flow, false);
    peer.silence(SECOND * 200);
    assert_eq!(peer.script.stack.flow_count(), 0);
}

/// A segment that was overtaken says what the window was: not what it is.
#[test]
fn rfc9293_3_10_7_4_an_overtaken_segment_does_not_open_the_window() {
    let (mut peer, flow) = accepted();
    peer.script.stack.tcp_send(flow, b"sent").unwrap();
    peer.turn();
    peer.replies();
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(4);
    let closed = TcpRepr { seq_number: number(peer.seq.wrapping_add(4)), window_len: 0, ..peer.ack() };
    peer.send(closed);
    peer.script.stack.tcp_send(flow, &[7; 2_000]).unwrap();
    peer.turn();
    let probe = peer.only();
    assert_eq!(probe.payload.len(), 1);
    let ack = Some(number(peer.rcv_nxt.wrapping_sub(4)));
    peer.send(TcpRepr { ack_number: ack, payload: b"late", ..peer.ack() });
    peer.seq += 4;
    assert!(peer.silence(SECOND / 10).iter().all(|seen| seen.payload.is_empty()));
    peer.send(peer.ack());
    assert!(peer.replies().len() > 1);
}

/// The peer contradicts itself: bytes have come that lie behind its FIN.
#[test]
fn rfc9293_3_10_7_4_a_fin_in_front_of_bytes_ends_the_stream_where_it_stands() {
    let (mut peer, flow) = accepted();
    peer.send(TcpRepr { seq_number: number(peer.seq.wrapping_add(4)), payload: b"behind", ..peer.ack() });
    let fin = TcpRepr { control: TcpControl::Fin, payload: b"be", ..peer.ack() };
    peer.send(fin);
    peer.silence(SECOND);
    let mut buf = [0; 20];
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut buf), Ok(2));
    peer.send(fin);
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut buf), Ok(0));
}
