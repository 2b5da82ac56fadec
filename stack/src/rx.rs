//! The way in: a frame is parsed once, finds its flow in O(1), and goes through smoltcp with that flow's set alone.

use crate::Instant;
use crate::flow::Flow;
use crate::frame_device::FrameDevice;
use crate::limits::{ACK_DELAY, LINK_HEADER_LEN_MAX, PACKET_LEN_MAX};
use crate::link::{Frame, Link};
use crate::outside::LinkId;
use crate::packet::{self, ACK, Malformed, RST, SYN, Segment};
use crate::readiness::Readiness;
use crate::slab::Key;
use crate::stack::Stack;
use crate::time_wait::{Closed, Verdict};
use crate::wire_state::Admission;
use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// The parts of a received frame.
struct Received<'a> {
    link: LinkId,
    header: &'a [u8],
    packet: &'a mut [u8],
    segment: Segment,
}

/// What a flow looked like before something happened to it.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub state: State,
    pub recv_queue: usize,
    pub readiness: Readiness,
}

impl Before {
    pub(crate) fn of(flow: &Flow) -> Self {
        let socket = flow.socket();
        Before { state: socket.state(), recv_queue: socket.recv_queue(), readiness: flow.readiness() }
    }
}

impl Stack {
    /// Takes in one frame; packets that span several are put together first.
    pub(crate) fn receive(&mut self, link: LinkId, mut frame: Frame, now: Instant) {
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.len() as u64;
        let more = frame.more;
        let spans = more || !self.partial.is_empty();
        if !spans {
            self.receive_packet(link, &mut frame, now);
        } else if self.partial.len() + frame.len() <= PACKET_LEN_MAX {
            self.partial.extend_from_slice(&frame);
        }
        self.ports[usize::from(link.0)].link.recycle(frame);
        if spans && !more {
            let mut whole = std::mem::take(&mut self.partial);
            self.receive_packet(link, &mut whole, now);
            whole.clear();
            self.partial = whole;
        }
    }

    fn receive_packet(&mut self, link: LinkId, bytes: &mut [u8], now: Instant) {
        let parsed = packet::link_header_len(bytes).and_then(|len| Ok((len, packet::parse(&bytes[len..])?)));
        let (header_len, segment) = match parsed {
            Ok(parsed) => parsed,
            Err(Malformed::Header) => return self.counters.drop_malformed += 1,
            Err(Malformed::Checksum) => return self.counters.drop_checksum += 1,
        };
        let (header, packet) = bytes.split_at_mut(header_len);
        let received = Received { link, header, packet, segment };
        match self.flow_table.get(&segment.key) {
            Some(key) => self.deliver(key, received, now),
            None => self.receive_without_flow(received, now),
        }
    }

    /// Feeds a segment to its flow.
    fn deliver(&mut self, key: Key, mut received: Received<'_>, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let before = Before::of(flow);
        if before.state == State::SynReceived && self.holds_back_accept(key, &received.segment) {
            self.counters.drop_backlog += 1;
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.link = received.link;
        match flow.wire.received(received.packet, &mut received.segment) {
            Admission::Whole => {}
            Admission::Trimmed => self.counters.drop_beyond_window += 1,
            Admission::Beyond => return self.counters.drop_beyond_window += 1,
        }
        if flow.established && flow.loss.is_unsent(&received.segment) {
            self.counters.drop_malformed += 1;
            return;
        }
        let mtu = self.interfaces[flow.interface].mtu;
        if !flow.loss.received(received.packet, &mut received.segment, flow.wire.rcv_nxt, mtu, now) {
            return self.mark_received(key);
        }
        let is_reset = received.segment.has(RST);
        // A segment larger than the wire's came whole from a sender on this host (TSO), which may wait for its ACK.
        let is_large = usize::from(received.segment.payload_len) > mtu;
        flow.socket_mut().set_ack_delay((!is_large).then_some(ACK_DELAY));
        self.ingress(Some(key), received, now);
        self.settle(key, before, is_reset, now);
        self.mark_received(key);
    }

    /// Whether the ACK that would establish a half-open flow has to wait, because the accept queue is full (tcp(7):
    /// tcp_abort_on_overflow is off). The peer sends it, or its data, again.
    fn holds_back_accept(&self, key: Key, segment: &Segment) -> bool {
        use crate::flow::Owner;
        let Some(Flow { owner: Owner::HalfOpen(listener), .. }) = self.flows.get(key) else { return false };
        !segment.has(RST) && self.listeners.get(*listener).is_some_and(|listener| listener.is_full())
    }

    /// A segment of no flow: TIME-WAIT, a new connection, or a RST (RFC 9293, 3.10.7.1).
    fn receive_without_flow(&mut self, received: Received<'_>, now: Instant) {
        match self.time_wait.receive(&received.segment, now) {
            Some(Verdict::Ignore) => return,
            Some(Verdict::Acknowledge(closed)) => return self.acknowledge_closed(&received, closed, now),
            Some(Verdict::Over(closed)) => return self.claims.release_by_flow(closed.claim),
            Some(Verdict::Reopen(closed)) => self.claims.release_by_flow(closed.claim),
            None => {}
        }
        let segment = &received.segment;
        if !segment.has(SYN) || segment.has(ACK | RST) {
            return self.refuse(received, now);
        }
        let local = segment.key.local();
        let Some(listener_key) = self.listeners.find(local, usize::from(segment.key.remote().port())) else {
            return self.refuse(received, now);
        };
        let refuses = self.listeners.get(listener_key).is_none_or(|listener| listener.refuses_syn());
        if refuses {
            self.counters.drop_backlog += 1;
            return;
        }
        match self.open_passive(listener_key, segment.key, received.link, now) {
            Some(key) => self.deliver(key, received, now),
            None => self.counters.drop_backlog += 1,
        }
    }

    /// Answers a segment that nobody wants with a RST; smoltcp builds it.
    fn refuse(&mut self, received: Received<'_>, now: Instant) {
        if !received.segment.has(RST) {
            self.counters.resets_sent += 1;
            self.ingress(None, received, now);
        }
    }

    /// One packet through smoltcp, and out again what it answers at once.
    fn ingress(&mut self, key: Option<Key>, received: Received<'_>, now: Instant) {
        let port = &mut self.ports[usize::from(received.link.0)];
        let reply_header = reply_header(received.header);
        let header_len = received.header.len();
        let lent = port.link.tx_frame();
        let returned = self.outgoing.lend(lent, header_len);
        debug_assert!(returned.is_none());
        let flow = key.and_then(|key| self.flows.get_mut(key));
        let interface = flow.as_ref().map_or(0, |flow| flow.interface);
        let mtu_interface = &mut self.interfaces[interface];
        let incoming = &received.packet[..received.segment.packet_len()];
        let mut device = FrameDevice { incoming: Some(incoming), outgoing: &mut self.outgoing, mtu: mtu_interface.mtu };
        let set = flow.map_or(&mut self.no_sockets, Flow::set);
        mtu_interface.interface.poll_ingress_single(now, &mut device, set);
        self.send_outgoing(key, received.link, &reply_header[..header_len], now);
    }

    /// Answers for a flow in TIME-WAIT: an ACK of where it stands.
    fn acknowledge_closed(&mut self, received: &Received<'_>, closed: Closed, now: Instant) {
        let key = &received.segment.key;
        let tcp = TcpRepr {
            src_port: key.local().port(),
            dst_port: key.remote().port(),
            control: TcpControl::None,
            seq_number: TcpSeqNumber(closed.snd_nxt as i32),
            ack_number: Some(TcpSeqNumber(closed.rcv_nxt as i32)),
            window_len: u16::MAX,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (local, remote) = (key.local().ip(), key.remote().ip());
        let ip = IpRepr::new(local.into(), remote.into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
        let lent = self.ports[usize::from(received.link.0)].link.tx_frame();
        self.outgoing.lend(lent, received.header.len());
        let checksums = ChecksumCapabilities::default();
        (&mut self.outgoing).consume(ip.buffer_len(), |packet| {
            ip.emit(&mut *packet, &checksums);
            let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
            tcp.emit(&mut segment, &local.into(), &remote.into(), &checksums);
        });
        let header = reply_header(received.header);
        self.send_outgoing(None, received.link, &header[..received.header.len()], now);
    }
}

/// The Ethernet header of an answer to whoever sent a frame: the same tag and type, the addresses exchanged.
fn reply_header(header: &[u8]) -> [u8; LINK_HEADER_LEN_MAX] {
    let mut reply = [0; LINK_HEADER_LEN_MAX];
    reply[..header.len()].copy_from_slice(header);
    reply[..6].copy_from_slice(&header[6..12]);
    reply[6..12].copy_from_slice(&header[..6]);
    reply
}
