//! A peer that is no TCP, for every test that converses segment by segment: it sends the segments that a test writes, and shows those that come back.

use crate::sim::{Claims, FlatRoutes, INTERFACE, PORT, SERVER};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use stack::link::Link;
use stack::link::wire::{WireConfig, WireEnd, wire};
use stack::socket::tcp::{ListenAddress, TcpOptions};
use stack::socket::{FlowId, ListenerId};
use stack::stack::Stack;
use stack::{Duration, Instant};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The peer's address, unless it is spoofed.
pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), 40_000);

/// A segment that has come to the peer; its checksums have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub at: Instant,
    pub to: SocketAddr,
    pub control: TcpControl,
    pub seq: u32,
    pub ack: Option<u32>,
    /// As it stands in the header.
    pub window: u16,
    /// The SACK blocks.
    pub blocks: Vec<(u32, u32)>,
    /// TSval and TSecr.
    pub timestamp: Option<(u32, u32)>,
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    /// The packet's identification, where routers may cut it up.
    pub may_fragment: Option<u16>,
    /// TOS or traffic class, and TTL or hop limit.
    pub ip: (u8, u8),
    pub payload: Vec<u8>,
}

/// The far end of a wire without delay.
pub struct Peer {
    end: WireEnd,
    /// Whom it talks to.
    pub server: IpAddr,
}

impl Peer {
    /// A peer on a link of its own of this stack.
    pub fn attach(stack: &mut Stack) -> Self {
        let (near, far, _) = wire(WireConfig { frames: 1 << 15, ..WireConfig::default() });
        stack.add_link(INTERFACE, Box::new(near));
        Peer { end: far, server: SERVER }
    }

    /// Sends a segment to the server from `source`.
    pub fn send(&mut self, source: SocketAddr, port: u16, tcp: &TcpRepr<'_>, now: Instant) {
        let tcp = TcpRepr { src_port: source.port(), dst_port: port, ..*tcp };
        let server = self.server.into();
        self.send_packet(source.ip(), IpProtocol::Tcp, tcp.buffer_len(), now, |payload| {
            let mut segment = TcpPacket::new_unchecked(payload);
            tcp.emit(&mut segment, &source.ip().into(), &server, &ChecksumCapabilities::default());
        });
    }

    /// Sends an IP packet whose payload of `len` bytes `fill` writes.
    pub fn send_packet(
        &mut self,
        source: IpAddr,
        protocol: IpProtocol,
        len: usize,
        now: Instant,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let ip = IpRepr::new(source.into(), self.server.into(), protocol, len, 64);
        let mut frame = self.end.tx_frame().unwrap();
        frame.set_len(14 + ip.buffer_len());
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        frame[12..14].copy_from_slice(if source.is_ipv4() { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        ip.emit(&mut frame[14..], &ChecksumCapabilities::default());
        fill(&mut frame[14 + ip.header_len()..]);
        self.end.tx_burst(now, &mut vec![frame]);
    }

    /// What has come since the last time.
    pub fn hear(&mut self, now: Instant) -> Vec<Heard> {
        let (mut frames, mut heard) = (Vec::new(), Vec::new());
        loop {
            self.end.rx_burst(now, &mut frames);
            if frames.is_empty() {
                return heard;
            }
            for frame in frames.drain(..) {
                heard.push(read(&frame[14..], now));
                self.end.recycle(frame);
            }
        }
    }
}

fn read(packet: &[u8], at: Instant) -> Heard {
    let ip_fields;
    let (source, destination, may_fragment, payload): (IpAddr, IpAddr, Option<u16>, &[u8]) = if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        assert!(ip.verify_checksum());
        ip_fields = (ip.dscp() << 2 | ip.ecn(), ip.hop_limit());
        let may_fragment = (!ip.dont_frag()).then(|| ip.ident());
        (ip.src_addr().into(), ip.dst_addr().into(), may_fragment, ip.payload())
    } else {
        let ip = Ipv6Packet::new_checked(packet).unwrap();
        ip_fields = (ip.traffic_class(), ip.hop_limit());
        (ip.src_addr().into(), ip.dst_addr().into(), None, ip.payload())
    };
    let tcp = TcpPacket::new_checked(payload).unwrap();
    let tcp = TcpRepr::parse(&tcp, &source.into(), &destination.into(), &ChecksumCapabilities::default()).unwrap();
    Heard {
        at,
        to: (destination, tcp.dst_port).into(),
        control: tcp.control,
        seq: tcp.seq_number.0 as u32,
        ack: tcp.ack_number.map(|ack| ack.0 as u32),
        window: tcp.window_len,
        blocks: tcp.sack_ranges.into_iter().flatten().collect(),
        timestamp: tcp.timestamp.map(|timestamp| (timestamp.tsval, timestamp.tsecr)),
        mss: tcp.max_seg_size,
        window_scale: tcp.window_scale,
        sack_permitted: tcp.sack_permitted,
        may_fragment,
        ip: ip_fields,
        payload: tcp.payload.to_vec(),
    }
}

/// The window that the peer offers unless the test says otherwise.
pub const WINDOW: u16 = 10_000;

/// A sequence number as smoltcp has it.
pub fn number(number: u32) -> TcpSeqNumber {
    TcpSeqNumber(number as i32)
}

/// A segment without options, its window `WINDOW`.
pub fn segment(control: TcpControl, seq: u32, ack: Option<u32>, payload: &[u8]) -> TcpRepr<'_> {
    TcpRepr {
        src_port: 0,
        dst_port: 0,
        control,
        seq_number: number(seq),
        ack_number: ack.map(number),
        window_len: WINDOW,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    }
}

/// A SYN as Linux sends it, but for the timestamps.
pub fn syn(seq: u32) -> TcpRepr<'static> {
    TcpRepr {
        max_seg_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        ..segment(TcpControl::Syn, seq, None, &[])
    }
}

/// One stack, at `SERVER`, and a peer whose lines a test writes.
pub struct Script {
    pub now: Instant,
    pub stack: Stack,
    pub peer: Peer,
}

impl Script {
    pub fn new() -> Self {
        let now = Instant::from_secs(1);
        let routes = FlatRoutes { resolved_at: now, mtu: 1500 };
        let mut stack = Stack::new(Box::new(routes), Box::new(Claims::default()), 7, now);
        let peer = Peer::attach(&mut stack);
        Script { now, stack, peer }
    }

    pub fn listen(&mut self, backlog: usize) -> ListenerId {
        self.listen_with(backlog, TcpOptions::default())
    }

    pub fn listen_with(&mut self, backlog: usize, options: TcpOptions) -> ListenerId {
        self.stack.tcp_listen(ListenAddress::AnyV4, PORT, backlog, options, 7).unwrap()
    }

    pub fn connect(&mut self, port: u16) -> FlowId {
        self.stack.tcp_connect((SERVER, port).into(), PEER, TcpOptions::default(), 9, self.now).unwrap()
    }

    /// Says a line to `PORT`, and hears what is answered at once.
    pub fn say(&mut self, line: TcpRepr<'_>) -> Vec<Heard> {
        self.say_from(PEER, PORT, line)
    }

    pub fn say_from(&mut self, source: SocketAddr, port: u16, line: TcpRepr<'_>) -> Vec<Heard> {
        self.peer.send(source, port, &line, self.now);
        self.turn()
    }

    /// Turns the stack until it is quiet, and hears what it says.
    pub fn turn(&mut self) -> Vec<Heard> {
        let mut turns = 0;
        while self.stack.poll(self.now) || self.stack.flush_pending() {
            turns += 1;
            assert!(turns < 100, "the stack does not come to rest");
        }
        self.peer.hear(self.now)
    }

    /// Lets time pass, and hears what is said meanwhile.
    pub fn wait(&mut self, len: Duration) -> Vec<Heard> {
        let end = self.now + len;
        let mut heard = self.turn();
        while let Some(next) = self.stack.deadline().filter(|&next| next <= end) {
            self.now = next.max(self.now + Duration::from_micros(1));
            heard.extend(self.turn());
        }
        self.now = end;
        heard.extend(self.turn());
        heard
    }
}

/// The only line that was heard.
pub fn only(heard: Vec<Heard>) -> Heard {
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard.into_iter().next().unwrap()
}
