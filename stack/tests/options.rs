//! What socket options do on the wire, each by tcp(7), with the kernel's numbers.

#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use script::{Heard, PEER, Script, only, segment, syn};
use sim::SERVER;
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::socket::tcp::{CongestionControl, TcpOptions, TcpState};
use stack::socket::{FlowId, Socket};
use stack::{Duration, Errno, Readiness};

const SECOND: Duration = Duration::from_secs(1);

/// A flow that the peer has opened from 1000 on, with its SYN-ACK.
fn accepted(options: TcpOptions) -> (Script, FlowId, Heard) {
    let mut script = Script::new();
    let listener = script.listen_with(8, options);
    let syn_ack = only(script.say(syn(1000)));
    script.say(ack(&syn_ack, 1001, 0, b""));
    let flow = script.stack.tcp_accept(listener).unwrap();
    (script, flow, syn_ack)
}

/// A segment from `seq` on that acknowledges so many bytes.
fn ack<'a>(syn_ack: &Heard, seq: u32, acked: u32, payload: &'a [u8]) -> TcpRepr<'a> {
    segment(TcpControl::None, seq, Some(syn_ack.seq.wrapping_add(1 + acked)), payload)
}

fn seconds_of(heard: &[Heard], script: &Script, len: Duration) -> Vec<u64> {
    let start = script.now - len;
    heard.iter().map(|heard| (heard.at - start).secs()).collect()
}

#[test]
fn tcp_syncnt_bounds_the_syns() {
    let mut script = Script::new();
    let options = TcpOptions { syn_retries: 2, ..TcpOptions::default() };
    let flow = script.stack.tcp_connect((SERVER, 5000).into(), PEER, options, 9, script.now).unwrap();
    let heard = script.wait(SECOND * 6);
    assert_eq!(seconds_of(&heard, &script, SECOND * 6), [0, 1, 3]);
    assert_eq!(script.stack.tcp_connected(flow), Err(Errno::EINPROGRESS));
    assert_eq!(script.wait(SECOND * 2), []);
    assert_eq!(script.stack.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
    // A listener's bounds the SYN-ACKs.
    let mut script = Script::new();
    script.listen_with(8, options);
    only(script.say(syn(1000)));
    let heard = script.wait(SECOND * 100);
    assert_eq!(seconds_of(&heard, &script, SECOND * 100), [1, 3]);
    assert!(script.stack.is_idle());
}

#[test]
fn tcp_maxseg_bounds_both_directions() {
    let options = TcpOptions { segment_max: 500, ..TcpOptions::default() };
    let (mut script, flow, syn_ack) = accepted(options);
    assert_eq!(syn_ack.mss, Some(500));
    script.stack.tcp_send(flow, &[7; 1000]).unwrap();
    assert_eq!(script.turn().iter().map(|heard| heard.payload.len()).collect::<Vec<_>>(), [500, 500]);
    let mut script = Script::new();
    let flow = script.stack.tcp_connect((SERVER, 5000).into(), PEER, options, 9, script.now).unwrap();
    let sent = only(script.turn());
    assert_eq!(sent.mss, Some(500));
    let syn_ack = TcpRepr { ack_number: Some(script::number(sent.seq.wrapping_add(1))), ..syn(1000) };
    script.say_from(PEER, 5000, syn_ack);
    script.stack.tcp_send(flow, &[7; 1000]).unwrap();
    assert_eq!(script.turn().iter().map(|heard| heard.payload.len()).collect::<Vec<_>>(), [500, 500]);
    assert_eq!(script.stack.tcp_info(flow, script.now).unwrap().send_mss, 500);
}

#[test]
fn tcp_linger2_bounds_the_wait_for_the_peers_fin() {
    for (fin_wait_2_s, ends_after_s) in [(0, 60), (5, 5)] {
        let (mut script, flow, syn_ack) = accepted(TcpOptions { fin_wait_2_s, ..TcpOptions::default() });
        script.stack.tcp_close(flow, false);
        assert_eq!(only(script.turn()).control, TcpControl::Fin);
        script.say(ack(&syn_ack, 1001, 1, b""));
        assert_eq!(script.wait(SECOND * ends_after_s - SECOND / 100), []);
        assert_eq!(script.stack.flow_count(), 1);
        script.wait(SECOND / 10);
        assert_eq!(script.stack.flow_count(), 0);
    }
    // Less than 0: no wait at all, in either order.
    for closes_late in [false, true] {
        let (mut script, flow, syn_ack) = accepted(TcpOptions { fin_wait_2_s: -1, ..TcpOptions::default() });
        if closes_late {
            script.stack.tcp_shutdown(flow, stack::socket::tcp::How::Write).unwrap();
        } else {
            script.stack.tcp_close(flow, false);
        }
        assert_eq!(only(script.turn()).control, TcpControl::Fin);
        let mut heard = script.say(ack(&syn_ack, 1001, 1, b""));
        if closes_late {
            assert_eq!((heard.len(), script.stack.tcp_state(flow)), (0, TcpState::FinWait2));
            script.stack.tcp_close(flow, false);
            heard = script.turn();
        }
        assert_eq!(only(heard).control, TcpControl::Rst);
        assert_eq!(script.stack.flow_count(), 0);
    }
}

#[test]
fn tcp_defer_accept_waits_for_bytes() {
    let mut script = Script::new();
    // 7 s.
    let listener = script.listen_with(8, TcpOptions { deferred_retries: 3, ..TcpOptions::default() });
    let syn_ack = only(script.say(syn(1000)));
    script.now += SECOND / 2;
    assert_eq!(script.say(ack(&syn_ack, 1001, 0, b"")), []);
    assert_eq!(script.stack.tcp_accept(listener), Err(Errno::EAGAIN));
    script.now += SECOND * 5;
    script.say(ack(&syn_ack, 1001, 0, b"hello"));
    let flow = script.stack.tcp_accept(listener).unwrap();
    assert_eq!(script.stack.tcp_queued(flow).0, 5);
    // The five seconds say nothing of the path.
    assert_eq!(script.stack.tcp_info(flow, script.now).unwrap().path.round_trip, Duration::ZERO);
    // Without bytes the SYN-ACK goes out once more at the end, and its ACK opens.
    let other = (PEER.ip(), 2).into();
    let syn_ack = only(script.say_from(other, sim::PORT, syn(1000)));
    script.say_from(other, sim::PORT, ack(&syn_ack, 1001, 0, b""));
    let heard = script.wait(SECOND * 10);
    let to_other: Vec<Heard> = heard.into_iter().filter(|heard| heard.to == other).collect();
    assert_eq!(seconds_of(&to_other, &script, SECOND * 10), [7]);
    assert_eq!(script.stack.tcp_accept(listener), Err(Errno::EAGAIN));
    script.say_from(other, sim::PORT, ack(&syn_ack, 1001, 0, b""));
    assert!(script.stack.tcp_accept(listener).is_ok());
}

fn lens(heard: &[Heard]) -> Vec<usize> {
    heard.iter().map(|heard| heard.payload.len()).collect()
}

#[test]
fn tcp_cork_lets_full_segments_leave_and_the_rest_when_it_ends() {
    let corked = TcpOptions { corked: true, nodelay: true, ..TcpOptions::default() };
    let (mut script, flow, _) = accepted(corked);
    for _ in 0..20 {
        assert_eq!(script.stack.tcp_send_part(flow, &[7; 100], false), Ok(100));
    }
    assert_eq!((lens(&script.turn()), script.stack.tcp_queued(flow).1), (vec![1460], 2000));
    script.stack.tcp_set_options(flow, TcpOptions { corked: false, ..corked });
    assert_eq!(lens(&script.turn()), [540]);
    // TCP_NODELAY pushes, too.
    let (mut script, flow, _) = accepted(TcpOptions { nodelay: false, ..corked });
    script.stack.tcp_send_part(flow, &[7; 100], false).unwrap();
    assert_eq!(script.turn(), []);
    script.stack.tcp_set_options(flow, corked);
    assert_eq!(lens(&script.turn()), [100]);
    // And close(2), together with the FIN.
    let (mut script, flow, _) = accepted(corked);
    script.stack.tcp_send_part(flow, &[7; 100], false).unwrap();
    script.stack.tcp_close(flow, false);
    let last = only(script.turn());
    assert_eq!((last.payload.len(), last.control), (100, TcpControl::Fin));
}

#[test]
fn tcp_cork_has_a_ceiling_of_200_ms_once_all_else_is_acknowledged() {
    let (mut script, flow, syn_ack) = accepted(TcpOptions { corked: true, ..TcpOptions::default() });
    script.stack.tcp_send_part(flow, &[7; 100], false).unwrap();
    assert_eq!(script.wait(SECOND / 5 - SECOND / 1000), []);
    assert_eq!(lens(&script.wait(SECOND / 100)), [100]);
    // What is under way holds it longer.
    script.stack.tcp_send_part(flow, &[7; 100], false).unwrap();
    assert_eq!(lens(&script.wait(SECOND / 10)), [] as [usize; 0]);
    script.say(ack(&syn_ack, 1001, 100, b""));
    assert_eq!(lens(&script.wait(SECOND / 10)), [] as [usize; 0]);
    assert_eq!(lens(&script.wait(SECOND / 5)), [100]);
}

#[test]
fn msg_more_of_send_2_joins_what_two_calls_send() {
    let (mut script, flow, syn_ack) = accepted(TcpOptions { nodelay: true, ..TcpOptions::default() });
    script.stack.tcp_send_part(flow, b"header ", true).unwrap();
    assert_eq!(script.turn(), []);
    script.stack.tcp_send_part(flow, b"body", false).unwrap();
    assert_eq!(only(script.turn()).payload, b"header body");
    // An ACK ends the wait as well.
    script.stack.tcp_send_part(flow, b"more", true).unwrap();
    assert_eq!(script.turn(), []);
    script.now += SECOND / 100;
    assert_eq!(lens(&script.say(ack(&syn_ack, 1001, 11, b""))), [] as [usize; 0]);
    assert_eq!(lens(&script.wait(SECOND / 1000)), [4]);
}

#[test]
fn tcp_notsent_lowat_bounds_what_waits_to_be_sent() {
    let (mut script, flow, syn_ack) =
        accepted(TcpOptions { notsent_lowat: 3000, nodelay: true, ..TcpOptions::default() });
    let socket = Socket::Flow(flow);
    script.stack.set_token(socket, 1);
    // What leaves at once is no burden: nine full segments and a bit do, and no crumb of the tenth.
    for unsent in [0, 0, 0, 0, 1540] {
        assert_eq!(script.stack.tcp_room(flow), Ok(3000));
        script.stack.tcp_send_part(flow, &[7; 3000], false).unwrap();
        script.turn();
        assert_eq!(script.stack.tcp_unsent(flow), unsent);
    }
    assert_eq!(script.stack.tcp_room(flow), Ok(1460));
    assert!(!script.stack.readiness(socket).contains(Readiness::WRITABLE));
    while script.stack.next_ready().is_some() {}
    script.say(ack(&syn_ack, 1001, 3000, b""));
    assert!(script.stack.next_ready().unwrap().rose.contains(Readiness::WRITABLE));
    assert_eq!(script.stack.tcp_room(flow), Ok(3000));
}

#[test]
fn tcp_congestion_chooses_what_a_loss_leaves() {
    for (congestion_control, left) in [(CongestionControl::Cubic, 7), (CongestionControl::Reno, 5)] {
        let (mut script, flow, _) =
            accepted(TcpOptions { congestion_control: Some(congestion_control), ..TcpOptions::default() });
        script.stack.tcp_send(flow, &[7; 100]).unwrap();
        script.wait(SECOND * 2);
        assert_eq!(script.stack.tcp_info(flow, script.now).unwrap().path.threshold, left);
    }
}

/// IP_TOS and IP_TTL of all segments, those that the front writes itself, too.
#[test]
fn ip_7_tos_and_ttl_stand_in_every_packet() {
    let mut options = TcpOptions::default();
    (options.v4.traffic_class, options.v4.hop_limit) = (0x48, Some(9));
    let all = |heard: Vec<Heard>| heard.iter().map(|heard| heard.ip).collect::<Vec<_>>();
    let (mut script, flow, syn_ack) = accepted(options);
    assert_eq!(syn_ack.ip, (0x48, 9));
    script.stack.tcp_send(flow, &[7; 100]).unwrap();
    assert_eq!(all(script.turn()), [(0x48, 9)]);
    // Of another hop limit, and that of the system.
    options.v4.hop_limit = Some(1);
    script.stack.tcp_set_options(flow, options);
    assert_eq!(only(script.wait(SECOND / 2)).ip, (0x48, 1));
    options.v4.hop_limit = None;
    script.stack.tcp_set_options(flow, options);
    // An ACK alone, a challenge, a FIN.
    script.say(ack(&syn_ack, 1001, 100, b"hello"));
    assert_eq!(all(script.wait(SECOND)), [(0x48, 64)]);
    assert_eq!(all(script.say(syn(5000))), [(0x48, 64)]);
    script.stack.tcp_shutdown(flow, stack::socket::tcp::How::Write).unwrap();
    assert_eq!(all(script.turn()), [(0x48, 64)]);
    // And from TIME-WAIT, with the system's hop limit.
    options.v4.hop_limit = Some(3);
    script.stack.tcp_set_options(flow, options);
    let fin = TcpRepr { control: TcpControl::Fin, ..ack(&syn_ack, 1006, 101, b"") };
    assert_eq!(all(script.say(fin)), [(0x48, 3)]);
    assert_eq!(all(script.say(fin)), [(0x48, 64)]);
    // One that is sent again, and a RST on nobody's behalf.
    let mut script = Script::new();
    script.stack.tcp_connect((SERVER, 5000).into(), PEER, options, 9, script.now).unwrap();
    assert_eq!(all(script.wait(SECOND * 2)), [(0x48, 3), (0x48, 3)]);
    let stray = segment(TcpControl::None, 1, Some(2), b"");
    assert_eq!(all(script.say_from((PEER.ip(), 2).into(), 5000, stray)), [(0, 64)]);
}

#[test]
fn socket_7_rcvlowat_is_what_makes_a_flow_readable() {
    let options = TcpOptions { receive_lowat: 10, ..TcpOptions::default() };
    let (mut script, flow, syn_ack) = accepted(options);
    let socket = Socket::Flow(flow);
    script.stack.set_token(socket, 1);
    while script.stack.next_ready().is_some() {}
    let is_readable = |script: &Script| script.stack.readiness(socket).contains(Readiness::READABLE);
    script.say(ack(&syn_ack, 1001, 0, &[7; 9]));
    assert_eq!(script.stack.next_ready().unwrap().rose, Readiness::BYTES);
    assert!(!is_readable(&script));
    script.say(ack(&syn_ack, 1010, 0, &[7; 1]));
    assert_eq!(script.stack.next_ready().unwrap().rose, Readiness::READABLE);
    assert!(is_readable(&script));
    // A higher one takes that back, a lower one tells.
    script.stack.tcp_set_options(flow, TcpOptions { receive_lowat: 11, ..options });
    assert!(script.stack.next_ready().is_none() && !is_readable(&script));
    script.stack.tcp_set_options(flow, options);
    assert_eq!(script.stack.next_ready().unwrap().rose, Readiness::READABLE);
    // The window grows for one that does not fit; where it cannot, a window that is about to close is enough.
    script.stack.tcp_set_options(flow, TcpOptions { receive_lowat: 200_000, ..options });
    script.say(ack(&syn_ack, 1011, 0, &[7; 1000]));
    assert!(script.stack.tcp_info(flow, script.now).unwrap().receive_window > 200_000 && !is_readable(&script));
    let (mut script, flow, syn_ack) = accepted(TcpOptions { receive_lowat: 9000, receive_buffer: 8000, ..options });
    let socket = Socket::Flow(flow);
    script.say(ack(&syn_ack, 1001, 0, &[7; 1400]));
    assert!(!script.stack.readiness(socket).contains(Readiness::READABLE));
    script.say(ack(&syn_ack, 2401, 0, &[7; 1400]));
    assert!(script.stack.readiness(socket).contains(Readiness::READABLE));
}
