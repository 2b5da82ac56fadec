//! A peer that says anything: frames down to the last byte, and a model of what the stack may make of them.
//!
//! The peer's byte at sequence number `s` is always `pattern(s)`, and the application's byte `k` is `pattern(k)`: so
//! whatever is cut, moved, doubled or forged, what is delivered and what is sent can be checked.

mod coverage;
mod crowd;
pub mod frame;

use crate::sim::{CLIENT, Claims, FlatRoutes, INTERFACE, PORT, SERVER, pattern};
use coverage::Coverage;
use crowd::Crowd;
use frame::{ACK, FIN, Parsed, RST, SYN, Shape};
use stack::link::Link;
use stack::link::wire::{WireConfig, WireEnd, wire};
use stack::socket::tcp::{How, ListenAddress, TcpOptions, TcpState};
use stack::socket::{FlowId, ListenerId};
use stack::stack::Stack;
use stack::{Duration, Errno, Instant};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Frames of the stack: so few that a leak shows.
const FRAMES: usize = 96;

/// What the world of a storm is like.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// IPv6.
    pub six: bool,
    /// The peer's frames have a VLAN tag.
    pub tagged: bool,
    /// The stack opens the flow.
    pub active: bool,
    /// The peer's initial sequence number.
    pub irs: u32,
    /// What the peer's SYN offers.
    pub mss: Option<u16>,
    pub shift: Option<u8>,
    pub sack: bool,
    pub timestamps: bool,
    pub options: TcpOptions,
}

/// The stack, an application, and the peer with its model of both.
pub struct Rogue {
    pub now: Instant,
    pub stack: Stack,
    pub flow: Option<FlowId>,
    pub setting: Setting,
    listener: Option<ListenerId>,
    /// Flows beside the model's.
    crowd: Crowd,
    end: WireEnd,
    local: SocketAddr,
    remote: SocketAddr,
    /// What the peer has sent, from `irs + 1` on, and where a FIN of its would lie.
    sent: Coverage,
    fins: HashSet<u32>,
    /// The furthest byte of the stack's that it was ever allowed to send.
    edge: u64,
    /// The furthest byte of the stack's that was ever acknowledged.
    acknowledged: u32,
    /// The stack's initial sequence number, what the peer has seen of its stream, and where that ends.
    iss: Option<u32>,
    heard: Coverage,
    pub heard_end: u32,
    fin_at: Option<u32>,
    /// RCV.NXT of the stack as it says, and the right edge of its window.
    pub told_ack: u32,
    pub told_edge: u32,
    shift: u8,
    /// The stack's clock as it was last shown, and its echo of the peer's.
    clock: Option<u32>,
    echo: u32,
    /// Of the application's stream: what was given to the stack, and what came from it.
    written: usize,
    read: usize,
    shut_write: bool,
    shut_read: bool,
    closed: bool,
    read_over: bool,
    cause_said: bool,
}

impl Rogue {
    /// An established flow.
    pub fn new(setting: Setting) -> Rogue {
        let mut rogue = Rogue::unopened(setting);
        if setting.active {
            let (local, remote) = (rogue.local, rogue.remote);
            let flow = rogue.stack.tcp_connect(local, remote, in_line(setting.options), 9, rogue.now).unwrap();
            rogue.flow = Some(flow);
            rogue.turn();
            let ack = rogue.iss.unwrap().wrapping_add(1);
            let (flags, options) = (SYN | ACK, rogue.syn_options());
            rogue.say(Shape { seq: setting.irs, ack, flags, window: 20_000, options, ..Shape::default() });
        } else {
            let options = rogue.syn_options();
            let syn = Shape { seq: setting.irs, flags: SYN, window: 20_000, options, ..Shape::default() };
            rogue.say(syn);
            rogue.say(rogue.honest(ACK, 0));
            rogue.flow = Some(rogue.stack.tcp_accept(rogue.listener.unwrap()).unwrap());
        }
        assert_eq!(rogue.state(), TcpState::Established);
        rogue
    }

    /// A listener, and nothing said.
    pub fn unopened(setting: Setting) -> Rogue {
        let now = Instant::from_secs(1);
        let routes = FlatRoutes { resolved_at: now, mtu: 1500 };
        let mut stack = Stack::new(Box::new(routes), Box::new(Claims::default()), setting.irs.into(), now);
        let (near, end, _) = wire(WireConfig { frames: FRAMES, ..WireConfig::default() });
        stack.add_link(INTERFACE, Box::new(near));
        let six = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        let (remote, local) = if setting.six { (six(1), six(2)) } else { (CLIENT, SERVER) };
        let listener = stack.tcp_listen(ListenAddress::Any, PORT, 8, in_line(setting.options), 7).unwrap();
        Rogue {
            now,
            stack,
            flow: None,
            setting,
            listener: Some(listener),
            crowd: Crowd::default(),
            end,
            local: (local, PORT).into(),
            remote: (remote, 40_000).into(),
            sent: Coverage::new(),
            fins: HashSet::new(),
            edge: 0,
            acknowledged: 0,
            iss: None,
            heard: Coverage::new(),
            heard_end: 0,
            fin_at: None,
            told_ack: setting.irs,
            told_edge: 0,
            shift: 0,
            clock: None,
            echo: 0,
            written: 0,
            read: 0,
            shut_write: false,
            shut_read: false,
            closed: false,
            read_over: false,
            cause_said: false,
        }
    }

    fn syn_options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.setting.mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        options.extend(self.setting.shift.iter().flat_map(|&shift| [1, 3, 3, shift]));
        if self.setting.timestamps {
            options.extend(frame::timestamp(self.clock_of_peer(), self.clock.unwrap_or(0)));
        }
        options.extend(self.setting.sack.then_some([1, 1, 4, 2]).into_iter().flatten());
        options
    }

    /// The peer's clock, which somebody may have set forward in its name.
    fn clock_of_peer(&self) -> u32 {
        let millis = self.now.total_millis() as u32;
        let is_behind = self.echo.wrapping_sub(millis) as i32 > 0;
        if is_behind && self.echo != 0 { self.echo } else { millis }
    }

    /// The timestamp of a segment: so far from the right one, if timestamps are exchanged at all.
    pub fn timestamp(&self, value_ahead: i32, echo_ahead: i32) -> Vec<u8> {
        let value = self.clock_of_peer().wrapping_add_signed(value_ahead);
        let clock = self.clock.filter(|_| self.setting.timestamps);
        clock.map_or(Vec::new(), |clock| frame::timestamp(value, clock.wrapping_add_signed(echo_ahead)))
    }

    /// A segment of the right numbers: `len` bytes from where the stack stands, a full ACK, a wide window.
    pub fn honest(&self, flags: u8, len: usize) -> Shape {
        let ack = self.iss.unwrap_or(0).wrapping_add(1).wrapping_add(self.may_acknowledge());
        let options = self.timestamp(0, 0);
        Shape { seq: self.told_ack, ack, flags, window: 20_000, options, len, ..Shape::default() }
    }

    /// What of the stack's stream an honest peer has, a FIN included, or somebody has acknowledged in its name.
    fn may_acknowledge(&self) -> u32 {
        let contiguous = self.heard.contiguous as u32;
        let with_fin = contiguous + u32::from(self.fin_at == Some(contiguous));
        with_fin.max(self.acknowledged)
    }

    /// The end of what the stack has sent.
    pub fn sent_end(&self) -> u32 {
        self.iss.unwrap_or(0).wrapping_add(1).wrapping_add(self.heard_end)
    }

    /// Sends a segment from the peer's address.
    pub fn say(&mut self, shape: Shape) {
        let bytes = self.frame(&shape);
        self.send(&bytes);
    }

    /// A segment from the peer's address, or from another port of it.
    pub fn frame(&self, shape: &Shape) -> Vec<u8> {
        let from = SocketAddr::new(self.remote.ip(), self.remote.port() + shape.other_port);
        frame::build(from, self.local, shape, self.setting.tagged)
    }

    /// An IP packet of any protocol, from the peer to the stack.
    pub fn packet(&mut self, protocol: u8, body: &[u8]) {
        let bytes = frame::packet(self.remote.ip(), self.local.ip(), protocol, body, self.setting.tagged);
        self.send(&bytes);
    }

    /// An ICMP error about a segment of the flow's of that number, of which `quoted_len` bytes are quoted.
    pub fn icmp_error(&mut self, kind: u8, code: u8, rest: u32, seq: u32, quoted_len: usize) {
        let shape = Shape { seq, flags: ACK, len: 600, ..Shape::default() };
        let about = frame::build(self.local, self.remote, &shape, false);
        let quoted = &about[14..][..quoted_len.min(about.len() - 14)];
        let bytes = frame::icmp_error(self.local.ip(), kind, code, rest, quoted, self.setting.tagged);
        self.send(&bytes);
    }

    /// Sends a frame, follows what is in it, and lets the stack answer.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(parsed) = frame::parse(bytes) {
            if parsed.flags & SYN != 0 {
                self.crowd.syn(parsed.seq);
            }
            if (parsed.from, parsed.to) == (self.remote, self.local) {
                self.follow_sent(&parsed);
            }
        }
        let Some(mut frame) = self.end.tx_frame() else { panic!("the peer's own frames are used up") };
        frame.set_len(bytes.len());
        frame.copy_from_slice(bytes);
        self.end.tx_burst(self.now, &mut vec![frame]);
        self.turn();
    }

    fn follow_sent(&mut self, segment: &Parsed) {
        let at = segment.seq.wrapping_sub(self.setting.irs).wrapping_sub(1);
        let at = at.wrapping_add(u32::from(segment.flags & SYN != 0));
        self.sent.add(at, segment.payload.len());
        if segment.flags & FIN != 0 {
            self.fins.insert(at.wrapping_add(segment.payload.len() as u32));
        }
        if segment.flags & ACK != 0
            && let Some(iss) = self.iss
        {
            let ack = segment.ack.wrapping_sub(iss).wrapping_sub(1);
            if ack <= self.heard_end {
                let shift = if segment.flags & SYN != 0 { 0 } else { self.setting.shift.unwrap_or(0).min(14) };
                self.edge = self.edge.max(u64::from(ack) + (u64::from(segment.window) << shift));
                self.acknowledged = self.acknowledged.max(ack);
            }
        } else if segment.flags & SYN != 0 {
            self.edge = self.edge.max(segment.window.into());
        }
    }

    /// Turns the stack until it is quiet, and checks what it says.
    pub fn turn(&mut self) {
        let mut turns = 0;
        while self.stack.poll(self.now) || self.stack.flush_pending() {
            turns += 1;
            self.hear();
            assert!(turns < 1_000, "the stack does not come to rest");
        }
        self.hear();
        assert!(self.stack.timer_count() < 64, "{} timers", self.stack.timer_count());
    }

    fn hear(&mut self) {
        let mut frames = Vec::new();
        loop {
            self.end.rx_burst(self.now, &mut frames);
            if frames.is_empty() {
                return;
            }
            for frame in frames.drain(..) {
                let parsed = frame::parse(&frame).expect("what the stack sends can be read");
                assert!(parsed.checksums_hold);
                let flow_is_known = self.flow.is_none_or(|flow| self.stack.tcp_state(flow) != TcpState::Closed);
                if (parsed.from, parsed.to) == (self.local, self.remote) && flow_is_known && !self.closed {
                    self.clock = parsed.timestamp.or(self.clock);
                    self.echo = parsed.echo.unwrap_or(self.echo);
                    match self.flow {
                        Some(_) => self.check_heard(&parsed),
                        None => self.follow_opening(&parsed),
                    }
                }
                self.end.recycle(frame);
            }
        }
    }

    /// Where a flow stands that is not the model's.
    fn follow_opening(&mut self, segment: &Parsed) {
        if segment.flags & SYN != 0 {
            self.iss = Some(segment.seq);
            self.shift = segment.shift.filter(|_| self.setting.shift.is_some()).unwrap_or(0);
        }
        if segment.flags & ACK != 0 {
            (self.told_ack, self.told_edge) = (segment.ack, segment.ack.wrapping_add(segment.window.into()));
        }
    }

    /// Checks a segment of the flow's: its bytes are the application's, within the peer's window; its ACK is of bytes
    /// that were sent; its window does not shrink.
    fn check_heard(&mut self, segment: &Parsed) {
        if segment.flags & RST != 0 {
            return;
        }
        if segment.flags & SYN != 0 {
            self.iss.get_or_insert(segment.seq);
            self.shift = segment.shift.filter(|_| self.setting.shift.is_some()).unwrap_or(0);
        }
        let Some(iss) = self.iss else { return };
        let at = segment.seq.wrapping_sub(iss).wrapping_sub(u32::from(segment.flags & SYN == 0));
        let end = at.wrapping_add(segment.payload.len() as u32);
        if !segment.payload.is_empty() {
            assert!(end as usize <= self.written, "bytes that nobody has written: {segment:?}");
            let expected = (at as usize..end as usize).map(pattern);
            assert!(segment.payload.iter().copied().eq(expected), "wrong bytes: {segment:?}");
            // The probe of a closed window; and one that is taken back is used as finely as the peer's scale allows.
            let slack = 1 << self.setting.shift.unwrap_or(0).min(14);
            assert!(u64::from(end) <= self.edge + slack, "beyond the window's edge {}: {segment:?}", self.edge);
            let mss = self.setting.mss.filter(|&mss| mss > 0).unwrap_or(536).max(48);
            assert!(segment.payload.len() <= usize::from(mss.min(1460)), "too large: {segment:?}");
            self.heard.add(at, segment.payload.len());
        }
        let fin = segment.flags & FIN != 0;
        if fin {
            assert!(self.shut_write && end as usize == self.written, "a FIN at the wrong place: {segment:?}");
            self.fin_at = Some(end);
        }
        if fin || !segment.payload.is_empty() {
            self.heard_end = self.heard_end.max(end + u32::from(fin));
        }
        if segment.flags & ACK != 0 {
            self.check_told(segment);
        }
    }

    fn check_told(&mut self, segment: &Parsed) {
        let start = self.setting.irs.wrapping_add(1);
        let acknowledged = segment.ack.wrapping_sub(start) as usize;
        let of_fin = self.fins.contains(&(acknowledged as u32).wrapping_sub(1));
        let sent = self.sent.contiguous + usize::from(of_fin);
        assert!(acknowledged <= sent, "an ACK of {acknowledged} where {sent} were sent: {segment:?}");
        let (is_first, is_syn) = (self.told_edge == 0, segment.flags & SYN != 0);
        let edge = segment.ack.wrapping_add(u32::from(segment.window) << if is_syn { 0 } else { self.shift });
        let slack = 1 << self.shift;
        if !is_first {
            assert!(edge.wrapping_sub(self.told_edge) as i32 >= -slack, "the window has shrunk: {segment:?}");
            assert!(segment.ack.wrapping_sub(self.told_ack) as i32 >= 0, "the ACK has gone back: {segment:?}");
        }
        (self.told_ack, self.told_edge) = (segment.ack, edge);
    }

    /// Lets time pass.
    pub fn wait(&mut self, len: Duration) {
        let end = self.now + len;
        self.turn();
        while let Some(next) = self.stack.deadline().filter(|&next| next <= end) {
            self.now = next.max(self.now + Duration::from_micros(1));
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    pub fn state(&self) -> TcpState {
        self.flow.map_or(TcpState::Closed, |flow| self.stack.tcp_state(flow))
    }

    /// The application writes.
    pub fn write(&mut self, len: usize) {
        let Some(flow) = self.flow.filter(|_| !self.closed) else { return self.crowd.write(&mut self.stack, len) };
        let bytes: Vec<u8> = (self.written..self.written + len).map(pattern).collect();
        // Before the turn: a segment may leave within it.
        match self.stack.tcp_send(flow, &bytes) {
            Ok(len) => self.written += len,
            Err(Errno::EPIPE) => assert!(self.shut_write || self.state() == TcpState::Closed),
            Err(Errno::EAGAIN) => {}
            // The cause of its end, said once.
            Err(_) => self.cause_said = true,
        }
        self.turn();
    }

    /// The application reads, and checks what it gets.
    pub fn read(&mut self, len: usize) {
        let Some(flow) = self.flow.filter(|_| !self.closed) else {
            return self.crowd.read(&mut self.stack, self.listener);
        };
        let mut buf = vec![0; len.max(1)];
        match self.stack.tcp_recv(flow, &mut buf) {
            Ok(0) => {
                let is_end = self.fins.contains(&(self.read as u32)) || self.shut_read || self.cause_said;
                assert!(is_end, "the end of the stream after {} bytes, where no FIN was sent", self.read);
                self.read_over = !self.shut_read;
            }
            Ok(len) => {
                let start = self.setting.irs.wrapping_add(1).wrapping_add(self.read as u32);
                let expected = (0..len as u32).map(|next| pattern(start.wrapping_add(next) as usize));
                assert!(buf[..len].iter().copied().eq(expected), "wrong bytes after {}", self.read);
                self.read += len;
                assert!(self.read <= self.sent.contiguous && !self.read_over);
            }
            Err(Errno::EAGAIN) => {}
            Err(_) => self.cause_said = true,
        }
        self.turn();
    }

    pub fn set_options(&mut self, options: TcpOptions) {
        let Some(flow) = self.flow.filter(|_| !self.closed) else { return };
        self.stack.tcp_set_options(flow, in_line(options));
        self.turn();
    }

    pub fn shut(&mut self, how: How) {
        let Some(flow) = self.flow.filter(|_| !self.closed) else { return };
        if self.stack.tcp_shutdown(flow, how).is_ok() {
            self.shut_write |= how != How::Read;
            self.shut_read |= how != How::Write;
        }
        self.turn();
    }

    pub fn close(&mut self, reset: bool) {
        match self.flow.filter(|_| !self.closed) {
            Some(flow) => self.stack.tcp_close(flow, reset),
            None => self.crowd.close(&mut self.stack, reset),
        }
        self.closed |= self.flow.is_some();
        self.turn();
    }

    /// An honest peer takes over: both streams come to their ends, whatever was said before.
    pub fn finish(&mut self) {
        let is_closed = |rogue: &Rogue| rogue.closed || rogue.flow.is_none() || rogue.state() == TcpState::Closed;
        self.write(2_000);
        for _ in 0..4_000 {
            if is_closed(self) {
                break;
            }
            self.shut(How::Write);
            self.read(4_000);
            let fin = if self.read >= 3_000 && !self.peer_is_over() { FIN } else { 0 };
            let room = self.told_edge.wrapping_sub(self.told_ack).min(700) as usize;
            // A closed window is probed.
            let len = if self.peer_is_over() || fin != 0 { 0 } else { room.max(1) };
            self.say(self.honest(ACK | fin, len));
            self.wait(Duration::from_millis(500));
        }
        assert!(
            is_closed(self),
            "{:?}: read {} of {}, heard {} of {}",
            self.state(),
            self.read,
            self.sent.contiguous,
            self.heard.contiguous,
            self.written
        );
        self.close(false);
        self.crowd.close_all(&mut self.stack);
        if let Some(listener) = self.listener.take() {
            self.stack.tcp_unlisten(listener);
        }
        self.wait(Duration::from_secs(300));
        assert!(self.stack.is_idle() && self.stack.flow_count() == 0, "{} flows are left", self.stack.flow_count());
    }

    fn peer_is_over(&self) -> bool {
        matches!(self.state(), TcpState::CloseWait | TcpState::LastAck | TcpState::Closing)
    }
}

/// With urgent bytes among the others, where the model looks for them.
fn in_line(options: TcpOptions) -> TcpOptions {
    TcpOptions { urgent_inline: true, ..options }
}
