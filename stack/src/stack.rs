//! The stack and its turn: received frames, due timers, what the flows have to say, one kick a link.

use crate::Instant;
use crate::acceptance::ChallengeAcks;
use crate::buffers::Buffers;
use crate::counters::Counters;
use crate::flow::Flow;
use crate::flow_table::FlowTable;
use crate::frame_device::{FrameDevice, Outgoing};
use crate::isn::Secret;
use crate::limits::{
    BURST_FRAMES_MAX, BURSTS_PER_TURN, FLOWS_MAX, LISTENERS_MAX, PACKET_LEN_MAX, RESOLVE_RETRY, ROUTES_REFRESH,
};
use crate::link::{Frame, Link};
use crate::listener::Listeners;
use crate::memory::Awake;
use crate::outside::{Hop, InterfaceId, LinkId, Register, Routes, Steer};
use crate::path_mtu::PathMtus;
use crate::port_space::PortSpace;
use crate::readiness::Readiness;
use crate::ready_list::ReadyList;
use crate::settings::Settings;
use crate::slab::{Key, Slab};
use crate::socket::{FlowId, ListenerId, Socket, UdpId};
use crate::syn_queue::SynQueue;
use crate::time_wait::TimeWait;
use crate::timer_wheel::TimerWheel;
use crate::tx::Port;
use crate::udp_sockets::UdpSockets;
use ahash::RandomState;
use smoltcp::iface::{Config, Interface};
use smoltcp::wire::HardwareAddress;
use std::collections::HashMap;
use std::net::IpAddr;

/// A ready socket, as popped from the ready list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Which one.
    pub socket: Socket,
    /// What its owner called it (`Stack::set_token`).
    pub token: u64,
    /// What has happened to it since it was last popped. An edge: new bytes on a flow that was readable already
    /// are `READABLE` again.
    pub rose: Readiness,
}

/// A smoltcp interface: it captures its MTU when it is made, so there is one for each.
pub(crate) struct MtuInterface {
    pub mtu: usize,
    pub interface: Interface,
}

/// A TCP/IP stack over some links.
///
/// Its methods are spread over the files of what they do: here the turn, in `rx` the way in, in `egress` the way
/// out, in `life` how flows begin and end, in `socket/tcp` what the shim calls.
pub struct Stack {
    pub(crate) now: Instant,
    pub(crate) counters: Counters,
    pub(crate) ports: Vec<Port>,
    pub(crate) flows: Slab<Flow>,
    pub(crate) flow_table: FlowTable,
    pub(crate) listeners: Listeners,
    pub(crate) udp_sockets: UdpSockets,
    pub(crate) syn_queue: SynQueue,
    pub(crate) time_wait: TimeWait,
    pub(crate) claims: PortSpace,
    pub(crate) wheel: TimerWheel,
    pub(crate) challenge_acks: ChallengeAcks,
    pub(crate) ready: ReadyList,
    pub(crate) routes: Box<dyn Routes>,
    pub(crate) register: Option<Box<dyn Register>>,
    pub(crate) path_mtus: PathMtus,
    pub(crate) interfaces: Vec<MtuInterface>,
    /// Where an MTU's stands among them.
    interfaces_by_mtu: HashMap<usize, usize, RandomState>,
    pub(crate) buffers: Buffers,
    pub(crate) awake: Awake,
    pub(crate) outgoing: Outgoing,
    /// Segments that smoltcp is fed and that never came.
    pub(crate) scratch: Vec<u8>,
    /// Flows that may have something to send.
    pub(crate) dirty: Vec<Key>,
    /// Flows that found no free frame, or had more to say than one turn allows.
    pub(crate) unfinished: Vec<Key>,
    /// Flows whose owner is about to be told of something: what they have to say may go out with its answer.
    pub(crate) answering: Vec<Key>,
    /// The frames so far of a packet that spans several.
    pub(crate) partial: Vec<u8>,
    /// Of the latest packet that routers may cut up.
    pub(crate) identification: u16,
    pub(crate) secret: Secret,
    pub(crate) settings: Settings,
    seed: u64,
    burst: Vec<Frame>,
    due: Vec<Key>,
    dirty_spare: Vec<Key>,
    routes_refreshed: Instant,
    /// When a ring last held more than a turn takes out of it.
    pub(crate) crowded_at: Option<Instant>,
}

impl Stack {
    /// A stack without links. `seed` feeds all its randomness.
    pub fn new(routes: Box<dyn Routes>, steer: Box<dyn Steer>, seed: u64, now: Instant) -> Stack {
        Stack {
            now,
            counters: Counters::default(),
            ports: Vec::new(),
            flows: Slab::new(FLOWS_MAX),
            flow_table: FlowTable::new(seed),
            listeners: Listeners::new(LISTENERS_MAX),
            udp_sockets: UdpSockets::new(seed),
            syn_queue: SynQueue::new(seed),
            time_wait: TimeWait::new(seed),
            claims: PortSpace::new(steer),
            wheel: TimerWheel::new(now),
            challenge_acks: ChallengeAcks::new(seed),
            ready: ReadyList::default(),
            routes,
            register: None,
            path_mtus: PathMtus::new(seed),
            interfaces: Vec::new(),
            interfaces_by_mtu: HashMap::with_hasher(RandomState::with_seed(seed as usize)),
            buffers: Buffers::new(),
            awake: Awake::default(),
            outgoing: Outgoing::new(),
            scratch: Vec::new(),
            dirty: Vec::new(),
            unfinished: Vec::new(),
            answering: Vec::new(),
            partial: Vec::with_capacity(PACKET_LEN_MAX),
            identification: seed as u16,
            secret: Secret::new(seed),
            settings: Settings::default(),
            seed,
            burst: Vec::with_capacity(BURST_FRAMES_MAX),
            due: Vec::new(),
            dirty_spare: Vec::new(),
            routes_refreshed: now,
            crowded_at: None,
        }
    }

    /// What holds for the sockets that begin from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What holds for sockets that setsockopt(2) says nothing else of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Has the connections that are open from now on written down.
    pub fn set_register(&mut self, register: Box<dyn Register>) {
        self.register = Some(register);
    }

    /// Adds one queue of an interface.
    pub fn add_link(&mut self, interface: InterfaceId, link: Box<dyn Link>) -> LinkId {
        let id = LinkId(self.ports.len() as u16);
        self.interface_for(link.mtu());
        self.ports.push(Port::new(link, interface));
        id
    }

    /// One turn, run to completion: received frames, due timers, what the flows have to say, one kick a link. True if
    /// it found a frame or a timer.
    ///
    /// A flow that has just entered the ready list keeps its ACK for the next `flush` or `poll`: until then its owner
    /// may have answered, and closed.
    pub fn poll(&mut self, now: Instant) -> bool {
        self.now = now;
        self.counters.turns += 1;
        self.dirty.append(&mut self.answering);
        let received = self.receive_bursts(now);
        let fired = self.fire_timers(now);
        if now >= self.routes_refreshed + ROUTES_REFRESH {
            self.routes_refreshed = now;
            self.routes.refresh(now);
        }
        self.send(now);
        received || fired
    }

    /// Sends what the calls since the last turn have left to send, with one kick a link. Cheap if there is nothing.
    pub fn flush(&mut self, now: Instant) {
        self.now = now;
        self.dirty.append(&mut self.answering);
        self.send(now);
    }

    fn send(&mut self, now: Instant) {
        self.dirty.append(&mut self.unfinished);
        // Whom egress marks anew waits for the next flush, or this could go on for ever.
        let mut dirty = std::mem::replace(&mut self.dirty, std::mem::take(&mut self.dirty_spare));
        for key in dirty.drain(..) {
            self.egress(key, now);
        }
        self.dirty_spare = dirty;
        for port in &mut self.ports {
            port.flush(now, &mut self.counters);
        }
    }

    /// Whether there is something left to send that `flush` or `poll` has not sent yet.
    pub fn flush_pending(&self) -> bool {
        let lists = [&self.dirty, &self.unfinished, &self.answering];
        lists.iter().any(|list| !list.is_empty()) || self.ports.iter().any(Port::is_pending)
    }

    /// Whether a frame is waiting in a ring: what a spinning thread looks at.
    pub fn rx_pending(&mut self) -> bool {
        self.ports.iter_mut().any(|port| port.link.rx_pending())
    }

    /// The same for the rings of one interface.
    pub fn rx_pending_at(&mut self, interface: InterfaceId) -> bool {
        self.ports.iter_mut().any(|port| port.interface == interface && port.link.rx_pending())
    }

    /// When the next timer is due: how long a thread may sleep.
    pub fn deadline(&self) -> Option<Instant> {
        let retry = self.flush_pending().then(|| self.now + RESOLVE_RETRY);
        let queues = [self.syn_queue.next_deadline(), self.time_wait.next_deadline(), self.awake.next_deadline()];
        [retry, self.wheel.next_deadline()].into_iter().chain(queues).flatten().min()
    }

    /// Takes the next socket to which something has happened.
    pub fn next_ready(&mut self) -> Option<Ready> {
        loop {
            let socket = self.ready.pop()?;
            let watch = match socket {
                Socket::Flow(FlowId(key)) => self.flows.get_mut(key).map(|flow| &mut flow.watch),
                Socket::Listener(ListenerId(key)) => self.listeners.get_mut(key).map(|listener| &mut listener.watch),
                Socket::Udp(UdpId(key)) => self.udp_sockets.get_mut(key).map(|socket| &mut socket.watch),
            };
            let Some(watch) = watch else { continue };
            let rose = watch.take();
            if watch.token != 0 {
                return Some(Ready { socket, token: watch.token, rose });
            }
        }
    }

    /// Names a socket for `next_ready`; 0 silences it. What is already true is not reported: ask `readiness` after
    /// this.
    pub fn set_token(&mut self, socket: Socket, token: u64) {
        match socket {
            Socket::Flow(FlowId(key)) => {
                if let Some(flow) = self.flows.get_mut(key) {
                    flow.watch.token = token;
                }
            }
            Socket::Listener(ListenerId(key)) => {
                if let Some(listener) = self.listeners.get_mut(key) {
                    listener.watch.token = token;
                }
            }
            Socket::Udp(UdpId(key)) => {
                if let Some(socket) = self.udp_sockets.get_mut(key) {
                    socket.watch.token = token;
                }
            }
        }
    }

    /// What is true of a socket now; of one that is gone, what is true of a closed one.
    pub fn readiness(&self, socket: Socket) -> Readiness {
        match socket {
            Socket::Flow(FlowId(key)) => self.flows.get(key).map_or(Readiness::HANGUP, Flow::readiness),
            Socket::Listener(ListenerId(key)) => match self.listeners.get(key) {
                Some(listener) if !listener.accept_queue.is_empty() => Readiness::READABLE,
                _ => Readiness::default(),
            },
            Socket::Udp(socket) if self.udp_next(socket).is_some() => Readiness::READABLE | Readiness::WRITABLE,
            Socket::Udp(_) => Readiness::WRITABLE,
        }
    }

    /// How to reach `remote`.
    pub fn route(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop {
        self.routes.next_hop(local, remote, now)
    }

    /// Open flows (orphaned ones included).
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is nothing that time or a packet could change: a thread that watches may stop.
    pub fn is_idle(&self) -> bool {
        self.flows.is_empty() && self.syn_queue.len() + self.time_wait.len() == 0 && !self.flush_pending()
    }

    /// Flows, closed by their owner or not, that still have bytes or a FIN to deliver: what exit waits for.
    pub fn undelivered(&self) -> usize {
        self.flows.iter().filter(|(_, flow)| flow.is_undelivered()).count()
    }

    /// Strikes from the register all flows but these: their peers know the end.
    pub fn strike_delivered(&mut self) {
        let Some(register) = &mut self.register else { return };
        let delivered = self.flows.iter().filter(|(_, flow)| !flow.is_undelivered());
        delivered.for_each(|(key, _)| register.strike(key.index()));
    }

    /// Whether anything of ours, TIME-WAIT included, lives on a port that was connected from: then the kernel must
    /// go on reserving it.
    pub fn is_port_held(&self, address: IpAddr, port: u16) -> bool {
        self.claims.is_held(address, port)
    }

    /// Entries of the timer wheel.
    pub fn timer_count(&self) -> usize {
        self.wheel.len()
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The index of the smoltcp interface for an MTU.
    pub(crate) fn interface_for(&mut self, mtu: usize) -> usize {
        if let Some(&at) = self.interfaces_by_mtu.get(&mtu) {
            return at;
        }
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = self.seed.rotate_left(self.interfaces.len() as u32);
        let mut device = FrameDevice { incoming: None, outgoing: &mut self.outgoing, mtu };
        let mut interface = Interface::new(config, &mut device, self.now);
        // Whatever address was steered to us is ours.
        interface.set_any_ip(true);
        self.interfaces_by_mtu.insert(mtu, self.interfaces.len());
        self.interfaces.push(MtuInterface { mtu, interface });
        self.interfaces.len() - 1
    }

    /// Puts a flow onto the list of those that may have something to send.
    pub(crate) fn mark_dirty(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(key)
            && !flow.dirty
        {
            flow.dirty = true;
            self.dirty.push(key);
        }
    }

    /// The same for a flow that has received something: at once, or when its owner has had a chance to answer.
    pub(crate) fn mark_received(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(key)
            && !flow.dirty
        {
            flow.dirty = true;
            let list = if flow.watch.is_queued() { &mut self.answering } else { &mut self.dirty };
            list.push(key);
        }
    }

    /// Has the timer wheel look at a flow at `deadline`, if it would not do so before.
    pub(crate) fn arm(&mut self, key: Key, deadline: Instant) {
        if let Some(flow) = self.flows.get_mut(key)
            && flow.armed_at.is_none_or(|armed_at| deadline < armed_at)
        {
            // The entry that this one precedes stays in the wheel, and need not be made again.
            flow.armed_later_at = flow.armed_later_at.max(flow.armed_at);
            flow.armed_at = Some(deadline);
            self.wheel.arm(key, deadline);
        }
    }

    fn receive_bursts(&mut self, now: Instant) -> bool {
        let mut received = false;
        let mut burst = std::mem::take(&mut self.burst);
        for port in 0..self.ports.len() {
            for turn in 1..=BURSTS_PER_TURN {
                self.ports[port].link.rx_burst(now, &mut burst);
                if burst.is_empty() {
                    break;
                }
                received = true;
                if turn == BURSTS_PER_TURN {
                    self.crowded_at = Some(now);
                }
                for frame in burst.drain(..) {
                    self.receive(LinkId(port as u16), frame, now);
                }
            }
        }
        self.burst = burst;
        received
    }

    fn fire_timers(&mut self, now: Instant) -> bool {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        let mut fired = !due.is_empty();
        for key in due.drain(..) {
            self.fire(key, now);
        }
        self.due = due;
        fired |= self.expire_half_open(now);
        self.rest(now);
        while let Some(closed) = self.time_wait.expire(now) {
            fired = true;
            self.claims.release_by_flow(closed.claim);
        }
        fired
    }

    fn fire(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.armed_at.is_some_and(|armed_at| armed_at > now) {
            // An entry of before the flow was armed earlier, and fired, and armed again.
            return;
        }
        flow.armed_at = flow.armed_later_at.take().filter(|&later| later > now);
        match flow.due() {
            Some((at, due)) if at <= now => self.lose_patience(key, due, now),
            _ => self.mark_dirty(key),
        }
    }
}
