//! Answers to TCP segments made from their headers alone: no flow, no timer, no state.
//!
//! It serves a client that connects, sends requests of at most one segment and closes, over a link that loses nothing. What
//! it does not do is what a TCP costs; what it still does is what the link, the rings and the client cost.

use crate::MESSAGE_LEN;

const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;
const TCP_LEN: usize = 20;
const HEADERS_LEN: usize = ETHERNET_LEN + IP_LEN + TCP_LEN;

/// The longest answer, in bytes.
pub const ANSWER_LEN_MAX: usize = HEADERS_LEN + MESSAGE_LEN;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

const WINDOW: u16 = 65_535;
const TTL: u8 = 64;

/// Writes the answer to the received Ethernet frame to the start of `out` and returns its length; `None` when it needs none.
///
/// The frame carries TCP over IPv4, without IP options and unfragmented, as the steering program lets through. A SYN gets
/// a SYN-ACK, data 64 bytes and their acknowledgement, a FIN a FIN (RFC 9293, 3.10).
pub fn answer(frame: &[u8], out: &mut [u8; ANSWER_LEN_MAX]) -> Option<usize> {
    let segment = Segment::parse(frame)?;
    let (flags, payload_len) = match segment {
        Segment { flags, .. } if flags & RST != 0 => return None,
        Segment { flags, .. } if flags & SYN != 0 => (SYN | ACK, 0),
        Segment { flags, .. } if flags & FIN != 0 => (FIN | ACK, 0),
        Segment { payload_len: 0, .. } => return None,
        _ => (ACK | PSH, MESSAGE_LEN),
    };
    let occupied = segment.payload_len + u32::from(segment.flags & (SYN | FIN) != 0);

    let (ethernet, packet) = out.split_at_mut(ETHERNET_LEN);
    ethernet[..6].copy_from_slice(&frame[6..12]);
    ethernet[6..12].copy_from_slice(&frame[..6]);
    ethernet[12..].copy_from_slice(&frame[12..ETHERNET_LEN]);
    let received = &frame[ETHERNET_LEN..];
    let (ip, tcp) = packet[..IP_LEN + TCP_LEN + payload_len].split_at_mut(IP_LEN);
    write_ip(ip, received, tcp.len());
    tcp[..2].copy_from_slice(&received[IP_LEN + 2..IP_LEN + 4]);
    tcp[2..4].copy_from_slice(&received[IP_LEN..IP_LEN + 2]);
    // What the client acknowledges is our next sequence number; a SYN acknowledges nothing, and any start will do.
    tcp[4..8].copy_from_slice(&segment.ack.to_be_bytes());
    tcp[8..12].copy_from_slice(&segment.seq.wrapping_add(occupied).to_be_bytes());
    tcp[12] = ((TCP_LEN / 4) << 4) as u8;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    tcp[16..TCP_LEN].fill(0);
    tcp[TCP_LEN..].fill(b'x');
    let pseudo_header = checksum_words(&ip[12..]) + libc::IPPROTO_TCP as u32 + tcp.len() as u32;
    let sum = checksum(checksum_words(tcp) + pseudo_header);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(HEADERS_LEN + payload_len)
}

/// Writes the IP header of the answer to the packet `received` (RFC 791, 3.1).
fn write_ip(ip: &mut [u8], received: &[u8], tcp_len: usize) {
    ip.fill(0);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IP_LEN + tcp_len) as u16).to_be_bytes());
    ip[8] = TTL;
    ip[9] = libc::IPPROTO_TCP as u8;
    ip[12..16].copy_from_slice(&received[16..20]);
    ip[16..20].copy_from_slice(&received[12..16]);
    let sum = checksum(checksum_words(ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Sums an even number of bytes as 16-bit words (RFC 1071).
pub(crate) fn checksum_words(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

/// Folds a sum of words into the Internet checksum (RFC 1071).
pub(crate) fn checksum(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// What an answer needs of the segment that it answers.
struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
    payload_len: u32,
}

impl Segment {
    fn parse(frame: &[u8]) -> Option<Segment> {
        let ip = frame.get(ETHERNET_LEN..)?;
        let ip_len = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let tcp = ip.get(IP_LEN..ip_len)?;
        let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
        let word =
            |at: usize| tcp.get(at..at + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        Some(Segment { seq: word(4)?, ack: word(8)?, flags: *tcp.get(13)?, payload_len: payload.len() as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: u32 = u32::MAX - 10;
    const SEGMENT_ACK: u32 = 7_000;

    /// A frame whose segment carries 12 bytes of TCP options.
    fn segment(flags: u8, payload_len: usize) -> Vec<u8> {
        let mut frame = vec![0; HEADERS_LEN + 12 + payload_len];
        frame[..ETHERNET_LEN].copy_from_slice(b"DESTINSOURCE\x08\x00");
        let ip = &mut frame[ETHERNET_LEN..];
        ip[2..4].copy_from_slice(&((IP_LEN + 32 + payload_len) as u16).to_be_bytes());
        ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let tcp = &mut ip[IP_LEN..];
        tcp[..4].copy_from_slice(&[1, 2, 3, 4]);
        tcp[4..8].copy_from_slice(&SEQ.to_be_bytes());
        tcp[8..12].copy_from_slice(&SEGMENT_ACK.to_be_bytes());
        tcp[12] = 8 << 4;
        tcp[13] = flags;
        frame
    }

    /// Checks the flags of the answer to a segment, how much of the sequence space it acknowledges, and its payload's length.
    fn check(flags: u8, payload_len: usize, expected: Option<(u8, u32, usize)>) {
        let mut out = [0xff; ANSWER_LEN_MAX];
        let Some(answer_len) = answer(&segment(flags, payload_len), &mut out) else {
            return assert_eq!(None, expected);
        };
        let packet = &out[ETHERNET_LEN..answer_len];
        let answered = Segment::parse(&out[..answer_len]).unwrap();
        let acknowledged = answered.ack.wrapping_sub(SEQ);
        assert_eq!(Some((answered.flags, acknowledged, answered.payload_len as usize)), expected);
        assert_eq!(answered.seq, SEGMENT_ACK);
        assert_eq!(&out[..ETHERNET_LEN], b"SOURCEDESTIN\x08\x00");
        assert_eq!(packet[12..24], [10, 0, 0, 2, 10, 0, 0, 1, 3, 4, 1, 2]);
        assert_eq!(checksum(checksum_words(&packet[..IP_LEN])), 0);
        let pseudo_header = libc::IPPROTO_TCP as u32 + (packet.len() - IP_LEN) as u32;
        assert_eq!(checksum(checksum_words(&packet[12..]) + pseudo_header), 0);
    }

    #[test]
    fn each_kind_of_segment_gets_its_answer() {
        check(SYN, 0, Some((SYN | ACK, 1, 0)));
        check(ACK, 0, None);
        check(ACK | PSH, 64, Some((ACK | PSH, 64, MESSAGE_LEN)));
        check(FIN | ACK, 0, Some((FIN | ACK, 1, 0)));
        check(RST, 0, None);
        check(RST | ACK, 0, None);
    }

    #[test]
    fn a_frame_that_ends_early_gets_none() {
        let frame = segment(SYN, 0);
        for len in 0..frame.len() {
            assert_eq!(answer(&frame[..len], &mut [0; ANSWER_LEN_MAX]), None);
        }
    }
}
