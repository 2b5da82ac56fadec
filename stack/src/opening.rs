//! Passive opens (RFC 9293, 3.10.7.2 and 3.10.7.4): from a SYN through the SYN queue, or a SYN cookie, to a flow.
//!
//! The front answers SYNs itself. A flow is made when the ACK of the SYN-ACK has come: its socket gets the SYN once
//! more, its own SYN-ACK goes nowhere, and then it gets that ACK. From then on `WireState` shifts its sequence numbers
//! by the difference between the two SYN-ACKs.

use crate::Instant;
use crate::answer::{self, EMPTY_PACKET_LEN_MAX};
use crate::flow::{Flow, Owner};
use crate::flow_table::FlowKey;
use crate::frame_device::FrameDevice;
use crate::isn;
use crate::limits::{BURST_FRAMES_MAX, SYN_COOKIE_LEN, WINDOW_SHIFT};
use crate::packet::{self, ACK, MSS_DEFAULT, RST, SYN, Segment};
use crate::rx::{Received, reply_header};
use crate::settings::Settings;
use crate::slab::Key;
use crate::socket::tcp::TcpOptions;
use crate::stack::Stack;
use crate::syn_cookie::{self, Offered};
use crate::syn_queue::{Due, HalfOpen, Standing, SynAck};
use crate::tcp_options::Options;
use crate::time_wait::after;
use crate::timestamps::Clock;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpTimestampRepr};

impl Stack {
    /// A SYN to a listener. `closed_at` is the SND.NXT of the flow in TIME-WAIT whose 4-tuple it takes over.
    ///
    /// As in Linux, it is ignored while the accept queue is full, and gets a cookie while the SYN queue is. It is ignored,
    /// too, while there is no memory for another flow.
    pub(crate) fn receive_syn(&mut self, key: Key, received: &Received<'_>, closed_at: Option<u32>, now: Instant) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        if listener.is_full() {
            self.counters.drop_backlog += 1;
            return;
        }
        let buffers_len = listener.options.receive_len() + listener.options.send_len();
        if !self.has_memory_for(buffers_len) {
            self.counters.drop_no_memory += 1;
            return;
        }
        let Some(listener) = self.listeners.get_mut(key) else { return };
        let overflows = listener.is_syn_queue_full() || self.syn_queue.is_full();
        let flow_key = &received.segment.key;
        let isn = self.secret.initial_sequence_number(flow_key, now);
        let isn = closed_at.map_or(isn, |snd_nxt| isn::later_than(isn, snd_nxt));
        let Some(mut half_open) = half_open(key, &listener.options, &self.settings, isn, received) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if overflows {
            listener.cookies_until = Some(now + SYN_COOKIE_LEN);
            if half_open.timestamp.is_none() {
                half_open.window_scale = None;
                half_open.sack_permitted = false;
            }
            let mss = half_open.mss.unwrap_or(MSS_DEFAULT);
            half_open.isn = syn_cookie::make(&self.secret, flow_key, half_open.irs, mss, now);
            self.counters.syn_queue_overflows += 1;
            self.counters.syn_cookies_sent += 1;
            let offered = Offered { window_scale: half_open.window_scale, sack_permitted: half_open.sack_permitted };
            let shown = Clock::of(flow_key, &self.secret).show_with(offered, now);
            return self.send_syn_ack(flow_key, &half_open, shown, now);
        }
        listener.half_open += 1;
        listener.syn_at = now;
        self.syn_queue.insert(*flow_key, half_open, now);
        self.answer_syn(flow_key, &half_open, now);
    }

    /// A segment for a half-open flow (RFC 9293, 3.10.7.4, in SYN-RECEIVED).
    pub(crate) fn receive_half_open(
        &mut self,
        Standing { half_open, syn_ack, needs_bytes }: Standing,
        received: Received<'_>,
        now: Instant,
    ) {
        let segment = &received.segment;
        let timestamp = Options::of(received.packet, segment).timestamp;
        let is_old = match (half_open.timestamp, timestamp) {
            (Some(recent), Some(timestamp)) => after(recent, timestamp.value),
            _ => false,
        };
        match judge(&half_open, segment, is_old) {
            Verdict::Ignore => {}
            Verdict::Refuse => self.refuse(&received, now),
            Verdict::Repeat => {
                self.counters.retransmissions += 1;
                self.answer_syn(&segment.key, &half_open, now);
            }
            Verdict::Acknowledge => self.acknowledge_half_open(&received, &half_open, now),
            Verdict::Reset => {
                self.counters.flows_reset += 1;
                self.leave_syn_queue(&segment.key, half_open.listener);
            }
            Verdict::Establish if needs_bytes && segment.sequence_len() == 0 => self.syn_queue.answer(&segment.key),
            Verdict::Establish => {
                let flow_key = segment.key;
                if self.establish(&half_open, received, syn_ack, now) {
                    self.leave_syn_queue(&flow_key, half_open.listener);
                }
            }
        }
    }

    /// A segment that belongs to nothing that we know of: the ACK of a cookie, or one to be refused (RFC 9293,
    /// 3.10.7.1 and 3.10.7.2).
    pub(crate) fn receive_stray(&mut self, received: Received<'_>, now: Instant) {
        match self.half_open_of_cookie(&received, now) {
            Some(half_open) => {
                let established = self.establish(&half_open, received, SynAck::Untimed, now);
                self.counters.syn_cookies_accepted += u64::from(established);
            }
            // It carries nothing that a listener would have to refuse.
            None if !received.segment.has(ACK) && self.listener_for(&received.segment).is_some() => {}
            None => self.refuse(&received, now),
        }
    }

    /// Who listens for the flow of a segment.
    pub(crate) fn listener_for(&self, segment: &Segment) -> Option<Key> {
        self.listeners.find(segment.key.local(), usize::from(segment.key.remote().port()))
    }

    /// Sends again what nobody has answered, and forgets whom that does not help. True if anything was due.
    pub(crate) fn expire_half_open(&mut self, now: Instant) -> bool {
        for sent in 0..BURST_FRAMES_MAX {
            match self.syn_queue.expire(now) {
                Some(Due::Resend(flow_key, half_open)) => {
                    self.counters.retransmissions += 1;
                    self.answer_syn(&flow_key, &half_open, now);
                }
                Some(Due::Over(half_open)) => self.one_less_half_open(half_open.listener),
                None => return sent > 0,
            }
        }
        true
    }

    pub(crate) fn leave_syn_queue(&mut self, flow_key: &FlowKey, listener: Key) {
        self.syn_queue.remove(flow_key);
        self.one_less_half_open(listener);
    }

    fn one_less_half_open(&mut self, listener: Key) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.half_open -= 1;
        }
    }

    /// What a cookie remembers of a SYN; only while its listener has had to send cookies, as in Linux, so that at
    /// other times nobody can open a flow by guessing.
    fn half_open_of_cookie(&self, received: &Received<'_>, now: Instant) -> Option<HalfOpen> {
        let segment = &received.segment;
        if !segment.has(ACK) || segment.has(SYN | RST) {
            return None;
        }
        let listener_key = self.listener_for(segment)?;
        let listener = self.listeners.get(listener_key)?;
        listener.cookies_until.filter(|&until| now < until)?;
        let (irs, isn) = (segment.seq.wrapping_sub(1), segment.ack.wrapping_sub(1));
        let mss = syn_cookie::check(&self.secret, &segment.key, irs, isn, now)?;
        let timestamp = Options::of(received.packet, segment).timestamp.filter(|_| self.settings.timestamps);
        let offered = timestamp.map(|timestamp| Clock::of(&segment.key, &self.secret).offered(timestamp.echo));
        Some(HalfOpen {
            listener: listener_key,
            irs,
            isn,
            window: segment.window,
            mss: Some(mss),
            window_scale: offered.and_then(|offered| offered.window_scale),
            sack_permitted: offered.is_some_and(|offered| offered.sack_permitted),
            timestamp: timestamp.map(|timestamp| timestamp.value),
            retries_max: 0,
            deferred_retries: 0,
            link: received.link,
            header_len: received.header.len() as u8,
            header: reply_header(received.header),
        })
    }

    /// Makes a flow of a half-open one, by the ACK of its SYN-ACK. False if there is no room for it now: the ACK is
    /// ignored, and the peer sends it, or its data, again (tcp(7): tcp_abort_on_overflow is off).
    fn establish(&mut self, half_open: &HalfOpen, received: Received<'_>, syn_ack: SynAck, now: Instant) -> bool {
        let flow_key = received.segment.key;
        let has_room = self.listeners.get(half_open.listener).is_some_and(|listener| !listener.is_full());
        let opened = if has_room { self.open_passive(half_open.listener, flow_key, received.link, now) } else { None };
        let Some(key) = opened else {
            self.counters.drop_backlog += 1;
            return false;
        };
        let at = if let SynAck::Once(at) = syn_ack { at } else { now };
        self.replay_syn(key, &flow_key, half_open, at);
        if let Some(flow) = self.flows.get_mut(key) {
            match syn_ack {
                SynAck::Once(_) => {}
                SynAck::Repeated => flow.loss.give_up_measuring(),
                SynAck::Untimed => {
                    flow.loss.give_up_measuring();
                    flow.wire.timestamps.forget_echoes(now);
                }
            }
        }
        self.deliver(key, received, now);
        let is_half_open = |flow: &Flow| matches!(flow.owner, Owner::HalfOpen(_));
        if self.flows.get(key).is_some_and(is_half_open) {
            // Nothing of the segment is in the window that the flow really has.
            self.remove_flow(key);
            return false;
        }
        true
    }

    /// Brings a listening socket to where the front stands: it gets the SYN, and its SYN-ACK goes nowhere. Both happen
    /// when our SYN-ACK went out, so that the round trip is measured from there.
    fn replay_syn(&mut self, key: Key, flow_key: &FlowKey, half_open: &HalfOpen, at: Instant) {
        let (remote, local) = (flow_key.remote(), flow_key.local());
        let syn = TcpRepr {
            control: TcpControl::Syn,
            window_len: half_open.window,
            max_seg_size: half_open.mss,
            window_scale: half_open.window_scale,
            sack_permitted: half_open.sack_permitted,
            timestamp: half_open.timestamp.map(|value| TcpTimestampRepr::new(value, 0)),
            ..answer::empty(remote, local, half_open.irs, None)
        };
        let ip = answer::ip_of(remote, local, &syn);
        let mut packet = [0; EMPTY_PACKET_LEN_MAX];
        let packet = &mut packet[..ip.buffer_len()];
        answer::emit(&ip, &syn, packet, &ChecksumCapabilities::ignored());
        let (Some(flow), Ok(mut segment)) = (self.flows.get_mut(key), packet::parse_own(packet)) else { return };
        let options = Options::of(packet, &segment);
        flow.wire.begin_at(half_open.isn, Clock::of(flow_key, &self.secret), flow.options.segment_max());
        flow.wire.received(packet, &mut segment, &options, 0, at);
        flow.loss.set_mss(flow.send_mss(self.interfaces[flow.interface].mtu));
        flow.loss.received(packet, &mut segment, &options, &flow.wire, at);
        self.ingress(key, &mut Received { link: half_open.link, header: half_open.header(), packet, segment }, at);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let mtu_interface = &mut self.interfaces[flow.interface];
        let mut device = FrameDevice { incoming: None, outgoing: &mut self.outgoing, mtu: mtu_interface.mtu };
        mtu_interface.interface.poll_egress(at, &mut device, flow.set());
        if let Some(Ok(mut segment)) = self.outgoing.packet().map(|syn_ack| packet::parse_own(syn_ack)) {
            let syn_ack = self.outgoing.packet_with_room();
            let room = flow.room(false);
            flow.sends(syn_ack, &mut segment, true, &room, &mut self.counters, at);
        }
        self.outgoing.lend(None, 0);
    }

    /// The SYN-ACK of a flow in the SYN queue.
    fn answer_syn(&mut self, flow_key: &FlowKey, half_open: &HalfOpen, now: Instant) {
        let shown = Clock::of(flow_key, &self.secret).show(now);
        self.send_syn_ack(flow_key, half_open, shown, now);
    }

    /// A SYN-ACK, with the options that smoltcp would send. It goes back the way that the SYN came: no route is
    /// asked for on behalf of somebody who may not exist.
    fn send_syn_ack(&mut self, flow_key: &FlowKey, half_open: &HalfOpen, shown: u32, now: Instant) {
        let (local, remote) = (flow_key.local(), flow_key.remote());
        let headers_len = if local.is_ipv4() { 20 + 20 } else { 40 + 20 };
        let link_mtu = self.ports[usize::from(half_open.link.0)].link.mtu();
        let mtu = self.mtu_towards(remote.ip(), link_mtu, now);
        let options = self.listeners.get(half_open.listener).map(|listener| &listener.options);
        let fields = options.copied().unwrap_or_default().ip_fields(&self.settings, local.is_ipv4());
        let segment_max = options.and_then(TcpOptions::segment_max);
        let mss = u16::try_from(mtu - headers_len).unwrap_or(u16::MAX);
        let tcp = TcpRepr {
            control: TcpControl::Syn,
            window_len: options.map_or(0, TcpOptions::first_window),
            max_seg_size: Some(mss.min(segment_max.unwrap_or(mss))),
            window_scale: half_open.window_scale.map(|_| WINDOW_SHIFT),
            sack_permitted: half_open.sack_permitted,
            timestamp: half_open.timestamp.map(|recent| TcpTimestampRepr::new(shown, recent)),
            ..answer::empty(local, remote, half_open.isn, Some(half_open.irs.wrapping_add(1)))
        };
        self.answer(half_open.link, half_open.header(), fields, flow_key, &tcp, now);
    }

    fn acknowledge_half_open(&mut self, received: &Received<'_>, half_open: &HalfOpen, now: Instant) {
        let flow_key = &received.segment.key;
        let (local, remote) = (flow_key.local(), flow_key.remote());
        let (seq, ack) = (half_open.isn.wrapping_add(1), half_open.irs.wrapping_add(1));
        let shown = Clock::of(flow_key, &self.secret).show(now);
        let timestamp = half_open.timestamp.map(|recent| TcpTimestampRepr::new(shown, recent));
        let tcp = TcpRepr { timestamp, ..answer::empty(local, remote, seq, Some(ack)) };
        self.answer(half_open.link, half_open.header(), self.fields_towards(received), flow_key, &tcp, now);
    }
}

/// What a SYN says, by smoltcp's own reading of its options. `None`: it cannot be read.
fn half_open(
    listener: Key,
    options: &TcpOptions,
    system: &Settings,
    isn: u32,
    received: &Received<'_>,
) -> Option<HalfOpen> {
    let segment = &received.segment;
    let bytes = &received.packet[usize::from(segment.tcp_start)..segment.packet_len()];
    let (source, destination) = (segment.key.remote().ip().into(), segment.key.local().ip().into());
    let tcp = TcpPacket::new_checked(bytes).ok()?;
    let syn = TcpRepr::parse(&tcp, &source, &destination, &ChecksumCapabilities::ignored()).ok()?;
    Some(HalfOpen {
        listener,
        irs: segment.seq,
        isn,
        window: segment.window,
        mss: syn.max_seg_size.map(|mss| mss.min(options.segment_max().unwrap_or(mss))),
        window_scale: syn.window_scale,
        sack_permitted: syn.sack_permitted,
        timestamp: syn.timestamp.filter(|_| system.timestamps).map(|timestamp| timestamp.tsval),
        retries_max: options.syn_ack_retries(system),
        deferred_retries: options.deferred_retries,
        link: received.link,
        header_len: received.header.len() as u8,
        header: reply_header(received.header),
    })
}

/// What a segment for a half-open flow calls for.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Ignore,
    /// A RST for it alone: its ACK is of something that we never sent.
    Refuse,
    /// The SYN-ACK again: the SYN came again.
    Repeat,
    /// An ACK of where we stand: it is out of the window, or a challenge (RFC 5961, 4.2).
    Acknowledge,
    /// The end of the half-open flow.
    Reset,
    /// A flow.
    Establish,
}

/// In the order of Linux's tcp_check_req(), but that a RST has to be exact (RFC 5961, 3.2). `is_old`: by its timestamp
/// (RFC 7323, 5.3).
fn judge(half_open: &HalfOpen, segment: &Segment, is_old: bool) -> Verdict {
    let rcv_nxt = half_open.irs.wrapping_add(1);
    let is_exact = segment.seq == rcv_nxt;
    let in_window = segment.seq.wrapping_sub(rcv_nxt) < u32::from(u16::MAX);
    if segment.has(RST) {
        if is_exact { Verdict::Reset } else { Verdict::Ignore }
    } else if segment.has(SYN) && !segment.has(ACK) && segment.seq == half_open.irs && !is_old {
        Verdict::Repeat
    } else if segment.has(ACK) && segment.ack != half_open.isn.wrapping_add(1) {
        Verdict::Refuse
    } else if is_old || !in_window || segment.has(SYN) {
        Verdict::Acknowledge
    } else if segment.has(ACK) {
        Verdict::Establish
    } else {
        Verdict::Ignore
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LINK_HEADER_LEN_MAX;
    use crate::outside::LinkId;
    use crate::packet::FIN;

    /// IRS 1000, ISN 5000.
    fn judged(flags: u8, seq: u32, ack: u32, payload_len: u16) -> Verdict {
        let half_open = HalfOpen {
            listener: Key::TEST,
            irs: 1000,
            isn: 5000,
            window: 0,
            mss: None,
            window_scale: None,
            sack_permitted: false,
            timestamp: None,
            retries_max: 0,
            deferred_retries: 0,
            link: LinkId(0),
            header_len: 0,
            header: [0; LINK_HEADER_LEN_MAX],
        };
        let key = FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 4000).into());
        judge(
            &half_open,
            &Segment { key, tcp_start: 20, payload_start: 40, payload_len, seq, ack, window: 0, flags },
            false,
        )
    }

    #[test]
    fn rfc9293_3_10_7_4_segment_arrives_in_syn_received() {
        assert_eq!(judged(SYN, 1000, 0, 0), Verdict::Repeat);
        assert_eq!(judged(SYN, 1001, 0, 0), Verdict::Acknowledge);
        assert_eq!(judged(SYN | ACK, 1001, 5001, 0), Verdict::Acknowledge);
        assert_eq!(judged(RST, 1001, 0, 0), Verdict::Reset);
        assert_eq!(judged(RST, 1002, 0, 0), Verdict::Ignore);
        assert_eq!(judged(RST | ACK, 1000, 5001, 0), Verdict::Ignore);
        assert_eq!(judged(ACK, 1001, 5000, 0), Verdict::Refuse);
        assert_eq!(judged(ACK, 1001, 5002, 0), Verdict::Refuse);
        assert_eq!(judged(ACK, 1000, 5001, 0), Verdict::Acknowledge);
        assert_eq!(judged(ACK, 1001 + 65_535, 5001, 0), Verdict::Acknowledge);
        assert_eq!(judged(0, 1001, 0, 10), Verdict::Ignore);
        assert_eq!(judged(ACK, 1001, 5001, 0), Verdict::Establish);
        assert_eq!(judged(ACK, 1001, 5001, 10), Verdict::Establish);
        assert_eq!(judged(FIN | ACK, 1001, 5001, 10), Verdict::Establish);
        assert_eq!(judged(ACK, 1011, 5001, 10), Verdict::Establish);
    }
}
