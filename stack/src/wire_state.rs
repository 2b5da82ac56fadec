//! What a flow has told its peer and the peer has told it, read off the segments themselves.
//!
//! smoltcp keeps this to itself; the front needs it for what smoltcp lacks. One place, on the way in and on the way
//! out, for the right-edge guard, the old-ACK rewrite, initial sequence numbers and TIME-WAIT.

use crate::Instant;
use crate::answer;
use crate::flow_table::FlowKey;
use crate::limits::WINDOW_SHIFT;
use crate::packet::{self, ACK, FIN, MSS_DEFAULT, RST, SYN, Segment};
use crate::receive_window::{ReceiveWindow, Room};
use crate::sack::SackBlocks;
use crate::tcp_options::{self, BLOCKS_MAX, Options};
use crate::time_wait::after;
use crate::timestamps::{Clock, Timestamp, Timestamps};
use smoltcp::wire::{TcpRepr, TcpTimestampRepr};

/// Sequence numbers and windows of a flow as they went over the wire.
#[derive(Debug, Default, Clone, Copy)]
pub struct WireState {
    /// SND.NXT: the end of the latest segment that was sent.
    pub snd_nxt: u32,
    /// SND.UNA: the highest ACK that was received; before the first one, our initial sequence number.
    snd_una: u32,
    /// SND.WND: the window that the peer has offered.
    snd_wnd: u32,
    /// MAX.SND.WND: the largest that it ever was.
    snd_wnd_max: u32,
    /// The shift of the peer's window field, if it offered one in its SYN.
    peer_window_shift: Option<u8>,
    /// TCP_MAXSEG.
    segment_max: Option<u16>,
    /// The largest segment that the peer takes, as its SYN said.
    pub peer_mss: Option<u16>,
    /// The largest segment that the peer was asked to send.
    advertised_mss: Option<u16>,
    /// RCV.NXT: the next byte that is expected.
    pub rcv_nxt: u32,
    /// The end of the furthest byte that has come, in order or not.
    furthest: u32,
    /// What the peer may send.
    pub window: ReceiveWindow,
    sent: bool,
    acknowledged: bool,
    /// The peer's SYN has come.
    synchronized: bool,
    /// What both ends' clocks show.
    pub timestamps: Timestamps,
    /// What came out of order.
    pub sack: SackBlocks,
    /// The sequence number that our SYN is to have, until it has it.
    isn: Option<u32>,
    /// What is added to smoltcp's sequence numbers to make them the wire's.
    pub delta: u32,
}

/// What became of a received segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As it came.
    Whole,
    /// Cut at the right edge, or robbed of its FIN.
    Trimmed,
    /// Without room for any of its bytes: its ACK is left of it, and it is answered with one.
    Beyond,
}

impl WireState {
    /// The state of a flow that has sent nothing.
    pub fn new() -> Self {
        WireState::default()
    }

    /// Has the flow begin at this initial sequence number, whatever smoltcp's own is, and by this clock.
    /// No segment in either direction is to be larger than `segment_max` bytes of payload and options.
    pub fn begin_at(&mut self, isn: u32, clock: Clock, segment_max: Option<u16>) {
        (self.isn, self.segment_max) = (Some(isn), segment_max);
        self.timestamps = Timestamps::new(clock);
    }

    /// Puts the ACK of a received segment into smoltcp's numbers: the last thing before smoltcp gets it. All other
    /// numbers here, in and out, are the wire's.
    pub fn translate_in(&self, packet: &mut [u8], segment: &mut Segment) {
        if self.delta != 0 && segment.has(ACK) {
            packet::set_ack(packet, segment, segment.ack.wrapping_sub(self.delta));
        }
    }

    /// Puts a segment of smoltcp's into the wire's numbers, and gives it the window that `room` allows: the first thing
    /// when it has written one.
    pub fn translate_out(&mut self, packet: &mut [u8], segment: &mut Segment, room: &Room) {
        if segment.has(SYN)
            && let Some(isn) = self.isn.take()
        {
            self.delta = isn.wrapping_sub(segment.seq);
        }
        if self.delta != 0 {
            packet::set_seq(packet, segment, segment.seq.wrapping_add(self.delta));
        }
        self.window.tell(packet, segment, room);
    }

    /// The receive window as the peer knows it, in bytes.
    pub fn advertised_window(&self) -> u32 {
        self.window.current(self.rcv_nxt)
    }

    /// SND.UNA.
    pub fn snd_una(&self) -> u32 {
        self.snd_una
    }

    /// SND.WND, in bytes.
    pub fn send_window(&self) -> u32 {
        self.snd_wnd
    }

    /// The number of the first byte that was sent and not acknowledged.
    pub fn oldest_unacknowledged(&self) -> Option<u32> {
        (self.sent && self.snd_una != self.snd_nxt).then_some(self.snd_una)
    }

    /// How many numbers of sequence space are unacknowledged.
    pub fn unacknowledged_len(&self) -> u32 {
        self.snd_nxt.wrapping_sub(self.snd_una)
    }

    /// The largest segment that the peer takes, in bytes; where it has not said so, what RFC 9293, 3.7.1 has.
    pub fn peer_mss(&self) -> u32 {
        self.peer_mss.map_or(MSS_DEFAULT.into(), u32::from)
    }

    /// The largest segment that the peer was asked to send, in bytes.
    pub fn advertised_mss(&self) -> u32 {
        self.advertised_mss.map_or(MSS_DEFAULT.into(), u32::from)
    }

    /// The shift of the peer's window field, if it scales.
    pub fn peer_window_shift(&self) -> Option<u8> {
        self.peer_window_shift
    }

    /// The shift of ours.
    pub fn window_shift(&self) -> u8 {
        self.window.shift()
    }

    /// Whether the peer has said that it has no room.
    pub fn is_window_closed(&self) -> bool {
        self.acknowledged && self.snd_wnd == 0
    }

    /// Whether `seq` is in the receive window (RFC 9293, 3.4).
    pub fn is_in_window(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.rcv_nxt) < self.advertised_window()
    }

    /// Whether something of a segment is in the receive window (RFC 9293, 3.10.7.4, the first check), or at its start where
    /// it is closed. As in Linux, a bare ACK may stand at its end: there is a peer that has filled it.
    pub fn is_acceptable(&self, segment: &Segment) -> bool {
        let end = segment.seq.wrapping_add(segment.payload_len.into());
        let has_fin_next = segment.has(FIN) && end == self.rcv_nxt;
        match segment.payload_len {
            0 => segment.seq == self.rcv_nxt || self.is_in_window(segment.seq) || self.is_bare_ack_at_edge(segment),
            _ => {
                let begins_before_edge = after(self.window.edge(), segment.seq);
                let has_next = after(end, self.rcv_nxt) && self.advertised_window() > 0;
                begins_before_edge && (has_next || has_fin_next)
            }
        }
    }

    fn is_bare_ack_at_edge(&self, segment: &Segment) -> bool {
        segment.sequence_len() == 0 && segment.seq == self.window.edge() && !after(self.rcv_nxt, segment.seq)
    }

    /// Whether `ack` may be the peer's: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT (RFC 5961, 5.2).
    pub fn may_acknowledge(&self, ack: u32) -> bool {
        let oldest = self.snd_una.wrapping_sub(self.snd_wnd_max);
        !after(ack, self.snd_nxt) && !after(oldest, ack)
    }

    /// Whether this is a bare ACK that says nothing but what is known: one that was overtaken on its way.
    pub fn is_stale_ack(&self, segment: &Segment) -> bool {
        let window = u32::from(segment.window) << self.peer_window_shift.unwrap_or(0);
        let is_bare = segment.sequence_len() == 0 && segment.has(ACK);
        is_bare && (segment.seq, segment.ack, window) == (self.rcv_nxt, self.snd_una, self.snd_wnd)
    }

    /// Whether an ICMP error about a segment at `seq` can be about one of ours: SND.UNA <= SEG.SEQ <= SND.NXT (RFC 5927,
    /// 4.1, and Linux, which also takes those about bare ACKs).
    pub fn may_be_under_way(&self, seq: u32) -> bool {
        self.sent && seq.wrapping_sub(self.snd_una) <= self.unacknowledged_len()
    }

    /// An ACK of where the flow stands; the right edge stays where it is.
    pub fn bare_ack(&mut self, key: &FlowKey, now: Instant) -> TcpRepr<'static> {
        let window = self.window.tell_again(self.rcv_nxt);
        let ack = answer::empty(key.local(), key.remote(), self.empty_seq(), Some(self.rcv_nxt));
        let timestamp = self.timestamps.option(now);
        let (blocks, len) = self.sack.tell(self.rcv_nxt, None, 3);
        self.timestamps.sent_ack(self.rcv_nxt);
        TcpRepr {
            window_len: window,
            timestamp: timestamp.map(|timestamp| TcpTimestampRepr::new(timestamp.value, timestamp.echo)),
            sack_ranges: std::array::from_fn(|at| (at < len).then_some(blocks[at])),
            ..ack
        }
    }

    /// The sequence number of a segment that carries nothing: SND.NXT (RFC 9293, 3.10.7.4), or the end of the peer's window
    /// where that has shrunk, or is closed and probed: the peer ignores what is beyond, by more than its scale rounds away.
    fn empty_seq(&self) -> u32 {
        let edge = self.snd_una.wrapping_add(self.snd_wnd);
        let unit = if self.snd_wnd == 0 { 1 } else { 1 << self.peer_window_shift.unwrap_or(0) };
        if self.acknowledged && !after(edge.wrapping_add(unit), self.snd_nxt) { edge } else { self.snd_nxt }
    }

    /// Follows a segment on its way out. True if its first byte was sent before: a retransmission.
    ///
    /// smoltcp gives what carries nothing the number where it stands itself: that is too low while it sends again from
    /// SND.UNA on (two that have to ignore each other's ACKs never end), too high while what it sends is held back.
    pub fn sent(&mut self, packet: &mut [u8], segment: &mut Segment, now: Instant) -> bool {
        self.dress(packet, segment, now);
        if segment.has(RST) {
            // Its numbers are those of the segment that it answers.
            return false;
        }
        if self.sent && segment.sequence_len() == 0 {
            packet::set_seq(packet, segment, self.empty_seq());
        }
        if segment.has(SYN) {
            self.advertised_mss = Options::of(packet, segment).mss;
        }
        self.window.sent(segment);
        if segment.has(ACK) {
            self.rcv_nxt = segment.ack;
            self.timestamps.sent_ack(segment.ack);
        }
        if !self.sent {
            self.snd_una = segment.seq;
        }
        let end = segment.seq.wrapping_add(segment.sequence_len());
        let again = self.sent && segment.sequence_len() > 0 && after(self.snd_nxt, segment.seq);
        if !self.sent || after(end, self.snd_nxt) {
            self.snd_nxt = end;
        }
        self.sent = true;
        again
    }

    /// Follows the RST of a flow that was thrown away on its way out: SND.NXT is the number that the peer believes.
    pub fn aborted(&mut self, packet: &mut [u8], segment: &mut Segment) {
        if self.sent {
            packet::set_seq(packet, segment, self.snd_nxt);
        }
    }

    /// Gives a segment the options that the flow has agreed on with its peer. smoltcp has left room for a timestamp, and
    /// may have named a SACK block.
    fn dress(&mut self, packet: &mut [u8], segment: &mut Segment, now: Instant) {
        if segment.has(SYN) {
            let echo = self.timestamps.recent.filter(|_| segment.has(ACK)).map_or(0, |recent| recent.value);
            let value = self.timestamps.clock.show(now);
            self.bound_segments(packet, segment);
            return tcp_options::dress_syn(packet, segment, Timestamp { value, echo }, WINDOW_SHIFT);
        }
        let timestamp = self.timestamps.option(now);
        if segment.payload_len > 0 {
            if let Some(timestamp) = timestamp {
                tcp_options::stamp(packet, segment, timestamp);
            }
            return;
        }
        let named = Options::of(packet, segment).blocks[0];
        let (blocks, len) = match segment.has(RST) {
            true => ([(0, 0); BLOCKS_MAX], 0),
            false => self.sack.tell(segment.ack, named, if timestamp.is_some() { 3 } else { BLOCKS_MAX }),
        };
        tcp_options::replace(packet, segment, timestamp, &blocks[..len]);
    }

    /// What TCP_MAXSEG does to the SYNs of both sides.
    fn bound_segments(&self, packet: &mut [u8], segment: &Segment) {
        if let Some(max) = self.segment_max {
            tcp_options::bound_mss(packet, segment, max);
        }
    }

    /// Prepares a received segment for smoltcp, which has room for `free` bytes.
    ///
    /// - What lies beyond the right edge, or finds no room, is cut off, and the FIN with it: smoltcp would honour the FIN
    ///   of a segment that it has trimmed itself.
    /// - A FIN in front of bytes that have come out of order is taken away: smoltcp would hand those over, and then the
    ///   end. It counts when it comes again and all before it is there.
    /// - A FIN behind bytes that were all there before loses these: smoltcp would drop it with them.
    /// - Data with an ACK older than the latest gets the latest, with its window: smoltcp would drop the data with it.
    /// - A bare ACK at the right edge is put at the left one: smoltcp would drop it.
    pub fn received(
        &mut self,
        packet: &mut [u8],
        segment: &mut Segment,
        options: &Options,
        free: u32,
        now: Instant,
    ) -> Admission {
        if segment.has(SYN) && !segment.has(RST) {
            self.bound_segments(packet, segment);
            self.received_syn(segment, options, now);
        }
        if segment.has(RST | SYN) || !segment.has(ACK) {
            return Admission::Whole;
        }
        if self.acknowledged && after(self.snd_una, segment.ack) {
            if segment.sequence_len() > 0 {
                let window = self.snd_wnd >> self.peer_window_shift.unwrap_or(0);
                packet::set_ack(packet, segment, self.snd_una);
                packet::set_window(packet, segment, window as u16);
            }
        } else if !after(segment.ack, self.snd_nxt) {
            self.snd_wnd = u32::from(segment.window) << self.peer_window_shift.unwrap_or(0);
            self.snd_wnd_max = self.snd_wnd_max.max(self.snd_wnd);
            self.snd_una = segment.ack;
            self.acknowledged = true;
        }
        self.timestamps.received(options.timestamp, segment.seq, segment.end(), now);
        if self.is_bare_ack_at_edge(segment) {
            packet::set_seq(packet, segment, self.rcv_nxt);
        }
        let admission = self.trim(packet, segment, free);
        if segment.payload_len > 0 {
            self.sack.received(segment.seq, segment.seq.wrapping_add(segment.payload_len.into()), self.rcv_nxt);
            self.window.received(segment.payload_len);
        }
        admission
    }

    /// A segment is dropped because its bytes have come before.
    pub fn came_twice(&mut self, segment: &Segment) {
        if segment.payload_len > 0 && after(self.rcv_nxt, segment.seq) {
            self.sack.received(segment.seq, segment.seq.wrapping_add(segment.payload_len.into()), self.rcv_nxt);
        }
    }

    fn trim(&mut self, packet: &mut [u8], segment: &mut Segment, free: u32) -> Admission {
        let room = self.window.room_from(segment.seq, self.rcv_nxt, free);
        if segment.payload_len == 0 || i32::from(segment.payload_len) <= room {
            let end = segment.seq.wrapping_add(segment.payload_len.into());
            if segment.has(FIN) && after(self.furthest, end) && end != self.rcv_nxt {
                packet::trim(packet, segment, segment.payload_len);
                return Admission::Trimmed;
            }
            if segment.has(FIN) && end == self.rcv_nxt {
                packet::set_seq(packet, segment, end);
                packet::cut_payload(packet, segment, 0);
            }
            if segment.payload_len > 0 && after(end, self.furthest) {
                self.furthest = end;
            }
            Admission::Whole
        } else if room > 0 {
            packet::trim(packet, segment, room as u16);
            let end = segment.seq.wrapping_add(segment.payload_len.into());
            if after(end, self.furthest) {
                self.furthest = end;
            }
            Admission::Trimmed
        } else {
            packet::trim(packet, segment, 0);
            packet::set_seq(packet, segment, self.rcv_nxt);
            Admission::Beyond
        }
    }

    /// The peer's SYN: its numbers begin, nothing of ours has been offered yet, and its window is not scaled.
    ///
    /// The first one counts; not one that acknowledges something else than our own SYN, which smoltcp refuses.
    fn received_syn(&mut self, segment: &Segment, options: &Options, now: Instant) {
        if segment.has(ACK) {
            if !self.sent || segment.ack != self.snd_nxt {
                return;
            }
            self.snd_una = segment.ack;
            self.acknowledged = true;
        }
        if self.synchronized {
            return;
        }
        self.synchronized = true;
        self.timestamps.begin(options.timestamp, now);
        self.sack.begin(options.sack_permitted);
        self.peer_window_shift = options.window_shift;
        self.peer_mss = options.mss.map(|mss| mss.min(self.segment_max.unwrap_or(mss)));
        self.snd_wnd = u32::from(segment.window);
        self.snd_wnd_max = self.snd_wnd;
        self.rcv_nxt = segment.seq.wrapping_add(1);
        self.furthest = self.rcv_nxt;
        self.window.begin(self.rcv_nxt, options.window_shift.is_some());
    }

    /// Whether something is missing before bytes that smoltcp has, or was given and had no room for.
    pub fn has_hole(&self) -> bool {
        after(self.furthest, self.rcv_nxt)
    }

    /// Follows what smoltcp has made of a segment before which RCV.NXT was `rcv_nxt`: it has taken `len` more.
    ///
    /// Not added up: an ACK that has gone out in the meantime has moved RCV.NXT already.
    pub fn taken(&mut self, rcv_nxt: u32, len: u32) {
        self.rcv_nxt = rcv_nxt.wrapping_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse_own;
    use crate::packet::tests::build;
    use smoltcp::wire::TcpControl;

    fn received(seq: u32, flags: u8) -> (Vec<u8>, Segment) {
        let control = if flags & FIN != 0 { TcpControl::Fin } else { TcpControl::None };
        let packet = build(([10, 0, 0, 2].into(), 9), ([10, 0, 0, 1].into(), 80), control, b"0123456789");
        let mut segment = parse_own(&packet).unwrap();
        segment.seq = seq;
        (packet, segment)
    }

    const FREE: u32 = 10_000;
    const ROOM: Room = Room { capacity: 60_000, unread: 0, clamp: 60_000, first: 50_000, is_scarce: false };

    /// Has told the peer of a window from 1000 to 1020.
    fn told() -> WireState {
        let mut wire = WireState { rcv_nxt: 1000, furthest: 1000, snd_nxt: 3000, sent: true, ..WireState::new() };
        wire.window.begin(1000, false);
        let (mut packet, mut segment) = received(0, 0);
        (segment.ack, segment.window) = (1000, 20);
        wire.window.tell(&mut packet, &mut segment, &ROOM);
        wire.window.sent(&segment);
        wire
    }

    fn check(seq: u32, flags: u8, admission: Admission, payload_len: u16, fin: bool) {
        let (mut packet, mut segment) = received(seq, flags);
        assert_eq!(told().received(&mut packet, &mut segment, &Options::default(), FREE, Instant::ZERO), admission);
        assert_eq!((segment.payload_len, segment.has(FIN)), (payload_len, fin), "at {seq}");
    }

    #[test]
    fn nothing_passes_the_right_edge() {
        check(1000, FIN, Admission::Whole, 10, true);
        check(1009, FIN, Admission::Whole, 10, true);
        check(1010, FIN, Admission::Whole, 10, true);
        check(1011, FIN, Admission::Trimmed, 9, false);
        check(1010, 0, Admission::Whole, 10, false);
        check(1015, FIN, Admission::Trimmed, 5, false);
        check(1020, 0, Admission::Beyond, 0, false);
        check(990, 0, Admission::Whole, 10, false);
    }

    #[test]
    fn data_with_an_old_ack_gets_the_latest() {
        let mut wire = told();
        let (mut packet, mut segment) = received(1000, 0);
        wire.received(&mut packet, &mut segment, &Options::default(), FREE, Instant::ZERO);
        assert_eq!(segment.ack, 2000);
        let (mut packet, mut segment) = received(1010, 0);
        segment.ack = 1500;
        wire.received(&mut packet, &mut segment, &Options::default(), FREE, Instant::ZERO);
        assert_eq!(segment.ack, 2000);
    }

    #[test]
    fn rfc6528_3_our_isn_takes_the_place_of_smoltcps() {
        let mut wire = WireState::new();
        wire.begin_at(u32::MAX, Clock::default(), None);
        let (mut packet, mut segment) = received(1000, 0);
        segment.flags |= SYN;
        wire.translate_out(&mut packet, &mut segment, &ROOM);
        wire.sent(&mut packet, &mut segment, Instant::ZERO);
        assert_eq!((segment.seq, wire.snd_nxt), (u32::MAX, 10));
        let (mut packet, mut segment) = received(1011, 0);
        wire.translate_out(&mut packet, &mut segment, &ROOM);
        wire.sent(&mut packet, &mut segment, Instant::ZERO);
        assert_eq!((segment.seq, wire.snd_nxt), (10, 20));
        let (mut packet, mut segment) = received(1, 0);
        segment.ack = 20;
        wire.translate_in(&mut packet, &mut segment);
        assert_eq!(segment.ack, 1021);
    }

    #[test]
    fn a_segment_sent_twice_is_a_retransmission() {
        let mut wire = WireState::new();
        let (mut packet, mut segment) = received(1000, 0);
        assert!(!wire.sent(&mut packet, &mut segment, Instant::ZERO));
        assert!(wire.sent(&mut packet, &mut segment, Instant::ZERO));
        assert_eq!((wire.snd_nxt, wire.rcv_nxt, wire.advertised_window()), (1010, 2000, 3000));
    }
}
