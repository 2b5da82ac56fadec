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

/// Turns the received Ethernet frame of `frame_len` bytes at the start of `buffer` into its answer and returns the answer's
/// length; `None` when it needs none.
///
/// The segment is IPv4 without options and unfragmented, as the steering program lets through. `buffer` holds at least
/// [`ANSWER_LEN_MAX`] bytes. A SYN gets a SYN-ACK, data 64 bytes and their acknowledgement, a FIN a FIN (RFC 9293, 3.10).
pub fn answer(buffer: &mut [u8], frame_len: usize) -> Option<usize> {
    let segment = Segment::parse(&buffer[..frame_len])?;
    let (flags, payload_len) = match segment {
        Segment { flags, .. } if flags & RST != 0 => return None,
        Segment { flags, .. } if flags & SYN != 0 => (SYN | ACK, 0),
        Segment { flags, .. } if flags & FIN != 0 => (FIN | ACK, 0),
        Segment { payload_len: 0, .. } => return None,
        _ => (ACK | PSH, MESSAGE_LEN),
    };
    let occupied = segment.payload_len + u32::from(segment.flags & (SYN | FIN) != 0);
    reverse_addresses(buffer);
    write_ip(&mut buffer[ETHERNET_LEN..], payload_len);
    let tcp = &mut buffer[ETHERNET_LEN + IP_LEN..];
    // The client's acknowledgement is our next sequence number; its SYN has none, and any start will do.
    tcp[4..8].copy_from_slice(&segment.ack.to_be_bytes());
    tcp[8..12].copy_from_slice(&segment.seq.wrapping_add(occupied).to_be_bytes());
    tcp[12] = ((TCP_LEN / 4) << 4) as u8;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    tcp[18..20].fill(0);
    tcp[TCP_LEN..TCP_LEN + payload_len].fill(b'x');
    write_tcp_checksum(&mut buffer[ETHERNET_LEN..HEADERS_LEN + payload_len]);
    Some(HEADERS_LEN + payload_len)
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

/// Swaps source and destination in all three headers.
fn reverse_addresses(frame: &mut [u8]) {
    let mut swap = |first: usize, second: usize, len: usize| {
        let (left, right) = frame.split_at_mut(second);
        left[first..first + len].swap_with_slice(&mut right[..len]);
    };
    swap(0, 6, 6);
    swap(ETHERNET_LEN + 12, ETHERNET_LEN + 16, 4);
    swap(ETHERNET_LEN + IP_LEN, ETHERNET_LEN + IP_LEN + 2, 2);
}

fn write_ip(ip: &mut [u8], payload_len: usize) {
    ip[2..4].copy_from_slice(&((IP_LEN + TCP_LEN + payload_len) as u16).to_be_bytes());
    ip[8] = TTL;
    ip[10..12].fill(0);
    let sum = checksum(&ip[..IP_LEN], 0);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn write_tcp_checksum(packet: &mut [u8]) {
    packet[IP_LEN + 16..IP_LEN + 18].fill(0);
    let tcp_len = packet.len() - IP_LEN;
    let pseudo_header = libc::IPPROTO_TCP as u32 + tcp_len as u32;
    // The addresses stand right in front of the TCP header.
    let sum = checksum(&packet[12..], pseudo_header);
    packet[IP_LEN + 16..IP_LEN + 18].copy_from_slice(&sum.to_be_bytes());
}

/// The Internet checksum of `bytes`, an even number of them, and `start` (RFC 1071).
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum::<u32>() + start;
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: u32 = u32::MAX - 10;
    const SEGMENT_ACK: u32 = 7_000;

    /// A frame with 12 bytes of TCP options, in a buffer with room for the answer.
    fn segment(flags: u8, payload_len: usize) -> (Vec<u8>, usize) {
        let mut frame = vec![0; 256];
        frame[..12].copy_from_slice(b"DESTINSOURCE");
        let ip = &mut frame[ETHERNET_LEN..];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((IP_LEN + 32 + payload_len) as u16).to_be_bytes());
        ip[9] = libc::IPPROTO_TCP as u8;
        ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let tcp = &mut ip[IP_LEN..];
        tcp[..4].copy_from_slice(&[1, 2, 3, 4]);
        tcp[4..8].copy_from_slice(&SEQ.to_be_bytes());
        tcp[8..12].copy_from_slice(&SEGMENT_ACK.to_be_bytes());
        tcp[12] = 8 << 4;
        tcp[13] = flags;
        (frame, HEADERS_LEN + 12 + payload_len)
    }

    fn check(flags: u8, payload_len: usize, expected: Option<(u8, u32, usize)>) {
        let (mut buffer, frame_len) = segment(flags, payload_len);
        let Some(answer_len) = answer(&mut buffer, frame_len) else { return assert_eq!(None, expected) };
        let packet = &buffer[ETHERNET_LEN..answer_len];
        let answered = Segment::parse(&buffer[..answer_len]).unwrap();
        let occupied = answered.ack.wrapping_sub(SEQ);
        assert_eq!(Some((answered.flags, occupied, answered.payload_len as usize)), expected);
        assert_eq!(answered.seq, SEGMENT_ACK);
        assert_eq!(&buffer[..12], b"SOURCEDESTIN");
        assert_eq!(packet[12..24], [10, 0, 0, 2, 10, 0, 0, 1, 3, 4, 1, 2]);
        assert_eq!(checksum(&packet[..IP_LEN], 0), 0);
        assert_eq!(checksum(&packet[12..], libc::IPPROTO_TCP as u32 + (packet.len() - IP_LEN) as u32), 0);
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
        for len in 0..HEADERS_LEN + 12 {
            let (mut buffer, _) = segment(SYN, 0);
            assert_eq!(answer(&mut buffer, len), None);
        }
    }
}
