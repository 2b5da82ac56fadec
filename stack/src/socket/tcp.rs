//! TCP sockets: connect, listen, accept, send, recv, shutdown, close, as tcp(7) says, never blocking.

pub use super::options::{CongestionControl, TcpOptions};
use super::{FlowId, ListenerId};
use crate::flow::{Flow, Owner};
use crate::flow_table::FlowKey;
use crate::limits::OPENING_LEN;
use crate::listener::Listener;
use crate::outside::{Hop, LinkId, Opens};
use crate::ready_list::Watch;
use crate::rx::Before;
use crate::settings::opening_len;
use crate::stack::Stack;
use crate::timestamps::Clock;
use crate::{Errno, Instant, isn};
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpEndpoint;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// One local address.
    One(IpAddr),
    /// `0.0.0.0`.
    AnyV4,
    /// `::` with IPV6_V6ONLY.
    AnyV6,
    /// `::` without it: both families.
    Any,
}

impl ListenAddress {
    /// The addresses to be claimed for it.
    pub(crate) fn claimed(self) -> impl Iterator<Item = IpAddr> {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        let (first, second) = match self {
            ListenAddress::One(one) => (one, None),
            ListenAddress::AnyV4 => (v4, None),
            ListenAddress::AnyV6 => (v6, None),
            ListenAddress::Any => (v4, Some(v6)),
        };
        std::iter::once(first).chain(second)
    }
}

/// shutdown(2)'s `how`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// SHUT_RD.
    Read,
    /// SHUT_WR.
    Write,
    /// SHUT_RDWR.
    Both,
}

/// TCP states, with the numbers of TCP_INFO's `tcpi_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl Stack {
    /// Opens a flow from `local` (address and port both chosen) to `remote`: claims the port, and sends a SYN with
    /// the next `flush` or `poll`. Established or failed, the flow becomes `WRITABLE`, or `ERROR` and more, as on
    /// Linux.
    ///
    /// # Errors
    /// - `EADDRNOTAVAIL`: this 4-tuple is taken by an open flow.
    /// - `ENETUNREACH`, `EHOSTUNREACH`: no route, or not by an interface of ours.
    /// - `ENOBUFS`: a bound reached.
    pub fn tcp_connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        options: TcpOptions,
        token: u64,
        now: Instant,
    ) -> Result<FlowId, Errno> {
        self.now = now;
        let flow_key = FlowKey::new(local, remote);
        if self.tcp_is_taken(local, remote) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let next_hop = match self.routes.next_hop(Some(local.ip()), remote.ip(), now) {
            Hop::Ready(next_hop) | Hop::Resolving(next_hop) => next_hop,
            Hop::Unreachable(errno) => return Err(errno),
            Hop::Kernel => return Err(Errno::ENETUNREACH),
        };
        let link = self.ports.iter().position(|port| port.interface == next_hop.interface).ok_or(Errno::ENETUNREACH)?;
        let claim = self.claims.hold_for_connect(local.ip(), local.port())?;
        // The kernel gave the port out again, so the 4-tuple may be used again (ip(7), tcp_tw_reuse).
        let mut isn = self.secret.initial_sequence_number(&flow_key, now);
        if let Some(closed) = self.time_wait.take(&flow_key) {
            isn = isn::later_than(isn, closed.snd_nxt);
            self.claims.release_by_flow(closed.claim);
        }
        let Some(key) = self.new_flow(flow_key, Owner::Application, options) else {
            self.claims.release_by_flow(claim);
            return Err(Errno::ENOBUFS);
        };
        if let Some(flow) = self.flows.get_mut(key) {
            flow.claim = Some(claim);
            flow.link = LinkId(link as u16);
        }
        self.fit_mtu(key, next_hop.mtu.into(), now);
        let Some(flow) = self.flows.get_mut(key) else { return Err(Errno::ENOBUFS) };
        let context = self.interfaces[flow.interface].interface.context();
        flow.watch.token = token;
        flow.give_up_at = Some(now + opening_len(options.syn_retries(&self.settings)));
        flow.wire.begin_at(isn, Clock::of(&flow_key, &self.secret), options.segment_max());
        let (from, to) = (IpEndpoint::from(local), IpEndpoint::from(remote));
        if flow.socket_mut().connect(context, to, from).is_err() {
            // Port 0, or an address that is no host's.
            self.remove_flow(key);
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.counters.flows_opened += 1;
        self.mark_dirty(key);
        Ok(FlowId(key))
    }

    /// Whether a flow has this 4-tuple, be it one whose socket is closed.
    pub fn tcp_is_taken(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let flow_key = FlowKey::new(local, remote);
        self.syn_queue.get(&flow_key).is_some() || self.flow_table.get(&flow_key).is_some()
    }

    /// Where an opening flow stands: `Ok` once it has been established, `EINPROGRESS` before. One that has failed
    /// says `ECONNABORTED`; `tcp_take_error` knows why.
    ///
    /// # Errors
    /// As said.
    pub fn tcp_connected(&self, flow: FlowId) -> Result<(), Errno> {
        match self.flows.get(flow.0) {
            Some(flow) if flow.established => Ok(()),
            Some(flow) if !flow.is_closed() => Err(Errno::EINPROGRESS),
            _ => Err(Errno::ECONNABORTED),
        }
    }

    /// SO_ERROR: the flow's cause of death, or else what the network has said since the peer was last heard; said once.
    pub fn tcp_take_error(&mut self, flow: FlowId) -> Option<Errno> {
        let flow = self.flows.get_mut(flow.0)?;
        flow.cause.take().or_else(|| flow.soft_error.take())
    }

    /// Listens, and claims the port: `backlog` flows may wait for accept (Linux lets one more wait).
    ///
    /// # Errors
    /// - `ENOBUFS`: a bound reached.
    pub fn tcp_listen(
        &mut self,
        address: ListenAddress,
        port: u16,
        backlog: usize,
        options: TcpOptions,
        token: u64,
    ) -> Result<ListenerId, Errno> {
        let mut claims = Vec::new();
        for address in address.claimed() {
            match self.claims.hold_for_listener(address, port) {
                Ok(claim) => claims.push(claim),
                Err(errno) => {
                    claims.into_iter().for_each(|claim| self.claims.release_by_listener(claim));
                    return Err(errno);
                }
            }
        }
        let make = || Listener {
            address,
            port,
            backlog,
            half_open: 0,
            syn_at: Instant::ZERO,
            cookies_until: None,
            accept_queue: VecDeque::new(),
            options,
            claims: claims.clone(),
            watch: Watch::new(token),
        };
        match self.listeners.insert(make) {
            Some(key) => Ok(ListenerId(key)),
            None => {
                claims.into_iter().for_each(|claim| self.claims.release_by_listener(claim));
                Err(Errno::ENOBUFS)
            }
        }
    }

    /// listen(2) again: another backlog.
    pub fn tcp_set_backlog(&mut self, listener: ListenerId, backlog: usize) {
        if let Some(listener) = self.listeners.get_mut(listener.0) {
            listener.backlog = backlog;
        }
    }

    /// What the flows of a listener inherit from now on.
    pub fn tcp_set_listener_options(&mut self, listener: ListenerId, options: TcpOptions) {
        if let Some(listener) = self.listeners.get_mut(listener.0) {
            listener.options = options;
        }
    }

    /// Which new connections are steered to a listener from now on; the kernel's listener has the others.
    pub fn tcp_admit(&mut self, listener: ListenerId, opens: Opens) {
        let claims = self.listeners.get(listener.0).map_or(&[][..], |listener| &listener.claims);
        claims.iter().for_each(|&claim| self.claims.set_opens(claim, opens));
    }

    /// Whether a listener has a flow to accept, or soon has one unless its peer is gone.
    pub fn tcp_is_opening(&self, listener: ListenerId) -> bool {
        let is_opening = |listener: &Listener| {
            let is_recent = self.now < listener.syn_at + OPENING_LEN;
            !listener.accept_queue.is_empty() || (listener.half_open > 0 && is_recent)
        };
        self.listeners.get(listener.0).is_some_and(is_opening)
    }

    /// Takes an established flow from the accept queue; its token is 0.
    ///
    /// # Errors
    /// - `EAGAIN`: none waits.
    pub fn tcp_accept(&mut self, listener: ListenerId) -> Result<FlowId, Errno> {
        let listener = self.listeners.get_mut(listener.0).ok_or(Errno::EINVAL)?;
        let key = listener.accept_queue.pop_front().ok_or(Errno::EAGAIN)?;
        if let Some(flow) = self.flows.get_mut(key) {
            flow.owner = Owner::Application;
        }
        Ok(FlowId(key))
    }

    /// Closes a listener. Flows that nobody accepted are reset, half-open ones are forgotten.
    pub fn tcp_unlisten(&mut self, listener: ListenerId) {
        let Some(gone) = self.listeners.get_mut(listener.0) else { return };
        let waiting = std::mem::take(&mut gone.accept_queue);
        let claims = std::mem::take(&mut gone.claims);
        self.listeners.remove(listener.0);
        self.syn_queue.forget(listener.0);
        for key in waiting {
            self.tcp_close(FlowId(key), true);
        }
        for claim in claims {
            self.claims.release_by_listener(claim);
        }
    }

    /// The flow's (local, remote) endpoints.
    pub fn tcp_endpoints(&self, flow: FlowId) -> Option<(SocketAddr, SocketAddr)> {
        let flow = self.flows.get(flow.0)?;
        Some((flow.key.local(), flow.key.remote()))
    }

    /// How many bytes `tcp_send` would queue now.
    ///
    /// # Errors
    /// As `tcp_send`, but no room is none.
    pub fn tcp_room(&mut self, flow: FlowId) -> Result<usize, Errno> {
        let flow = self.flows.get_mut(flow.0).ok_or(Errno::EPIPE)?;
        if let Some(cause) = flow.cause.take() {
            return Err(cause);
        }
        if flow.is_write_over() {
            return Err(Errno::EPIPE);
        }
        let room = flow.send_room().min(flow.unsent_room());
        if flow.socket().may_send() { Ok(room) } else { Err(Errno::EAGAIN) }
    }

    /// Queues bytes and returns how many. They leave with the next `flush` or `poll`.
    ///
    /// # Errors
    /// - `EAGAIN`: no room, or still connecting.
    /// - The flow's cause (`ECONNRESET`, `ETIMEDOUT`, `ECONNREFUSED`), once.
    /// - `EPIPE`: shut down for writing, or the peer is gone.
    ///
    /// Copies once. Overtakes what waits by `tcp_send_part`. send(2).
    pub fn tcp_send(&mut self, flow: FlowId, bytes: &[u8]) -> Result<usize, Errno> {
        let key = flow.0;
        let flow = self.flows.get_mut(key).ok_or(Errno::EPIPE)?;
        if let Some(cause) = flow.cause.take() {
            return Err(cause);
        }
        if flow.is_write_over() {
            return Err(Errno::EPIPE);
        }
        let room = self.make_send_room(key, bytes.len());
        let flow = self.flows.get_mut(key).ok_or(Errno::EPIPE)?;
        let len = flow.socket_mut().send_slice(&bytes[..bytes.len().min(room)]).map_err(|_| Errno::EAGAIN)?;
        if len == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        self.mark_dirty(key);
        Ok(len)
    }

    /// Moves received bytes into `buf`; 0 is the end of the stream.
    ///
    /// # Errors
    /// - `EAGAIN`: nothing yet.
    /// - The flow's cause, once; then the end of the stream.
    ///
    /// Copies once. recv(2).
    pub fn tcp_recv(&mut self, flow: FlowId, buf: &mut [u8]) -> Result<usize, Errno> {
        let key = flow.0;
        let flow = self.flows.get_mut(key).ok_or(Errno::ENOTCONN)?;
        flow.pass_urgent_byte();
        if flow.socket().recv_queue() == 0 {
            return nothing_to_read(flow);
        }
        let room = buf.len().min(flow.readable_len());
        let len = flow.socket_mut().recv_slice(&mut buf[..room]).map_err(|_| Errno::EAGAIN)?;
        flow.pass_mark();
        self.make_room(key, len);
        Ok(len)
    }

    /// The same without taking the bytes away (MSG_PEEK).
    ///
    /// # Errors
    /// As `tcp_recv`, but the cause stays.
    pub fn tcp_peek(&mut self, flow: FlowId, buf: &mut [u8]) -> Result<usize, Errno> {
        let flow = self.flows.get_mut(flow.0).ok_or(Errno::ENOTCONN)?;
        if flow.socket().recv_queue() > 0 {
            let room = buf.len().min(flow.readable_len());
            return flow.socket_mut().peek_slice(&mut buf[..room]).map_err(|_| Errno::EAGAIN);
        }
        nothing_to_read(flow)
    }

    /// Bytes to read, and bytes that the peer has not acknowledged: SIOCINQ, SIOCOUTQ.
    pub fn tcp_queued(&self, flow: FlowId) -> (usize, usize) {
        let Some(flow) = self.flows.get(flow.0) else { return (0, 0) };
        (flow.socket().recv_queue(), flow.socket().send_queue() + flow.cork.len())
    }

    /// shutdown(2).
    ///
    /// # Errors
    /// - `ENOTCONN`: the flow is over. `ENOBUFS`: no memory for what was corked.
    pub fn tcp_shutdown(&mut self, flow: FlowId, how: How) -> Result<(), Errno> {
        let key = flow.0;
        if how != How::Read {
            self.push(key);
        }
        let flow = self.flows.get_mut(key).ok_or(Errno::ENOTCONN)?;
        if flow.state() == TcpState::Closed {
            return Err(Errno::ENOTCONN);
        }
        if how != How::Read && flow.cork.len() > 0 {
            return Err(Errno::ENOBUFS);
        }
        let before = Before::of(flow);
        flow.shut_read |= how != How::Write;
        if how != How::Read && !flow.shut_write {
            flow.shut_write = true;
            flow.close_send();
        }
        self.report(key, before);
        self.mark_dirty(key);
        Ok(())
    }

    /// close(2): the id is the caller's no longer. Unread bytes, or `reset` (SO_LINGER 0), send a RST (RFC 9293,
    /// 3.6.1); otherwise what is queued goes out, then a FIN, for a bounded time.
    pub fn tcp_close(&mut self, flow: FlowId, reset: bool) {
        let (key, now) = (flow.0, self.now);
        let Some(flow) = self.flows.get(key) else { return };
        if reset || flow.socket().recv_queue() > 0 {
            // What was sent before goes before the RST, as far as it may, though it was held back.
            self.egress(key, now);
        } else {
            self.push(key);
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        // Corked bytes for which there is no memory are lost, and not without a word.
        let reset = reset || flow.cork.len() > 0;
        flow.owner = Owner::Nobody;
        flow.watch.token = 0;
        flow.shut_write = true;
        match flow.socket().state() {
            // Nothing was sent that could need a RST, as in Linux.
            State::SynSent => return self.remove_flow(key),
            State::Closed | State::TimeWait => {}
            _ if reset || flow.socket().recv_queue() > 0 => {
                flow.socket_mut().abort();
                flow.give_up_at = Some(now + flow.system.orphan_len());
            }
            State::FinWait2 => flow.wait_for_fin(now),
            _ => {
                flow.close_send();
                flow.patience.orphaned(now);
            }
        }
        self.mark_dirty(key);
        // One that is over already leaves its 4-tuple to the next at once.
        self.bury_if_over(key, now);
    }

    /// What setsockopt changed. The end of TCP_CORK lets go what waits, and so does TCP_NODELAY (tcp(7)).
    pub fn tcp_set_options(&mut self, flow: FlowId, options: TcpOptions) {
        if let Some(inner) = self.flows.get_mut(flow.0) {
            let (old, before) = (inner.options, Before::of(inner));
            let pushes = (old.corked && !options.corked) || (options.nodelay && !old.nodelay);
            inner.set_options(options);
            self.fit(flow.0);
            if pushes {
                self.push(flow.0);
            }
            // A higher TCP_NOTSENT_LOWAT wakes.
            self.report(flow.0, before);
            self.mark_dirty(flow.0);
        }
    }

    /// TCP_QUICKACK: acknowledges at once, or waits for bytes of our own to go with the ACK; for the time being, as
    /// tcp(7) says.
    pub fn tcp_set_quick_ack(&mut self, flow: FlowId, quick: bool) {
        if let Some(flow) = self.flows.get_mut(flow.0) {
            flow.acks.set_quick(quick);
        }
    }

    /// Whether the flow acknowledges at once now.
    pub fn tcp_quick_ack(&self, flow: FlowId) -> bool {
        self.flows.get(flow.0).is_some_and(|flow| flow.acks.is_quick())
    }

    /// The flow's state.
    pub fn tcp_state(&self, flow: FlowId) -> TcpState {
        self.flows.get(flow.0).map_or(TcpState::Closed, Flow::state)
    }
}

/// What recv(2) says of an empty queue, in the order of Linux's tcp_recvmsg().
fn nothing_to_read(flow: &mut Flow) -> Result<usize, Errno> {
    match flow.cause.take() {
        Some(cause) if !flow.peer_closed => Err(cause),
        cause => {
            flow.cause = cause;
            if flow.is_read_over() { Ok(0) } else { Err(Errno::EAGAIN) }
        }
    }
}
