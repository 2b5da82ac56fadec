//! Conversations in which a router, or somebody who pretends to be one, has a say: ICMP errors, paths that are narrower
//! than their routes, and black holes.

#[allow(dead_code, reason = "each file of tests uses its part of the peer")]
mod peer;
#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use peer::Peer;
use proptest::prelude::*;
use script::{Heard, PEER, Script, only, syn};
use sim::{PORT, SERVER, pattern};
use smoltcp::wire::{IpProtocol, TcpControl, TcpRepr};
use stack::limits::PATH_MTU_LEN;
use stack::socket::FlowId;
use stack::socket::ip::{IpOptions, MtuDiscovery};
use stack::socket::tcp::{TcpOptions, TcpState};
use stack::{Duration, Errno, Instant};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SECOND: Duration = Duration::from_secs(1);

/// Destination unreachable, and what makes one of them "fragmentation needed" (RFC 792).
const UNREACHABLE: u8 = 3;
const TOO_BIG: u8 = 4;

/// What an ICMP error quotes of a segment of ours: the IP header, the ports, and its number.
fn quote(heard: &Heard, local: SocketAddr) -> Vec<u8> {
    let tcp_len = 20 + heard.payload.len() as u16;
    let mut quoted = match (local.ip(), heard.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = [0; 20];
            (header[0], header[9]) = (0x45, 6);
            header[2..4].copy_from_slice(&(20 + tcp_len).to_be_bytes());
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            header.to_vec()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = [0; 40];
            (header[0], header[6]) = (0x60, 6);
            header[4..6].copy_from_slice(&tcp_len.to_be_bytes());
            header[8..24].copy_from_slice(&from.octets());
            header[24..40].copy_from_slice(&to.octets());
            header.to_vec()
        }
        _ => panic!("one version"),
    };
    quoted.extend([local.port().to_be_bytes(), heard.to.port().to_be_bytes()].concat());
    quoted.extend(heard.seq.to_be_bytes());
    quoted
}

/// A router sends an ICMP error about the packet that `quoted` begins.
fn send_error(script: &mut Script, kind: u8, code: u8, rest: u32, quoted: &[u8]) {
    let router: IpAddr =
        if quoted[0] >> 4 == 4 { [10, 0, 0, 254].into() } else { [0xfd00, 0, 0, 0, 0, 0, 0, 254].into() };
    let (server, now) = (script.peer.server, script.now);
    let protocol = if router.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
    script.peer.send_packet(router, protocol, 8 + quoted.len(), now, |icmp| {
        icmp[..4].copy_from_slice(&[kind, code, 0, 0]);
        icmp[4..8].copy_from_slice(&rest.to_be_bytes());
        icmp[8..].copy_from_slice(quoted);
        let mut summed = icmp.to_vec();
        if let (IpAddr::V6(router), IpAddr::V6(server)) = (router, server) {
            // RFC 4443, 2.3: with a pseudo-header, which may as well stand behind.
            summed.extend([router.octets(), server.octets()].concat());
            summed.extend([(icmp.len() as u16).to_be_bytes(), [0, 58]].concat());
        }
        let words = summed.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let checksum = !(words.fold(0, |sum, word| (sum + word) % 0xffff) as u16);
        icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    });
}

/// A router tells `PORT` what became of a segment.
fn tell(peer: &mut Peer, kind: u8, code: u8, rest: u32, about: &Heard) {
    let quoted = quote(about, (SERVER, PORT).into());
    send_error(&mut peer.script, kind, code, rest, &quoted);
    peer.turn();
}

/// A segment that is in every way like `heard`, but for its number.
fn at(heard: &Heard, seq: u32) -> Heard {
    Heard { seq, ..heard.clone() }
}

/// A flow whose peer takes segments of 1,460 bytes and a window of `window`, and has said so.
fn accepted(window: u16, options: TcpOptions) -> (Peer, FlowId) {
    let syn = TcpRepr { window_scale: None, window_len: window, ..syn(5_000) };
    let (mut peer, flow) = Peer::accepted_with(syn, TcpOptions { nodelay: true, ..options });
    peer.send(TcpRepr { window_len: window, ..peer.ack() });
    assert_eq!(peer.replies(), []);
    (peer, flow)
}

fn send(peer: &mut Peer, flow: FlowId, len: usize) -> Vec<Heard> {
    let bytes: Vec<u8> = (0..len).map(pattern).collect();
    assert_eq!(peer.script.stack.tcp_send(flow, &bytes), Ok(len));
    peer.turn();
    peer.replies()
}

fn lens(heard: &[Heard]) -> Vec<usize> {
    heard.iter().map(|heard| heard.payload.len()).collect()
}

// RFC 1122, 4.2.3.9, and RFC 5927.

#[test]
fn rfc1122_4_2_3_9_a_connect_ends_with_what_the_network_says() {
    let check = |remote: SocketAddr, kind, code, expected| {
        let local = SocketAddr::new(if remote.is_ipv4() { SERVER } else { Ipv6Addr::LOCALHOST.into() }, PORT);
        let mut script = Script::new();
        script.peer.server = local.ip();
        let flow = script.stack.tcp_connect(local, remote, TcpOptions::default(), 9, script.now).unwrap();
        let syn = only(script.turn());
        // One about another connection.
        let quoted = quote(&at(&syn, syn.seq.wrapping_sub(1)), local);
        send_error(&mut script, kind, code, 0, &quoted);
        script.turn();
        assert_eq!(script.stack.tcp_connected(flow), Err(Errno::EINPROGRESS));
        send_error(&mut script, kind, code, 0, &quote(&syn, local));
        assert_eq!(script.turn(), [], "without a word");
        assert_eq!(script.stack.tcp_take_error(flow), Some(expected), "{kind} {code}");
        assert_eq!(script.stack.tcp_state(flow), TcpState::Closed);
        script.stack.tcp_close(flow, false);
        assert_eq!(script.stack.flow_count(), 0);
    };
    let codes = [(0, Errno::ENETUNREACH), (1, Errno::EHOSTUNREACH), (2, Errno::ENOPROTOOPT), (3, Errno::ECONNREFUSED)];
    for (code, errno) in codes.into_iter().chain([(13, Errno::EHOSTUNREACH)]) {
        check(PEER, UNREACHABLE, code, errno);
    }
    let remote = SocketAddr::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into(), PEER.port());
    for (code, errno) in
        [(0, Errno::ENETUNREACH), (1, Errno::EACCES), (3, Errno::EHOSTUNREACH), (4, Errno::ECONNREFUSED)]
    {
        check(remote, 1, code, errno);
    }
    check(remote, 3, 0, Errno::EHOSTUNREACH);
}

#[test]
fn rfc1122_4_2_3_9_an_open_flow_goes_on_and_remembers_what_the_network_says() {
    let (mut peer, flow) = accepted(10_000, TcpOptions::default());
    let sent = only(send(&mut peer, flow, 100));
    tell(&mut peer, UNREACHABLE, 3, 0, &sent);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut [0; 8]), Err(Errno::EAGAIN));
    // SO_ERROR says it once; what ends the flow later says it too.
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::ECONNREFUSED));
    assert_eq!(peer.script.stack.tcp_take_error(flow), None);
    tell(&mut peer, UNREACHABLE, 1, 0, &sent);
    // Who is heard was not unreachable.
    peer.send(TcpRepr { payload: b"x", ..peer.ack() });
    assert_eq!(peer.script.stack.tcp_take_error(flow), None);
    tell(&mut peer, UNREACHABLE, 1, 0, &sent);
    peer.silence(SECOND * 1_000);
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Closed);
    assert_eq!(peer.script.stack.tcp_take_error(flow), Some(Errno::EHOSTUNREACH));
}

#[test]
fn errors_are_hard_for_who_asked_for_them() {
    let hard = IpOptions { errors_are_hard: true, ..IpOptions::default() };
    let (mut peer, flow) = accepted(10_000, TcpOptions { v4: hard, ..TcpOptions::default() });
    let sent = only(send(&mut peer, flow, 100));
    tell(&mut peer, UNREACHABLE, 1, 0, &sent);
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut [0; 8]), Err(Errno::EHOSTUNREACH));
    assert_eq!(peer.script.stack.tcp_recv(flow, &mut [0; 8]), Err(Errno::EAGAIN));
    assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
}

#[test]
fn rfc5927_4_1_an_error_about_what_is_not_under_way_is_ignored() {
    let (mut peer, flow) = accepted(10_000, TcpOptions::default());
    let sent = only(send(&mut peer, flow, 100));
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(100);
    peer.send(peer.ack());
    let second = only(send(&mut peer, flow, 1460));
    for seq in [sent.seq, second.seq.wrapping_sub(1), second.seq.wrapping_add(1461), sent.seq.wrapping_add(1 << 31)] {
        tell(&mut peer, UNREACHABLE, 1, 0, &at(&second, seq));
        tell(&mut peer, UNREACHABLE, TOO_BIG, 600, &at(&second, seq));
    }
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.script.stack.tcp_take_error(flow), None);
    let counters = peer.script.stack.counters();
    assert_eq!((counters.icmp_errors, counters.drop_icmp, counters.path_mtus_lowered), (8, 8, 0));
}

#[test]
fn half_open_flows_end_as_those_of_linux() {
    let half_open = |kind, code, ahead: u32| {
        let mut peer = Peer::new();
        peer.script.listen(1);
        peer.send(syn(5_000));
        let syn_ack = peer.only();
        tell(&mut peer, kind, code, 0, &at(&syn_ack, syn_ack.seq.wrapping_add(ahead)));
        // Whether the SYN-ACK is sent again.
        !peer.silence(SECOND * 2).is_empty()
    };
    assert!(!half_open(UNREACHABLE, 1, 0));
    assert!(!half_open(11, 0, 0));
    assert!(half_open(UNREACHABLE, 3, 0));
    assert!(half_open(UNREACHABLE, 1, 1));
}

#[test]
fn rfc6069_3_no_route_is_no_reason_for_more_patience() {
    let retransmissions = |says_so: bool| {
        let (mut peer, flow) = accepted(10_000, TcpOptions::default());
        let sent = only(send(&mut peer, flow, 100));
        let mut count = 0;
        peer.pass(SECOND * 20, |peer, seen| {
            count += 1;
            if says_so && seen.seq == sent.seq {
                tell(peer, UNREACHABLE, 0, 0, &seen);
            }
        });
        count
    };
    let (silent, told) = (retransmissions(false), retransmissions(true));
    // One each 200 ms.
    assert!(silent < 10 && (95..=105).contains(&told), "{silent}, {told}");
}

// RFC 1191 and RFC 8201.

#[test]
fn rfc1191_6_what_was_too_big_is_sent_again_at_once() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let sent = send(&mut peer, flow, 5 * 1460);
    assert_eq!(lens(&sent), [1460; 5]);
    tell(&mut peer, UNREACHABLE, TOO_BIG, 1280, &sent[0]);
    let again = peer.replies();
    assert_eq!(lens(&again), [1240, 1240, 1240, 1240, 1240, 1100]);
    let bytes: Vec<u8> = again.iter().flat_map(|heard| heard.payload.clone()).collect();
    assert!(bytes.iter().copied().eq((0..5 * 1460).map(pattern)));
    assert_eq!(again[0].seq, sent[0].seq);
    // The router's other errors say nothing new.
    for late in &sent[1..] {
        tell(&mut peer, UNREACHABLE, TOO_BIG, 1280, late);
    }
    assert_eq!(peer.replies(), []);
    let info = peer.script.stack.tcp_info(flow, peer.script.now).unwrap();
    assert_eq!((info.path_mtu, info.send_mss, info.path.window), (1280, 1240, 10));
    assert_eq!(info.advertised_mss, 1460);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(5 * 1460);
    peer.send(TcpRepr { window_len: 60_000, ..peer.ack() });
    assert_eq!(lens(&send(&mut peer, flow, 2_000)), [1240, 760]);
}

#[test]
fn a_narrow_path_is_no_congestion_but_a_timeout_after_it_is() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let sent = send(&mut peer, flow, 5 * 1460);
    tell(&mut peer, UNREACHABLE, TOO_BIG, 1280, &sent[0]);
    let threshold = |peer: &Peer| peer.script.stack.tcp_info(flow, peer.script.now).unwrap().path.threshold;
    assert_eq!(threshold(&peer), u32::MAX);
    peer.silence(SECOND);
    assert_eq!(threshold(&peer), 7);
}

#[test]
fn rfc1191_6_3_a_destination_s_mtu_is_remembered_for_ten_minutes() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let sent = only(send(&mut peer, flow, 1460));
    tell(&mut peer, UNREACHABLE, TOO_BIG, 1006, &sent);
    peer.replies();
    let mss_of_syn = |peer: &mut Peer, port| {
        peer.script.connect(port);
        let syns = peer.script.turn();
        syns.iter().find(|heard| heard.control == TcpControl::Syn).unwrap().mss
    };
    assert_eq!(mss_of_syn(&mut peer, 81), Some(966));
    peer.script.peer.send((PEER.ip(), 40_001).into(), PORT, &syn(5_000), peer.script.now);
    assert_eq!(peer.script.turn()[0].mss, Some(966), "of a SYN-ACK");
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1460);
    peer.send(TcpRepr { window_len: 60_000, ..peer.ack() });

    peer.silence(PATH_MTU_LEN - SECOND * 127 / 2);
    assert_eq!(lens(&send(&mut peer, flow, 1460)), [966, 494]);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1460);
    peer.send(TcpRepr { window_len: 60_000, ..peer.ack() });
    peer.silence(SECOND * 127);
    assert_eq!(lens(&send(&mut peer, flow, 1460)), [1460]);
    assert_eq!(mss_of_syn(&mut peer, 82), Some(1460));
}

#[test]
fn rfc5927_7_2_an_mtu_that_would_have_let_the_segment_through_is_not_believed() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let sent = only(send(&mut peer, flow, 960));
    for mtu in [1_000, 1_200, 1_500, 9_000] {
        tell(&mut peer, UNREACHABLE, TOO_BIG, mtu, &sent);
    }
    assert_eq!(peer.replies(), []);
    tell(&mut peer, UNREACHABLE, TOO_BIG, 999, &sent);
    assert_eq!(lens(&peer.replies()), [959, 1]);
}

#[test]
fn rfc1191_7_1_an_old_router_s_mtu_is_guessed() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let sent = only(send(&mut peer, flow, 1460));
    tell(&mut peer, UNREACHABLE, TOO_BIG, 0, &sent);
    let again = peer.replies();
    assert_eq!(lens(&again), [1452, 8]);
    tell(&mut peer, UNREACHABLE, TOO_BIG, 0, &again[0]);
    let again = peer.replies();
    assert_eq!(lens(&again), [966, 494]);
    tell(&mut peer, UNREACHABLE, TOO_BIG, 0, &again[0]);
    assert_eq!(lens(&peer.replies()), [512, 512, 436]);
}

#[test]
fn what_claims_to_be_narrower_than_any_path_may_cut_packets_up() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let sent = only(send(&mut peer, flow, 1460));
    assert_eq!(sent.may_fragment, None);
    tell(&mut peer, UNREACHABLE, TOO_BIG, 68, &sent);
    let again = peer.replies();
    assert_eq!(lens(&again), [512, 512, 436]);
    let numbers: Vec<u16> = again.iter().map(|heard| heard.may_fragment.unwrap()).collect();
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2], "{numbers:?}");
}

#[test]
fn who_lets_routers_cut_packets_up_is_not_told_by_them() {
    for discovery in [MtuDiscovery::Dont, MtuDiscovery::Omit] {
        let v4 = IpOptions { discovery, ..IpOptions::default() };
        let (mut peer, flow) = accepted(60_000, TcpOptions { v4, ..TcpOptions::default() });
        let sent = only(send(&mut peer, flow, 1460));
        assert!(sent.may_fragment.is_some());
        tell(&mut peer, UNREACHABLE, TOO_BIG, 1280, &sent);
        assert_eq!(peer.replies(), []);
    }
}

#[test]
fn rfc8201_4_no_path_of_ipv6_is_narrower_than_1280() {
    let local: SocketAddr = "[fd00::1]:80".parse().unwrap();
    let remote: SocketAddr = "[fd00::3]:40000".parse().unwrap();
    let mut script = Script::new();
    script.peer.server = local.ip();
    let flow = script.stack.tcp_connect(local, remote, TcpOptions::default(), 9, script.now).unwrap();
    let isn = only(script.turn()).seq;
    let syn_ack = TcpRepr { window_scale: None, ack_number: Some(script::number(isn.wrapping_add(1))), ..syn(7) };
    script.say_from(remote, local.port(), syn_ack);
    script.stack.tcp_send(flow, &[7; 1440]).unwrap();
    let sent = only(script.turn());
    assert_eq!(sent.payload.len(), 1440);
    for (mtu, expected) in [(1279, &[][..]), (0, &[]), (1280, &[1220, 220])] {
        send_error(&mut script, 2, 0, mtu, &quote(&sent, local));
        assert_eq!(lens(&script.turn()), expected);
    }
}

/// Everything of a path that lets packets of `mtu` bytes through, and whose router says so or not: what arrives is
/// acknowledged. How long it took, and the stack.
fn carry(mtu: usize, says_so: bool, len: usize) -> (Duration, Peer, FlowId) {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    let bytes: Vec<u8> = (0..len).map(pattern).collect();
    let (start, mut arrived, mut queued) = (peer.script.now, 0, 0);
    let mut last = Instant::ZERO;
    while arrived < len {
        assert!(peer.script.now - start < SECOND * 600, "{arrived} bytes have arrived");
        queued += peer.script.stack.tcp_send(flow, &bytes[queued..]).unwrap_or(0);
        peer.pass(SECOND / 100, |peer, seen| {
            if 40 + seen.payload.len() > mtu {
                if says_so {
                    tell(peer, UNREACHABLE, TOO_BIG, mtu as u32, &seen);
                }
                return;
            }
            if seen.seq == peer.rcv_nxt {
                assert!(seen.payload.iter().copied().eq((arrived..arrived + seen.payload.len()).map(pattern)));
                arrived += seen.payload.len();
                peer.rcv_nxt = peer.rcv_nxt.wrapping_add(seen.payload.len() as u32);
                last = seen.at;
            }
            peer.send(TcpRepr { window_len: 60_000, ..peer.ack() });
        });
    }
    (last - start, peer, flow)
}

#[test]
fn rfc1191_3_a_narrow_path_costs_nothing_but_what_was_under_way() {
    for mtu in [576, 1006, 1280, 1499] {
        let (took, peer, _) = carry(mtu, true, 1_000_000);
        assert_eq!(peer.script.stack.counters().path_mtus_lowered, 1);
        assert!(took < SECOND, "{mtu}: {took}");
    }
}

#[test]
fn rfc4821_7_7_a_black_hole_is_found_out() {
    for (mtu, found, send_mss) in [(1280, 1, 1024), (1064, 1, 1024), (1000, 2, 512), (552, 2, 512)] {
        let (took, peer, flow) = carry(mtu, false, 1_000_000);
        let info = peer.script.stack.tcp_info(flow, peer.script.now).unwrap();
        assert_eq!((peer.script.stack.counters().black_holes, info.send_mss), (found, send_mss));
        // Three seconds and the next doubling, and slow start.
        assert!(took < SECOND * 4 + SECOND * 7 * (found as u32 - 1), "{mtu}: {took}");
    }
    // What fits needs no narrower path.
    assert_eq!(carry(1500, false, 1_000_000).1.script.stack.counters().black_holes, 0);
}

#[test]
fn a_peer_that_is_away_for_a_while_is_not_sent_crumbs() {
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    send(&mut peer, flow, 5 * 1460);
    let said = peer.silence(SECOND * 100);
    assert!(lens(&said).into_iter().all(|len| len >= 512), "{:?}", lens(&said));
    // Ten minutes later it has what its route allows again.
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(5 * 1460);
    peer.send(TcpRepr { window_len: 60_000, ..peer.ack() });
    assert_eq!(peer.script.stack.tcp_info(flow, peer.script.now).unwrap().send_mss, 512);
    peer.silence(PATH_MTU_LEN);
    assert_eq!(lens(&send(&mut peer, flow, 1460)), [1460]);
    // What was small enough for any path is no sign of a black hole.
    let (mut peer, flow) = accepted(60_000, TcpOptions::default());
    send(&mut peer, flow, 500);
    peer.silence(SECOND * 100);
    assert_eq!(peer.script.stack.counters().black_holes, 0);
}

/// An error out of thin air: about a number relative to the right one, and a packet of some length. The segment that it
/// comes after may be lost.
#[derive(Debug, Clone)]
struct Forged {
    kind: u8,
    code: u8,
    rest: u32,
    ahead: i32,
    quoted_len: usize,
    loses: bool,
}

fn forged() -> impl Strategy<Value = Forged> {
    let ahead = prop_oneof![4 => -2_000i32..8_000, 1 => any::<i32>()];
    let rest = prop_oneof![4 => 0u32..1_600, 1 => any::<u32>()];
    let kind = prop_oneof![4 => Just(UNREACHABLE), 1 => any::<u8>()];
    let code = prop_oneof![4 => Just(TOO_BIG), 1 => any::<u8>()];
    (kind, code, rest, ahead, 0usize..1_500, proptest::bool::weighted(0.3))
        .prop_map(|(kind, code, rest, ahead, quoted_len, loses)| Forged { kind, code, rest, ahead, quoted_len, loses })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is said of a flow's packets, its bytes arrive.
    #[test]
    fn forged_errors_do_no_harm(errors in proptest::collection::vec(forged(), 1..60)) {
        let (mut peer, flow) = accepted(60_000, TcpOptions::default());
        let bytes: Vec<u8> = (0..60_000).map(pattern).collect();
        let (mut arrived, start) = (0, peer.rcv_nxt);
        prop_assert_eq!(peer.script.stack.tcp_send(flow, &bytes), Ok(bytes.len()));
        let mut errors = errors.into_iter();
        peer.pass(SECOND * 100, |peer, seen| {
            let mut is_lost = false;
            if let Some(Forged { kind, code, rest, ahead, quoted_len, loses }) = errors.next() {
                is_lost = loses;
                let payload = vec![0; quoted_len];
                let about = Heard { payload, ..at(&seen, peer.rcv_nxt.wrapping_add_signed(ahead)) };
                tell(peer, kind, code, rest, &about);
            }
            let ahead = seen.seq.wrapping_sub(start) as usize;
            assert!(seen.payload.iter().copied().eq((ahead..ahead + seen.payload.len()).map(pattern)));
            if is_lost {
                return;
            }
            if ahead <= arrived && arrived < ahead + seen.payload.len() {
                arrived = ahead + seen.payload.len();
                peer.rcv_nxt = start.wrapping_add(arrived as u32);
            }
            peer.send(TcpRepr { window_len: 60_000, ..peer.ack() });
        });
        prop_assert_eq!(arrived, bytes.len());
        prop_assert_eq!(peer.script.stack.tcp_state(flow), TcpState::Established);
    }
}
