//! Arbitrary and nearly valid segments in a live flow, in every state: nothing panics, no wrong byte is delivered or
//! sent, no window is exceeded, nothing is left, and an honest peer still gets all that it is owed.
//!
//! `PROPTEST_CASES=1000000 cargo test --release -p userstack-stack --test fuzz` runs for hours.

#[allow(dead_code, reason = "each file of tests uses its part of the peer")]
mod rogue;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use proptest::collection::vec;
use proptest::prelude::*;
use rogue::frame::{self, ACK, FIN, RST, SYN, Shape};
use rogue::{Rogue, Setting};
use stack::Duration;
use stack::socket::tcp::{How, TcpOptions};

/// A number near one that means something to the flow.
#[derive(Debug, Clone, Copy)]
enum Near {
    /// RCV.NXT as the stack says, or the end of what it has sent.
    Next(i32),
    /// The right edge, or what was acknowledged.
    Edge(i32),
    Anywhere(u32),
}

#[derive(Debug, Clone)]
struct Forged {
    shape: Shape,
    seq: Near,
    ack: Near,
    sack: Option<(i32, u32)>,
    timestamp: Option<(i32, i32)>,
}

#[derive(Debug, Clone)]
enum Event {
    Forged(Forged),
    /// One whose headers were damaged, and whose checksums were mended or not.
    Damaged(Forged, Vec<(usize, u8)>, bool),
    Frame(Vec<u8>),
    /// An IP packet of this protocol.
    Packet(u8, Vec<u8>),
    /// Type, code, the rest of the header, about which number, and how much of it is quoted.
    Icmp(u8, u8, u32, Near, usize),
    Honest(u8, usize),
    Write(usize),
    Read(usize),
    Shut(How),
    Close(bool),
    Options(TcpOptions),
    Wait(u64),
}

fn near() -> impl Strategy<Value = Near> {
    prop_oneof![
        6 => Just(Near::Next(0)),
        4 => (-50i32..50).prop_map(Near::Next),
        2 => (-70_000i32..70_000).prop_map(Near::Next),
        2 => (-1500i32..50).prop_map(Near::Edge),
        1 => any::<u32>().prop_map(Near::Anywhere),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    let known = [ACK, ACK, ACK, ACK | 0x08, ACK | FIN, FIN, SYN, SYN | ACK, RST, RST | ACK, SYN | FIN, 0];
    prop_oneof![6 => Just(ACK), 4 => prop::sample::select(known.to_vec()), 1 => any::<u8>()]
}

fn forged() -> impl Strategy<Value = Forged> {
    let window = prop_oneof![Just(0u16), Just(1), 0u16..3_000, any::<u16>()];
    let len = prop_oneof![3 => Just(0usize), 3 => 0usize..60, 2 => 0usize..1460];
    let options = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..40)];
    let sack = proptest::option::of((-3_000i32..30_000, 0u32..9_000));
    let ahead = || prop_oneof![4 => -3i32..3, 2 => -10_000i32..10_000, 1 => any::<i32>()];
    let timestamp = proptest::option::weighted(0.8, (prop_oneof![4 => Just(0), 1 => ahead()], ahead()));
    let other_port = prop_oneof![9 => Just(0u16), 1 => 1u16..4];
    (flags(), window, len, options, near(), near(), (sack, timestamp), other_port).prop_map(
        |(flags, window, len, options, seq, ack, (sack, timestamp), other_port)| Forged {
            shape: Shape { other_port, flags, window, options, len, ..Shape::default() },
            seq,
            ack,
            sack,
            timestamp,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => forged().prop_map(Event::Forged),
        6 => (forged(), vec((0usize..98, any::<u8>()), 1..4), any::<bool>())
            .prop_map(|(forged, damage, mended)| Event::Damaged(forged, damage, mended)),
        2 => vec(any::<u8>(), 0..200).prop_map(Event::Frame),
        3 => (prop::sample::select(vec![6u8, 6, 17, 1, 58, 0, 44]), vec(any::<u8>(), 0..80))
            .prop_map(|(protocol, body)| Event::Packet(protocol, body)),
        4 => icmp(),
        12 => (prop_oneof![9 => Just(0u8), 1 => Just(FIN)], prop_oneof![Just(0usize), 0usize..1460])
            .prop_map(|(flags, len)| Event::Honest(flags | ACK, len)),
        8 => (1usize..9_000).prop_map(Event::Write),
        8 => (1usize..9_000).prop_map(Event::Read),
        1 => prop::sample::select(vec![How::Write, How::Write, How::Both, How::Read]).prop_map(Event::Shut),
        1 => proptest::bool::weighted(0.3).prop_map(Event::Close),
        2 => options().prop_map(Event::Options),
        10 => prop_oneof![0u64..3, 0u64..50, 0u64..3_000].prop_map(Event::Wait),
    ]
}

fn icmp() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![5 => prop::sample::select(vec![3u8, 1, 2]), 1 => any::<u8>()];
    let code = prop_oneof![3 => Just(4u8), 3 => 0u8..16, 1 => any::<u8>()];
    let rest = prop_oneof![Just(0u32), 0u32..2_000, any::<u32>()];
    let quoted_len = prop_oneof![3 => Just(60usize), 1 => 0usize..100];
    (kind, code, rest, near(), quoted_len)
        .prop_map(|(kind, code, rest, near, quoted_len)| Event::Icmp(kind, code, rest, near, quoted_len))
}

fn options() -> impl Strategy<Value = TcpOptions> {
    let buffer = || prop::sample::select(vec![0u32, 0, 0, 2_304, 9_216, 300_000]);
    let user_timeout_ms = prop::sample::select(vec![0, 0, 0, 20_000]);
    (any::<[bool; 3]>(), user_timeout_ms, buffer(), buffer(), buffer()).prop_map(
        |([nodelay, corked, keepalive], user_timeout_ms, receive_buffer, send_buffer, window_clamp)| TcpOptions {
            nodelay,
            corked,
            keepalive,
            keepalive_idle_s: 5,
            keepalive_interval_s: 1,
            user_timeout_ms,
            receive_buffer,
            send_buffer,
            window_clamp,
            ..TcpOptions::default()
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    let irs = prop_oneof![Just(5_000), Just(u32::MAX - 900), Just(i32::MAX as u32 - 900), any::<u32>()];
    let mss = prop::sample::select(vec![None, Some(1460), Some(1460), Some(536), Some(0), Some(1), Some(u16::MAX)]);
    let shift = prop::sample::select(vec![None, Some(0), Some(2), Some(7), Some(14), Some(255)]);
    let options = options();
    (any::<[bool; 5]>(), irs, mss, shift, options).prop_map(
        |([six, tagged, active, sack, timestamps], irs, mss, shift, options)| Setting {
            six,
            tagged,
            active,
            irs,
            mss,
            shift,
            sack,
            timestamps,
            options,
        },
    )
}

impl Near {
    fn number(self, next: u32, edge: u32) -> u32 {
        match self {
            Near::Next(ahead) => next.wrapping_add_signed(ahead),
            Near::Edge(ahead) => edge.wrapping_add_signed(ahead),
            Near::Anywhere(number) => number,
        }
    }
}

impl Forged {
    /// The segment as it stands to the flow now.
    fn shape(&self, rogue: &Rogue) -> Shape {
        let honest = rogue.honest(ACK, 0);
        let end = rogue.sent_end();
        let mut shape = self.shape.clone();
        shape.seq = self.seq.number(rogue.told_ack, rogue.told_edge);
        shape.ack = self.ack.number(end, honest.ack);
        let mut options = Vec::new();
        if let Some((value, echo)) = self.timestamp {
            options.extend(rogue.timestamp(value, echo));
        }
        if let Some((start, len)) = self.sack {
            let start = honest.ack.wrapping_add_signed(start);
            options.extend([[1, 1, 5, 10], start.to_be_bytes(), start.wrapping_add(len).to_be_bytes()].concat());
        }
        shape.options.truncate(40 - options.len());
        shape.options.splice(0..0, options);
        shape
    }
}

fn happen(rogue: &mut Rogue, event: &Event) {
    match event {
        Event::Forged(forged) => rogue.say(forged.shape(rogue)),
        Event::Damaged(forged, damage, mended) => {
            let mut bytes = rogue.frame(&forged.shape(rogue));
            let headers_len = bytes.len() - forged.shape.len;
            for &(at, byte) in damage {
                bytes[at % headers_len] = byte;
            }
            if *mended {
                frame::mend(&mut bytes);
            }
            rogue.send(&bytes);
        }
        Event::Frame(bytes) => rogue.send(bytes),
        Event::Packet(protocol, body) => rogue.packet(*protocol, body),
        Event::Icmp(kind, code, rest, near, quoted_len) => {
            let (end, acknowledged) = (rogue.sent_end(), rogue.honest(ACK, 0).ack);
            rogue.icmp_error(*kind, *code, *rest, near.number(end, acknowledged), *quoted_len);
        }
        Event::Honest(flags, len) => rogue.say(rogue.honest(*flags, *len)),
        Event::Write(len) => rogue.write(*len),
        Event::Read(len) => rogue.read(*len),
        Event::Shut(how) => rogue.shut(*how),
        Event::Close(reset) => rogue.close(*reset),
        Event::Options(options) => rogue.set_options(*options),
        Event::Wait(millis) => rogue.wait(Duration::from_millis(*millis)),
    }
}

/// `PROPTEST_CASES`, or as many as take a second or two.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn a_live_flow_survives_whatever_is_said(setting in setting(), events in vec(event(), 1..80)) {
        let mut rogue = Rogue::new(setting);
        for event in &events {
            happen(&mut rogue, event);
        }
        rogue.finish();
    }

    /// From the first SYN on: segments of several ports to a listener, half-open flows, and whatever they become.
    #[test]
    fn a_listener_survives_whatever_is_said(setting in setting(), events in vec(event(), 1..80)) {
        let mut rogue = Rogue::unopened(setting);
        for event in &events {
            happen(&mut rogue, event);
        }
        rogue.finish();
    }
}
