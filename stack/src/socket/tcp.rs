//! TCP sockets: connect, listen, accept, send, recv, shutdown, close, as tcp(7) says, never blocking.

use super::{FlowId, ListenerId};
use crate::stack::Stack;
use crate::{Errno, Instant};
use std::net::{IpAddr, SocketAddr};

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

/// What setsockopt has asked of a flow; a listener's are inherited by what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// SO_KEEPALIVE, with TCP_KEEPIDLE in seconds.
    pub keepalive_s: Option<u32>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions { nodelay: false, keepalive_s: None }
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
    TimeWait = 6,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

#[allow(unused_variables)]
impl Stack {
    /// Opens a flow from `local` (address and port both chosen) to `remote`: claims the port and sends a SYN.
    /// Established or failed, the flow becomes `WRITABLE`, or `ERROR | HANGUP` and so on as on Linux.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`: this 4-tuple is taken. `ENETUNREACH`, `EHOSTUNREACH`: no route. `ENOBUFS`: a bound reached.
    pub fn tcp_connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        options: TcpOptions,
        token: u64,
        now: Instant,
    ) -> Result<FlowId, Errno> {
        todo!()
    }
    /// Where an opening flow stands: `Ok` established (now or ever), `EINPROGRESS` not yet. A failure is not said
    /// here: see `tcp_take_error`.
    pub fn tcp_connected(&self, flow: FlowId) -> Result<(), Errno> {
        todo!()
    }
    /// SO_ERROR: the flow's cause of death, said once.
    pub fn tcp_take_error(&mut self, flow: FlowId) -> Option<Errno> {
        todo!()
    }
    /// Listens. Claims the port. # Errors: `ENOBUFS`.
    pub fn tcp_listen(
        &mut self,
        address: ListenAddress,
        port: u16,
        backlog: usize,
        options: TcpOptions,
        token: u64,
    ) -> Result<ListenerId, Errno> {
        todo!()
    }
    /// listen(2) again: another backlog.
    pub fn tcp_set_backlog(&mut self, listener: ListenerId, backlog: usize) {
        todo!()
    }
    /// Takes an established flow from the accept queue; its token is 0. # Errors: `EAGAIN`.
    pub fn tcp_accept(&mut self, listener: ListenerId) -> Result<FlowId, Errno> {
        todo!()
    }
    /// Closes a listener: flows that nobody accepted are reset.
    pub fn tcp_unlisten(&mut self, listener: ListenerId, now: Instant) {
        todo!()
    }
    /// The flow's (local, remote) endpoints.
    pub fn tcp_endpoints(&self, flow: FlowId) -> Option<(SocketAddr, SocketAddr)> {
        todo!()
    }
    /// Queues bytes and returns how many. They leave with the next `flush` or `poll`.
    ///
    /// # Errors
    /// `EAGAIN`: no room, or still connecting. `EPIPE`: shut down for writing, or the peer is gone. The flow's
    /// cause (`ECONNRESET`, `ETIMEDOUT`, `ECONNREFUSED`), once.
    pub fn tcp_send(&mut self, flow: FlowId, bytes: &[u8]) -> Result<usize, Errno> {
        todo!()
    }
    /// Moves received bytes into `buf`; 0 is the end of the stream.
    ///
    /// # Errors
    /// `EAGAIN`: nothing yet. `ENOTCONN`: never connected. The flow's cause, once; then 0.
    pub fn tcp_recv(&mut self, flow: FlowId, buf: &mut [u8]) -> Result<usize, Errno> {
        todo!()
    }
    /// The same, from `offset` bytes into the queue on, and leaves the bytes there (MSG_PEEK).
    pub fn tcp_peek(&mut self, flow: FlowId, offset: usize, buf: &mut [u8]) -> Result<usize, Errno> {
        todo!()
    }
    /// Bytes (to read, not yet acknowledged by the peer): SIOCINQ, SIOCOUTQ.
    pub fn tcp_queued(&self, flow: FlowId) -> (usize, usize) {
        todo!()
    }
    /// shutdown(2). # Errors: `ENOTCONN`.
    pub fn tcp_shutdown(&mut self, flow: FlowId, how: How) -> Result<(), Errno> {
        todo!()
    }
    /// close(2): the id is the caller's no longer. Unread bytes, or `reset` (SO_LINGER 0), send a RST; otherwise
    /// what is queued goes out, then a FIN.
    pub fn tcp_close(&mut self, flow: FlowId, reset: bool) {
        todo!()
    }
    /// What setsockopt changed.
    pub fn tcp_set_options(&mut self, flow: FlowId, options: TcpOptions) {
        todo!()
    }
    /// The flow's state.
    pub fn tcp_state(&self, flow: FlowId) -> TcpState {
        todo!()
    }
}
