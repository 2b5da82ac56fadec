//! Bytes that wait for more (TCP_CORK and MSG_MORE of tcp(7) and send(2)): full segments leave, and the rest when it is
//! pushed, or after a while.
//!
//! smoltcp sends whatever it has, so what is to wait does not reach it yet.

use crate::flow::Flow;
use crate::limits::RTO_MIN;
use crate::slab::Key;
use crate::socket::FlowId;
use crate::stack::Stack;
use crate::{Errno, Instant};

/// What of a flow waits: less than a segment.
#[derive(Debug)]
pub struct Cork {
    bytes: Vec<u8>,
    since: Instant,
}

impl Cork {
    /// Nothing waits.
    pub fn new() -> Self {
        Cork { bytes: Vec::new(), since: Instant::ZERO }
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Flow {
    /// When what waits is pushed if nobody asks: 200 ms after the peer was last heard, once all else is acknowledged. What
    /// waits by MSG_MORE does so until the next ACK at most. As Linux's tcp_check_probe_timer() and
    /// tcp_data_snd_check() have it.
    pub fn push_at(&self) -> Option<Instant> {
        let (since, heard_at) = (self.cork.since, self.patience.heard_at());
        let (queued, capacity) = (self.socket().send_queue(), self.socket().send_capacity());
        // The ACK that makes room asks again.
        let is_full = capacity > 0 && queued == capacity;
        if self.cork.len() == 0 || self.is_closed() || is_full {
            return None;
        }
        if !self.options.corked && heard_at > since {
            return Some(since);
        }
        (self.loss.flight() == 0).then(|| since.max(heard_at) + self.loss.path().timeout.max(RTO_MIN))
    }
}

impl Stack {
    /// `tcp_send` with MSG_MORE (`more`), or on a socket that may be corked.
    ///
    /// # Errors
    /// As `tcp_send`.
    pub fn tcp_send_part(&mut self, flow: FlowId, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let key = flow.0;
        let inner = self.flows.get(key).ok_or(Errno::EPIPE)?;
        let (mss, held_len) = (inner.loss.mss() as usize, inner.cork.len());
        if !more && !inner.options.corked {
            self.push(key);
            return self.tcp_send(flow, bytes);
        }
        let room = self.tcp_room(flow)?.min(self.make_send_room(key, bytes.len()));
        if room == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        let bytes = &bytes[..bytes.len().min(room)];
        let full_len = (held_len + bytes.len()) / mss * mss;
        let (leaving, waiting) = bytes.split_at(full_len.saturating_sub(held_len));
        if full_len > 0 {
            self.push(key);
            let len = self.tcp_send(flow, leaving)?;
            if len < leaving.len() {
                return Ok(len);
            }
        }
        let now = self.now;
        if let Some(inner) = self.flows.get_mut(key)
            && !waiting.is_empty()
        {
            inner.cork.bytes.extend_from_slice(waiting);
            inner.cork.since = now;
            // Its time is to be noted.
            self.mark_dirty(key);
        }
        Ok(bytes.len())
    }

    /// Lets go what waits.
    pub(crate) fn push(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.cork.len() == 0 || flow.cause.is_some() || flow.is_write_over() {
            return;
        }
        let mut bytes = std::mem::take(&mut flow.cork.bytes);
        // There is room, but where even a small buffer is not to be had: what waits counts as queued.
        let len = self.tcp_send(FlowId(key), &bytes).unwrap_or(0);
        bytes.drain(..len);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.cork.bytes = bytes;
        }
    }
}
