//! The way in: a frame is parsed once, finds its flow in O(1), and goes through smoltcp with that flow's set alone.

use crate::acceptance::{self, Acceptance};
use crate::flow::Flow;
use crate::frame_device::FrameDevice;
use crate::icmp;
use crate::limits::{ACK_DELAY, LINK_HEADER_LEN_MAX, PACKET_LEN_MAX};
use crate::link::{Frame, Link};
use crate::outside::LinkId;
use crate::packet::{self, ACK, FIN, Malformed, RST, SYN, Segment};
use crate::readiness::Readiness;
use crate::slab::Key;
use crate::socket::ip::IpFields;
use crate::stack::Stack;
use crate::tcp_options::Options;
use crate::time_wait::{Closed, Verdict, after};
use crate::timestamps::Clock;
use crate::wire_state::{Admission, WireState};
use crate::{Duration, Errno, Instant, answer, datagram};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{TcpRepr, TcpTimestampRepr};
use std::net::{IpAddr, SocketAddr};

/// The bits of a TOS or traffic class that are congestion's (RFC 3168, 5).
const ECN_MASK: u8 = 3;

/// The parts of a received frame.
pub(crate) struct Received<'a> {
    pub link: LinkId,
    pub header: &'a [u8],
    pub packet: &'a mut [u8],
    pub segment: Segment,
}

/// What a flow looked like before something happened to it.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub state: State,
    pub recv_queue: usize,
    pub readiness: Readiness,
    pub rcv_nxt: u32,
}

impl Before {
    pub(crate) fn of(flow: &Flow) -> Self {
        let socket = flow.socket();
        Before {
            state: socket.state(),
            recv_queue: socket.recv_queue(),
            readiness: flow.readiness(),
            rcv_nxt: flow.wire.rcv_nxt,
        }
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
        match self.dispatch(link, bytes, now) {
            Ok(()) => {}
            Err(Malformed::Header) => self.counters.drop_malformed += 1,
            Err(Malformed::Checksum) => self.counters.drop_checksum += 1,
        }
    }

    fn dispatch(&mut self, link: LinkId, bytes: &mut [u8], now: Instant) -> Result<(), Malformed> {
        let (header, packet) = bytes.split_at_mut(packet::link_header_len(bytes)?);
        if icmp::is_icmp(packet) {
            self.receive_error(&icmp::parse(packet)?, now);
            return Ok(());
        }
        if datagram::is_datagram(packet) {
            self.receive_datagram(link, packet, &datagram::parse(packet)?);
            return Ok(());
        }
        let segment = packet::parse(packet)?;
        let received = Received { link, header, packet, segment };
        match self.flow_table.get(&segment.key) {
            Some(key) => self.deliver(key, received, now),
            None => self.receive_without_flow(received, now),
        }
        Ok(())
    }

    /// Feeds a segment to its flow.
    pub(crate) fn deliver(&mut self, key: Key, mut received: Received<'_>, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let before = Before::of(flow);
        if before.state == State::Closed {
            // Only its owner still has it: the 4-tuple is nobody's (RFC 9293, 3.10.7.1).
            self.flow_table.remove(&received.segment.key, key);
            return self.receive_without_flow(received, now);
        }
        let options = Options::of(received.packet, &received.segment);
        let una = flow.wire.snd_una();
        match acceptance::accept(&flow.wire, before.state, &received.segment, options.timestamp, now) {
            Acceptance::Take => {}
            verdict => return self.turn_away(key, verdict, &received, now),
        }
        if flow.refuses_bytes() && has_new_bytes(&flow.wire, &received.segment) {
            self.refuse(&received, now);
            self.fail(key, Errno::ECONNRESET);
            return self.bury_if_over(key, now);
        }
        options.clear_unreadable(received.packet, &received.segment);
        flow.link = received.link;
        let has_bytes = received.segment.payload_len > 0;
        if flow.is_asleep() && !received.segment.has(RST) && !self.wake(key) && has_bytes {
            return self.counters.drop_no_memory += 1;
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        let socket = flow.socket();
        let free = (socket.recv_capacity() - socket.recv_queue()) as u32;
        let admission = flow.wire.received(received.packet, &mut received.segment, &options, free, now);
        if admission != Admission::Whole {
            self.counters.drop_beyond_window += 1;
        }
        flow.patience.heard(&flow.wire, now);
        flow.tally.received(&received.segment, flow.wire.sack.is_unanswered());
        if before.state != State::SynReceived {
            flow.tally.bytes_acked += u64::from(flow.wire.snd_una().wrapping_sub(una));
        }
        flow.soft_error = None;
        if received.segment.has(SYN) {
            flow.loss.set_mss(flow.send_mss(self.interfaces[flow.interface].mtu));
        }
        if !flow.loss.received(received.packet, &mut received.segment, &options, &flow.wire, now) {
            return self.mark_received(key);
        }
        let is_reset = received.segment.has(RST);
        // A segment larger than the wire's came whole from a sender on this host (TSO), which may wait for its ACK.
        let link_mtu = self.ports[usize::from(received.link.0)].link.mtu();
        let is_large = usize::from(received.segment.payload_len) > link_mtu;
        let ack_delay = if has_bytes { flow.acks.received(now) } else { Some(ACK_DELAY) };
        // Not None: smoltcp would leave a timer alone that runs already, and every second segment unanswered till then.
        flow.socket_mut().set_ack_delay(Some(ack_delay.filter(|_| !is_large).unwrap_or(Duration::ZERO)));
        flow.receive_urgent(received.packet, &received.segment);
        self.ingress(key, &mut received, now);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.follow_taken(&before);
            flow.pass_mark();
            if flow.wire.sack.is_unanswered() || admission == Admission::Beyond {
                self.acknowledge(key, &received, now);
            }
        }
        self.settle(key, before, is_reset, now);
        self.note_use(key);
        self.mark_received(key);
    }

    /// A segment of no flow: TIME-WAIT, a new connection, or a RST (RFC 9293, 3.10.7.1).
    fn receive_without_flow(&mut self, received: Received<'_>, now: Instant) {
        if ![received.segment.key.local(), received.segment.key.remote()].into_iter().all(is_one_host) {
            return self.counters.drop_malformed += 1;
        }
        if let Some(standing) = self.syn_queue.get(&received.segment.key) {
            return self.receive_half_open(standing, received, now);
        }
        let mut closed_at = None;
        let timestamp = Options::of(received.packet, &received.segment).timestamp;
        match self.time_wait.receive(&received.segment, timestamp, now) {
            Some(Verdict::Ignore) => return,
            Some(Verdict::Acknowledge(closed)) => return self.acknowledge_closed(&received, closed, now),
            Some(Verdict::Over(closed)) => return self.claims.release_by_flow(closed.claim),
            Some(Verdict::Reopen(closed)) => {
                closed_at = Some(closed.snd_nxt);
                self.claims.release_by_flow(closed.claim);
            }
            None => {}
        }
        let segment = &received.segment;
        if !segment.has(SYN) || segment.has(ACK | RST) {
            return self.receive_stray(received, now);
        }
        match self.listener_for(segment) {
            // Nobody opens like that; as Linux does.
            Some(_) if segment.has(FIN) => self.counters.drop_malformed += 1,
            Some(listener) => self.receive_syn(listener, &received, closed_at, now),
            None => self.refuse(&received, now),
        }
    }

    /// Answers a segment that nobody wants.
    pub(crate) fn refuse(&mut self, received: &Received<'_>, now: Instant) {
        if !received.segment.has(RST) {
            self.counters.resets_sent += 1;
            self.reply(received, self.fields_towards(received), &answer::reset(&received.segment), now);
        }
    }

    /// One packet through smoltcp, and out again what it answers at once.
    pub(crate) fn ingress(&mut self, key: Key, received: &mut Received<'_>, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.wire.translate_in(received.packet, &mut received.segment);
        let port = &mut self.ports[usize::from(received.link.0)];
        let reply_header = reply_header(received.header);
        let header_len = received.header.len();
        let lent = port.link.tx_frame();
        let returned = self.outgoing.lend(lent, header_len);
        debug_assert!(returned.is_none());
        let mtu_interface = &mut self.interfaces[flow.interface];
        let incoming = &received.packet[..received.segment.packet_len()];
        let mut device = FrameDevice { incoming: Some(incoming), outgoing: &mut self.outgoing, mtu: mtu_interface.mtu };
        mtu_interface.interface.poll_ingress_single(now, &mut device, flow.set());
        self.send_outgoing(Some((key, true)), received.link, &reply_header[..header_len], now);
    }

    /// Drops a segment that is not acceptable, and says where the flow stands if that is called for and allowed.
    fn turn_away(&mut self, key: Key, verdict: Acceptance, received: &Received<'_>, now: Instant) {
        self.counters.drop_unacceptable += 1;
        let Some(flow) = self.flows.get_mut(key) else { return };
        match verdict {
            Acceptance::Challenge if self.challenge_acks.take(&mut flow.challenged_at, now) => {
                self.counters.challenge_acks_sent += 1;
                self.acknowledge(key, received, now);
            }
            // As in Linux: bytes are sent again only so often as their sender's timer allows.
            Acceptance::Old if received.segment.sequence_len() > 0 => {
                flow.wire.came_twice(&received.segment);
                self.acknowledge(key, received, now);
                // It may have probed a window that was not opened by itself: that of who reads no more (SHUT_RD).
                self.offer_room(key);
            }
            Acceptance::Old if acceptance::is_spaced(flow.challenged_at, now) => {
                flow.challenged_at = Some(now);
                self.acknowledge(key, received, now);
            }
            _ => {}
        }
    }

    /// Says to whom a segment came from where its flow stands.
    fn acknowledge(&mut self, key: Key, received: &Received<'_>, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let stands = flow.wire.bare_ack(&flow.key, now);
        flow.tally.answered();
        let fields = flow.ip_fields();
        self.reply(received, fields, &stands, now);
    }

    /// Answers for a flow in TIME-WAIT: an ACK of where it stands.
    fn acknowledge_closed(&mut self, received: &Received<'_>, closed: Closed, now: Instant) {
        let key = &received.segment.key;
        let ack = answer::empty(key.local(), key.remote(), closed.snd_nxt, Some(closed.rcv_nxt));
        let shown = Clock::of(key, &self.secret).show(now);
        let timestamp = closed.recent.map(|recent| TcpTimestampRepr::new(shown, recent));
        let hop_limit = self.settings.hop_limit(key.local().is_ipv4());
        let fields = IpFields { traffic_class: closed.traffic_class, hop_limit };
        self.reply(received, fields, &TcpRepr { timestamp, ..ack }, now);
    }

    /// The fields of IP's for an answer on nobody's behalf: as Linux, the class of what is answered, but for ECN's bits.
    pub(crate) fn fields_towards(&self, received: &Received<'_>) -> IpFields {
        let hop_limit = self.settings.hop_limit(received.segment.key.local().is_ipv4());
        IpFields { traffic_class: packet::traffic_class(received.packet) & !ECN_MASK, hop_limit }
    }

    /// Sends a segment back to where one came from.
    fn reply(&mut self, received: &Received<'_>, fields: IpFields, tcp: &TcpRepr<'_>, now: Instant) {
        let header = reply_header(received.header);
        self.answer(received.link, &header[..received.header.len()], fields, &received.segment.key, tcp, now);
    }
}

/// Whether a segment brings bytes that the flow has not had.
fn has_new_bytes(wire: &WireState, segment: &Segment) -> bool {
    let end = segment.seq.wrapping_add(segment.payload_len.into());
    segment.payload_len > 0 && after(end, wire.rcv_nxt)
}

/// Whether an address can be one host's, so that it may be talked to (RFC 9293, 3.9.2.3). Of subnets' broadcast addresses
/// only the kernel knows.
fn is_one_host(endpoint: SocketAddr) -> bool {
    match endpoint.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    }
}

/// The Ethernet header of an answer to whoever sent a frame: the same tag and type, the addresses exchanged.
pub(crate) fn reply_header(header: &[u8]) -> [u8; LINK_HEADER_LEN_MAX] {
    let mut reply = [0; LINK_HEADER_LEN_MAX];
    reply[..header.len()].copy_from_slice(header);
    reply[..6].copy_from_slice(&header[6..12]);
    reply[6..12].copy_from_slice(&header[..6]);
    reply
}
