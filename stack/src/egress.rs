//! The way out: what a flow has to say goes through smoltcp into a free frame, and onto its link.

use crate::Errno;
use crate::Instant;
use crate::flow::Owner;
use crate::frame_device::{Finished, FrameDevice};
use crate::limits::{RESOLVE_LEN, RESOLVE_RETRY, SEGMENTS_PER_EGRESS, UNREACHABLE_RETRY};
use crate::link::{Frame, Link};
use crate::outside::{Hop, LinkId, NextHop};
use crate::packet;
use crate::rx::Before;
use crate::slab::Key;
use crate::stack::Stack;
use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;

/// How the sending of one segment went.
enum Sent {
    /// It is on its way.
    Yes,
    /// The flow has nothing to say now; the timer wheel knows when it will.
    Nothing,
    /// It has, but not now: no next hop yet. The timer wheel asks again.
    Later,
    /// It has, but there is no free frame.
    NoFrame,
}

impl Stack {
    /// Sends what a flow has to say, then sees whether it is over.
    pub(crate) fn egress(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.dirty = false;
        // Only with TCP_NOTSENT_LOWAT does it count for a writer whether bytes have left.
        let before = flow.options.notsent_lowat(&flow.system).map(|_| Before::of(flow));
        self.widen_path_if_due(key, now);
        let mut sent = Sent::Yes;
        for _ in 0..SEGMENTS_PER_EGRESS {
            sent = self.egress_one(key, now);
            if !matches!(sent, Sent::Yes) {
                break;
            }
        }
        if let Some(before) = before {
            self.report(key, before);
        }
        if matches!(sent, Sent::Yes | Sent::NoFrame) {
            if let Some(flow) = self.flows.get_mut(key)
                && !flow.dirty
            {
                flow.dirty = true;
                self.unfinished.push(key);
            }
            return;
        }
        self.bury_if_over(key, now);
    }

    fn egress_one(&mut self, key: Key, now: Instant) -> Sent {
        let Some(flow) = self.flows.get_mut(key) else { return Sent::Nothing };
        if flow.silent {
            return Sent::Nothing;
        }
        if flow.is_fin_pending {
            flow.close_send();
        }
        let due = flow.due().map(|(at, _)| at);
        let rewinds = flow.recovers() && flow.loss.wants_rewind(now);
        if flow.loss.take_stuck() {
            self.suspect_black_hole(key, now);
        }
        let Some(flow) = self.flows.get_mut(key) else { return Sent::Nothing };
        let loss_at = if flow.recovers() { flow.loss.deadline() } else { None };
        let may_wait = !flow.options.nodelay && !flow.urgent.is_sending(flow.wire.snd_una());
        let nagle = flow.loss.nagle(may_wait, flow.socket().send_queue());
        flow.socket_mut().set_nagle_enabled(nagle);
        let poll_at = self.poll_at(key, now);
        let deadlines = [due, loss_at];
        if !rewinds && poll_at.is_none_or(|poll_at| poll_at > now) {
            if self.flows.get(key).is_some_and(|flow| flow.wire.window.is_due()) {
                return self.acknowledge_alone(key, now);
            }
            self.arm_first(key, deadlines.into_iter().chain([poll_at]));
            return Sent::Nothing;
        }
        let Some(next_hop) = self.next_hop_of(key, now) else { return Sent::Later };
        let Some(flow) = self.flows.get_mut(key) else { return Sent::Nothing };
        let link = flow.link;
        let Some(frame) = self.free_frame(link, now) else { return Sent::NoFrame };
        let header = &next_hop.header[..usize::from(next_hop.header_len)];
        let returned = self.outgoing.lend(Some(frame), header.len());
        debug_assert!(returned.is_none());
        let Some(flow) = self.flows.get_mut(key) else { return Sent::Nothing };
        let mtu_interface = &mut self.interfaces[flow.interface];
        let mut device = FrameDevice { incoming: None, outgoing: &mut self.outgoing, mtu: mtu_interface.mtu };
        let clock = if rewinds { flow.loss.rewind(now) } else { now };
        let result = mtu_interface.interface.poll_egress(clock, &mut device, flow.set());
        self.send_outgoing(Some((key, false)), link, header, now);
        match result {
            PollResult::SocketStateChanged => Sent::Yes,
            // What it had to say was nothing after all; the next look arms the timer.
            PollResult::None if rewinds => Sent::Yes,
            PollResult::None => {
                // As for a retransmission that finds the window closed. Whatever smoltcp wants next, not now.
                let poll_at = self.poll_at(key, now).filter(|&poll_at| poll_at > now);
                self.arm_first(key, deadlines.into_iter().chain([poll_at]));
                Sent::Nothing
            }
        }
    }

    /// When smoltcp wants to be asked.
    fn poll_at(&mut self, key: Key, now: Instant) -> Option<Instant> {
        let flow = self.flows.get_mut(key).filter(|flow| !flow.has_sent_last_syn() && !flow.is_waiting_out())?;
        self.interfaces[flow.interface].interface.poll_at(now, flow.set())
    }

    fn arm_first(&mut self, key: Key, deadlines: impl Iterator<Item = Option<Instant>>) {
        if let Some(deadline) = deadlines.flatten().min() {
            self.arm(key, deadline);
        }
    }

    /// Sends an ACK that smoltcp knows nothing of, with the window that there is now.
    fn acknowledge_alone(&mut self, key: Key, now: Instant) -> Sent {
        let Some(next_hop) = self.next_hop_of(key, now) else { return Sent::Later };
        let is_scarce = self.buffers.is_scarce();
        let Some(flow) = self.flows.get_mut(key) else { return Sent::Nothing };
        let room = flow.room(is_scarce);
        let rcv_nxt = flow.wire.rcv_nxt;
        flow.wire.window.widen(rcv_nxt, &room);
        let (flow_key, link, ack) = (flow.key, flow.link, flow.wire.bare_ack(&flow.key, now));
        let fields = flow.ip_fields();
        flow.acks.sent(false, now);
        self.answer(link, &next_hop.header[..usize::from(next_hop.header_len)], fields, &flow_key, &ack, now);
        Sent::Yes
    }

    /// A free frame of a link; where there is none, one kick may bring some back.
    pub(crate) fn free_frame(&mut self, link: LinkId, now: Instant) -> Option<Frame> {
        let port = &mut self.ports[usize::from(link.0)];
        if let Some(frame) = port.link.tx_frame() {
            return Some(frame);
        }
        port.flush(now, &mut self.counters);
        let frame = port.link.tx_frame();
        self.counters.drop_no_frame += u64::from(frame.is_none());
        frame
    }

    /// Sends the packet that smoltcp has written, if it has, and takes back the frame if it has not. `of`: whose it is,
    /// and whether it answers a segment.
    ///
    /// Where no frame was lent the packet is lost, as on a full queue of the kernel's.
    pub(crate) fn send_outgoing(&mut self, of: Option<(Key, bool)>, link: LinkId, header: &[u8], now: Instant) {
        let port = &mut self.ports[usize::from(link.0)];
        if let Some(packet) = self.outgoing.packet() {
            if let Some((key, is_answer)) = of
                && let (Some(flow), Ok(mut segment)) = (self.flows.get_mut(key), packet::parse_own(packet))
            {
                let (packet, room) = (self.outgoing.packet_with_room(), flow.room(self.buffers.is_scarce()));
                if !flow.sends(packet, &mut segment, is_answer, &room, &mut self.counters, now) {
                    return self.outgoing.lend(None, 0).into_iter().for_each(|frame| port.link.recycle(frame));
                }
                self.outgoing.set_packet_len(segment.packet_len());
                if flow.may_fragment() {
                    self.identification = self.identification.wrapping_add(1);
                    packet::allow_fragments(self.outgoing.packet_with_room(), self.identification);
                }
            }
            let queued = match self.outgoing.finish(header) {
                Some(Finished::Frame(frame)) => port.push(frame, now, &mut self.counters),
                Some(Finished::Jumbo { bytes, first }) => port.push_jumbo(bytes, first, now, &mut self.counters),
                None => false,
            };
            self.counters.drop_no_frame += u64::from(!queued);
        }
        if let Some(frame) = self.outgoing.lend(None, 0) {
            port.link.recycle(frame);
        }
    }

    /// The flow's next hop, asked for when it has none, when the routes have changed, and while the peer does not answer:
    /// then the kernel is to see that the neighbour is in use, and confirm it. `None`: not yet, or never; then the
    /// timer wheel or the flow's cause knows.
    pub(crate) fn next_hop_of(&mut self, key: Key, now: Instant) -> Option<NextHop> {
        let flow = self.flows.get_mut(key)?;
        let generation = self.routes.generation();
        if let Some((next_hop, known)) = flow.next_hop
            && known == generation
            && !flow.loss.is_backed_off()
        {
            return Some(next_hop);
        }
        let (local, remote) = (flow.key.local().ip(), flow.key.remote().ip());
        match self.routes.next_hop(Some(local), remote, now) {
            Hop::Ready(next_hop) => {
                self.set_next_hop(key, next_hop, generation);
                Some(next_hop)
            }
            Hop::Resolving(_) => {
                let since = *flow.resolving_since.get_or_insert(now);
                if now >= since + RESOLVE_LEN {
                    self.unreachable(key, Errno::EHOSTUNREACH);
                } else {
                    self.retry_next_hop(key, now);
                }
                None
            }
            Hop::Unreachable(errno) => {
                self.unreachable(key, errno);
                None
            }
            Hop::Kernel => {
                // The route has moved to an interface that is not ours: nothing that we could send would arrive.
                self.unreachable(key, Errno::ENETUNREACH);
                None
            }
        }
    }

    fn set_next_hop(&mut self, key: Key, next_hop: NextHop, generation: u64) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.next_hop = Some((next_hop, generation));
        flow.resolving_since = None;
        let on_link = self.ports.get(usize::from(flow.link.0)).is_some_and(|port| port.interface == next_hop.interface);
        if !on_link && let Some(link) = self.ports.iter().position(|port| port.interface == next_hop.interface) {
            flow.link = LinkId(link as u16);
        }
        self.fit_mtu(key, next_hop.mtu.into(), self.now);
    }

    /// No way to the peer. That ends a connect(2); an open flow goes on trying, as on Linux.
    fn unreachable(&mut self, key: Key, errno: Errno) {
        self.counters.drop_no_next_hop += 1;
        let now = self.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.resolving_since = None;
        flow.patience.blocked(now);
        // As in Linux: of a missing route IPv4 remembers nothing; a neighbour's silence is an ICMP error of this host's.
        if errno == Errno::EHOSTUNREACH || flow.key.remote().is_ipv6() {
            flow.soft_error = Some(errno);
        }
        match flow.socket().state() {
            State::SynSent => self.fail(key, errno),
            State::Closed if flow.owner == Owner::Nobody => {
                flow.silent = true;
            }
            _ => self.arm(key, now + UNREACHABLE_RETRY),
        }
    }

    fn retry_next_hop(&mut self, key: Key, now: Instant) {
        self.arm(key, now + RESOLVE_RETRY);
        self.routes.refresh(now);
    }
}
