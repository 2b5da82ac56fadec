//! What TCP makes of an ICMP error about a segment of its own: RFC 1122, 4.2.3.9, with RFC 5927's care, as Linux's
//! tcp_v4_err() and tcp_v6_err() have it.
//!
//! A connect(2) fails. Everybody else goes on trying: the network may come back, and the error may be forged. What it
//! says is remembered, for the case that the peer stays silent.

use crate::Instant;
use crate::icmp::{Fate, IcmpError, Reason};
use crate::rx::Before;
use crate::slab::Key;
use crate::stack::Stack;
use crate::syn_queue::Standing;
use smoltcp::socket::tcp::State;

impl Stack {
    /// An ICMP error that quotes a segment of ours.
    pub(crate) fn receive_error(&mut self, error: &IcmpError, now: Instant) {
        self.counters.icmp_errors += 1;
        let Some(key) = self.flow_table.get(&error.flow) else { return self.receive_half_open_error(error) };
        let Some(flow) = self.flows.get(key) else { return };
        let state = flow.socket().state();
        if matches!(state, State::Closed | State::TimeWait) || !flow.wire.may_be_under_way(error.seq) {
            self.counters.drop_icmp += 1;
            return;
        }
        match error.fate {
            Fate::TooBig(mtu) => self.shrink_path(key, error, mtu, now),
            Fate::Undelivered(reason) if matches!(state, State::SynSent | State::SynReceived) => {
                self.give_up(key, reason.errno);
            }
            Fate::Undelivered(reason) => self.remember_error(key, error.seq, reason),
        }
    }

    /// An open flow: the error counts if the peer stays silent, or at once for who asked for that (IP_RECVERR).
    fn remember_error(&mut self, key: Key, seq: u32, reason: Reason) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if reason.is_routing {
            flow.loss.revert_backoff(seq);
        }
        let before = Before::of(flow);
        match flow.ip_options().errors_are_hard {
            true => flow.cause = Some(reason.errno),
            false => flow.soft_error = Some(reason.errno),
        }
        self.report(key, before);
        self.mark_dirty(key);
    }

    /// The SYN-ACK of a half-open flow cannot be delivered: it is forgotten, without a word to the listener.
    fn receive_half_open_error(&mut self, error: &IcmpError) {
        match (self.syn_queue.get(&error.flow), error.fate) {
            (Some(Standing { half_open, .. }), Fate::Undelivered(reason))
                if error.seq == half_open.isn && reason.ends_half_open =>
            {
                self.leave_syn_queue(&error.flow, half_open.listener);
            }
            _ => self.counters.drop_icmp += 1,
        }
    }
}
