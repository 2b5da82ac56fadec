//! A flow: one TCP connection, with the smoltcp socket that runs it and what the front knows beside it.

use crate::ack_policy::AckPolicy;
use crate::autotune::Autotune;
use crate::cork::Cork;
use crate::counters::Counters;
use crate::flow_table::FlowKey;
use crate::kernel::arena::Region;
use crate::kernel::lent_socket::{LentSocket, Ring};
use crate::loss::Loss;
use crate::outside::{LinkId, NextHop};
use crate::packet::{self, MSS_MIN, RST, Segment};
use crate::path_mtu::PathMtu;
use crate::patience::Patience;
use crate::port_space::ClaimId;
use crate::readiness::Readiness;
use crate::ready_list::Watch;
use crate::receive_window::Room;
use crate::rx::Before;
use crate::settings::Settings;
use crate::slab::Key;
use crate::socket::ip::{IpFields, IpOptions, MtuDiscovery};
use crate::socket::tcp::{TcpOptions, TcpState};
use crate::tally::Tally;
use crate::timestamps::OPTION_LEN;
use crate::urgent::Urgent;
use crate::wire_state::WireState;
use crate::{Errno, Instant};
use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp::{Socket, State};

/// Who holds a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Its listener, while it is half open.
    HalfOpen(Key),
    /// Its listener's accept queue.
    Accept(Key),
    /// The application.
    Application,
    /// Nobody: close(2) was called, and what is queued still goes out.
    Nobody,
}

/// One TCP connection.
pub struct Flow {
    /// Its 4-tuple.
    pub key: FlowKey,
    /// Who holds it.
    pub owner: Owner,
    /// Its place in the ready list.
    pub watch: Watch,
    /// What went over the wire.
    pub wire: WireState,
    /// What of it may be lost, and what may be sent.
    pub loss: Loss,
    /// How long it waits for a silent peer.
    pub patience: Patience,
    /// How it acknowledges.
    pub acks: AckPolicy,
    /// What its application reads.
    pub tuning: Autotune,
    /// What waits for more bytes.
    pub cork: Cork,
    /// What of its bytes is urgent.
    pub urgent: Urgent,
    /// When its latest challenge ACK was sent.
    pub challenged_at: Option<Instant>,
    /// Segments that were sent again.
    pub retransmissions: u32,
    /// What it has sent and received.
    pub tally: Tally,
    /// How to reach the peer, once it is known, with the generation of the routes that said so.
    pub next_hop: Option<(NextHop, u64)>,
    /// The link that it uses: the one that its last segment came by.
    pub link: LinkId,
    /// Which smoltcp interface (MTU) it runs on.
    pub interface: usize,
    /// What its path lets through, where that is less than its route says.
    pub path_mtu: Option<PathMtu>,
    /// The claim that brings its segments here; `None` once a TIME-WAIT entry has taken it over.
    pub claim: Option<ClaimId>,
    /// What setsockopt asked.
    pub options: TcpOptions,
    /// What holds where it did not.
    pub system: Settings,
    /// It has been opened by connect(2).
    pub active: bool,
    /// SHUT_RD.
    pub shut_read: bool,
    /// SHUT_WR, or close(2).
    pub shut_write: bool,
    /// Its FIN waits for the peer's window.
    pub is_fin_pending: bool,
    /// It has been established at some time.
    pub established: bool,
    /// The peer's FIN is in sequence.
    pub peer_closed: bool,
    /// Why it died, until somebody asks.
    pub cause: Option<Errno>,
    /// What the network has said since the peer was last heard (RFC 1122, 4.2.3.9): why the peer is silent, if it stays so.
    pub soft_error: Option<Errno>,
    /// When to stop waiting for the peer, in a state that must not last.
    pub give_up_at: Option<Instant>,
    /// When the timer wheel will look at it.
    pub armed_at: Option<Instant>,
    /// The latest of the times, after `armed_at`, at which the timer wheel will do so again.
    pub armed_later_at: Option<Instant>,
    /// Since when the next hop has been unresolved.
    pub resolving_since: Option<Instant>,
    /// It stands in a list of flows that may have something to send.
    pub dirty: bool,
    /// It stands in the list of flows that have buffers.
    pub is_watched: bool,
    /// Nothing is sent any more, not even the RST of an aborted flow.
    pub silent: bool,
    /// There was no memory for a larger send buffer when it was full.
    pub is_send_stuck: bool,
    lent: LentSocket,
}

impl Flow {
    /// A closed flow, to be `renew`ed.
    pub fn new(key: FlowKey) -> Self {
        Flow {
            key,
            owner: Owner::Nobody,
            watch: Watch::default(),
            wire: WireState::new(),
            loss: Loss::new(),
            patience: Patience::new(),
            acks: AckPolicy::new(),
            tuning: Autotune::default(),
            cork: Cork::new(),
            urgent: Urgent::default(),
            challenged_at: None,
            retransmissions: 0,
            tally: Tally::default(),
            next_hop: None,
            link: LinkId(0),
            interface: 0,
            path_mtu: None,
            claim: None,
            options: TcpOptions::default(),
            system: Settings::default(),
            active: false,
            shut_read: false,
            shut_write: false,
            is_fin_pending: false,
            established: false,
            peer_closed: false,
            cause: None,
            soft_error: None,
            give_up_at: None,
            armed_at: None,
            armed_later_at: None,
            resolving_since: None,
            dirty: false,
            is_watched: false,
            silent: false,
            is_send_stuck: false,
            lent: LentSocket::new(),
        }
    }

    /// Makes a closed flow into a new one: everything is forgotten.
    pub fn renew(&mut self, key: FlowKey, owner: Owner, options: TcpOptions, system: Settings) {
        self.system = system;
        self.key = key;
        self.owner = owner;
        self.watch = Watch::default();
        self.wire = WireState::new();
        self.loss = Loss::new();
        self.patience = Patience::new();
        self.acks = AckPolicy::new();
        self.tuning = Autotune::default();
        self.cork.clear();
        self.urgent = Urgent::default();
        self.challenged_at = None;
        self.retransmissions = 0;
        self.tally = Tally::default();
        self.next_hop = None;
        self.path_mtu = None;
        self.claim = None;
        self.active = false;
        self.shut_read = false;
        self.shut_write = false;
        self.is_fin_pending = false;
        self.established = false;
        self.peer_closed = false;
        self.cause = None;
        self.soft_error = None;
        self.give_up_at = None;
        self.armed_at = None;
        self.armed_later_at = None;
        self.resolving_since = None;
        self.dirty = false;
        self.is_watched = false;
        self.silent = false;
        self.is_send_stuck = false;
        self.set_options(options);
    }

    /// Puts a closed socket over other memory in place of the flow's; returns the memory of the old one.
    pub fn replace_socket(&mut self, receive: (Region, usize), send: (Region, usize)) -> [Region; 2] {
        let old = self.lent.replace(receive, send);
        // smoltcp is to leave room for the option; what it says stands in `wire`.
        let timestamps = self.system.timestamps.then_some((|| 0) as fn() -> u32);
        self.socket_mut().set_tsval_generator(timestamps);
        old
    }

    /// Where the bytes of both buffers stand: received, and to be sent.
    pub fn rings(&mut self) -> [Ring; 2] {
        self.lent.rings()
    }

    /// Applies what setsockopt asked.
    pub fn set_options(&mut self, options: TcpOptions) {
        self.options = options;
        self.loss.set_congestion_control(options.congestion_control(&self.system));
    }

    /// The socket set for smoltcp's interface: this flow's socket and nothing else, so that nothing is scanned.
    pub fn set(&mut self) -> &mut SocketSet<'static> {
        self.lent.set()
    }

    /// The socket.
    #[inline]
    pub fn socket(&self) -> &Socket<'static> {
        self.lent.socket()
    }

    /// The socket.
    #[inline]
    pub fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.lent.socket_mut()
    }

    /// Whether `loss` decides what is sent.
    pub fn recovers(&self) -> bool {
        self.established && !self.is_closed()
    }

    /// Whether bytes of the peer would be for nobody (RFC 9293, 3.6.1): both halves are closed on our side. As in
    /// Linux, one whose other half is still open takes them all the same.
    pub fn refuses_bytes(&self) -> bool {
        let is_shut = self.shut_read || self.owner == Owner::Nobody;
        is_shut && matches!(self.socket().state(), State::FinWait1 | State::FinWait2)
    }

    /// Dead: nothing will ever be sent or received again.
    pub fn is_closed(&self) -> bool {
        self.socket().state() == State::Closed
    }

    /// Nobody is left to hear of the peer's FIN: it is waited for only so long (TCP_LINGER2).
    pub fn wait_for_fin(&mut self, now: Instant) {
        let len = self.options.fin_wait_2_len(&self.system);
        if len.is_none() {
            self.socket_mut().abort();
        }
        self.give_up_at = Some(now + len.unwrap_or(self.system.orphan_len()));
    }

    /// Whether all SYNs of a connect have gone out, and only the answer to the last one is waited for.
    ///
    /// smoltcp's waits end at 60 s where Linux's last one is 64 s: there would be one SYN more.
    pub fn has_sent_last_syn(&self) -> bool {
        self.socket().state() == State::SynSent && self.retransmissions >= self.options.syn_retries(&self.system).into()
    }

    /// The largest payload of a segment over this MTU, in bytes.
    pub fn send_mss(&self, mtu: usize) -> u32 {
        let headers_len = if self.key.remote().is_ipv4() { 40 } else { 60 };
        (mtu as u32 - headers_len).min(self.wire.peer_mss()).max(MSS_MIN) - self.options_len()
    }

    /// The length of the options that every segment has, in bytes.
    pub fn options_len(&self) -> u32 {
        if self.wire.timestamps.recent.is_some() { OPTION_LEN as u32 } else { 0 }
    }

    /// What setsockopt asked of its version of IP.
    pub fn ip_options(&self) -> &IpOptions {
        self.options.ip(self.key.remote().is_ipv4())
    }

    /// What stands in its IP headers.
    pub fn ip_fields(&self) -> IpFields {
        self.options.ip_fields(&self.system, self.key.remote().is_ipv4())
    }

    /// Whether it sends what its path lets through, and no more.
    pub fn follows_path(&self) -> bool {
        match self.ip_options().discovery {
            MtuDiscovery::Dont => self.key.remote().is_ipv6(),
            MtuDiscovery::Want | MtuDiscovery::Do | MtuDiscovery::Probe => true,
            MtuDiscovery::Interface | MtuDiscovery::Omit => false,
        }
    }

    /// Whether routers may cut up its packets: ip_dont_fragment() of Linux. IPv6's never do.
    pub fn may_fragment(&self) -> bool {
        let by_option = match self.ip_options().discovery {
            MtuDiscovery::Want => self.path_mtu.is_some_and(|path| path.may_fragment),
            discovery => discovery != MtuDiscovery::Do,
        };
        by_option && self.key.remote().is_ipv4()
    }

    /// The MTU of its route, in bytes, as far as it has asked for one.
    pub fn route_mtu(&self) -> usize {
        self.next_hop.map_or(usize::MAX, |(next_hop, _)| next_hop.mtu.into())
    }

    /// Whether a TIME-WAIT has nothing to say. Then smoltcp is not asked: at its end it would throw away what is still to be
    /// read.
    pub fn is_waiting_out(&self) -> bool {
        self.socket().state() == State::TimeWait && !self.wire.window.owes_ack(self.wire.rcv_nxt)
    }

    /// Has a FIN follow what is queued. In LAST-ACK smoltcp takes no window update, so it gets there when all that goes
    /// before the FIN fits the window.
    pub fn close_send(&mut self) {
        let socket = self.socket();
        self.is_fin_pending = socket.state() == State::CloseWait && socket.send_queue() > self.loss.told_len();
        if !self.is_fin_pending {
            self.socket_mut().close();
        }
    }

    /// Whether there are bytes, or a FIN, that the peer has not acknowledged.
    pub fn is_undelivered(&self) -> bool {
        let socket = self.socket();
        match socket.state() {
            State::Closed | State::Listen | State::TimeWait | State::FinWait2 => false,
            State::FinWait1 | State::Closing | State::LastAck => true,
            State::SynSent | State::SynReceived => false,
            State::Established | State::CloseWait => socket.send_queue() + self.cork.len() > 0,
        }
    }

    /// Follows a segment of smoltcp's on its way out, and makes it the wire's; `packet` has room for any without payload.
    /// False if it is not to go: its bytes have arrived or must wait, or it has none and says nothing new, though
    /// smoltcp may think so, and answers nothing.
    pub fn sends(
        &mut self,
        packet: &mut [u8],
        segment: &mut Segment,
        is_answer: bool,
        room: &Room,
        counters: &mut Counters,
        now: Instant,
    ) -> bool {
        self.wire.translate_out(packet, segment, room);
        if segment.has(RST) && self.is_closed() {
            self.wire.aborted(packet, segment);
        }
        let is_news = self.wire.window.is_news(segment);
        let is_idle_talk = segment.sequence_len() == 0 && !segment.has(RST) && !is_answer && !is_news;
        if is_idle_talk || !self.loss.sends(segment, now) {
            if is_news {
                // smoltcp thinks that it has been said.
                self.wire.window.set_due();
            }
            return false;
        }
        let again = self.wire.sent(packet, segment, now);
        counters.retransmissions += u64::from(again);
        self.retransmissions += u32::from(again);
        self.tally.sent(segment, again);
        self.patience.follow(&self.wire, now);
        self.acks.sent(segment.payload_len > 0 && !again, now);
        self.urgent.point(packet, segment, self.wire.snd_una());
        packet::set_ip_fields(packet, self.ip_fields());
        packet::seal(packet, segment);
        true
    }

    /// Follows RCV.NXT by what smoltcp has taken of a segment.
    pub fn follow_taken(&mut self, before: &Before) {
        let arrived = self.socket().recv_queue() - before.recv_queue;
        let fin = !self.peer_closed && has_peer_closed(self.socket().state());
        if before.state != State::Listen && before.state != State::SynSent {
            let len = arrived as u32 + u32::from(fin);
            self.wire.taken(before.rcv_nxt, len);
            self.tally.bytes_received += u64::from(len);
        }
    }

    /// What is true of the flow, as tcp_poll() of Linux has it.
    pub fn readiness(&self) -> Readiness {
        let socket = self.socket();
        if matches!(socket.state(), State::SynSent | State::SynReceived | State::Listen) {
            return Readiness::default();
        }
        let mut readiness = if self.urgent.is_readable() { Readiness::PRIORITY } else { Readiness::default() };
        let (read_over, write_over) = (self.is_read_over(), self.is_write_over());
        if read_over || self.is_readable() {
            readiness |= Readiness::READABLE;
        }
        if read_over {
            readiness |= Readiness::PEER_CLOSED;
        }
        if write_over || (self.has_send_room() && self.wakes_writer()) {
            readiness |= Readiness::WRITABLE;
        }
        if (read_over && write_over) || self.is_closed() {
            readiness |= Readiness::HANGUP;
        }
        if self.cause.is_some() {
            readiness |= Readiness::ERROR;
        }
        readiness
    }

    /// No byte will be received any more (RCV_SHUTDOWN).
    pub fn is_read_over(&self) -> bool {
        self.shut_read || self.peer_closed || self.is_closed()
    }

    /// No byte can be sent any more (SEND_SHUTDOWN).
    pub fn is_write_over(&self) -> bool {
        self.shut_write || self.is_closed()
    }

    /// The state, in TCP_INFO's numbers. As on Linux, a TIME-WAIT is no longer the socket's.
    pub fn state(&self) -> TcpState {
        match self.socket().state() {
            State::Closed | State::TimeWait => TcpState::Closed,
            State::Listen => TcpState::Listen,
            State::SynSent => TcpState::SynSent,
            State::SynReceived => TcpState::SynReceived,
            State::Established => TcpState::Established,
            State::FinWait1 => TcpState::FinWait1,
            State::FinWait2 => TcpState::FinWait2,
            State::CloseWait if self.is_fin_pending => TcpState::LastAck,
            State::CloseWait => TcpState::CloseWait,
            State::Closing => TcpState::Closing,
            State::LastAck => TcpState::LastAck,
        }
    }
}

/// Whether the peer's FIN is in sequence.
pub fn has_peer_closed(state: State) -> bool {
    matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
}
