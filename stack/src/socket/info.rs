//! What is known of a flow: TCP_INFO of tcp(7), as far as the front sees it.

use super::FlowId;
use super::tcp::TcpState;
pub use crate::loss::{Path, Recovery};
use crate::stack::Stack;
pub use crate::tally::Tally;
use crate::{Duration, Instant};

/// A flow as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Its state.
    pub state: TcpState,
    /// Keepalive probes that have not been answered.
    pub probes: u32,
    /// The largest segment that is sent, in bytes of payload.
    pub send_mss: u32,
    /// The largest segment that the peer was asked to send, in bytes of payload.
    pub advertised_mss: u32,
    /// Segments that are sent and not acknowledged, were they all full.
    pub unacknowledged: u32,
    /// Segments that were sent again in the flow's life.
    pub retransmissions: u32,
    /// The path's MTU, in bytes.
    pub path_mtu: u32,
    /// Round trips, congestion control and recovery.
    pub path: Path,
    /// What was sent and received so far.
    pub tally: Tally,
    /// Bytes that are queued and were not sent.
    pub unsent: u32,
    /// The peer's window, and ours as the peer knows it, in bytes.
    pub send_window: u32,
    /// See `send_window`.
    pub receive_window: u32,
    /// How long ago bytes were sent for the first time last; zero if none were.
    pub since_sent: Duration,
    /// How long ago the latest bytes came; zero if none did.
    pub since_data: Duration,
    /// How long ago the peer was last heard.
    pub since_heard: Duration,
    /// Timestamps are exchanged (RFC 7323).
    pub timestamps: bool,
    /// SACK blocks are exchanged (RFC 2018).
    pub sack: bool,
    /// The peer's window shift (RFC 7323), if both ends scale.
    pub peer_window_shift: Option<u8>,
    /// Our own.
    pub window_shift: u8,
}

impl Stack {
    /// TCP_TIMESTAMP: what the flow's clock shows its peer now.
    pub fn tcp_timestamp(&self, flow: FlowId, now: Instant) -> Option<u32> {
        self.flows.get(flow.0).map(|flow| flow.wire.timestamps.clock.show(now))
    }

    /// TCP_INFO; `None` when the flow is gone.
    pub fn tcp_info(&self, flow: FlowId, now: Instant) -> Option<TcpInfo> {
        let flow = self.flows.get(flow.0)?;
        let mtu = self.interfaces[flow.interface].mtu;
        let send_mss = flow.send_mss(mtu);
        Some(TcpInfo {
            state: flow.state(),
            probes: flow.patience.probes(),
            send_mss,
            advertised_mss: flow.wire.advertised_mss() - flow.options_len(),
            unacknowledged: flow.wire.unacknowledged_len().div_ceil(send_mss),
            retransmissions: flow.retransmissions,
            path_mtu: mtu as u32,
            path: flow.loss.path(),
            tally: flow.tally,
            unsent: flow.unsent_len() as u32,
            send_window: flow.wire.send_window(),
            receive_window: flow.wire.advertised_window(),
            since_sent: Some(flow.loss.last_sent())
                .filter(|&at| at > Instant::ZERO)
                .map_or(Duration::ZERO, |at| now - at),
            since_data: flow.acks.received_at().map_or(Duration::ZERO, |at| now - at),
            since_heard: now - flow.patience.heard_at(),
            timestamps: flow.wire.timestamps.recent.is_some(),
            sack: flow.wire.sack.is_permitted(),
            peer_window_shift: flow.wire.peer_window_shift(),
            window_shift: flow.wire.window_shift(),
        })
    }
}
