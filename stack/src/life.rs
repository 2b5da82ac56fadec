//! How flows begin, come of age, die and are buried.

use crate::buffers::Need;
use crate::flow::{Flow, Owner, has_peer_closed};
use crate::flow_table::FlowKey;
use crate::kernel::arena::Region;
use crate::limits::SYN_RECEIVED_LEN;
use crate::outside::LinkId;
use crate::readiness::Readiness;
use crate::rx::Before;
use crate::slab::Key;
use crate::socket::tcp::TcpOptions;
use crate::socket::{FlowId, ListenerId, Socket};
use crate::stack::Stack;
use crate::time_wait::Closed;
use crate::{Errno, Instant};
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpListenEndpoint;

impl Stack {
    /// A closed flow with a place in the demux. `None` at a bound, or without memory.
    pub(crate) fn new_flow(&mut self, flow_key: FlowKey, owner: Owner, options: TcpOptions) -> Option<Key> {
        let (receive_len, send_len) = (options.receive_len(), options.send_len());
        if !self.has_memory_for(receive_len + send_len) {
            self.counters.drop_no_memory += 1;
            return None;
        }
        let [receive, send] = self.buffers.take_both(receive_len, send_len, Need::Beginning)?;
        let system = self.settings;
        let renew = |flow: &mut Flow| flow.renew(flow_key, owner, options, system);
        let Some(key) = self.flows.insert(|| Some(Flow::new(flow_key)), renew) else {
            self.buffers.give_back_all([receive, send]);
            return None;
        };
        if let Some(flow) = self.flows.get_mut(key) {
            flow.replace_socket((receive, receive_len), (send, send_len));
        }
        self.flow_table.insert(flow_key, key);
        Some(key)
    }

    /// A flow for a SYN that `listener` is to have; the SYN itself is still to be delivered.
    pub(crate) fn open_passive(&mut self, listener: Key, flow_key: FlowKey, link: LinkId, now: Instant) -> Option<Key> {
        let (options, claim) = {
            let listener = self.listeners.get(listener)?;
            (listener.options, listener.claim_for(flow_key.local().ip())?)
        };
        let key = self.new_flow(flow_key, Owner::HalfOpen(listener), options)?;
        self.claims.hold_for_flow(claim);
        self.listeners.get_mut(listener)?.half_open += 1;
        self.flows.get_mut(key)?.link = link;
        self.fit_mtu(key, usize::MAX, now);
        let flow = self.flows.get_mut(key)?;
        flow.claim = Some(claim);
        flow.give_up_at = Some(now + SYN_RECEIVED_LEN);
        let local = flow_key.local();
        let endpoint = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
        // A closed socket and a port that is not 0: listen() has nothing to refuse.
        let listening = flow.socket_mut().listen(endpoint);
        debug_assert!(listening.is_ok());
        Some(key)
    }

    /// Draws the consequences of what a segment has changed.
    pub(crate) fn settle(&mut self, key: Key, before: Before, is_reset: bool, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let state = flow.socket().state();
        if state == State::Listen {
            // A RST in SYN-RECEIVED, where smoltcp listens again; or a SYN that it would not have.
            return self.remove_flow(key);
        }
        flow.peer_closed |= has_peer_closed(state);
        if state == State::Closed && before.state != State::Closed && is_reset {
            flow.cause = Some(cause_of_reset(before.state));
            self.counters.flows_reset += 1;
        }
        if !flow.established && !matches!(state, State::SynSent | State::SynReceived | State::Closed) {
            flow.established = true;
            flow.give_up_at = None;
            if let Some(register) = &mut self.register {
                let seen = flow.wire.snd_una().wrapping_sub(1);
                register.enter(key.index(), flow.key.local(), flow.key.remote(), seen);
            }
            if let Owner::HalfOpen(listener) = flow.owner {
                return self.enter_accept_queue(key, listener);
            }
        }
        if matches!(state, State::FinWait2 | State::TimeWait | State::Closed)
            && let Some(register) = &mut self.register
        {
            register.strike(key.index());
        }
        if flow.owner == Owner::Nobody && state == State::FinWait2 && before.state != State::FinWait2 {
            flow.wait_for_fin(now);
        }
        self.report(key, before);
    }

    /// Puts onto the ready list what is newly true of a flow, and new bytes where there were some before.
    pub(crate) fn report(&mut self, key: Key, before: Before) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let mut rose = flow.readiness().without(before.readiness);
        if flow.socket().recv_queue() > before.recv_queue {
            rose |= if flow.is_readable() { Readiness::READABLE } else { Readiness::BYTES };
        }
        let changes = matches!(before.state, State::SynSent | State::FinWait1 | State::Closing | State::LastAck);
        let ends = Readiness::PEER_CLOSED | Readiness::HANGUP | Readiness::ERROR;
        if (changes && flow.socket().state() != before.state) || rose.intersects(ends) {
            // As Linux does, for who lingers in close(2), too.
            rose |= Readiness::STATE;
        }
        self.ready.push(Socket::Flow(FlowId(key)), &mut flow.watch, rose);
    }

    /// A half-open flow is established: accept(2) may have it. If its listener is gone, it is reset.
    fn enter_accept_queue(&mut self, key: Key, listener_key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(listener) = self.listeners.get_mut(listener_key) else {
            flow.owner = Owner::Nobody;
            flow.socket_mut().abort();
            return;
        };
        flow.owner = Owner::Accept(listener_key);
        listener.half_open -= 1;
        listener.accept_queue.push_back(key);
        self.counters.flows_accepted += 1;
        let socket = Socket::Listener(ListenerId(listener_key));
        self.ready.push(socket, &mut listener.watch, Readiness::READABLE);
    }

    /// Ends a flow for `cause` without a word to the peer: a state that must not last has lasted too long, or there is
    /// no way to the peer.
    pub(crate) fn give_up(&mut self, key: Key, cause: Errno) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        match flow.owner {
            Owner::HalfOpen(_) | Owner::Nobody => self.remove_flow(key),
            Owner::Accept(_) | Owner::Application => self.fail(key, cause),
        }
    }

    /// Ends a flow with a cause, without a word to the peer.
    pub(crate) fn fail(&mut self, key: Key, cause: Errno) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let before = Before::of(flow);
        flow.cause = Some(cause);
        flow.give_up_at = None;
        flow.silent = true;
        flow.socket_mut().abort();
        self.report(key, before);
    }

    /// Buries a flow that has nothing left to do.
    pub(crate) fn bury_if_over(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get(key) else { return };
        let is_orphan = flow.owner == Owner::Nobody;
        match flow.socket().state() {
            // An abort whose RST waits for a next hop still has its endpoint.
            State::Closed if is_orphan && (flow.silent || flow.socket().remote_endpoint().is_none()) => {
                self.remove_flow(key);
            }
            // The ACK of the FIN may wait a little.
            State::TimeWait if flow.is_waiting_out() => {
                self.enter_time_wait(key, now);
                if is_orphan {
                    self.remove_flow(key);
                }
            }
            _ => {}
        }
    }

    /// As on Linux, a TIME-WAIT is not the socket's: from now on an entry of the table answers for the flow, whose owner
    /// has nothing left but to read.
    fn enter_time_wait(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let flow_key = flow.key;
        let Some(claim) = flow.claim.take() else { return };
        let recent = flow.wire.timestamps.recent.map(|recent| recent.value);
        let (snd_nxt, rcv_nxt) = (flow.wire.snd_nxt, flow.wire.rcv_nxt);
        let closed = Closed { snd_nxt, rcv_nxt, recent, traffic_class: flow.ip_options().traffic_class, claim };
        self.flow_table.remove(&flow_key, key);
        if let Some(evicted) = self.time_wait.insert(flow_key, closed, now) {
            self.claims.release_by_flow(evicted.claim);
        }
    }

    /// Takes a flow out of every table, and its buffers back.
    pub(crate) fn remove_flow(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let buffers = flow.replace_socket((Region::empty(), 0), (Region::empty(), 0));
        self.buffers.give_back_all(buffers);
        self.flow_table.remove(&flow.key, key);
        if let Some(claim) = flow.claim.take() {
            self.claims.release_by_flow(claim);
        }
        if let Owner::HalfOpen(listener) = flow.owner
            && let Some(listener) = self.listeners.get_mut(listener)
        {
            listener.half_open -= 1;
        }
        if let Some(register) = &mut self.register {
            register.strike(key.index());
        }
        self.flows.remove(key);
    }
}

/// tcp_reset() of Linux.
fn cause_of_reset(state: State) -> Errno {
    match state {
        State::SynSent => Errno::ECONNREFUSED,
        State::CloseWait => Errno::EPIPE,
        _ => Errno::ECONNRESET,
    }
}
