//! A peer that sends what a test tells it to, in front of a stack with a listener; all its numbers count from 0.

#[path = "../sim/mod.rs"]
#[allow(dead_code)]
mod sim;

use sim::{CLIENT, Claims, FlatRoutes, PORT, SERVER};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use stack::link::Link;
use stack::link::wire::{WireConfig, WireEnd, wire};
use stack::outside::InterfaceId;
use stack::socket::FlowId;
use stack::socket::tcp::{ListenAddress, Path, TcpOptions};
use stack::stack::Stack;
use stack::{Duration, Instant};

/// The segment size that the peer asks for.
pub const MSS: u32 = 1000;
/// How long the peer takes to answer the SYN-ACK.
pub const RTT_MS: u64 = 100;

const ISN: u32 = u32::MAX - 2_000;
const PEER_PORT: u16 = 5000;
const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

/// An ACK without data.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub ack: u32,
    /// The first SACK block, in the peer's own numbers.
    pub block: Option<(u32, u32)>,
}

/// The peer, and the stack that it talks to.
pub struct Peer {
    pub window: u16,
    stack: Stack,
    end: WireEnd,
    flow: Option<FlowId>,
    now: Instant,
    /// The stack's initial sequence number.
    isn: u32,
    sent: Vec<Vec<u8>>,
}

impl Peer {
    pub fn with_sack() -> Peer {
        Peer::open(true)
    }

    pub fn without_sack() -> Peer {
        Peer::open(false)
    }

    /// The peer connects; its ACK takes `RTT_MS`.
    fn open(sack: bool) -> Peer {
        let now = Instant::from_secs(1);
        let (near, end, _) = wire(WireConfig::default());
        let routes = FlatRoutes { resolved_at: now, mtu: 1500 };
        let mut stack = Stack::new(Box::new(routes), Box::new(Claims::default()), 1, now);
        stack.add_link(InterfaceId(0), Box::new(near));
        let listener = stack.tcp_listen(ListenAddress::AnyV4, PORT, 1, TcpOptions::default(), 1).unwrap();
        let mut peer = Peer { window: 65_000, stack, end, flow: None, now, isn: 0, sent: Vec::new() };
        let syn = TcpRepr {
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(ISN as i32),
            ack_number: None,
            max_seg_size: Some(MSS as u16),
            sack_permitted: sack,
            ..peer.repr(&[])
        };
        peer.feed(&packet(&syn));
        let syn_ack = peer.sent.pop().unwrap();
        peer.isn = TcpPacket::new_unchecked(&syn_ack[20..]).seq_number().0 as u32;
        peer.wait_ms(RTT_MS);
        peer.acknowledge(0, &[]);
        peer.flow = peer.stack.tcp_accept(listener).ok();
        peer.sent.clear();
        peer
    }

    /// The wire's number of the peer's byte `at`.
    pub fn seq(&self, at: u32) -> u32 {
        ISN.wrapping_add(1 + at)
    }

    fn repr<'a>(&self, payload: &'a [u8]) -> TcpRepr<'a> {
        TcpRepr {
            src_port: PEER_PORT,
            dst_port: PORT,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(self.seq(0) as i32),
            ack_number: Some(TcpSeqNumber(self.isn.wrapping_add(1) as i32)),
            window_len: self.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        }
    }

    /// A segment of `len` bytes from the peer's byte `at` on, that acknowledges the stack's bytes before `ack` and
    /// those in `blocks`.
    pub fn segment(&self, at: u32, ack: u32, len: usize, blocks: &[(u32, u32)]) -> Vec<u8> {
        let number = |at: u32| self.isn.wrapping_add(1 + at);
        let payload = vec![0; len];
        let mut sack_ranges = [None; 3];
        for (range, (start, end)) in sack_ranges.iter_mut().zip(blocks) {
            *range = Some((number(*start), number(*end)));
        }
        packet(&TcpRepr {
            seq_number: TcpSeqNumber(self.seq(at) as i32),
            ack_number: Some(TcpSeqNumber(number(ack) as i32)),
            sack_ranges,
            ..self.repr(&payload)
        })
    }

    pub fn acknowledge(&mut self, ack: u32, blocks: &[(u32, u32)]) {
        let segment = self.segment(0, ack, 0, blocks);
        self.feed(&segment);
    }

    pub fn sends(&mut self, at: u32, len: usize) {
        let segment = self.segment(at, 0, len, &[]);
        self.feed(&segment);
    }

    pub fn feed(&mut self, packet: &[u8]) {
        let mut frame = self.end.tx_frame().unwrap();
        frame.set_len(14 + packet.len());
        frame[..14].copy_from_slice(&ETHERNET);
        frame[14..].copy_from_slice(packet);
        self.end.tx_burst(self.now, &mut vec![frame]);
        self.turn();
    }

    fn turn(&mut self) {
        let mut turns = 0;
        while self.stack.poll(self.now) || self.stack.flush_pending() {
            turns += 1;
            assert!(turns < 100, "the stack does not come to rest");
        }
        let mut burst = Vec::new();
        self.end.rx_burst(self.now, &mut burst);
        for frame in burst {
            self.sent.push(frame[14..].to_vec());
            self.end.recycle(frame);
        }
    }

    pub fn wait_ms(&mut self, len_ms: u64) {
        for _ in 0..len_ms {
            self.now += Duration::from_millis(1);
            self.turn();
        }
    }

    pub fn application_sends(&mut self, len: usize) {
        assert_eq!(self.stack.tcp_send(self.flow.unwrap(), &vec![0; len]), Ok(len));
        self.turn();
    }

    pub fn path(&self) -> Path {
        self.stack.tcp_path(self.flow.unwrap()).unwrap()
    }

    pub fn application_receives(&mut self) -> usize {
        let mut buf = [0; 4096];
        self.stack.tcp_recv(self.flow.unwrap(), &mut buf).unwrap()
    }

    /// The first bytes of the segments with data that the stack has sent since it was last asked.
    pub fn data(&mut self) -> Vec<u32> {
        let sent = std::mem::take(&mut self.sent);
        let tcps = sent.iter().map(|packet| TcpPacket::new_unchecked(&packet[20..]));
        let with_data = tcps.filter(|tcp| !tcp.payload().is_empty());
        with_data.map(|tcp| (tcp.seq_number().0 as u32).wrapping_sub(self.isn).wrapping_sub(1)).collect()
    }

    /// The end of the latest of the stack's bytes among them.
    pub fn data_end(&mut self) -> u32 {
        let sent = std::mem::take(&mut self.sent);
        let tcps = sent.iter().map(|packet| TcpPacket::new_unchecked(&packet[20..]));
        let with_data = tcps.filter(|tcp| !tcp.payload().is_empty());
        let ends = with_data.map(|tcp| (tcp.seq_number() + tcp.payload().len()).0 as u32);
        ends.map(|end| end.wrapping_sub(self.isn).wrapping_sub(1)).max().unwrap_or(0)
    }

    /// The ACKs without data that the stack has sent since it was last asked.
    pub fn replies(&mut self) -> Vec<Reply> {
        let sent = std::mem::take(&mut self.sent);
        let tcps = sent.iter().map(|packet| TcpPacket::new_unchecked(&packet[20..]));
        let replies = tcps.filter(|tcp| tcp.payload().is_empty()).map(|tcp| Reply {
            ack: (tcp.ack_number().0 as u32).wrapping_sub(self.seq(0)),
            block: tcp.selective_ack_ranges().unwrap()[0],
        });
        replies.collect()
    }
}

fn packet(tcp: &TcpRepr<'_>) -> Vec<u8> {
    let ip = IpRepr::new(CLIENT.into(), SERVER.into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    tcp.emit(&mut segment, &CLIENT.into(), &SERVER.into(), &ChecksumCapabilities::default());
    packet
}
