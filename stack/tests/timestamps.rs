//! Conversations with a peer that has a clock: timestamps and PAWS (RFC 7323), SACK (RFC 2018) and D-SACK (RFC 2883).

#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use script::{Heard, PEER, Script, number, only, segment, syn};
use smoltcp::wire::{TcpControl, TcpRepr, TcpTimestampRepr};
use stack::Duration;
use stack::settings::Settings;
use stack::socket::FlowId;
use stack::socket::tcp::{How, TcpOptions, TcpState};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A peer whose clock shows what the test says.
struct Peer {
    script: Script,
    flow: FlowId,
    /// Its SND.NXT and RCV.NXT.
    seq: u32,
    rcv_nxt: u32,
    /// TSval of what it says next.
    clock: u32,
    /// The latest TSval that it has heard.
    heard: u32,
}

fn stamp(value: u32, echo: u32) -> Option<TcpTimestampRepr> {
    Some(TcpTimestampRepr::new(value, echo))
}

impl Peer {
    /// The peer connects at 1000, and takes no time for it.
    fn new(options: TcpOptions) -> Self {
        let mut script = Script::new();
        let listener = script.listen_with(8, options);
        let syn_ack = only(script.say(TcpRepr { timestamp: stamp(1000, 0), ..syn(5000) }));
        let (value, echo) = syn_ack.timestamp.unwrap();
        assert_eq!(echo, 1000);
        let (seq, rcv_nxt) = (5001, syn_ack.seq.wrapping_add(1));
        script.say(TcpRepr { timestamp: stamp(1000, value), ..segment(TcpControl::None, seq, Some(rcv_nxt), b"") });
        let flow = script.stack.tcp_accept(listener).unwrap();
        Peer { script, flow, seq, rcv_nxt, clock: 1000, heard: value }
    }

    fn segment<'a>(&self, ahead: i32, payload: &'a [u8]) -> TcpRepr<'a> {
        let seq = self.seq.wrapping_add_signed(ahead);
        let bare = segment(TcpControl::None, seq, Some(self.rcv_nxt), payload);
        TcpRepr { timestamp: stamp(self.clock, self.heard), ..bare }
    }

    fn says(&mut self, segment: TcpRepr<'_>) -> Vec<Heard> {
        self.script.say(segment)
    }

    /// The stack sends, and all of it is heard.
    fn hears(&mut self, bytes: &[u8]) -> Vec<Heard> {
        assert_eq!(self.script.stack.tcp_send(self.flow, bytes), Ok(bytes.len()));
        let heard = self.script.turn();
        for segment in &heard {
            self.rcv_nxt = segment.seq.wrapping_add(segment.payload.len() as u32);
            self.heard = segment.timestamp.unwrap().0;
        }
        heard
    }

    /// `block` in the wire's numbers.
    fn numbers(&self, block: (u32, u32)) -> (u32, u32) {
        (self.seq.wrapping_add(block.0), self.seq.wrapping_add(block.1))
    }

    /// Bytes from `start` on come out of order, and are answered at once by these blocks.
    fn check_blocks(&mut self, start: i32, len: usize, expected: &[(u32, u32)]) {
        let ack = only(self.says(self.segment(start, &vec![7; len])));
        let expected: Vec<_> = expected.iter().map(|&block| self.numbers(block)).collect();
        assert_eq!((ack.payload.len(), ack.blocks), (0, expected), "at {start}");
        assert!(ack.timestamp.is_some());
    }
}

#[test]
fn rfc7323_3_2_every_segment_carries_the_option_once_both_ends_have_offered_it() {
    let mut peer = Peer::new(TcpOptions { nodelay: true, ..TcpOptions::default() });
    let first = peer.heard;
    peer.script.now += MS * 40;
    let heard = peer.hears(&[7; 4000]);
    assert_eq!(heard.iter().map(|heard| heard.payload.len()).collect::<Vec<_>>(), [1448, 1448, 1104]);
    assert!(heard.iter().all(|heard| heard.timestamp == Some((first.wrapping_add(40), 1000))));
    let info = peer.script.stack.tcp_info(peer.flow, peer.script.now).unwrap();
    assert_eq!((info.send_mss, info.advertised_mss, info.unacknowledged), (1448, 1448, 3));
    // ACK, FIN and RST.
    peer.says(peer.segment(0, b""));
    peer.seq += 4;
    peer.says(peer.segment(-4, b"four"));
    assert_eq!(peer.script.wait(MS * 20)[0].timestamp, Some((first.wrapping_add(41), 1000)));
    peer.script.stack.tcp_close(peer.flow, true);
    let reset = only(peer.script.turn());
    assert!(reset.control == TcpControl::Rst && reset.timestamp.is_some());
}

#[test]
fn rfc7323_3_2_a_peer_that_offers_none_gets_none() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let syn_ack = only(script.say(syn(5000)));
    assert_eq!(syn_ack.timestamp, None);
    let ack = segment(TcpControl::None, 5001, Some(syn_ack.seq.wrapping_add(1)), b"x");
    script.say(TcpRepr { timestamp: stamp(9, 9), ..ack });
    let flow = script.stack.tcp_accept(listener).unwrap();
    script.stack.tcp_send(flow, &[7; 1460]).unwrap();
    let heard = only(script.turn());
    assert_eq!((heard.timestamp, heard.payload.len()), (None, 1460));
}

#[test]
fn ip_sysctl_tcp_timestamps_of_0_offers_none_and_takes_none() {
    let mut script = Script::new();
    script.stack.configure(Settings { timestamps: false, ..Settings::default() });
    script.listen(8);
    let syn_ack = only(script.say(TcpRepr { timestamp: stamp(1000, 0), ..syn(5000) }));
    script.connect(5000);
    let sent = script.turn().pop().unwrap();
    for heard in [syn_ack, sent] {
        assert_eq!((heard.timestamp, heard.mss, heard.sack_permitted), (None, Some(1460), true));
    }
}

#[test]
fn rfc7323_3_2_an_active_open_offers_and_takes_what_is_offered() {
    for offers in [true, false] {
        let mut script = Script::new();
        let flow = script.connect(5000);
        let sent = only(script.turn());
        let (value, echo) = sent.timestamp.unwrap();
        assert_eq!(echo, 0);
        // A SYN that is sent again shows the time anew.
        let again = script.wait(SECOND).pop().unwrap();
        assert_eq!(again.timestamp, Some((value.wrapping_add(1000), 0)));
        let timestamp = stamp(77, value.wrapping_add(1000)).filter(|_| offers);
        let syn_ack = segment(TcpControl::Syn, 1000, Some(sent.seq.wrapping_add(1)), b"");
        script.say_from(PEER, 5000, TcpRepr { timestamp, max_seg_size: Some(1400), ..syn_ack });
        script.stack.tcp_send(flow, &[7; 1400]).unwrap();
        script.now += MS;
        let heard = &script.turn()[0];
        let expected = if offers { (1388, Some((value.wrapping_add(1001), 77))) } else { (1400, None) };
        assert_eq!((heard.payload.len(), heard.timestamp), expected);
    }
}

#[test]
fn rfc7323_4_3_the_earliest_segment_that_is_not_acknowledged_is_echoed() {
    let mut peer = Peer::new(TcpOptions::default());
    // Its ACK goes out with the answer, 5 ms later; what comes meanwhile is not echoed.
    peer.script.stack.tcp_set_quick_ack(peer.flow, false);
    for (clock, payload) in [(1010, b"one"), (1011, b"two")] {
        peer.clock = clock;
        assert_eq!(peer.says(peer.segment(0, payload)), []);
        peer.seq += 3;
    }
    assert_eq!(peer.hears(b"answer")[0].timestamp.unwrap().1, 1010);
    // Out of order: the ACK echoes the latest that was in order.
    peer.clock = 1030;
    assert_eq!(only(peer.says(peer.segment(10, b"late"))).timestamp.unwrap().1, 1010);
    peer.clock = 1031;
    assert_eq!(only(peer.says(peer.segment(0, b"ten bytes!"))).timestamp.unwrap().1, 1031);
}

#[test]
fn rfc7323_5_3_what_is_older_than_ts_recent_is_dropped_and_answered() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.clock = 500;
    for payload in [&b"forged"[..], b"forged", b"forged"] {
        let ack = only(peer.says(peer.segment(0, payload)));
        assert_eq!((ack.seq, ack.ack, ack.payload.len()), (peer.rcv_nxt, Some(peer.seq), 0));
    }
    assert_eq!(peer.script.stack.tcp_queued(peer.flow).0, 0);
    // Without bytes it is answered twice a second at most; and one that says nothing new is none.
    let ahead = TcpRepr { seq_number: number(peer.seq + 1), ..peer.segment(0, b"") };
    assert_eq!((peer.says(ahead).len(), peer.says(ahead).len()), (1, 0));
    assert_eq!(peer.says(peer.segment(0, b"")), []);
    // A SYN is challenged, a RST is obeyed.
    peer.script.now += SECOND;
    assert_eq!(peer.says(TcpRepr { control: TcpControl::Syn, ..peer.segment(0, b"") }).len(), 1);
    peer.says(TcpRepr { control: TcpControl::Rst, ..peer.segment(0, b"") });
    assert_eq!(peer.script.stack.tcp_state(peer.flow), TcpState::Closed);
}

#[test]
fn rfc7323_5_5_after_24_days_of_silence_any_time_is_right() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.script.now += SECOND * (24 * 24 * 3600 + 1);
    peer.clock = 1000u32.wrapping_sub(1 << 30);
    peer.says(peer.segment(0, b"alive"));
    assert_eq!(peer.script.stack.tcp_queued(peer.flow).0, 5);
}

#[test]
fn rfc7323_4_1_the_round_trip_of_a_segment_that_was_sent_again_is_known() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.hears(b"lost");
    let again = peer.script.wait(SECOND * 2).pop().unwrap();
    peer.heard = again.timestamp.unwrap().0;
    peer.script.now = again.at + MS * 70;
    peer.says(peer.segment(0, b""));
    let path = peer.script.stack.tcp_info(peer.flow, peer.script.now).unwrap().path;
    // The handshake took no time: SRTT moves by an eighth.
    assert!((8_700..8_800).contains(&path.round_trip.total_micros()), "{path:?}");
}

/// What a timeout leaves of the window when the ACK that ends it echoes the segment itself, or its retransmission.
fn window_after_timeout(echoes_the_first: bool) -> (u32, u32) {
    let mut peer = Peer::new(TcpOptions { nodelay: true, ..TcpOptions::default() });
    let heard = peer.hears(&[7; 5000]);
    let first = heard[0].timestamp.unwrap().0;
    // The tail-loss probe, then the timeout.
    let again = peer.script.wait(SECOND / 2);
    assert!(again.iter().any(|heard| heard.seq == peer.rcv_nxt.wrapping_sub(5000)), "{again:?}");
    if echoes_the_first {
        peer.heard = first;
    } else {
        peer.heard = again.last().unwrap().timestamp.unwrap().0;
    }
    peer.script.now += MS;
    peer.says(peer.segment(0, b""));
    let path = peer.script.stack.tcp_info(peer.flow, peer.script.now).unwrap().path;
    (path.window, path.threshold)
}

#[test]
fn rfc4015_3_2_a_timeout_that_was_only_impatience_is_undone() {
    let (window, threshold) = window_after_timeout(true);
    assert!(window >= 10 && threshold == u32::MAX, "{window} {threshold}");
    let (window, threshold) = window_after_timeout(false);
    assert!(window < 10 && threshold == 7, "{window} {threshold}");
}

#[test]
fn rfc7323_3_2_answers_of_the_front_itself_carry_the_option() {
    let keepalive = TcpOptions { keepalive: true, keepalive_idle_s: 1, ..TcpOptions::default() };
    let mut peer = Peer::new(keepalive);
    let challenge = only(peer.says(TcpRepr { control: TcpControl::Syn, ..peer.segment(0, b"") }));
    assert_eq!(challenge.timestamp, Some((peer.heard, 1000)));
    let probe = only(peer.script.wait(SECOND * 3 / 2));
    assert_eq!(
        (probe.seq, probe.timestamp),
        (peer.rcv_nxt.wrapping_sub(1), Some((peer.heard.wrapping_add(1000), 1000)))
    );
    // A half-open flow's challenge.
    let mut script = Script::new();
    script.listen(8);
    only(script.say(TcpRepr { timestamp: stamp(1, 0), ..syn(1000) }));
    assert_eq!(only(script.say(TcpRepr { timestamp: stamp(2, 0), ..syn(9000) })).timestamp.unwrap().1, 1);
}

#[test]
fn rfc6191_2_a_flow_in_time_wait_gives_way_to_a_later_syn() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.script.stack.tcp_close(peer.flow, false);
    let fin = only(peer.script.turn());
    let snd_nxt = fin.seq.wrapping_add(1);
    peer.rcv_nxt = snd_nxt;
    (peer.clock, peer.heard) = (1100, fin.timestamp.unwrap().0);
    peer.says(TcpRepr { control: TcpControl::Fin, ..peer.segment(0, b"") });
    peer.script.now += SECOND / 2;
    assert_eq!(peer.script.stack.flow_count(), 0);
    // The FIN again, and a segment of before, are answered from the entry.
    for (clock, control) in [(1101, TcpControl::Fin), (900, TcpControl::None)] {
        peer.clock = clock;
        let ack = only(peer.says(TcpRepr { control, ..peer.segment(0, b"") }));
        assert_eq!((ack.seq, ack.ack), (snd_nxt, Some(peer.seq + 1)));
        assert_eq!(ack.timestamp, Some((peer.heard.wrapping_add(500), 1100)));
    }
    // The number of this SYN is lower than the last one of the old flow, but it is later.
    let early = TcpRepr { timestamp: stamp(1099, 0), ..syn(3000) };
    peer.script.now += SECOND / 2;
    assert_eq!(only(peer.says(early)).control, TcpControl::None);
    let syn_ack = only(peer.says(TcpRepr { timestamp: stamp(1102, 0), ..early }));
    assert_eq!((syn_ack.control, syn_ack.ack), (TcpControl::Syn, Some(3001)));
    assert!((syn_ack.seq.wrapping_sub(snd_nxt) as i32) > 0);
    // The clock goes on.
    assert_eq!(syn_ack.timestamp, Some((peer.heard.wrapping_add(1000), 1102)));
}

/// As on Linux: its owner may keep the closed socket, with what it has not read, as long as it likes.
#[test]
fn rfc9293_3_6_1_a_time_wait_is_not_the_sockets() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.script.stack.tcp_shutdown(peer.flow, How::Write).unwrap();
    let fin = only(peer.script.turn());
    peer.rcv_nxt = fin.seq.wrapping_add(1);
    (peer.clock, peer.heard) = (1100, fin.timestamp.unwrap().0);
    peer.says(TcpRepr { control: TcpControl::Fin, ..peer.segment(0, b"last words") });
    // Its ACK may wait a little.
    peer.script.wait(SECOND / 10);
    assert_eq!(peer.script.stack.tcp_state(peer.flow), TcpState::Closed);
    // A reset of what is over is no error, and a later SYN opens another flow.
    peer.seq += 11;
    peer.says(TcpRepr { control: TcpControl::Rst, ..peer.segment(-1, b"") });
    let syn_ack = only(peer.says(TcpRepr { timestamp: stamp(1101, 0), ..syn(9000) }));
    assert_eq!((syn_ack.control, syn_ack.ack), (TcpControl::Syn, Some(9001)));
    peer.script.wait(SECOND * 600);
    assert_eq!(peer.script.stack.tcp_take_error(peer.flow), None);
    let mut buf = [0; 20];
    assert_eq!(peer.script.stack.tcp_recv(peer.flow, &mut buf), Ok(10));
    assert_eq!(peer.script.stack.tcp_recv(peer.flow, &mut buf), Ok(0));
    peer.script.stack.tcp_close(peer.flow, false);
    assert!(peer.script.turn().is_empty() && peer.script.stack.flow_count() == 0);
}

#[test]
fn rfc6191_2_a_connect_over_a_time_wait_of_our_own_is_later() {
    let mut script = Script::new();
    let flow = script.connect(5000);
    let first = only(script.turn());
    let (seq, ack) = (1000, first.seq.wrapping_add(1));
    let shown = first.timestamp.unwrap().0;
    let say = |script: &mut Script, control, seq, ack| {
        script.say_from(PEER, 5000, TcpRepr { timestamp: stamp(77, shown), ..segment(control, seq, Some(ack), b"") })
    };
    say(&mut script, TcpControl::Syn, seq, ack);
    // More bytes than the clock of the initial sequence numbers has ticks.
    script.stack.tcp_send(flow, &[7; 5_000]).unwrap();
    script.stack.tcp_close(flow, false);
    let fin = script.turn().pop().unwrap();
    let snd_nxt = fin.seq.wrapping_add(fin.payload.len() as u32 + 1);
    say(&mut script, TcpControl::Fin, seq + 1, snd_nxt);
    assert_eq!(script.stack.flow_count(), 0);
    script.connect(5000);
    script.now += MS;
    let again = only(script.turn());
    assert!((again.seq.wrapping_sub(snd_nxt) as i32) > 0);
    assert_eq!(again.timestamp, Some((shown.wrapping_add(1), 0)));
}

#[test]
fn rfc7323_5_3_an_old_segment_does_not_open_a_half_open_flow() {
    let mut script = Script::new();
    let listener = script.listen(8);
    let syn_ack = only(script.say(TcpRepr { timestamp: stamp(1000, 0), ..syn(5000) }));
    let ack = segment(TcpControl::None, 5001, Some(syn_ack.seq.wrapping_add(1)), b"");
    let echo = syn_ack.timestamp.unwrap().0;
    let answer = only(script.say(TcpRepr { timestamp: stamp(999, echo), ..ack }));
    assert_eq!((answer.control, answer.ack), (TcpControl::None, Some(5001)));
    assert!(script.stack.tcp_accept(listener).is_err());
    script.say(TcpRepr { timestamp: stamp(1000, echo), ..ack });
    assert!(script.stack.tcp_accept(listener).is_ok());
}

#[test]
fn rfc2018_4_out_of_order_bytes_are_answered_at_once_the_latest_block_first() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.check_blocks(200, 100, &[(200, 300)]);
    peer.check_blocks(600, 100, &[(600, 700), (200, 300)]);
    peer.check_blocks(400, 100, &[(400, 500), (600, 700), (200, 300)]);
    peer.check_blocks(300, 100, &[(200, 500), (600, 700)]);
    // More holes than smoltcp can remember are still answered, by what is known.
    peer.check_blocks(1000, 100, &[(1000, 1100), (200, 500), (600, 700)]);
    peer.check_blocks(1400, 100, &[(1400, 1500), (1000, 1100), (200, 500)]);
    peer.check_blocks(1800, 100, &[(1400, 1500), (1000, 1100), (200, 500)]);
    // The first hole is filled.
    let ack = only(peer.says(peer.segment(0, &[7; 200])));
    assert_eq!(ack.ack, Some(peer.numbers((500, 0)).0));
    assert_eq!(ack.blocks, [(1400, 1500), (1000, 1100), (600, 700)].map(|block| peer.numbers(block)));
}

#[test]
fn rfc2883_4_what_comes_twice_is_said() {
    let mut peer = Peer::new(TcpOptions::default());
    peer.says(peer.segment(0, &[7; 100]));
    peer.script.wait(SECOND);
    peer.check_blocks(0, 100, &[(0, 100)]);
    peer.check_blocks(200, 100, &[(200, 300)]);
    peer.check_blocks(200, 100, &[(200, 300), (200, 300)]);
    peer.check_blocks(0, 50, &[(0, 50), (200, 300)]);
}

#[test]
fn rfc2018_3_four_blocks_fit_where_there_are_no_timestamps() {
    let mut script = Script::new();
    script.listen(8);
    let syn_ack = only(script.say(syn(5000)));
    let ack = Some(syn_ack.seq.wrapping_add(1));
    script.say(segment(TcpControl::None, 5001, ack, b""));
    for at in [200, 400, 600, 800] {
        let heard = only(script.say(segment(TcpControl::None, 5001 + at, ack, &[7; 100])));
        // smoltcp reads no more than three.
        assert_eq!(heard.blocks.len(), (at as usize / 200).min(3));
        assert_eq!((heard.blocks[0], heard.timestamp), ((5001 + at, 5101 + at), None));
    }
}
