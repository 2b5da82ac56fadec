//! The options of a segment that matter to the front: segment size, window scale, SACK.

use crate::packet::Segment;
use smoltcp::wire::{TcpOption, TcpPacket};

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
        while let Ok((next, option)) = TcpOption::parse(rest) {
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) if mss > 0 => options.mss = Some(mss),
                TcpOption::WindowScale(shift) => options.window_shift = Some(shift.min(14)),
                TcpOption::SackPermitted => options.sack_permitted = true,
                TcpOption::SackRange(blocks) => options.blocks = blocks,
                _ => {}
            }
            rest = next;
        }
        options
    }
}
