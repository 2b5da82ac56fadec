//! What a flow has told its peer and the peer has told it, read off the segments themselves.
//!
//! smoltcp keeps this to itself; the front needs it for what smoltcp lacks. One place, on the way in and on the way
//! out, for the right-edge guard, the old-ACK rewrite and TIME-WAIT.

use crate::packet::{self, ACK, RST, SYN, Segment};
use crate::time_wait::after;

/// Sequence numbers and windows of a flow as they went over the wire.
#[derive(Debug, Default, Clone, Copy)]
pub struct WireState {
    /// SND.NXT: the end of the latest segment that was sent.
    pub snd_nxt: u32,
    /// SND.UNA: the highest ACK that was received.
    snd_una: u32,
    /// RCV.NXT: the latest ACK that was sent.
    pub rcv_nxt: u32,
    /// The right edge of the window that the peer was really told of.
    right_edge: u32,
    /// The shift of our window field, as offered in our SYN.
    window_shift: u8,
    /// The latest window went out in a SYN, where smoltcp takes it for a scaled one.
    edge_of_syn: bool,
    sent: bool,
    acknowledged: bool,
}

/// What became of a received segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As it came.
    Whole,
    /// Cut at the right edge.
    Trimmed,
    /// Wholly beyond a right edge that smoltcp takes to be further on: to be dropped.
    Beyond,
}

impl WireState {
    /// The state of a flow that has sent nothing.
    pub fn new() -> Self {
        WireState::default()
    }

    /// The receive window as the peer knows it, in bytes.
    pub fn advertised_window(&self) -> u32 {
        self.right_edge.wrapping_sub(self.rcv_nxt)
    }

    /// Whether the ACK or the window of a segment that is about to go out says something new.
    pub fn is_news(&self, segment: &Segment) -> bool {
        let right_edge = segment.ack.wrapping_add(u32::from(segment.window) << self.window_shift);
        segment.ack != self.rcv_nxt || right_edge != self.right_edge
    }

    /// Follows a segment on its way out. True if its first byte was sent before: a retransmission.
    ///
    /// A segment that carries nothing gets SND.NXT for its sequence number (RFC 9293, 3.10.7.4). smoltcp, while it
    /// sends again from SND.UNA on, gives it a lower one, which the peer has to ignore, ACK and all; two that do so
    /// to each other never end.
    pub fn sent(&mut self, packet: &mut [u8], segment: &mut Segment) -> bool {
        if segment.has(RST) {
            // Its numbers are those of the segment that it answers.
            return false;
        }
        if self.sent && segment.sequence_len() == 0 && after(self.snd_nxt, segment.seq) {
            packet::set_seq(packet, segment, self.snd_nxt);
        }
        if segment.has(SYN) {
            self.window_shift = window_scale(packet, segment).unwrap_or(0);
        }
        if segment.has(ACK) {
            // RFC 7323, 2.2: the window of a SYN is never scaled.
            let shift = if segment.has(SYN) { 0 } else { self.window_shift };
            self.rcv_nxt = segment.ack;
            self.right_edge = segment.ack.wrapping_add(u32::from(segment.window) << shift);
            self.edge_of_syn = segment.has(SYN);
        }
        let end = segment.seq.wrapping_add(segment.sequence_len());
        let again = self.sent && segment.sequence_len() > 0 && after(self.snd_nxt, segment.seq);
        if !self.sent || after(end, self.snd_nxt) {
            self.snd_nxt = end;
        }
        self.sent = true;
        again
    }

    /// Prepares a received segment for smoltcp.
    ///
    /// - What lies beyond the right edge is cut off, and the FIN with it: smoltcp takes the edge of its SYN-ACK for
    ///   a scaled one, and would honour the FIN of a segment that it has trimmed itself. A segment wholly beyond
    ///   an edge that both agree on is left as it is: smoltcp answers it with an ACK, as a zero-window probe needs.
    /// - Data with an ACK older than the latest gets the latest: smoltcp would drop the data with it.
    pub fn received(&mut self, packet: &mut [u8], segment: &mut Segment) -> Admission {
        if segment.has(RST | SYN) || !segment.has(ACK) {
            return Admission::Whole;
        }
        if self.acknowledged && after(self.snd_una, segment.ack) {
            if segment.sequence_len() > 0 {
                packet::set_ack(packet, segment, self.snd_una);
            }
        } else if !after(segment.ack, self.snd_nxt) {
            self.snd_una = segment.ack;
            self.acknowledged = true;
        }
        let room = self.right_edge.wrapping_sub(segment.seq) as i32;
        if i32::from(segment.payload_len) <= room {
            Admission::Whole
        } else if room > 0 {
            packet::trim(packet, segment, room as u16);
            Admission::Trimmed
        } else if self.edge_of_syn && self.window_shift > 0 {
            Admission::Beyond
        } else {
            Admission::Whole
        }
    }
}

/// The window scale option (RFC 7323, 2.2) of a SYN.
fn window_scale(packet: &[u8], segment: &Segment) -> Option<u8> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const WINDOW_SCALE: u8 = 3;
    let mut options = packet.get(usize::from(segment.tcp_start) + 20..usize::from(segment.payload_start))?;
    loop {
        match *options {
            [END, ..] | [] | [_] => return None,
            [NO_OPERATION, ref rest @ ..] => options = rest,
            [WINDOW_SCALE, 3, shift, ..] => return Some(shift),
            [_, len, ..] => options = options.get(usize::from(len).max(2)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::build;
    use crate::packet::{FIN, parse_own};
    use smoltcp::wire::TcpControl;

    fn received(seq: u32, flags: u8) -> (Vec<u8>, Segment) {
        let control = if flags & FIN != 0 { TcpControl::Fin } else { TcpControl::None };
        let packet = build(([10, 0, 0, 2].into(), 9), ([10, 0, 0, 1].into(), 80), control, b"0123456789");
        let mut segment = parse_own(&packet).unwrap();
        segment.seq = seq;
        (packet, segment)
    }

    /// Has told the peer of a window from 1000 to 1020.
    fn told() -> WireState {
        WireState { rcv_nxt: 1000, right_edge: 1020, snd_nxt: 3000, sent: true, ..WireState::new() }
    }

    fn check(seq: u32, flags: u8, admission: Admission, payload_len: u16, fin: bool) {
        let (mut packet, mut segment) = received(seq, flags);
        assert_eq!(told().received(&mut packet, &mut segment), admission);
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
        check(1020, 0, Admission::Whole, 10, false);
        check(990, 0, Admission::Whole, 10, false);
    }

    #[test]
    fn the_window_of_a_syn_is_not_scaled() {
        let mut wire = WireState { edge_of_syn: true, window_shift: 2, ..told() };
        let (mut packet, mut segment) = received(1020, 0);
        assert_eq!(wire.received(&mut packet, &mut segment), Admission::Beyond);
    }

    #[test]
    fn data_with_an_old_ack_gets_the_latest() {
        let mut wire = told();
        let (mut packet, mut segment) = received(1000, 0);
        wire.received(&mut packet, &mut segment);
        assert_eq!(segment.ack, 2000);
        let (mut packet, mut segment) = received(1010, 0);
        segment.ack = 1500;
        wire.received(&mut packet, &mut segment);
        assert_eq!(segment.ack, 2000);
    }

    #[test]
    fn a_segment_sent_twice_is_a_retransmission() {
        let mut wire = WireState::new();
        let (mut packet, mut segment) = received(1000, 0);
        assert!(!wire.sent(&mut packet, &mut segment));
        assert!(wire.sent(&mut packet, &mut segment));
        assert_eq!((wire.snd_nxt, wire.rcv_nxt, wire.advertised_window()), (1010, 2000, 3000));
    }
}
