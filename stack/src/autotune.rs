//! How large a flow's buffers should be: from what its application reads in a round trip (tcp_rcv_space_adjust() of
//! Linux), and from its congestion window (tcp_sndbuf_expand()), up to what setsockopt(2) has fixed.

use crate::flow::Flow;
use crate::limits::{BUFFER_LEN_MAX, RECEIVE_BUFFER_LEN, RTO_INITIAL, SEND_BUFFER_LEN, SEND_WINDOWS};
use crate::receive_window::{Room, capacity_for, first_window};
use crate::socket::tcp::TcpOptions;
use crate::{Duration, Instant};

/// Segments that an application is taken to read in a round trip before anything is known: the sender's initial window.
const FIRST_SPACE_SEGMENTS: u64 = 10;

/// Segments by which the window is larger than what it has to hold, for losses.
const CUSHION_SEGMENTS: u64 = 16;

/// What an application reads.
#[derive(Debug, Default, Clone, Copy)]
pub struct Autotune {
    /// Bytes read since then.
    copied: u32,
    since: Option<Instant>,
    /// Bytes that were read in the round trip before.
    space: u32,
    /// The receive window that the flow could use, in bytes.
    window: u32,
}

impl Autotune {
    /// The application has read so many bytes. True once for each round trip in which it read more than in the one before.
    fn read(&mut self, len: usize, mss: u32, round_trip: Duration, now: Instant) -> bool {
        self.copied = self.copied.saturating_add(len as u32);
        let since = *self.since.get_or_insert(now);
        if now < since + round_trip {
            return false;
        }
        // What was read in a longer time counts for one round trip of it: on a short path a window that held more would
        // only let the sender fill the ring.
        let (took, round_trip) = ((now - since).total_micros().max(1), round_trip.total_micros().max(1));
        let copied = (u64::from(self.copied) as u128 * u128::from(round_trip) / u128::from(took)) as u64;
        let mss = u64::from(mss);
        let space = u64::from(self.space).max(FIRST_SPACE_SEGMENTS * mss);
        (self.copied, self.since) = (0, Some(now));
        if copied <= space {
            return false;
        }
        self.space = copied as u32;
        let steady = 2 * copied + CUSHION_SEGMENTS * mss;
        let growing = steady + 2 * (steady * (copied - space) / space);
        self.window = self.window.max(growing.min(BUFFER_LEN_MAX as u64) as u32);
        true
    }
}

impl TcpOptions {
    /// The receive buffer of a new flow.
    pub(crate) fn receive_len(&self) -> usize {
        match self.receive_buffer as usize {
            0 => RECEIVE_BUFFER_LEN,
            fixed => capacity_for(fixed / 2).min(BUFFER_LEN_MAX),
        }
    }

    /// The send buffer of a new flow.
    pub(crate) fn send_len(&self) -> usize {
        match self.send_buffer as usize {
            0 => SEND_BUFFER_LEN,
            fixed => (fixed / 2).min(BUFFER_LEN_MAX),
        }
    }

    /// The largest receive window. Half of SO_RCVBUF is for what the kernel spends beside the bytes (tcp(7)).
    fn window_max(&self) -> usize {
        let or_none = |bound: u32| if bound > 0 { bound as usize } else { usize::MAX };
        or_none(self.receive_buffer / 2).min(or_none(self.window_clamp))
    }

    /// The window of a SYN.
    pub(crate) fn first_window(&self) -> u16 {
        first_window(self.receive_len()).min(self.window_max().try_into().unwrap_or(u16::MAX))
    }
}

impl Flow {
    /// The room that there is for what is received.
    pub fn room(&self, is_scarce: bool) -> Room {
        let socket = self.socket();
        Room {
            capacity: socket.recv_capacity(),
            unread: socket.recv_queue(),
            clamp: self.options.window_max(),
            first: self.options.first_window(),
            is_scarce,
        }
    }

    /// Follows what the application reads. True if a larger receive buffer may be of use.
    pub fn has_read(&mut self, len: usize, now: Instant) -> bool {
        let round_trip = match self.loss.round_trip() {
            Duration::ZERO => RTO_INITIAL,
            known => known,
        };
        self.tuning.read(len, self.loss.mss(), round_trip, now)
            && self.wanted_receive_len() > self.socket().recv_capacity()
    }

    /// The receive buffer that the flow could use. It holds what the peer may send already.
    pub fn wanted_receive_len(&self) -> usize {
        let told = self.wire.advertised_window() as usize + self.socket().recv_queue();
        if self.options.receive_buffer > 0 {
            return self.options.receive_len().max(told);
        }
        let useful = self.tuning.window.max(self.options.receive_lowat) as usize;
        let len = capacity_for(told.max(useful)).next_power_of_two();
        let len_max = if self.wire.peer_window_shift().is_some() { BUFFER_LEN_MAX } else { RECEIVE_BUFFER_LEN };
        len.clamp(RECEIVE_BUFFER_LEN, len_max)
    }

    /// The bytes that the application may queue: as many as SO_SNDBUF says, or some congestion windows.
    pub fn send_limit(&self) -> usize {
        let windows = (self.loss.window_bytes() as usize).saturating_mul(SEND_WINDOWS);
        let capacity = self.socket().send_capacity();
        let limit = if self.options.send_buffer > 0 {
            self.options.send_len()
        } else if self.established {
            windows.clamp(SEND_BUFFER_LEN, BUFFER_LEN_MAX).next_power_of_two().max(capacity)
        } else {
            SEND_BUFFER_LEN.max(capacity)
        };
        // A buffer that is there and cannot be changed for a larger one now, as before a closed window or without memory, is
        // all there is.
        if capacity > 0 && (self.is_send_stuck || !self.can_move()) { limit.min(capacity) } else { limit }
    }

    /// How many bytes more may be queued.
    pub fn send_room(&self) -> usize {
        self.send_limit().saturating_sub(self.socket().send_queue() + self.cork.len())
    }

    /// Whether there is room worth waking a writer for: Linux's sk_stream_is_writeable asks for a third of the buffer.
    pub fn has_send_room(&self) -> bool {
        let socket = self.socket();
        let (capacity, queued) = (socket.send_capacity(), socket.send_queue());
        let is_third_free = |limit: usize| limit.saturating_sub(queued) * 3 >= limit;
        (self.options.send_buffer == 0 && capacity > 0 && is_third_free(capacity)) || is_third_free(self.send_limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    /// The window after a round trip in each of which so many bytes were read.
    fn window_after(reads: &[usize]) -> u32 {
        let (mut tuning, mut now) = (Autotune::default(), Instant::from_secs(1));
        tuning.read(0, 1000, RTT, now);
        for &len in reads {
            tuning.read(len, 1000, RTT, now);
            now += RTT;
            tuning.read(0, 1000, RTT, now);
        }
        tuning.window
    }

    #[test]
    fn the_window_holds_twice_what_is_read_in_a_round_trip() {
        assert_eq!(window_after(&[10_000]), 0);
        assert_eq!(window_after(&[20_000]), 56_000 + 2 * 56_000);
        assert_eq!(window_after(&[20_000, 20_000]), window_after(&[20_000]));
        assert_eq!(window_after(&[1_000_000, 1_010_000]), BUFFER_LEN_MAX as u32);
    }

    #[test]
    fn what_is_read_within_a_round_trip_counts_together() {
        let (mut tuning, now) = (Autotune::default(), Instant::from_secs(1));
        assert!(!(0..20).any(|_| tuning.read(1000, 1000, RTT, now)));
        assert!(tuning.read(0, 1000, RTT, now + RTT));
        assert!(!tuning.read(20_000, 1000, RTT, now + RTT + RTT));
    }

    #[test]
    fn a_late_read_counts_for_one_round_trip() {
        let (mut tuning, now) = (Autotune::default(), Instant::from_secs(1));
        tuning.read(0, 1000, RTT, now);
        assert!(!tuning.read(100_000, 1000, RTT, now + RTT * 10));
        assert!(tuning.read(40_000, 1000, RTT, now + RTT * 12));
    }

    #[test]
    fn setsockopt_fixes_the_sizes() {
        let options = TcpOptions { receive_buffer: 8192, send_buffer: 4608, ..TcpOptions::default() };
        assert_eq!((options.first_window(), options.send_len(), options.window_max()), (4096, 2304, 4096));
        let clamped = TcpOptions { window_clamp: 2000, ..options };
        assert_eq!((clamped.first_window(), clamped.window_max()), (2000, 2000));
        assert_eq!(TcpOptions::default().first_window(), 61_440);
    }
}
