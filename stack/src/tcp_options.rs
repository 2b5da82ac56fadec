//! The options of a segment that matter to the front: segment size, window scale, SACK, timestamps (RFC 9293, 3.2).

use crate::packet::{self, Segment};
use crate::timestamps::{OPTION_LEN, Timestamp};
use smoltcp::wire::{TcpOption, TcpPacket};

/// Two no-operations, and a timestamps option's kind and length: how RFC 7323, appendix A has it, and everybody does.
const TIMESTAMP_HEAD: [u8; 4] = [1, 1, 8, 10];

/// The kind that ends the options.
const END_OF_LIST: u8 = 0;

/// The kind of a SACK option.
const SACK: u8 = 5;

/// SACK blocks that fit into a segment that carries no timestamps (RFC 2018, 3).
pub const BLOCKS_MAX: usize = 4;

/// The options of one segment.
#[derive(Default)]
pub struct Options {
    /// The segment size of a SYN.
    pub mss: Option<u16>,
    /// The shift of the window field, of a SYN (RFC 7323, 2.2); no more than 14 (2.3).
    pub window_shift: Option<u8>,
    /// SACK-permitted, of a SYN (RFC 2018, 2).
    pub sack_permitted: bool,
    /// SACK blocks (RFC 2018, 3).
    pub blocks: [Option<(u32, u32)>; 3],
    /// Timestamps (RFC 7323, 3.2).
    pub timestamp: Option<Timestamp>,
    /// How many bytes at the end make no sense.
    unreadable_len: u8,
}

impl Options {
    /// Reads them off a segment; what is malformed, and all behind it, is not there.
    pub fn of(packet: &[u8], segment: &Segment) -> Options {
        let mut options = Options::default();
        if segment.payload_start - segment.tcp_start == 20 {
            return options;
        }
        let tcp = TcpPacket::new_unchecked(&packet[usize::from(segment.tcp_start)..]);
        let mut rest = tcp.options();
        if let Some((head, body)) = rest.split_first_chunk()
            && *head == TIMESTAMP_HEAD
            && let Some((body, behind)) = body.split_first_chunk::<8>()
        {
            let word = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
            options.timestamp = Some(Timestamp { value: word(0), echo: word(4) });
            rest = behind;
        }
        while let Ok((next, option)) = TcpOption::parse(rest) {
            match option {
                TcpOption::EndOfList => return options,
                TcpOption::MaxSegmentSize(mss) if mss > 0 => options.mss = Some(mss),
                TcpOption::WindowScale(shift) => options.window_shift = Some(shift.min(14)),
                TcpOption::SackPermitted => options.sack_permitted = true,
                TcpOption::SackRange(blocks) => options.blocks = blocks,
                TcpOption::TimeStamp { tsval, tsecr } => {
                    options.timestamp = Some(Timestamp { value: tsval, echo: tsecr });
                }
                _ => {}
            }
            rest = next;
        }
        options.unreadable_len = rest.len() as u8;
        options
    }

    /// Takes away from a segment what makes no sense in its options. Linux takes the rest of the segment, smoltcp would
    /// not; and the front has read it. The checksum is not corrected.
    pub fn clear_unreadable(&self, packet: &mut [u8], segment: &Segment) {
        let end = usize::from(segment.payload_start);
        packet[end - usize::from(self.unreadable_len)..end].fill(END_OF_LIST);
    }
}

/// Gives a segment without payload these options and no others; `packet` has room. The checksum is not corrected.
pub fn replace(packet: &mut [u8], segment: &mut Segment, timestamp: Option<Timestamp>, blocks: &[(u32, u32)]) {
    let stamp_len = if timestamp.is_some() { OPTION_LEN } else { 0 };
    let blocks_len = if blocks.is_empty() { 0 } else { 4 + 8 * blocks.len() };
    let options = packet::resize_options(packet, segment, stamp_len + blocks_len);
    let (stamp, sack) = options.split_at_mut(stamp_len);
    if let Some(timestamp) = timestamp {
        write_timestamp(stamp, timestamp);
    }
    if let Some((head, body)) = sack.split_first_chunk_mut() {
        *head = [1, 1, SACK, 2 + 8 * blocks.len() as u8];
        for (bytes, &(start, end)) in body.chunks_exact_mut(8).zip(blocks) {
            bytes[..4].copy_from_slice(&start.to_be_bytes());
            bytes[4..].copy_from_slice(&end.to_be_bytes());
        }
    }
}

/// Puts a timestamp, and the scale of our windows, where smoltcp has put its own into a SYN. The checksum is not corrected.
pub fn dress_syn(packet: &mut [u8], segment: &Segment, timestamp: Timestamp, window_shift: u8) {
    stamp(packet, segment, timestamp);
    let options = &mut packet[usize::from(segment.tcp_start) + 20..usize::from(segment.payload_start)];
    let mut at = 0;
    while let Ok((rest, option)) = TcpOption::parse(&options[at..]) {
        let next = options.len() - rest.len();
        match option {
            TcpOption::EndOfList => return,
            TcpOption::WindowScale(_) => options[at + 2] = window_shift,
            _ => {}
        }
        at = next;
    }
}

/// Puts a timestamp where smoltcp has put one of its own. The checksum is not corrected.
pub fn stamp(packet: &mut [u8], segment: &Segment, timestamp: Timestamp) {
    let (start, end) = (usize::from(segment.tcp_start) + 20, usize::from(segment.payload_start));
    let options = &mut packet[start..end];
    if options.len() == OPTION_LEN && options[0] == TIMESTAMP_HEAD[2] {
        return write_timestamp(options, timestamp);
    }
    if let Some(at) = find(options, |option| matches!(option, TcpOption::TimeStamp { .. })) {
        options[at + 2..at + 6].copy_from_slice(&timestamp.value.to_be_bytes());
        options[at + 6..at + 10].copy_from_slice(&timestamp.echo.to_be_bytes());
    }
}

/// Lowers the segment size of a SYN to `max`. The checksum is not corrected.
pub fn bound_mss(packet: &mut [u8], segment: &Segment, max: u16) {
    let (start, end) = (usize::from(segment.tcp_start) + 20, usize::from(segment.payload_start));
    let options = &mut packet[start..end];
    if let Some(at) = find(options, |option| matches!(option, TcpOption::MaxSegmentSize(mss) if *mss > max)) {
        options[at + 2..at + 4].copy_from_slice(&max.to_be_bytes());
    }
}

/// Where the option begins that is wanted.
fn find(options: &[u8], is_wanted: impl Fn(&TcpOption<'_>) -> bool) -> Option<usize> {
    let mut at = 0;
    while let Ok((rest, option)) = TcpOption::parse(&options[at..]) {
        if is_wanted(&option) {
            return Some(at);
        }
        at = if matches!(option, TcpOption::EndOfList) { options.len() } else { options.len() - rest.len() };
    }
    None
}

/// `option` is `OPTION_LEN` long.
fn write_timestamp(option: &mut [u8], timestamp: Timestamp) {
    option[..4].copy_from_slice(&TIMESTAMP_HEAD);
    option[4..8].copy_from_slice(&timestamp.value.to_be_bytes());
    option[8..].copy_from_slice(&timestamp.echo.to_be_bytes());
}
