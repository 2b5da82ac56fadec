//! The headers of a received frame, parsed once: Ethernet, one VLAN tag, IPv4 or IPv6, TCP (RFC 9293, 3.1).

use crate::checksum;
use crate::flow_table::FlowKey;
use crate::socket::ip::IpFields;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The MSS of a peer that names none, in bytes (RFC 9293, 3.7.1).
pub const MSS_DEFAULT: u16 = 536;

/// The least MSS that smoltcp and Linux take.
pub const MSS_MIN: u32 = 48;

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;
/// URG.
pub const URG: u8 = 0x20;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_VLAN_SERVICE: u16 = 0x88a8;
const PROTOCOL_TCP: u8 = 6;
const TCP_HEADER_LEN: usize = 20;
const IPV4_HEADER_LEN: usize = 20;

/// A TCP segment in an IP packet: where its parts are, and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The receiver's view: local is the packet's destination.
    pub key: FlowKey,
    /// Where the TCP header starts in the IP packet.
    pub tcp_start: u16,
    /// Where the payload starts in the IP packet.
    pub payload_start: u16,
    /// The length of the payload in bytes.
    pub payload_len: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK; meaningless without the ACK flag.
    pub ack: u32,
    /// SEG.WND as it stands in the header, unscaled.
    pub window: u16,
    /// The control bits.
    pub flags: u8,
}

impl Segment {
    /// SEG.LEN: the octets of sequence space that the segment takes.
    pub fn sequence_len(&self) -> u32 {
        u32::from(self.payload_len) + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0)
    }

    /// The number behind the segment's last one.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.sequence_len())
    }

    /// Whether any of `flags` is set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// The length of the whole IP packet.
    pub fn packet_len(&self) -> usize {
        usize::from(self.payload_start) + usize::from(self.payload_len)
    }
}

/// Why a frame is no segment of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A header is cut short, contradicts itself, or is of a kind that is never steered to us.
    Header,
    /// A checksum does not hold.
    Checksum,
}

/// The length of the frame's Ethernet header: 14, or 18 with a VLAN tag.
pub fn link_header_len(frame: &[u8]) -> Result<usize, Malformed> {
    let ethertype = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    match ethertype(12).ok_or(Malformed::Header)? {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(14),
        ETHERTYPE_VLAN | ETHERTYPE_VLAN_SERVICE => match ethertype(16) {
            Some(ETHERTYPE_IPV4 | ETHERTYPE_IPV6) => Ok(18),
            _ => Err(Malformed::Header),
        },
        _ => Err(Malformed::Header),
    }
}

/// Parses an IP packet and verifies its checksums. Bytes behind the packet's own length (Ethernet's padding) are
/// ignored.
///
/// A TCP checksum that is just the pseudo-header's sum is accepted: a sender on this host left the rest to hardware
/// that a veth does not have (CHECKSUM_PARTIAL).
pub fn parse(packet: &[u8]) -> Result<Segment, Malformed> {
    let (segment, pseudo_header) = parse_headers(packet)?;
    let (ip, tcp) = packet[..segment.packet_len()].split_at(usize::from(segment.tcp_start));
    if !is_header_intact(ip) {
        return Err(Malformed::Checksum);
    }
    let field = u16::from_be_bytes([tcp[16], tcp[17]]);
    if field == pseudo_header || checksum::add(pseudo_header, checksum::sum(tcp)) == !0 {
        return Ok(segment);
    }
    Err(Malformed::Checksum)
}

/// Parses an IP packet of our own making: nothing is verified but lengths.
pub fn parse_own(packet: &[u8]) -> Result<Segment, Malformed> {
    parse_headers(packet).map(|(segment, _)| segment)
}

fn parse_headers(packet: &[u8]) -> Result<(Segment, u16), Malformed> {
    let ip = header(packet, PROTOCOL_TCP)?;
    let tcp = &packet[ip.start..ip.end];
    let segment = parse_tcp(tcp, ip.start, ip.source, ip.destination)?;
    Ok((segment, checksum::pseudo_header(PROTOCOL_TCP, ip.addresses_sum, tcp.len())))
}

/// What an IP header says, and where what follows it lies in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who sent the packet.
    pub source: IpAddr,
    /// Who is to have it.
    pub destination: IpAddr,
    /// The checksum's sum of both.
    pub addresses_sum: u16,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Where the transport header begins.
    pub start: usize,
    /// Where the packet ends. Behind it may be Ethernet's padding.
    pub end: usize,
}

/// Reads the IP header of a packet that carries `protocol`; its checksum is not verified.
pub fn header(packet: &[u8], protocol: u8) -> Result<Header, Malformed> {
    match packet.first().ok_or(Malformed::Header)? >> 4 {
        4 => header_v4(packet, protocol),
        6 => header_v6(packet, protocol),
        _ => Err(Malformed::Header),
    }
}

/// RFC 791, 3.1. Options and fragments are never steered to us.
fn header_v4(packet: &[u8], protocol: u8) -> Result<Header, Malformed> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(Malformed::Header)?;
    let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] != 0x45 || fragment != 0 || header[9] != protocol || end < 20 || end > packet.len() {
        return Err(Malformed::Header);
    }
    Ok(Header {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        addresses_sum: checksum::sum(&header[12..20]),
        hop_limit: header[8],
        traffic_class: header[1],
        start: 20,
        end,
    })
}

/// RFC 8200, 3. Extension headers are never steered to us.
fn header_v6(packet: &[u8], protocol: u8) -> Result<Header, Malformed> {
    let header: &[u8; 40] = packet.first_chunk().ok_or(Malformed::Header)?;
    let end = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[6] != protocol || end > packet.len() {
        return Err(Malformed::Header);
    }
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap_or_default());
    Ok(Header {
        source: address(8).into(),
        destination: address(24).into(),
        addresses_sum: checksum::sum(&header[8..40]),
        hop_limit: header[7],
        traffic_class: header[0] << 4 | header[1] >> 4,
        start: 40,
        end,
    })
}

/// Whether the checksum of an IP header holds, where it has one.
pub fn is_header_intact(header: &[u8]) -> bool {
    header[0] >> 4 == 6 || checksum::sum(header) == !0
}

fn parse_tcp(tcp: &[u8], tcp_start: usize, source: IpAddr, destination: IpAddr) -> Result<Segment, Malformed> {
    let header: &[u8; TCP_HEADER_LEN] = tcp.first_chunk().ok_or(Malformed::Header)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < TCP_HEADER_LEN || header_len > tcp.len() {
        return Err(Malformed::Header);
    }
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Ok(Segment {
        key: FlowKey::new((destination, half(2)).into(), (source, half(0)).into()),
        tcp_start: tcp_start as u16,
        payload_start: (tcp_start + header_len) as u16,
        payload_len: (tcp.len() - header_len) as u16,
        seq: word(4),
        ack: word(8),
        window: half(14),
        flags: header[13],
    })
}

/// Sets SEG.SEQ; the checksum is not corrected.
pub fn set_seq(packet: &mut [u8], segment: &mut Segment, seq: u32) {
    set_word(packet, segment, 4, seq);
    segment.seq = seq;
}

/// Sets SEG.ACK; the checksum is not corrected.
pub fn set_ack(packet: &mut [u8], segment: &mut Segment, ack: u32) {
    set_word(packet, segment, 8, ack);
    segment.ack = ack;
}

/// Sets URG, and how far ahead of SEG.SEQ the urgent pointer leads; the checksum is not corrected.
pub fn set_urgent(packet: &mut [u8], segment: &mut Segment, ahead: u16) {
    let tcp = &mut packet[usize::from(segment.tcp_start)..];
    tcp[13] |= URG;
    tcp[18..20].copy_from_slice(&ahead.to_be_bytes());
    segment.flags |= URG;
}

/// The urgent pointer of a segment with URG.
pub fn urgent_pointer(packet: &[u8], segment: &Segment) -> u16 {
    let at = usize::from(segment.tcp_start) + 18;
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Sets SEG.WND; the checksum is not corrected.
pub fn set_window(packet: &mut [u8], segment: &mut Segment, window: u16) {
    let at = usize::from(segment.tcp_start) + 14;
    packet[at..at + 2].copy_from_slice(&window.to_be_bytes());
    segment.window = window;
}

fn set_word(packet: &mut [u8], segment: &Segment, at: usize, word: u32) {
    let at = usize::from(segment.tcp_start) + at;
    packet[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

/// Makes room for `len` bytes of options (a multiple of 4) in a segment without payload, and gives it; `packet` is
/// long enough. Checksums are not corrected.
pub fn resize_options<'a>(packet: &'a mut [u8], segment: &mut Segment, len: usize) -> &'a mut [u8] {
    debug_assert!(segment.payload_len == 0 && len.is_multiple_of(4));
    let tcp_start = usize::from(segment.tcp_start);
    let options = tcp_start + TCP_HEADER_LEN;
    segment.payload_start = (options + len) as u16;
    packet[tcp_start + 12] = ((TCP_HEADER_LEN + len) as u8 / 4) << 4;
    set_packet_len(packet, segment.payload_start);
    &mut packet[options..options + len]
}

/// Computes the checksums of a packet that goes out: the last thing that is done to it.
pub fn seal(packet: &mut [u8], segment: &Segment) {
    let (ip, tcp) = packet[..segment.packet_len()].split_at_mut(usize::from(segment.tcp_start));
    seal_ip(ip);
    let addresses = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
    tcp[16..18].fill(0);
    let pseudo_header = checksum::pseudo_header(PROTOCOL_TCP, checksum::sum(addresses), tcp.len());
    let field = !checksum::add(pseudo_header, checksum::sum(tcp));
    tcp[16..18].copy_from_slice(&field.to_be_bytes());
}

/// Computes the checksum of an IP header that has one.
pub fn seal_ip(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let field = !checksum::sum(&packet[..IPV4_HEADER_LEN]);
        packet[10..12].copy_from_slice(&field.to_be_bytes());
    }
}

/// Sets what the sender chooses of an IP header; the checksum is not corrected.
pub fn set_ip_fields(packet: &mut [u8], fields: IpFields) {
    let IpFields { traffic_class, hop_limit } = fields;
    if packet[0] >> 4 == 4 {
        (packet[1], packet[8]) = (traffic_class, hop_limit);
    } else {
        packet[0] = packet[0] & 0xf0 | traffic_class >> 4;
        packet[1] = packet[1] & 0x0f | traffic_class << 4;
        packet[7] = hop_limit;
    }
}

/// The TOS or traffic class of a packet.
pub fn traffic_class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

/// Lets routers cut an IPv4 packet up: it needs a number of its own (RFC 6864). Corrects the checksum.
pub fn allow_fragments(packet: &mut [u8], identification: u16) {
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6..8].fill(0);
    seal_ip(packet);
}

/// Cuts the payload to `payload_len` bytes and takes the FIN away; checksums are not corrected.
pub fn trim(packet: &mut [u8], segment: &mut Segment, payload_len: u16) {
    segment.flags &= !FIN;
    packet[usize::from(segment.tcp_start) + 13] = segment.flags;
    cut_payload(packet, segment, payload_len);
}

/// Cuts the payload to `payload_len` bytes and leaves the FIN where it is; checksums are not corrected.
pub fn cut_payload(packet: &mut [u8], segment: &mut Segment, payload_len: u16) {
    debug_assert!(payload_len <= segment.payload_len);
    segment.payload_len = payload_len;
    set_packet_len(packet, segment.packet_len() as u16);
}

fn set_packet_len(packet: &mut [u8], len: u16) {
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&len.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

    /// An IP packet with a TCP segment, built by smoltcp.
    pub(crate) fn build(
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        control: TcpControl,
        payload: &[u8],
    ) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: source.1,
            dst_port: destination.1,
            control,
            seq_number: TcpSeqNumber(1000),
            ack_number: Some(TcpSeqNumber(2000)),
            window_len: 3000,
            window_scale: None,
            max_seg_size: Some(1400),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = IpRepr::new(source.0.into(), destination.0.into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
        let mut packet = vec![0; ip.buffer_len()];
        ip.emit(&mut packet, &ChecksumCapabilities::default());
        let (source, destination) = (source.0.into(), destination.0.into());
        let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
        tcp.emit(&mut segment, &source, &destination, &ChecksumCapabilities::default());
        packet
    }

    fn v4() -> Vec<u8> {
        build(([10, 0, 0, 2].into(), 4000), ([10, 0, 0, 1].into(), 80), TcpControl::Fin, b"hello")
    }

    fn v6() -> Vec<u8> {
        let address = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into();
        build((address(2), 4000), (address(1), 80), TcpControl::Psh, b"hello")
    }

    #[test]
    fn reads_what_smoltcp_wrote() {
        for (packet, tcp_start, flags) in [(v4(), 20, FIN | ACK), (v6(), 40, 0x08 | ACK)] {
            let segment = parse(&packet).unwrap();
            assert_eq!(segment.tcp_start, tcp_start);
            assert_eq!(&packet[usize::from(segment.payload_start)..segment.packet_len()], b"hello");
            assert_eq!((segment.seq, segment.ack, segment.window, segment.flags), (1000, 2000, 3000, flags));
            assert_eq!((segment.key.local().port(), segment.key.remote().port()), (80, 4000));
        }
    }

    #[test]
    fn ignores_ethernet_padding() {
        let mut packet = v4();
        packet.extend([0xaa; 6]);
        assert_eq!(parse(&packet).unwrap().payload_len, 5);
    }

    #[test]
    fn accepts_a_checksum_left_to_hardware_and_no_other() {
        for mut packet in [v4(), v6()] {
            let (segment, pseudo_header) = parse_headers(&packet).unwrap();
            let at = usize::from(segment.tcp_start) + 16;
            packet[at..at + 2].copy_from_slice(&pseudo_header.to_be_bytes());
            assert!(parse(&packet).is_ok());
            packet[at] ^= 1;
            assert_eq!(parse(&packet), Err(Malformed::Checksum));
        }
    }

    #[test]
    fn rewritten_numbers_are_sealed() {
        for mut packet in [v4(), v6()] {
            let mut segment = parse(&packet).unwrap();
            set_seq(&mut packet, &mut segment, 0xfedc_ba98);
            set_ack(&mut packet, &mut segment, 7);
            assert!(parse(&packet).is_err());
            seal(&mut packet, &segment);
            assert_eq!(parse(&packet), Ok(segment));
        }
    }

    #[test]
    fn options_grow_and_shrink() {
        for mut packet in [v4(), v6()] {
            let mut segment = parse(&packet).unwrap();
            trim(&mut packet, &mut segment, 0);
            for len in [40, 12, 0] {
                packet.resize(120, 0xaa);
                resize_options(&mut packet, &mut segment, len).fill(1);
                seal(&mut packet, &segment);
                assert_eq!(
                    (parse(&packet), segment.packet_len()),
                    (Ok(segment), usize::from(segment.tcp_start) + 20 + len)
                );
            }
        }
    }

    #[test]
    fn trims_payload_and_fin() {
        let mut packet = v4();
        let mut segment = parse(&packet).unwrap();
        trim(&mut packet, &mut segment, 2);
        // The checksums no longer hold, as documented.
        assert_eq!(parse(&packet), Err(Malformed::Checksum));
        assert_eq!(parse_own(&packet), Ok(segment));
        assert_eq!((segment.payload_len, segment.flags), (2, ACK));
        assert_eq!(u16::from_be_bytes([packet[2], packet[3]]), segment.packet_len() as u16);
    }

    proptest! {
        #[test]
        fn never_panics(packet in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&packet);
            let _ = link_header_len(&packet);
        }

        #[test]
        fn never_panics_on_nearly_valid(at in 0usize..64, byte: u8, cut in 0usize..70, six: bool) {
            let mut packet = if six { v6() } else { v4() };
            let at = at % packet.len();
            packet[at] = byte;
            packet.truncate(cut);
            let _ = parse(&packet);
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 0usize..(20 + 24 + 5) * 8) {
            let mut packet = v4();
            packet[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&packet).is_err());
        }
    }
}
