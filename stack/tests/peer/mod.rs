//! A stack and a scripted peer: the test writes each segment of the peer and reads each of the stack's.

use crate::sim::{CLIENT, Claims, FlatRoutes, INTERFACE, PORT, SERVER};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use stack::link::Link;
use stack::link::wire::{WireConfig, WireEnd, wire};
use stack::socket::tcp::{ListenAddress, TcpOptions};
use stack::socket::{FlowId, ListenerId};
use stack::stack::Stack;
use stack::{Duration, Instant};
use std::net::SocketAddr;

/// The length of an Ethernet header.
const HEADER_LEN: usize = 14;
/// The peer's port.
const PEER_PORT: u16 = 40_000;
/// The window that the peer offers unless the test says otherwise.
pub const PEER_WINDOW: u16 = 20_000;

/// A segment of the stack's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: Instant,
    pub control: TcpControl,
    pub seq: u32,
    pub ack: Option<u32>,
    pub window: u16,
    pub payload: Vec<u8>,
}

/// A segment of the peer's; `..peer.ack()` is one of the right numbers.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    pub control: TcpControl,
    pub seq: u32,
    pub ack: Option<u32>,
    pub window: u16,
    pub payload: &'a [u8],
}

/// The stack (at SERVER, port PORT) and its peer (at CLIENT).
pub struct Peer {
    pub now: Instant,
    pub stack: Stack,
    /// The peer's SND.NXT.
    pub seq: u32,
    /// The peer's RCV.NXT: the end of what the stack has sent in order.
    pub rcv_nxt: u32,
    end: WireEnd,
}

impl Peer {
    /// Nothing has been said.
    pub fn new() -> Self {
        let now = Instant::from_secs(1);
        let config = WireConfig::default();
        let (near, end, _) = wire(config);
        let routes = FlatRoutes { resolved_at: now, mtu: config.mtu as u16 };
        let mut stack = Stack::new(Box::new(routes), Box::new(Claims::default()), 1, now);
        stack.add_link(INTERFACE, Box::new(near));
        Peer { now, stack, seq: 5_000, rcv_nxt: 0, end }
    }

    /// The same with a listener at PORT.
    pub fn listening(options: TcpOptions) -> (Self, ListenerId) {
        let mut peer = Peer::new();
        let listener = peer.stack.tcp_listen(ListenAddress::AnyV4, PORT, 8, options, 7).unwrap();
        (peer, listener)
    }

    /// A flow that the peer has opened.
    pub fn accepted(options: TcpOptions) -> (Self, FlowId) {
        let (mut peer, listener) = Peer::listening(options);
        let syn = Segment { control: TcpControl::Syn, seq: peer.seq, ack: None, window: PEER_WINDOW, payload: &[] };
        peer.send(syn);
        let syn_ack = peer.only();
        assert_eq!((syn_ack.control, syn_ack.ack), (TcpControl::Syn, Some(peer.seq + 1)));
        peer.seq += 1;
        peer.rcv_nxt = syn_ack.seq.wrapping_add(1);
        peer.send(peer.ack());
        assert_eq!(peer.replies(), []);
        let flow = peer.stack.tcp_accept(listener).unwrap();
        (peer, flow)
    }

    /// An ACK of where the peer stands.
    pub fn ack(&self) -> Segment<'static> {
        let ack = Some(self.rcv_nxt);
        Segment { control: TcpControl::None, seq: self.seq, ack, window: PEER_WINDOW, payload: &[] }
    }

    /// Sends a segment, and turns the stack until it has said what it has to say at once.
    pub fn send(&mut self, segment: Segment<'_>) {
        let packet = emit(&segment);
        let mut frame = self.end.tx_frame().unwrap();
        frame.set_len(HEADER_LEN + packet.len());
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        frame[12..HEADER_LEN].copy_from_slice(&[0x08, 0x00]);
        frame[HEADER_LEN..].copy_from_slice(&packet);
        self.end.tx_burst(self.now, &mut vec![frame]);
        self.turn();
    }

    /// Sends bytes in order.
    pub fn send_bytes(&mut self, payload: &[u8]) {
        self.send(Segment { control: TcpControl::Psh, payload, ..self.ack() });
        self.seq += payload.len() as u32;
    }

    /// Turns the stack without a segment, until it is quiet.
    pub fn turn(&mut self) {
        while self.stack.poll(self.now) || self.stack.flush_pending() {}
    }

    /// What the stack has said since the last time.
    pub fn replies(&mut self) -> Vec<Seen> {
        let mut frames = Vec::new();
        self.end.rx_burst(self.now, &mut frames);
        let mut seen = Vec::new();
        for frame in frames {
            seen.push(read(self.now, &frame[HEADER_LEN..]));
            self.end.recycle(frame);
        }
        seen
    }

    /// The only segment that the stack has said.
    pub fn only(&mut self) -> Seen {
        let mut replies = self.replies();
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    /// Lets time pass, following the stack's deadlines; `answer` hears each segment and may send one.
    pub fn pass(&mut self, len: Duration, mut answer: impl FnMut(&mut Peer, Seen)) {
        let end = self.now + len;
        loop {
            self.turn();
            for seen in self.replies() {
                answer(self, seen);
            }
            match self.stack.deadline().filter(|&deadline| deadline <= end) {
                Some(deadline) => self.now = deadline.max(self.now + Duration::from_micros(1)),
                None => break,
            }
        }
        self.now = end;
        self.turn();
    }

    /// What the stack says in a time in which the peer is silent.
    pub fn silence(&mut self, len: Duration) -> Vec<Seen> {
        let mut all = Vec::new();
        self.pass(len, |_, seen| all.push(seen));
        all.extend(self.replies());
        all
    }
}

fn emit(segment: &Segment<'_>) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: PEER_PORT,
        dst_port: PORT,
        control: segment.control,
        seq_number: TcpSeqNumber(segment.seq as i32),
        ack_number: segment.ack.map(|ack| TcpSeqNumber(ack as i32)),
        window_len: segment.window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: segment.payload,
    };
    let (source, destination) = (CLIENT.into(), SERVER.into());
    let ip = IpRepr::new(source, destination, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut packet, &checksums);
    let mut header = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    tcp.emit(&mut header, &source, &destination, &checksums);
    packet
}

fn read(at: Instant, packet: &[u8]) -> Seen {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let (source, destination) = (SERVER.into(), CLIENT.into());
    let repr = TcpRepr::parse(&tcp, &source, &destination, &ChecksumCapabilities::default()).unwrap();
    Seen {
        at,
        control: repr.control,
        seq: repr.seq_number.0 as u32,
        ack: repr.ack_number.map(|ack| ack.0 as u32),
        window: repr.window_len,
        payload: repr.payload.to_vec(),
    }
}

/// The peer's address.
pub fn address() -> SocketAddr {
    SocketAddr::new(CLIENT, PEER_PORT)
}
