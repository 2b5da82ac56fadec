//! Urgent bytes (RFC 9293, 3.8.5, and RFC 6093, which tells what Linux makes of them): MSG_OOB of send(2) and recv(2).
//!
//! smoltcp knows nothing of them. Going out, the urgent pointer is put into the segments in front of the byte. Coming
//! in, the byte is taken out of the stream when all before it has been read, unless SO_OOBINLINE leaves it there.

use crate::Errno;
use crate::flow::Flow;
use crate::packet::{self, Segment, URG};
use crate::socket::FlowId;
use crate::stack::Stack;
use crate::time_wait::after;

/// What of a flow is urgent, in the wire's numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct Urgent {
    /// SND.UP: the number behind the last urgent byte that we send.
    send_up: Option<u32>,
    mark: Option<Mark>,
}

/// Where the peer's latest urgent byte stands in the stream, until it has been read past.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seq: u32,
    byte: UrgentByte,
    /// All in front of it has been read, and it has been taken out of the receive buffer.
    taken_out: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrgentByte {
    /// Announced.
    NotYet,
    /// There to be read.
    Here(u8),
    Read,
}

impl Urgent {
    /// Whether urgent bytes of ours are unacknowledged: then nothing waits for company.
    pub fn is_sending(&self, snd_una: u32) -> bool {
        self.send_up.is_some_and(|up| after(up, snd_una))
    }

    /// Whether there is a byte for recv(2) with MSG_OOB.
    pub fn is_readable(&self) -> bool {
        matches!(self.mark, Some(Mark { byte: UrgentByte::Here(_), .. }))
    }

    /// Points a segment on its way out at the urgent byte, if it stands in front of that.
    pub fn point(&mut self, packet: &mut [u8], segment: &mut Segment, snd_una: u32) {
        if !self.is_sending(snd_una) {
            self.send_up = None;
        }
        if let Some(up) = self.send_up.filter(|&up| after(up, segment.seq)) {
            let ahead = up.wrapping_sub(segment.seq).min(u16::MAX.into());
            packet::set_urgent(packet, segment, ahead as u16);
        }
    }
}

impl Flow {
    /// The number of the next byte that the application reads.
    fn copied(&self) -> u32 {
        let ahead = self.socket().recv_queue() as u32 + u32::from(self.peer_closed);
        self.wire.rcv_nxt.wrapping_sub(ahead + u32::from(self.urgent.mark.is_some_and(|mark| mark.taken_out)))
    }

    /// Notes what a segment that has been admitted, and not been taken yet, says of urgent bytes: tcp_urg() of Linux.
    pub fn receive_urgent(&mut self, packet: &[u8], segment: &Segment) {
        if segment.has(URG) {
            // The pointer leads to the byte behind the urgent one, as everybody has it (RFC 6093, 2.1).
            let ahead = packet::urgent_pointer(packet, segment).saturating_sub(1);
            self.move_mark(segment.seq.wrapping_add(ahead.into()));
        }
        if let Some(mark) = &mut self.urgent.mark
            && mark.byte == UrgentByte::NotYet
        {
            let at = mark.seq.wrapping_sub(segment.seq);
            if at < segment.payload_len.into() {
                mark.byte = UrgentByte::Here(packet[usize::from(segment.payload_start) + at as usize]);
            }
        }
    }

    /// The peer says that its urgent byte has this number. A later one takes the place of an earlier.
    fn move_mark(&mut self, seq: u32) {
        let is_news = self.urgent.mark.is_none_or(|mark| after(seq, mark.seq));
        if is_news && !after(self.wire.rcv_nxt, seq) && !after(self.copied(), seq) {
            self.urgent.mark = Some(Mark { seq, byte: UrgentByte::NotYet, taken_out: false });
        }
    }

    /// Forgets a mark that has been read past; takes the byte out of the stream once it comes first there.
    pub fn pass_mark(&mut self) {
        let (copied, is_inline) = (self.copied(), self.options.urgent_inline);
        let has_bytes = self.socket().recv_queue() > 0;
        match &mut self.urgent.mark {
            Some(mark) if after(copied, mark.seq) => self.urgent.mark = None,
            Some(mark) if !is_inline && !mark.taken_out && mark.seq == copied && has_bytes => {
                mark.taken_out = true;
                let dropped = self.socket_mut().recv(|bytes| (bytes.len().min(1), ()));
                debug_assert!(dropped.is_ok(), "there are bytes");
            }
            _ => {}
        }
    }

    /// Reads past an urgent byte that comes next, if it is not left in the stream.
    pub fn pass_urgent_byte(&mut self) {
        if self.urgent.mark.is_some_and(|mark| mark.taken_out) {
            self.urgent.mark = None;
        }
    }

    /// How many bytes a recv(2) takes at once: it stops in front of an urgent byte.
    pub fn readable_len(&self) -> usize {
        let queued = self.socket().recv_queue();
        let to_mark = self.urgent.mark.map_or(0, |mark| mark.seq.wrapping_sub(self.copied()) as usize);
        if to_mark > 0 { queued.min(to_mark) } else { queued }
    }

    /// SIOCINQ: without SO_OOBINLINE only up to an urgent byte that has come.
    fn input_len(&self) -> usize {
        match self.urgent.mark {
            Some(mark) if !self.options.urgent_inline && after(self.wire.rcv_nxt, mark.seq) => {
                mark.seq.wrapping_sub(self.copied()) as usize
            }
            _ => self.socket().recv_queue(),
        }
    }
}

impl Stack {
    /// Makes the last byte that was queued for sending urgent (MSG_OOB). It goes out with the next `flush` or `poll`.
    pub fn tcp_mark_urgent(&mut self, flow: FlowId) {
        let key = flow.0;
        self.push(key);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.urgent.send_up = Some(flow.wire.snd_una().wrapping_add(flow.socket().send_queue() as u32));
            self.mark_dirty(key);
        }
    }

    /// Takes the peer's urgent byte, or with `peek` only looks at it (MSG_OOB); `None` at the end of the stream.
    ///
    /// # Errors
    /// - `EINVAL`: there is none, it has been read, or SO_OOBINLINE leaves it in the stream.
    /// - `EAGAIN`: it has been announced, and is yet to come. `ENOTCONN`: the flow is over.
    pub fn tcp_recv_urgent(&mut self, flow: FlowId, peek: bool) -> Result<Option<u8>, Errno> {
        let flow = self.flows.get_mut(flow.0).ok_or(Errno::ENOTCONN)?;
        let (is_over, is_closed, peer_closed) = (flow.is_read_over(), flow.is_closed(), flow.peer_closed);
        let is_inline = flow.options.urgent_inline;
        match flow.urgent.mark.as_mut().filter(|mark| !is_inline && mark.byte != UrgentByte::Read) {
            None => Err(Errno::EINVAL),
            Some(_) if is_closed && !peer_closed => Err(Errno::ENOTCONN),
            Some(Mark { byte: state @ UrgentByte::Here(_), .. }) => {
                let byte = if let UrgentByte::Here(byte) = *state { Some(byte) } else { None };
                if !peek {
                    *state = UrgentByte::Read;
                }
                Ok(byte)
            }
            Some(_) if is_over => Ok(None),
            Some(_) => Err(Errno::EAGAIN),
        }
    }

    /// How many bytes the next `tcp_recv` can take.
    pub fn tcp_readable(&self, flow: FlowId) -> usize {
        self.flows.get(flow.0).map_or(0, Flow::readable_len)
    }

    /// SIOCINQ.
    pub fn tcp_input_len(&self, flow: FlowId) -> usize {
        self.flows.get(flow.0).map_or(0, Flow::input_len)
    }

    /// TCP_CM_INQ: what has come and has not been read; a FIN counts for one (tcp_inq_hint() of Linux).
    pub fn tcp_unread(&self, flow: FlowId) -> usize {
        self.flows.get(flow.0).map_or(0, |flow| flow.wire.rcv_nxt.wrapping_sub(flow.copied()) as usize)
    }

    /// SIOCATMARK: whether the next byte is the urgent one.
    pub fn tcp_is_at_mark(&self, flow: FlowId) -> bool {
        self.flows.get(flow.0).is_some_and(|flow| flow.urgent.mark.is_some_and(|mark| mark.seq == flow.copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer;
    use smoltcp::phy::ChecksumCapabilities;

    /// How far ahead a segment at `seq` points, if it does, when SND.UP is just beyond the wrap of the numbers.
    fn pointed(seq: u32, snd_una: u32) -> Option<u16> {
        let (local, remote) = (([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 4000).into());
        let tcp = answer::empty(local, remote, seq, Some(1));
        let ip = answer::ip_of(local, remote, &tcp);
        let mut packet = vec![0; ip.buffer_len()];
        answer::emit(&ip, &tcp, &mut packet, &ChecksumCapabilities::default());
        let mut segment = packet::parse_own(&packet).expect("a packet of ours");
        Urgent { send_up: Some(10), mark: None }.point(&mut packet, &mut segment, snd_una);
        let segment = packet::parse_own(&packet).expect("a packet of ours");
        segment.has(URG).then(|| packet::urgent_pointer(&packet, &segment))
    }

    #[test]
    fn segments_in_front_of_an_urgent_byte_point_at_it_until_it_is_acknowledged() {
        assert_eq!(pointed(9, 9), Some(1));
        assert_eq!(pointed(10, 9), None);
        assert_eq!(pointed(0xffff_fff0, 0xffff_fff0), Some(26));
        assert_eq!(pointed(10u32.wrapping_sub(70_000), 10u32.wrapping_sub(70_000)), Some(u16::MAX));
        assert_eq!(pointed(9, 10), None);
    }
}
