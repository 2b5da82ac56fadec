//! How long a flow waits for a peer that is silent: give-up times and keepalive, after Linux (tcp_timer.c) and
//! RFC 9293, 3.8.3, 3.8.4 and 3.8.6.1.
//!
//! Times are reckoned from when the first unacknowledged byte went out, or from the latest progress, so that they do
//! not depend on how often it was sent again.

use crate::flow::{Flow, Owner};
use crate::rx::Before;
use crate::slab::Key;
use crate::stack::Stack;
use crate::wire_state::WireState;
use crate::{Duration, Errno, Instant};
use smoltcp::socket::tcp::State;
use smoltcp::wire::TcpRepr;

/// What a silence leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A segment that the peer has to answer.
    Probe,
    /// The end, without a word.
    GiveUp,
    /// The end, with a RST: keepalive was not answered.
    Reset,
    /// Bytes that have waited long enough for more.
    Push,
}

/// Since when a flow has been waiting.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// SND.UNA, where something is unacknowledged.
    oldest: Option<u32>,
    /// When `oldest` changed.
    since: Instant,
    /// Since when nothing of what is to be sent could be, for want of a way.
    blocked_since: Option<Instant>,
    /// When the latest acceptable segment came.
    heard_at: Instant,
    /// Probes of ours since then, and when the latest one went out.
    probes: u32,
    probed_at: Instant,
}

impl Patience {
    /// Nothing sent, nothing heard.
    pub fn new() -> Self {
        let start = Instant::ZERO;
        Patience { oldest: None, since: start, blocked_since: None, heard_at: start, probes: 0, probed_at: start }
    }

    /// Follows what was sent or acknowledged.
    pub fn follow(&mut self, wire: &WireState, now: Instant) {
        let oldest = wire.oldest_unacknowledged();
        if oldest != self.oldest {
            self.oldest = oldest;
            self.since = now;
            self.blocked_since = None;
        }
    }

    /// There is no way for what is to be sent.
    pub fn blocked(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    /// A segment of the peer was taken.
    pub fn heard(&mut self, wire: &WireState, now: Instant) {
        self.heard_at = now;
        self.probes = 0;
        self.follow(wire, now);
    }

    /// When the peer was last heard.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Keepalive probes that have not been answered.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// The owner has closed the flow: from now on what is queued has a bounded time.
    pub fn orphaned(&mut self, now: Instant) {
        if self.oldest.is_none() {
            self.since = now;
        }
    }
}

impl Flow {
    /// What comes next if the peer stays silent, and when.
    pub fn due(&self) -> Option<(Instant, Due)> {
        let state_over = self.give_up_at.map(|at| (at, Due::GiveUp));
        let push = self.push_at().map(|at| (at, Due::Push));
        let waiting = [state_over, self.unanswered(), self.keepalive(), push];
        waiting.into_iter().flatten().min_by_key(|&(at, _)| at)
    }

    /// What is unacknowledged stays so for tcp_retries2's time or TCP_USER_TIMEOUT (RFC 5482); an orphan has
    /// tcp_orphan_retries' time to deliver all.
    fn unanswered(&self) -> Option<(Instant, Due)> {
        let patience = &self.patience;
        let is_orphan = self.owner == Owner::Nobody;
        let is_blocked = patience.oldest.is_none() && !is_orphan;
        let since = match patience.blocked_since {
            Some(blocked_since) if is_blocked && self.is_undelivered() => blocked_since,
            _ if is_blocked => return None,
            _ => patience.since,
        };
        if matches!(self.socket().state(), State::Closed | State::Listen | State::FinWait2 | State::TimeWait) {
            return None;
        }
        let at = match self.options.user_timeout() {
            // As in Linux, not before it was sent again for once.
            Some(timeout) => since + timeout.max(self.loss.path().timeout + Duration::from_millis(10)),
            None if is_orphan => patience.since + self.system.orphan_len(),
            // The opening has times of its own.
            None if !self.established => return None,
            // A peer that answers with a closed window is alive (RFC 9293, 3.8.6.1).
            None if self.wire.is_window_closed() => {
                patience.since.max(patience.heard_at) + self.system.unanswered_len()
            }
            None => since + self.system.unanswered_len(),
        };
        Some((at, Due::GiveUp))
    }

    /// SO_KEEPALIVE: after TCP_KEEPIDLE of silence a probe each TCP_KEEPINTVL; the end after TCP_KEEPCNT of them, or
    /// after TCP_USER_TIMEOUT. tcp_keepalive_timer() of Linux.
    fn keepalive(&self) -> Option<(Instant, Due)> {
        let (patience, options) = (&self.patience, &self.options);
        let is_waiting = patience.oldest.is_some() || self.socket().send_queue() > 0;
        if !options.keepalive || is_waiting || !self.established || self.is_closed() || self.is_waiting_out() {
            return None;
        }
        let (idle_s, interval_s, probes_max) = options.keepalive_times(&self.system);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let at = match patience.probes {
            0 => patience.heard_at + seconds(idle_s),
            _ => patience.probed_at + seconds(interval_s),
        };
        let is_last = match options.user_timeout() {
            Some(timeout) => patience.probes > 0 && at >= patience.heard_at + timeout,
            None => patience.probes >= probes_max,
        };
        Some((at, if is_last { Due::Reset } else { Due::Probe }))
    }
}

impl Stack {
    /// Does what a flow's peer has brought about by its silence.
    pub(crate) fn lose_patience(&mut self, key: Key, due: Due, now: Instant) {
        self.counters.flows_timed_out += u64::from(matches!(due, Due::GiveUp | Due::Reset));
        match due {
            Due::Probe => self.probe(key, now),
            Due::GiveUp => self.give_up(key, self.why_silent(key)),
            Due::Reset => self.reset(key),
            Due::Push => self.push(key),
        }
        self.mark_dirty(key);
    }

    /// Sends a byte's number that the peer has had, and no byte: it has to say where it stands (RFC 9293, 3.8.4).
    fn probe(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.patience.probes += 1;
        flow.patience.probed_at = now;
        let Some(next_hop) = self.next_hop_of(key, now) else { return };
        let Some(flow) = self.flows.get_mut(key) else { return };
        let (flow_key, link, stands) = (flow.key, flow.link, flow.wire.bare_ack(&flow.key, now));
        let (header, fields) = (&next_hop.header[..usize::from(next_hop.header_len)], flow.ip_fields());
        let probe = TcpRepr { seq_number: stands.seq_number - 1, ..stands };
        self.counters.probes_sent += 1;
        self.answer(link, header, fields, &flow_key, &probe, now);
    }

    /// What the network has said about a peer that is silent; else merely that it is. tcp_write_err() of Linux.
    fn why_silent(&self, key: Key) -> Errno {
        self.flows.get(key).and_then(|flow| flow.soft_error).unwrap_or(Errno::ETIMEDOUT)
    }

    /// Ends a flow whose peer has not answered keepalive.
    fn reset(&mut self, key: Key) {
        let cause = self.why_silent(key);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let before = Before::of(flow);
        flow.cause = Some(cause);
        flow.give_up_at = None;
        flow.socket_mut().abort();
        self.report(key, before);
    }
}
