//! Who has buffers: a flow that is busy, as large ones as it can use; a flow that is quiet, none. All flows together
//! stay within the pool's bound.

use crate::Instant;
use crate::buffers::Need;
use crate::flow::Flow;
use crate::limits::{BUFFER_LEN_MIN, CROWDED_LEN, QUIET_LEN, QUIET_LOOKS, RECEIVE_BUFFER_LEN};
use crate::receive_window::window_of;
use crate::slab::Key;
use crate::stack::Stack;
use smoltcp::socket::tcp::State;
use std::collections::VecDeque;

/// Flows that have buffers, in the order in which they are looked at, and when.
#[derive(Default)]
pub struct Awake(VecDeque<(Instant, Key)>);

impl Awake {
    /// When a flow is looked at next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.front().map(|&(due, _)| due)
    }
}

impl Flow {
    /// Whether it has no buffers: it gets some when there is something to put into them.
    pub fn is_asleep(&self) -> bool {
        self.socket().recv_capacity() == 0 && self.established
    }

    /// Whether it could do without buffers: nothing is in them, nothing is under way, and no ACK is owed.
    fn is_drained(&self) -> bool {
        let (socket, wire) = (self.socket(), &self.wire);
        socket.recv_queue() == 0
            && socket.send_queue() == 0
            && wire.oldest_unacknowledged().is_none()
            && !wire.window.owes_ack(wire.rcv_nxt)
            && !wire.window.is_due()
    }

    /// Since when nothing has come or gone.
    fn quiet_since(&self) -> Instant {
        self.patience.heard_at().max(self.loss.last_sent())
    }
}

impl Stack {
    /// The bound on all buffers, in bytes. Where it is reached windows do not grow, SYNs are ignored, and connect(2) fails
    /// with ENOBUFS; flows that are quiet lose their buffers first.
    pub fn set_memory_bound(&mut self, len_max: usize) {
        self.buffers.set_bound(len_max);
    }

    /// Bytes of buffers that flows have.
    pub fn memory_held(&self) -> usize {
        self.buffers.held()
    }

    /// Whether there is memory for another flow; flows that are quiet may have to give it.
    pub(crate) fn has_memory_for(&mut self, len: usize) -> bool {
        if !self.buffers.has(len, Need::Beginning) {
            self.reclaim(len);
        }
        self.buffers.has(len, Need::Beginning)
    }

    /// Gives a flow without buffers some: what it would have, or what there is. False if there is none at all.
    pub(crate) fn wake(&mut self, key: Key) -> bool {
        let Some(flow) = self.flows.get(key) else { return false };
        let (wanted, fixed) = (flow.wanted_receive_len(), flow.options.receive_buffer > 0);
        let (receive_len, send_len) = (if fixed { wanted } else { RECEIVE_BUFFER_LEN }, flow.options.send_len());
        let has_woken = (wanted > receive_len && self.rebuild(key, wanted, send_len, Need::Growth))
            || (self.has_memory_for(receive_len + send_len)
                && self.rebuild(key, receive_len, send_len, Need::Beginning))
            || self.rebuild(key, BUFFER_LEN_MIN.min(receive_len), BUFFER_LEN_MIN.min(send_len), Need::Least);
        self.note_use(key);
        has_woken
    }

    /// The application has read so many bytes: the peer may have to be told, or a larger buffer may be of use.
    pub(crate) fn make_room(&mut self, key: Key, len: usize) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        let capacity = flow.socket().recv_capacity();
        let is_short = capacity < RECEIVE_BUFFER_LEN && capacity < flow.options.receive_len();
        // Where packets wait in the ring already, a larger window would only have them overflow it.
        let is_crowded = self.crowded_at.is_some_and(|at| now < at + CROWDED_LEN);
        if (!is_crowded && flow.has_read(len, now)) || is_short {
            self.grow_receive_buffer(key);
        }
        self.note_use(key);
        if self.flows.get(key).is_some_and(|flow| !flow.is_read_over()) {
            self.offer_room(key);
        }
    }

    /// Tells the peer of the room that there is, if that has doubled since it was last told.
    pub(crate) fn offer_room(&mut self, key: Key) {
        let is_scarce = self.buffers.is_scarce();
        let Some(flow) = self.flows.get_mut(key) else { return };
        let room = flow.room(is_scarce);
        if flow.wire.window.has_doubled(flow.wire.rcv_nxt, &room) {
            flow.wire.window.set_due();
            self.mark_dirty(key);
        }
    }

    fn grow_receive_buffer(&mut self, key: Key) {
        let Some(flow) = self.flows.get(key) else { return };
        let (capacity, send_len) = (flow.socket().recv_capacity(), flow.socket().send_capacity());
        let len = self.affordable(flow.wanted_receive_len(), capacity, send_len);
        if len > capacity {
            self.rebuild(key, len, send_len, Need::Growth);
        }
    }

    /// Gives a flow a send buffer for `limit` bytes, or as much as there is. False if it stays as it is.
    pub(crate) fn grow_send_buffer(&mut self, key: Key, limit: usize) -> bool {
        let Some(flow) = self.flows.get(key) else { return false };
        if flow.is_asleep() {
            return self.wake(key);
        }
        let (capacity, receive_len) = (flow.socket().send_capacity(), flow.socket().recv_capacity());
        if capacity >= limit {
            return false;
        }
        let len = self.affordable(limit, capacity, receive_len);
        len > capacity && self.rebuild(key, receive_len, len, Need::Growth)
    }

    /// Has a flow's send buffer take `len` bytes more beside what is corked, if it may and can grow so far. Returns how many
    /// it takes.
    pub(crate) fn make_send_room(&mut self, key: Key, len: usize) -> usize {
        let Some(flow) = self.flows.get_mut(key) else { return 0 };
        let free =
            |flow: &Flow| flow.socket().send_capacity().saturating_sub(flow.socket().send_queue() + flow.cork.len());
        if free(flow) > 0 {
            flow.is_send_stuck = false;
        }
        let (limit, wanted) = (flow.send_limit(), len.min(flow.send_room()));
        while let Some(flow) = self.flows.get(key)
            && free(flow) < wanted
            && self.grow_send_buffer(key, limit)
        {}
        let Some(flow) = self.flows.get_mut(key) else { return 0 };
        flow.is_send_stuck |= free(flow) < wanted && flow.socket().send_capacity() > 0;
        wanted.min(free(flow))
    }

    /// Gives a flow the buffers that setsockopt(2) has fixed; if that cannot be now, they grow when they are full.
    pub(crate) fn fit(&mut self, key: Key) {
        let Some(flow) = self.flows.get(key) else { return };
        let (socket, options) = (flow.socket(), &flow.options);
        let (mut receive_len, mut send_len) = (socket.recv_capacity(), socket.send_capacity());
        let old = (receive_len, send_len);
        if options.receive_buffer > 0 {
            receive_len = flow.wanted_receive_len();
        }
        if options.receive_lowat as usize > window_of(receive_len) {
            receive_len = flow.wanted_receive_len().max(receive_len);
        }
        if options.send_buffer > 0 {
            send_len = options.send_len().max(socket.send_queue() + flow.cork.len());
        }
        if (receive_len, send_len) != old && !flow.is_asleep() {
            self.rebuild(key, receive_len, send_len, Need::Growth);
        }
    }

    /// As much of `wanted` as there is memory for, beside a buffer of `other` bytes; no more than `capacity` is none.
    fn affordable(&self, wanted: usize, capacity: usize, other: usize) -> usize {
        let mut len = wanted;
        while len > capacity && !self.buffers.has(len.next_power_of_two() + other.next_power_of_two(), Need::Growth) {
            len /= 2;
        }
        len
    }

    /// Has a flow be looked at after a while, if it is not to be already.
    pub(crate) fn note_use(&mut self, key: Key) {
        let due = self.now + QUIET_LEN;
        if let Some(flow) = self.flows.get_mut(key)
            && !flow.is_watched
            && flow.established
            && flow.socket().recv_capacity() > 0
        {
            flow.is_watched = true;
            self.awake.0.push_back((due, key));
        }
    }

    /// Takes the buffers of flows that have been quiet for a while.
    pub(crate) fn rest(&mut self, now: Instant) {
        for _ in 0..QUIET_LOOKS {
            let Some((_, key)) = self.awake.0.pop_front_if(|&mut (due, _)| due <= now) else { return };
            let Some(flow) = self.flows.get_mut(key) else { continue };
            flow.is_watched = false;
            let is_quiet = now >= flow.quiet_since() + QUIET_LEN;
            // One with something in its buffers is looked at again when that has changed.
            let is_empty = flow.socket().recv_queue() + flow.socket().send_queue() == 0;
            if is_empty && !(is_quiet && flow.is_drained() && self.sleep(key)) {
                self.note_use(key);
            }
        }
    }

    /// Takes the buffers of flows that do not need them now, those first that were looked at longest ago, until there
    /// are `len` bytes.
    fn reclaim(&mut self, len: usize) {
        for _ in 0..QUIET_LOOKS {
            let Some((_, key)) = self.awake.0.pop_front() else { return };
            let Some(flow) = self.flows.get_mut(key) else { continue };
            flow.is_watched = false;
            if !flow.is_drained() || !self.sleep(key) {
                self.note_use(key);
            }
            if self.buffers.has(len, Need::Beginning) {
                return;
            }
        }
    }

    /// Takes a flow's buffers, in which nothing is. False if that can be done later.
    fn sleep(&mut self, key: Key) -> bool {
        if self.rebuild(key, 0, 0, Need::Least)
            && let Some(flow) = self.flows.get_mut(key)
        {
            flow.wire.window.suspended();
            return true;
        }
        // The others end soon, or never need them again.
        self.flows.get(key).is_none_or(|flow| !matches!(flow.socket().state(), State::Established))
    }
}
