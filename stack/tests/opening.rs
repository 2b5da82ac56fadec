//! How flows open: the SYN queue, SYN cookies, initial sequence numbers, active and simultaneous opens.

mod script;
// Each test file uses its part of the world.
#[allow(dead_code)]
mod sim;

use script::{Heard, PEER, Peer, Script, only, segment, syn};
use sim::{CLIENT, Conditions, PORT, SERVER, World};
use smoltcp::wire::{IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};
use stack::socket::tcp::{ListenAddress, TcpOptions, TcpState};
use stack::socket::{FlowId, ListenerId};
use stack::{Duration, Errno};
use std::net::{Ipv4Addr, SocketAddr};

const SECOND: Duration = Duration::from_secs(1);

/// The ACK of a SYN-ACK to a SYN of sequence number `irs`, with bytes.
fn ack_of<'a>(syn_ack: &Heard, irs: u32, payload: &'a [u8]) -> TcpRepr<'a> {
    segment(TcpControl::None, irs.wrapping_add(1), Some(syn_ack.seq.wrapping_add(1)), payload)
}

/// Opens a flow from `PEER` with IRS 1000.
fn open(script: &mut Script, listener: ListenerId) -> (FlowId, Heard) {
    let syn_ack = only(script.say(syn(1000)));
    assert!(script.say(ack_of(&syn_ack, 1000, b"")).is_empty());
    (script.stack.tcp_accept(listener).unwrap(), syn_ack)
}

/// A source that is nobody's.
fn spoofed(number: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x0b00_0000 + number), 1024 + number as u16).into()
}

#[test]
fn rfc6528_3_isn_is_a_clock_of_4_us_and_a_hash_of_the_tuple() {
    let mut script = Script::new();
    script.listen(8);
    let isn_of = |script: &mut Script, port, irs| {
        let source = SocketAddr::new(PEER.ip(), port);
        let syn_ack = only(script.say_from(source, PORT, syn(irs)));
        script.say_from(source, PORT, segment(TcpControl::Rst, irs + 1, None, b""));
        syn_ack.seq
    };
    let first = isn_of(&mut script, 1, 1000);
    let other = isn_of(&mut script, 2, 1000);
    assert!(first.wrapping_sub(other).min(other.wrapping_sub(first)) > 1_000_000);
    script.wait(SECOND * 4);
    assert_eq!(isn_of(&mut script, 1, 7777).wrapping_sub(first), 1_000_000);
}

#[test]
fn rfc6528_3_isn_of_an_active_open() {
    let mut script = Script::new();
    let flow = script.connect(5000);
    let first = only(script.turn()).seq;
    script.stack.tcp_close(flow, false);
    script.wait(SECOND * 4);
    script.connect(5000);
    assert_eq!(only(script.turn()).seq.wrapping_sub(first), 1_000_000);
}

#[test]
fn rfc6191_2_a_tuple_in_time_wait_reopens_with_a_higher_isn() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let (flow, _) = open(&mut script, listener);
    // More bytes than the clock of the ISN has ticks meanwhile.
    script.stack.tcp_send(flow, &[7; 1000]).unwrap();
    script.stack.tcp_close(flow, false);
    let last = script.turn().pop().unwrap();
    assert_eq!(last.control, TcpControl::Fin);
    let snd_nxt = last.seq.wrapping_add(last.payload.len() as u32 + 1);
    script.say(segment(TcpControl::Fin, 1001, Some(snd_nxt), b""));
    script.turn();
    assert_eq!(script.stack.flow_count(), 0);
    let syn_ack = only(script.say(syn(1003)));
    assert_eq!((syn_ack.control, syn_ack.ack), (TcpControl::Syn, Some(1004)));
    assert!(0 < syn_ack.seq.wrapping_sub(snd_nxt) as i32);
    script.say(ack_of(&syn_ack, 1003, b"again"));
    let flow = script.stack.tcp_accept(listener).unwrap();
    assert_eq!(script.stack.tcp_queued(flow).0, 5);
}

#[test]
fn rfc9293_3_10_7_2_syn_ack_takes_up_the_options_that_were_offered() {
    let mut script = Script::new();
    script.listen(8);
    let syn_ack = only(script.say(syn(1000)));
    assert_eq!((syn_ack.control, syn_ack.ack), (TcpControl::Syn, Some(1001)));
    assert_eq!((syn_ack.mss, syn_ack.window_scale, syn_ack.sack_permitted), (Some(1460), Some(7), true));
    let bare = segment(TcpControl::Syn, 1000, None, b"");
    let syn_ack = only(script.say_from(SocketAddr::new(PEER.ip(), 2), PORT, bare));
    assert_eq!((syn_ack.mss, syn_ack.window_scale, syn_ack.sack_permitted), (Some(1460), None, false));
    assert_eq!(script.stack.flow_count(), 0);
}

/// In LISTEN: a RST is ignored, an ACK is reset, and a SYN that ends what it begins is nobody's (Linux drops it).
#[test]
fn rfc9293_3_10_7_2_what_a_listener_does_not_open_for() {
    let mut script = Script::new();
    script.listen(8);
    assert!(script.say(segment(TcpControl::Rst, 1000, None, b"")).is_empty());
    let reset = only(script.say(segment(TcpControl::None, 1000, Some(77), b"x")));
    assert_eq!((reset.control, reset.seq, reset.ack), (TcpControl::Rst, 77, None));
    let reset = only(script.say(segment(TcpControl::Syn, 1000, Some(77), b"")));
    assert_eq!((reset.control, reset.seq), (TcpControl::Rst, 77));
    let now = script.now;
    script.peer.send_packet(PEER.ip(), IpProtocol::Tcp, 20, now, |bytes| {
        let mut tcp = TcpPacket::new_unchecked(bytes);
        tcp.set_src_port(PEER.port());
        tcp.set_dst_port(PORT);
        tcp.set_header_len(20);
        tcp.clear_flags();
        tcp.set_syn(true);
        tcp.set_fin(true);
        tcp.fill_checksum(&PEER.ip().into(), &SERVER.into());
    });
    assert!(script.turn().is_empty() && script.stack.is_idle());
}

#[test]
fn rfc6298_5_5_syn_ack_is_sent_again_five_times() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let start = script.now;
    let first = only(script.say(syn(1000)));
    let again = script.wait(SECOND * 100);
    let secs: Vec<u64> = again.iter().map(|heard| (heard.at - start).secs()).collect();
    assert_eq!(secs, [1, 3, 7, 15, 31]);
    assert!(again.iter().all(|heard| (heard.seq, heard.ack, heard.mss) == (first.seq, first.ack, first.mss)));
    assert!(script.stack.is_idle());
    assert_eq!(only(script.say(ack_of(&first, 1000, b""))).control, TcpControl::Rst);
    assert_eq!(script.stack.tcp_accept(listener), Err(Errno::EAGAIN));
}

#[test]
fn rfc9293_3_10_7_4_a_duplicate_syn_gets_the_same_syn_ack() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let first = only(script.say(syn(1000)));
    script.now += SECOND / 2;
    let second = only(script.say(syn(1000)));
    assert_eq!((first.control, first.seq, first.ack), (second.control, second.seq, second.ack));
    script.say(ack_of(&second, 1000, b""));
    assert!(script.stack.tcp_accept(listener).is_ok());
}

#[test]
fn rfc9293_3_10_7_4_a_wrong_ack_in_syn_received_is_reset_and_the_right_one_still_counts() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let syn_ack = only(script.say(syn(1000)));
    let reset = only(script.say(segment(TcpControl::None, 1001, Some(syn_ack.seq.wrapping_add(9)), b"")));
    assert_eq!((reset.control, reset.seq), (TcpControl::Rst, syn_ack.seq.wrapping_add(9)));
    script.say(ack_of(&syn_ack, 1000, b""));
    assert!(script.stack.tcp_accept(listener).is_ok());
}

#[test]
fn rfc5961_3_2_only_an_exact_rst_ends_a_half_open_flow() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let syn_ack = only(script.say(syn(1000)));
    assert!(script.say(segment(TcpControl::Rst, 1002, None, b"")).is_empty());
    assert!(!script.stack.is_idle());
    assert!(script.say(segment(TcpControl::Rst, 1001, None, b"")).is_empty());
    assert!(script.stack.is_idle());
    assert_eq!(only(script.say(ack_of(&syn_ack, 1000, b""))).control, TcpControl::Rst);
    assert_eq!(script.stack.tcp_accept(listener), Err(Errno::EAGAIN));
}

#[test]
fn rfc5961_4_2_a_new_syn_for_a_half_open_flow_is_challenged() {
    let mut script = Script::new();
    script.listen(8);
    let syn_ack = only(script.say(syn(1000)));
    let challenge = only(script.say(syn(500_000)));
    assert_eq!((challenge.control, challenge.ack), (TcpControl::None, Some(1001)));
    assert_eq!(challenge.seq, syn_ack.seq.wrapping_add(1));
    // The peer that has really begun anew answers that by a RST, and its next SYN opens.
    script.say(segment(TcpControl::Rst, 1001, None, b""));
    assert_eq!(only(script.say(syn(500_000))).ack, Some(500_001));
}

#[test]
fn rfc9293_3_10_7_4_the_opening_ack_may_bring_data_and_fin() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let syn_ack = only(script.say(syn(1000)));
    script.say(TcpRepr { control: TcpControl::Fin, ..ack_of(&syn_ack, 1000, b"all in one") });
    let flow = script.stack.tcp_accept(listener).unwrap();
    let mut buf = [0; 16];
    assert_eq!(script.stack.tcp_recv(flow, &mut buf), Ok(10));
    assert_eq!(&buf[..10], b"all in one");
    assert_eq!(script.stack.tcp_recv(flow, &mut buf), Ok(0));
    script.stack.tcp_send(flow, b"answer").unwrap();
    let answer = only(script.turn());
    assert_eq!((answer.seq, answer.ack), (syn_ack.seq.wrapping_add(1), Some(1012)));
    assert_eq!(answer.payload, b"answer");
}

#[test]
fn tcp_7_the_ack_that_finds_a_full_accept_queue_is_ignored() {
    let mut script = Script::new();
    let listener = script.listen(0);
    let sources = [1, 2].map(|port| SocketAddr::new(PEER.ip(), port));
    let syn_acks = sources.map(|source| only(script.say_from(source, PORT, syn(1000))));
    for (source, syn_ack) in sources.iter().zip(&syn_acks) {
        assert!(script.say_from(*source, PORT, ack_of(syn_ack, 1000, b"")).is_empty());
    }
    assert_eq!((script.stack.flow_count(), script.stack.counters().drop_backlog), (1, 1));
    // A SYN is ignored as well.
    assert!(script.say_from(SocketAddr::new(PEER.ip(), 3), PORT, syn(1000)).is_empty());
    script.stack.tcp_accept(listener).unwrap();
    let again = only(script.wait(SECOND));
    assert_eq!((again.to, again.seq), (sources[1], syn_acks[1].seq));
    script.say_from(sources[1], PORT, ack_of(&again, 1000, b"late"));
    let flow = script.stack.tcp_accept(listener).unwrap();
    assert_eq!(script.stack.tcp_queued(flow).0, 4);
}

#[test]
fn a_closed_listener_forgets_its_half_open_flows() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let syn_ack = only(script.say(syn(1000)));
    script.stack.tcp_unlisten(listener);
    assert!(script.stack.is_idle());
    assert_eq!(only(script.say(ack_of(&syn_ack, 1000, b""))).control, TcpControl::Rst);
}

#[test]
fn rfc9293_3_10_7_1_the_tuple_of_a_reset_flow_opens_again_though_its_owner_still_has_it() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let (dead, syn_ack) = open(&mut script, listener);
    script.say(segment(TcpControl::Rst, 1001, None, b""));
    assert_eq!(script.stack.tcp_state(dead), TcpState::Closed);
    assert_eq!(only(script.say(ack_of(&syn_ack, 1000, b"x"))).control, TcpControl::Rst);
    let syn_ack = only(script.say(syn(9000)));
    script.say(ack_of(&syn_ack, 9000, b"new"));
    let flow = script.stack.tcp_accept(listener).unwrap();
    script.stack.tcp_close(dead, false);
    script.turn();
    assert_eq!(script.stack.tcp_queued(flow).0, 3);
    script.say(TcpRepr { seq_number: TcpSeqNumber(9004), ..ack_of(&syn_ack, 9000, b"er") });
    assert_eq!(script.stack.tcp_queued(flow).0, 5);
}

#[test]
fn rfc9293_3_10_7_4_ipv6_opens_alike() {
    let mut script = Script::new();
    let any = ListenAddress::AnyV6;
    let listener = script.stack.tcp_listen(any, PORT, 8, TcpOptions::default(), 7).unwrap();
    let (peer, server) = ("[fd00::3]:40000".parse().unwrap(), "fd00::2".parse().unwrap());
    script.peer.server = server;
    let syn_ack = only(script.say_from(peer, PORT, syn(1000)));
    assert_eq!((syn_ack.to, syn_ack.mss, syn_ack.window_scale), (peer, Some(1440), Some(7)));
    script.say_from(peer, PORT, ack_of(&syn_ack, 1000, b"six"));
    let flow = script.stack.tcp_accept(listener).unwrap();
    assert_eq!(script.stack.tcp_queued(flow).0, 3);
    script.stack.tcp_send(flow, b"answer").unwrap();
    assert_eq!(only(script.turn()).payload, b"answer");
}

/// A listener whose SYN queue spoofed SYNs have filled.
fn flooded() -> (Script, ListenerId) {
    let mut script = Script::new();
    let listener = script.listen(8);
    for number in 0..300 {
        only(script.say_from(spoofed(number), PORT, syn(number)));
    }
    assert!(script.stack.counters().syn_cookies_sent > 0);
    (script, listener)
}

#[test]
fn rfc4987_3_6_a_cookie_opens_a_flow_without_state() {
    let (mut script, listener) = flooded();
    let sent = script.stack.counters().syn_cookies_sent;
    let cookie = only(script.say(syn(1000)));
    assert_eq!((cookie.control, cookie.ack, cookie.mss), (TcpControl::Syn, Some(1001), Some(1460)));
    // Nothing remembers these, so they are not offered.
    assert_eq!((cookie.window_scale, cookie.sack_permitted), (None, false));
    script.say(ack_of(&cookie, 1000, b"hello"));
    let flow = script.stack.tcp_accept(listener).unwrap();
    assert_eq!(script.stack.tcp_queued(flow).0, 5);
    script.stack.tcp_send(flow, &[1; 3000]).unwrap();
    let lens: Vec<usize> = script.turn().iter().map(|heard| heard.payload.len()).collect();
    assert_eq!(lens[0], 1460);
    let counters = script.stack.counters();
    assert_eq!((counters.syn_cookies_sent - sent, counters.syn_cookies_accepted), (1, 1));
    assert_eq!(counters.syn_queue_overflows, counters.syn_cookies_sent);
}

#[test]
fn rfc4987_3_6_a_cookie_s_timestamp_keeps_the_options() {
    let (mut script, listener) = flooded();
    let stamp = |value, echo| Some(TcpTimestampRepr::new(value, echo));
    script.now += SECOND / 3;
    let cookie = only(script.say(TcpRepr { timestamp: stamp(70, 0), ..syn(1000) }));
    assert_eq!((cookie.window_scale, cookie.sack_permitted), (Some(7), true));
    let (value, echo) = cookie.timestamp.unwrap();
    assert_eq!(echo, 70);
    script.now += SECOND / 10;
    script.say(TcpRepr { timestamp: stamp(80, value), window_len: 3, ..ack_of(&cookie, 1000, b"hello") });
    let flow = script.stack.tcp_accept(listener).unwrap();
    let info = script.stack.tcp_info(flow, script.now).unwrap();
    assert_eq!((info.timestamps, info.sack, info.peer_window_shift), (true, true, Some(7)));
    // What the echo says of the time is not exact, so that it is not measured by.
    assert_eq!(info.path.round_trip, Duration::ZERO);
    // The peer's window is 384 bytes.
    script.stack.tcp_send(flow, &[1; 500]).unwrap();
    let heard = &script.turn()[0];
    assert_eq!((heard.payload.len(), heard.timestamp.unwrap().1), (384, 80));
    // A peer that does not send it back, as its SYN had none.
    let other = SocketAddr::new(PEER.ip(), 2);
    let cookie = only(script.say_from(other, PORT, TcpRepr { timestamp: stamp(70, 0), ..syn(1000) }));
    script.say_from(other, PORT, ack_of(&cookie, 1000, b""));
    let flow = script.stack.tcp_accept(listener).unwrap();
    let info = script.stack.tcp_info(flow, script.now).unwrap();
    assert_eq!((info.timestamps, info.sack, info.peer_window_shift), (false, false, None));
}

#[test]
fn rfc4987_3_6_forged_cookies_are_reset() {
    let (mut script, listener) = flooded();
    let cookie = only(script.say(syn(1000)));
    let forged = Heard { seq: cookie.seq.wrapping_add(1 << 20), ..cookie.clone() };
    assert_eq!(only(script.say(ack_of(&forged, 1000, b""))).control, TcpControl::Rst);
    // The right cookie with another sequence number, or from another port.
    assert_eq!(only(script.say(ack_of(&cookie, 1001, b""))).control, TcpControl::Rst);
    let other = SocketAddr::new(PEER.ip(), PEER.port() + 1);
    assert_eq!(only(script.say_from(other, PORT, ack_of(&cookie, 1000, b""))).control, TcpControl::Rst);
    assert_eq!(script.stack.tcp_accept(listener), Err(Errno::EAGAIN));
}

#[test]
fn rfc4987_3_6_old_cookies_are_reset() {
    let (mut script, _) = flooded();
    let cookie = only(script.say(syn(1000)));
    script.wait(SECOND * 121);
    let answers = script.say(ack_of(&cookie, 1000, b""));
    assert_eq!(only(answers).control, TcpControl::Rst);
}

#[test]
fn rfc9293_3_8_1_a_syn_is_sent_again_six_times() {
    let mut script = Script::new();
    let start = script.now;
    let flow = script.connect(5000);
    let syns = script.wait(SECOND * 130);
    let secs: Vec<u64> = syns.iter().map(|heard| (heard.at - start).secs()).collect();
    assert_eq!(secs, [0, 1, 3, 7, 15, 31, 63]);
    assert!(syns.iter().all(|heard| (heard.control, heard.seq) == (TcpControl::Syn, syns[0].seq)));
    assert_eq!(script.stack.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
}

#[test]
fn rfc9293_3_10_7_3_the_answers_to_a_syn() {
    let connect = || {
        let mut script = Script::new();
        let flow = script.connect(5000);
        let syn = only(script.turn());
        (script, flow, syn)
    };
    // An ACK of something else gets a RST, a RST of something else nothing; the SYN-ACK still opens.
    let (mut script, flow, sent) = connect();
    let wrong = Some(sent.seq.wrapping_add(2));
    let reset = only(script.say_from(PEER, 5000, segment(TcpControl::Syn, 1000, wrong, b"")));
    assert_eq!((reset.control, Some(reset.seq)), (TcpControl::Rst, wrong));
    assert!(script.say_from(PEER, 5000, segment(TcpControl::Rst, 0, wrong, b"")).is_empty());
    assert_eq!(script.stack.tcp_state(flow), TcpState::SynSent);
    let right = Some(sent.seq.wrapping_add(1));
    let opened = script.say_from(PEER, 5000, segment(TcpControl::Syn, 1000, right, b""));
    let ack = only(if opened.is_empty() { script.wait(SECOND) } else { opened });
    assert_eq!((ack.seq, ack.ack), (sent.seq.wrapping_add(1), Some(1001)));
    assert_eq!(script.stack.tcp_connected(flow), Ok(()));
    // A RST of the SYN refuses.
    let (mut script, flow, sent) = connect();
    script.say_from(PEER, 5000, segment(TcpControl::Rst, 0, Some(sent.seq.wrapping_add(1)), b""));
    assert_eq!(script.stack.tcp_take_error(flow), Some(Errno::ECONNREFUSED));
}

#[test]
fn rfc9293_3_5_simultaneous_open_with_a_scripted_peer() {
    let mut script = Script::new();
    let flow = script.connect(5000);
    let sent = only(script.turn());
    let syn_ack = only(script.say_from(PEER, 5000, syn(1000)));
    assert_eq!((syn_ack.control, syn_ack.seq, syn_ack.ack), (TcpControl::Syn, sent.seq, Some(1001)));
    script.say_from(PEER, 5000, ack_of(&syn_ack, 1000, b"hi"));
    assert_eq!(script.stack.tcp_connected(flow), Ok(()));
    assert_eq!(script.stack.tcp_queued(flow).0, 2);
}

#[test]
fn rfc9293_3_5_simultaneous_open_of_two_stacks() {
    let mut world = World::new(Conditions::calm());
    let ends = [SocketAddr::new(CLIENT, 5000), SocketAddr::new(SERVER, 6000)];
    let now = world.now;
    let left = world.client.tcp_connect(ends[0], ends[1], TcpOptions::default(), 1, now).unwrap();
    let right = world.server.tcp_connect(ends[1], ends[0], TcpOptions::default(), 2, now).unwrap();
    world.run_until(|world| world.client.tcp_connected(left).is_ok() && world.server.tcp_connected(right).is_ok());
    assert!(world.now - now < SECOND);
    world.client.tcp_send(left, b"from the left").unwrap();
    world.server.tcp_send(right, b"from right").unwrap();
    world.run_until(|world| (world.client.tcp_queued(left).0, world.server.tcp_queued(right).0) == (10, 13));
}

/// 10,000 SYNs of nobody while 100 good clients connect and are served.
#[test]
fn rfc4987_good_clients_are_served_during_a_syn_flood() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(128);
    let mut flooder = Peer::attach(&mut world.server);
    let mut served = 0;
    for round in 0..100 {
        for number in 0..100 {
            flooder.send(spoofed(round * 100 + number), PORT, &syn(number), world.now);
        }
        let client = world.connect();
        let mut server = None;
        world.run_until(|world| {
            flooder.hear(world.now);
            server = server.or_else(|| world.server.tcp_accept(listener).ok());
            server.is_some() && world.client.tcp_connected(client).is_ok()
        });
        let server = server.unwrap();
        world.client.tcp_send(client, b"question").unwrap();
        world.run_until(|world| world.server.tcp_queued(server).0 == 8);
        world.server.tcp_send(server, &[7; 20_000]).unwrap();
        world.run_until(|world| world.client.tcp_queued(client).0 == 20_000);
        world.client.tcp_close(client, true);
        world.server.tcp_close(server, false);
        served += 1;
    }
    let counters = *world.server.counters();
    assert_eq!((served, counters.flows_accepted), (100, 100));
    assert!(counters.syn_cookies_sent > 9_000 && counters.syn_cookies_accepted > 90);
    // No socket was ever made for a spoofed SYN, and after a while nothing of them is left.
    world.run_until(|world| {
        flooder.hear(world.now);
        world.server.is_idle() && world.client.is_idle()
    });
    assert!(world.now < stack::Instant::from_secs(120));
    // Then all is as it was before.
    let client = world.connect();
    world.run_until(|world| world.client.tcp_connected(client).is_ok());
    assert_eq!(world.server.counters().syn_cookies_sent, counters.syn_cookies_sent);
}
