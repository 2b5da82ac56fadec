//! The receive window (RFC 9293, 3.8.6.2; RFC 7323, 2): what the peer was told, what it may be told, and where smoltcp
//! takes the right edge to be.
//!
//! smoltcp says how much room its buffer has, in a scale that follows from the buffer's size. The wire's scale is fixed
//! by our SYN for the largest buffer that there may be. So each window field is written anew here, never beyond
//! smoltcp's own edge: what lies behind that it would drop, or worse (a FIN that it has trimmed the bytes off).

use crate::limits::{RECEIVE_BUFFER_LEN, SCARCE_WINDOW_SEGMENTS, WINDOW_SHIFT};
use crate::packet::{ACK, MSS_DEFAULT, RST, SYN, Segment, set_window};
use crate::time_wait::after;

/// What of a buffer is never offered, as a shift: a sixteenth. An edge that is not a multiple of the scale is rounded up
/// when it is told again, and so creeps on with every ACK, by half the scale on average.
const MARGIN_SHIFT: u32 = 4;

/// Ethernet's.
const SEGMENT_LEN_TYPICAL: u16 = 1460;

/// The window of a buffer with nothing in it.
pub const fn window_of(capacity: usize) -> usize {
    capacity - (capacity >> MARGIN_SHIFT)
}

/// The buffer for a window.
pub const fn capacity_for(window: usize) -> usize {
    window + window / ((1 << MARGIN_SHIFT) - 1) + 1
}

/// The window of a SYN that takes this buffer.
pub fn first_window(capacity: usize) -> u16 {
    window_of(capacity.min(RECEIVE_BUFFER_LEN)).min(usize::from(u16::MAX)) as u16
}

/// How much room a flow has for what it receives.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of the buffer that smoltcp has.
    pub capacity: usize,
    /// Of which these wait to be read.
    pub unread: usize,
    /// The largest window that the application allows (SO_RCVBUF, TCP_WINDOW_CLAMP).
    pub clamp: usize,
    /// The window of our SYN.
    pub first: u16,
    /// Memory is scarce.
    pub is_scarce: bool,
}

impl Room {
    /// The window to offer to a peer whose segments are so long: __tcp_select_window() of Linux, which avoids silly ones
    /// (RFC 9293, 3.8.6.2.2).
    fn offer(&self, segment_len: usize) -> usize {
        let whole = window_of(self.capacity);
        let full = whole.min(self.clamp);
        let mut free = whole.saturating_sub(self.unread);
        if free < full / 2 {
            if free < whole / 16 || free < segment_len.min(full) {
                return 0;
            }
            if self.is_scarce {
                free = free.min(segment_len * SCARCE_WINDOW_SEGMENTS);
            }
        }
        free.min(full)
    }
}

/// The receive window of a flow, in the wire's numbers.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveWindow {
    /// The furthest right edge that the peer was told of.
    right_edge: u32,
    /// The ACK that it was told last.
    acked: u32,
    /// The right edge of smoltcp.
    engine_edge: u32,
    /// The longest payload that has come, up to the length of a usual segment: some are joined on their way.
    segment_len: u16,
    /// Both ends scale.
    scales: bool,
    /// An ACK is to go out, with or without bytes.
    is_due: bool,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        ReceiveWindow {
            right_edge: 0,
            acked: 0,
            engine_edge: 0,
            segment_len: MSS_DEFAULT,
            scales: false,
            is_due: false,
        }
    }
}

impl ReceiveWindow {
    /// The peer's SYN has come: nothing of ours has been offered yet.
    pub fn begin(&mut self, rcv_nxt: u32, scales: bool) {
        (self.right_edge, self.acked, self.engine_edge) = (rcv_nxt, rcv_nxt, rcv_nxt);
        self.scales = scales;
    }

    /// The shift of our window field.
    pub fn shift(&self) -> u8 {
        if self.scales { WINDOW_SHIFT } else { 0 }
    }

    /// The furthest right edge that the peer was told of.
    pub fn edge(&self) -> u32 {
        self.right_edge
    }

    /// The window as the peer knows it, in bytes.
    pub fn current(&self, rcv_nxt: u32) -> u32 {
        // A FIN may lie beyond the edge.
        (self.right_edge.wrapping_sub(rcv_nxt) as i32).max(0) as u32
    }

    /// How many bytes from `seq` on may be given to smoltcp: told of, within smoltcp's own edge, and with room.
    pub fn room_from(&self, seq: u32, rcv_nxt: u32, free: u32) -> i32 {
        let edges = [self.right_edge, self.engine_edge, rcv_nxt.wrapping_add(free)];
        edges.iter().map(|edge| edge.wrapping_sub(seq) as i32).min().unwrap_or(0)
    }

    /// smoltcp is given a segment with so many bytes.
    pub fn received(&mut self, len: u16) {
        self.segment_len = self.segment_len.max(len.min(SEGMENT_LEN_TYPICAL));
    }

    /// Writes the window of a segment of smoltcp's anew. The checksum is not corrected.
    pub fn tell(&mut self, packet: &mut [u8], segment: &mut Segment, room: &Room) {
        if segment.has(RST) {
            return;
        }
        let engine = u32::from(segment.window) << self.engine_shift(room.capacity);
        self.moved(segment.ack, segment.window, room.capacity);
        let field = match segment.has(SYN) {
            // RFC 7323, 2.2: the window of a SYN is never scaled.
            true => room.first,
            false => {
                let offer = room.offer(self.segment_len.into()) as u32;
                self.field(offer.min(engine), self.current(segment.ack), engine)
            }
        };
        set_window(packet, segment, field);
    }

    /// Whether the ACK or the window of a segment says something new.
    pub fn is_news(&self, segment: &Segment) -> bool {
        let right_edge = segment.ack.wrapping_add(u32::from(segment.window) << self.shift());
        segment.ack != self.acked || after(right_edge, self.right_edge)
    }

    /// A segment with an ACK goes out.
    pub fn sent(&mut self, segment: &Segment) {
        let shift = if segment.has(SYN) { 0 } else { self.shift() };
        let right_edge = segment.ack.wrapping_add(u32::from(segment.window) << shift);
        if after(right_edge, self.right_edge) {
            self.right_edge = right_edge;
        }
        if segment.has(ACK) {
            self.acked = segment.ack;
            self.is_due = false;
        }
    }

    /// The window field of an ACK of the front's own, which goes out; the right edge stays where it is.
    pub fn tell_again(&mut self, rcv_nxt: u32) -> u16 {
        let current = self.current(rcv_nxt);
        let bound = (self.engine_edge.wrapping_sub(rcv_nxt) as i32).max(0) as u32;
        let field = self.field(current, current, bound);
        let right_edge = rcv_nxt.wrapping_add(u32::from(field) << self.shift());
        if after(right_edge, self.right_edge) {
            self.right_edge = right_edge;
        }
        (self.acked, self.is_due) = (rcv_nxt, false);
        field
    }

    /// Moves the right edge on as far as there is room; smoltcp need not know where its own is further on.
    pub fn widen(&mut self, rcv_nxt: u32, room: &Room) {
        let bound = self.engine_edge.wrapping_sub(rcv_nxt) as i32;
        let offer = (room.offer(self.segment_len.into()) as u32).min(bound.max(0) as u32);
        let right_edge = rcv_nxt.wrapping_add(offer >> self.shift() << self.shift());
        if after(right_edge, self.right_edge) {
            self.right_edge = right_edge;
        }
    }

    /// Whether the peer is to be told of the room that there is now: it has doubled (tcp_cleanup_rbuf() of Linux).
    pub fn has_doubled(&self, rcv_nxt: u32, room: &Room) -> bool {
        let current = self.current(rcv_nxt) as usize;
        if current * 2 > window_of(room.capacity).min(room.clamp) {
            return false;
        }
        let offer = room.offer(self.segment_len.into());
        offer > 0 && offer >= current * 2
    }

    /// An ACK is to go out as soon as possible.
    pub fn set_due(&mut self) {
        self.is_due = true;
    }

    /// Whether an ACK is to go out.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// Whether bytes have come that the peer has no ACK of.
    pub fn owes_ack(&self, rcv_nxt: u32) -> bool {
        self.acked != rcv_nxt
    }

    /// smoltcp has said so in a segment that goes nowhere. It takes the window of a SYN for a scaled one.
    pub fn moved(&mut self, ack: u32, field: u16, capacity: usize) {
        self.engine_edge = ack.wrapping_add(u32::from(field) << self.engine_shift(capacity));
    }

    /// smoltcp has no buffer for the time being; the edge stays what it is, up to its rounding.
    pub fn suspended(&mut self) {
        self.engine_edge = self.right_edge.wrapping_add(1 << self.shift());
    }

    /// The scale that smoltcp uses with this buffer.
    fn engine_shift(&self, capacity: usize) -> u32 {
        if self.scales { (usize::BITS - capacity.leading_zeros()).saturating_sub(16) } else { 0 }
    }

    /// The field for a window, where the peer has one of `current` bytes: the edge does not move left, if `bound` allows
    /// that it be rounded up; else by less than the scale (RFC 7323, 2.4).
    fn field(&self, window: u32, current: u32, bound: u32) -> u16 {
        let shift = self.shift();
        let up = current.div_ceil(1 << shift);
        let kept = if up << shift <= bound { up } else { current >> shift };
        (window >> shift).max(kept).min(u16::MAX.into()) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room =
        Room { capacity: 1 << 16, unread: 0, clamp: usize::MAX, first: first_window_const(), is_scarce: false };

    const fn first_window_const() -> u16 {
        window_of(1 << 16) as u16
    }

    /// Both ends scale; the peer knows of `current` bytes from 1000 on, smoltcp of so many.
    fn told(current: u32, engine: u32) -> ReceiveWindow {
        let mut window = ReceiveWindow::default();
        window.begin(1000, true);
        (window.right_edge, window.engine_edge) = (1000 + current, 1000 + engine);
        window
    }

    #[test]
    fn a_buffer_is_large_enough_for_its_window() {
        for window in [1, 14, 15, 16, 1000, 61_440, 61_441, 6 << 20] {
            assert!(window_of(capacity_for(window)) >= window, "{window}");
        }
        assert_eq!((first_window(1 << 16), first_window(8 << 20), first_window(1600)), (61_440, 61_440, 1500));
    }

    #[test]
    fn rfc9293_3_8_6_2_2_no_silly_window() {
        let check = |unread, clamp, is_scarce, expected| {
            assert_eq!(Room { unread, clamp, is_scarce, ..ROOM }.offer(1460), expected, "{unread} {clamp}");
        };
        check(0, usize::MAX, false, 61_440);
        check(40_000, usize::MAX, false, 21_440);
        check(57_600, usize::MAX, false, 3840);
        check(57_601, usize::MAX, false, 0);
        check(65_536, usize::MAX, false, 0);
        check(0, 1000, false, 1000);
        check(40_000, usize::MAX, true, 1460 * SCARCE_WINDOW_SEGMENTS);
        check(0, usize::MAX, true, 61_440);
        assert_eq!(Room { capacity: 1600, unread: 200, ..ROOM }.offer(1460), 1300);
        assert_eq!(Room { capacity: 1600, unread: 1000, ..ROOM }.offer(1460), 0);
    }

    #[test]
    fn rfc7323_2_4_the_edge_does_not_move_left() {
        // Windows as (offered, current, bound), and the field in units of 128 bytes.
        let check = |window, current, bound, expected| {
            assert_eq!(told(0, 0).field(window, current, bound), expected, "{window} {current} {bound}");
        };
        check(61_440, 0, 65_536, 480);
        check(0, 1000, 65_536, 8);
        check(1000, 1000, 1023, 7);
        check(61_440, 61_441, 61_567, 480);
        check(61_440, 61_441, 61_568, 481);
        check(u32::MAX, 0, u32::MAX, u16::MAX);
    }

    #[test]
    fn nothing_passes_any_edge() {
        let window = told(500, 400);
        assert_eq!(window.room_from(1000, 1000, 1000), 400);
        assert_eq!(window.room_from(1100, 1000, 1000), 300);
        assert_eq!(window.room_from(1000, 1000, 300), 300);
        assert_eq!(told(200, 400).room_from(1000, 1000, 300), 200);
    }

    #[test]
    fn an_update_goes_no_further_than_smoltcps_edge() {
        let mut window = told(128, 1024);
        assert!(window.has_doubled(1000, &ROOM));
        window.widen(1000, &ROOM);
        assert_eq!((window.current(1000), window.tell_again(1000)), (1024, 8));
        assert!(!told(40_000, 40_000).has_doubled(1000, &ROOM));
        assert!(!told(0, 40_000).has_doubled(1000, &Room { unread: 60_000, ..ROOM }));
    }

    #[test]
    fn an_ack_of_our_own_keeps_the_edge() {
        let mut window = told(1000, 1200);
        assert_eq!((window.tell_again(1000), window.current(1000)), (8, 1024));
        let mut window = told(1000, 1000);
        assert_eq!((window.tell_again(1000), window.current(1000)), (7, 1000));
    }
}
