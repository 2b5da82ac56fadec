//! Other buffers for an open flow: it moves to a new smoltcp socket, which lives through a handshake and all that counts
//! of the old one's life once more. Nothing of that goes onto the wire.
//!
//! smoltcp's buffers can be neither resized nor taken out. But its sequence numbers are shifted on the wire
//! (`WireState`) as in a passive open, so the new socket can begin wherever the flow stands: its first byte to be read
//! is the first unread one, its first byte to be sent the first unacknowledged one. It is made to send, into nothing,
//! just what the old one has sent, so that `Loss` and the timers notice no difference.

use crate::Instant;
use crate::answer;
use crate::buffers::Need;
use crate::flow::{Flow, has_peer_closed};
use crate::frame_device::FrameDevice;
use crate::kernel::arena::Region;
use crate::kernel::lent_socket::Ring;
use crate::packet;
use crate::slab::Key;
use crate::stack::Stack;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpListenEndpoint, TcpControl, TcpRepr, TcpTimestampRepr};

/// Bytes that are fed at once: less than the largest packet.
const PIECE_LEN: usize = 32 << 10;

/// What stood in the old socket.
struct Old {
    state: State,
    /// Where the bytes stand that are to be read, and those to be sent or acknowledged.
    rings: [Ring; 2],
    memory: [Region; 2],
}

impl Flow {
    /// Whether it can move: its state can be reached again by what is known of it, nothing is missing between bytes that
    /// it has received, which only smoltcp knows of, and no window is being probed.
    pub fn can_move(&self) -> bool {
        let (state, queued) = (self.socket().state(), self.socket().send_queue());
        let is_reachable = match state {
            State::Established | State::CloseWait => self.loss.told() > 0 || queued == 0,
            State::FinWait1 => queued == 0,
            State::FinWait2 => true,
            _ => false,
        };
        self.established && is_reachable && !self.wire.has_hole()
    }
}

impl Stack {
    /// Gives a flow buffers of these lengths, which hold what is in the old ones. False if it cannot move now or if there
    /// is no memory: then nothing has changed.
    pub(crate) fn rebuild(&mut self, key: Key, receive_len: usize, send_len: usize, need: Need) -> bool {
        let now = self.now;
        if !self.flows.get(key).is_some_and(Flow::can_move) {
            return false;
        }
        let Some([receive, send]) = self.buffers.take_both(receive_len, send_len, need) else { return false };
        self.agree(key, now);
        let Some(flow) = self.flows.get_mut(key) else { return false };
        let (state, rings) = (flow.socket().state(), flow.rings());
        let memory = flow.replace_socket((receive, receive_len), (send, send_len));
        let old = Old { state, rings, memory };
        self.live_through(key, &old, now);
        self.buffers.give_back_all(old.memory);
        self.counters.buffers_changed += 1;
        if let Some(flow) = self.flows.get_mut(key)
            && flow.wire.window.owes_ack(flow.wire.rcv_nxt)
        {
            // The delay was the old socket's.
            flow.wire.window.set_due();
            self.mark_dirty(key);
        }
        true
    }

    /// Makes sure that smoltcp has heard of the latest ACK: it takes none of a segment that is out of the window.
    fn agree(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.socket().send_queue() > 0 {
            let (seq, una, window) = (flow.wire.rcv_nxt, flow.loss.una(), flow.loss.told());
            let ack = una.wrapping_sub(flow.wire.delta);
            self.feed(key, TcpControl::None, seq, Some(ack), window, &[], now);
        }
    }

    fn live_through(&mut self, key: Key, old: &Old, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let ([received, sending], [receive, send]) = (&old.rings, &old.memory);
        let peer_closed = has_peer_closed(old.state);
        let first_unread = flow.wire.rcv_nxt.wrapping_sub(received.len() as u32 + u32::from(peer_closed));
        let (una, told, passed_len) = (flow.loss.una(), flow.loss.told(), flow.loss.passed_len() as usize);
        let passed = passed_len.min(sending.len());
        let Some(mut ack) = self.shake_hands(key, first_unread, una, old.state, now) else { return };

        self.enqueue(key, sending.of(send, 0, passed));
        self.drain(key, now);
        if matches!(old.state, State::FinWait1 | State::FinWait2) {
            self.close(key);
            if old.state == State::FinWait2 || passed_len > 0 {
                self.drain(key, now);
            }
            if old.state == State::FinWait2 {
                ack = ack.wrapping_add(1);
                self.feed(key, TcpControl::None, first_unread, Some(ack), u16::MAX, &[], now);
            }
        }
        let mut seq = first_unread;
        for part in received.of(receive, 0, received.len()) {
            for piece in part.chunks(PIECE_LEN) {
                self.feed(key, TcpControl::None, seq, Some(ack), u16::MAX, piece, now);
                seq = seq.wrapping_add(piece.len() as u32);
            }
        }
        if peer_closed {
            self.feed(key, TcpControl::Fin, seq, Some(ack), u16::MAX, &[], now);
            seq = seq.wrapping_add(1);
        }
        self.drain(key, now);
        self.enqueue(key, sending.of(send, passed, sending.len()));
        if told != u16::MAX {
            self.feed(key, TcpControl::None, seq, Some(ack), told, &[], now);
        }
        debug_assert!(self.flows.get(key).is_some_and(|flow| {
            let socket = flow.socket();
            (socket.state(), socket.recv_queue(), socket.send_queue()) == (old.state, received.len(), sending.len())
        }));
    }

    /// Opens the new socket passively. Returns smoltcp's number of the wire's SND.UNA.
    fn shake_hands(&mut self, key: Key, first_unread: u32, una: u32, state: State, now: Instant) -> Option<u32> {
        let flow = self.flows.get_mut(key)?;
        let local = flow.key.local();
        let endpoint = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
        let socket = flow.socket_mut();
        let listening = socket.listen(endpoint);
        debug_assert!(listening.is_ok());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        self.feed(key, TcpControl::Syn, first_unread.wrapping_sub(1), None, u16::MAX, &[], now);
        let first = self.drain(key, now)?.wrapping_add(1);
        self.feed(key, TcpControl::None, first_unread, Some(first), u16::MAX, &[], now);
        let flow = self.flows.get_mut(key)?;
        // A FIN that is acknowledged has yet to be sent.
        let ours = una.wrapping_sub(u32::from(state == State::FinWait2));
        flow.wire.delta = ours.wrapping_sub(first);
        Some(first)
    }

    /// Has smoltcp receive a segment, in its own numbers.
    #[expect(clippy::too_many_arguments, reason = "the fields of a segment")]
    fn feed(
        &mut self,
        key: Key,
        control: TcpControl,
        seq: u32,
        ack: Option<u32>,
        window: u16,
        payload: &[u8],
        now: Instant,
    ) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let (local, remote) = (flow.key.local(), flow.key.remote());
        let empty = answer::empty(remote, local, seq, ack);
        let tcp = match control {
            TcpControl::Syn => TcpRepr {
                max_seg_size: flow.wire.peer_mss,
                window_scale: flow.wire.peer_window_shift(),
                sack_permitted: flow.wire.sack.is_permitted(),
                timestamp: flow.wire.timestamps.recent.map(|_| TcpTimestampRepr::new(0, 0)),
                ..empty
            },
            _ => empty,
        };
        let tcp = TcpRepr { control, window_len: window, payload, ..tcp };
        let ip = answer::ip_of(remote, local, &tcp);
        self.scratch.resize(ip.buffer_len(), 0);
        answer::emit(&ip, &tcp, &mut self.scratch, &ChecksumCapabilities::ignored());
        let mtu_interface = &mut self.interfaces[flow.interface];
        let mtu = mtu_interface.mtu;
        let mut device = FrameDevice { incoming: Some(&self.scratch), outgoing: &mut self.outgoing, mtu };
        mtu_interface.interface.poll_ingress_single(now, &mut device, flow.set());
        self.outgoing.lend(None, 0);
    }

    /// Has smoltcp send, into nothing, whatever it has to say, and follows its right edge. Returns the number of the
    /// latest segment.
    fn drain(&mut self, key: Key, now: Instant) -> Option<u32> {
        let flow = self.flows.get_mut(key)?;
        let mtu_interface = &mut self.interfaces[flow.interface];
        let mtu = mtu_interface.mtu;
        let mut latest = None;
        // Each segment but the last few is full.
        let segments_max = 8 + flow.socket().send_queue() / flow.loss.mss().max(1) as usize;
        for _ in 0..segments_max {
            let mut device = FrameDevice { incoming: None, outgoing: &mut self.outgoing, mtu };
            mtu_interface.interface.poll_egress(now, &mut device, flow.set());
            let Some(Ok(segment)) = self.outgoing.packet().map(|packet| packet::parse_own(packet)) else { break };
            self.outgoing.lend(None, 0);
            flow.wire.window.moved(segment.ack, segment.window, flow.socket().recv_capacity());
            latest = Some(segment.seq);
        }
        latest
    }

    fn enqueue(&mut self, key: Key, bytes: [&[u8]; 2]) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        for part in bytes.into_iter().filter(|part| !part.is_empty()) {
            let queued = flow.socket_mut().send_slice(part);
            debug_assert_eq!(queued, Ok(part.len()));
        }
    }

    fn close(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.socket_mut().close();
        }
    }
}
