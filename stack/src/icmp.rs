//! ICMP errors: what a router or a host says of a segment of ours (RFC 792, RFC 4443), in Linux's errnos.

use crate::flow_table::FlowKey;
use crate::packet::Malformed;
use crate::{Errno, checksum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ICMPV6: u8 = 58;

/// Bytes of the ICMP header, which the quoted packet follows.
const HEADER_LEN: usize = 8;
/// Bytes of a transport header that are quoted at least (RFC 792).
const TRANSPORT_LEN: usize = 8;

/// An error about a segment of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Its flow.
    pub flow: FlowKey,
    /// SEG.SEQ.
    pub seq: u32,
    /// The length of its packet in bytes, as the IP header says.
    pub packet_len: usize,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was larger than the MTU, in bytes, of a link on its way; 0: an old router, which does not say.
    TooBig(u32),
    /// It could not be delivered.
    Undelivered(Reason),
}

/// Why a segment could not be delivered, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// What a socket call says of it.
    pub errno: Errno,
    /// It ends a half-open flow (tcp_req_err() of Linux).
    pub ends_half_open: bool,
    /// A route is missing: the network may come back at any time (RFC 6069).
    pub is_routing: bool,
}

/// Whether a packet that was steered to us is one of ICMP.
pub fn is_icmp(packet: &[u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(9) == Some(&PROTOCOL_ICMP),
        Some(6) => packet.get(6) == Some(&PROTOCOL_ICMPV6),
        _ => false,
    }
}

/// Parses an IP packet and verifies its checksums. Only errors are steered to us, and only about segments of ours.
pub fn parse(packet: &[u8]) -> Result<IcmpError, Malformed> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => parse_v4(packet),
        Some(6) => parse_v6(packet),
        _ => Err(Malformed::Header),
    }
}

fn parse_v4(packet: &[u8]) -> Result<IcmpError, Malformed> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(Malformed::Header)?;
    let icmp = packet.get(20..usize::from(half(header, 2))).ok_or(Malformed::Header)?;
    if header[0] != 0x45 || half(header, 6) & 0x3fff != 0 || icmp.len() < HEADER_LEN {
        return Err(Malformed::Header);
    }
    if checksum::sum(header) != !0 || checksum::sum(icmp) != !0 {
        return Err(Malformed::Checksum);
    }
    let fate = fate_v4(icmp[0], icmp[1], half(icmp, 6)).ok_or(Malformed::Header)?;
    let quoted = &icmp[HEADER_LEN..];
    let header: &[u8; 20] = quoted.first_chunk().ok_or(Malformed::Header)?;
    if header[0] != 0x45 || half(header, 6) & 0x1fff != 0 {
        return Err(Malformed::Header);
    }
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
    about(header[9], address(12), address(16), &quoted[20..], usize::from(half(header, 2)), fate)
}

fn parse_v6(packet: &[u8]) -> Result<IcmpError, Malformed> {
    let header: &[u8; 40] = packet.first_chunk().ok_or(Malformed::Header)?;
    let icmp = packet.get(40..40 + usize::from(half(header, 4))).ok_or(Malformed::Header)?;
    if header[6] != PROTOCOL_ICMPV6 || icmp.len() < HEADER_LEN {
        return Err(Malformed::Header);
    }
    // RFC 4443, 2.3: the pseudo-header of RFC 8200, 8.1.
    let [high, low] = half(header, 4).to_be_bytes();
    let pseudo_header = checksum::add(checksum::sum(&header[8..40]), checksum::sum(&[high, low, 0, PROTOCOL_ICMPV6]));
    if checksum::add(pseudo_header, checksum::sum(icmp)) != !0 {
        return Err(Malformed::Checksum);
    }
    let mtu = u32::from(half(icmp, 4)) << 16 | u32::from(half(icmp, 6));
    let fate = fate_v6(icmp[0], icmp[1], mtu).ok_or(Malformed::Header)?;
    let quoted = &icmp[HEADER_LEN..];
    let header: &[u8; 40] = quoted.first_chunk().ok_or(Malformed::Header)?;
    let address =
        |at: usize| IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap_or_default()));
    about(header[6], address(8), address(24), &quoted[40..], 40 + usize::from(half(header, 4)), fate)
}

fn about(
    protocol: u8,
    local: IpAddr,
    remote: IpAddr,
    transport: &[u8],
    packet_len: usize,
    fate: Fate,
) -> Result<IcmpError, Malformed> {
    let transport: &[u8; TRANSPORT_LEN] = transport.first_chunk().ok_or(Malformed::Header)?;
    if protocol != PROTOCOL_TCP {
        return Err(Malformed::Header);
    }
    let flow = FlowKey::new((local, half(transport, 0)).into(), (remote, half(transport, 2)).into());
    let seq = u32::from(half(transport, 4)) << 16 | u32::from(half(transport, 6));
    Ok(IcmpError { flow, seq, packet_len, fate })
}

/// 16 bits in network order.
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// What a type and a code of RFC 792, RFC 1122 (3.2.2.1) and RFC 1812 (5.2.7.1) mean: icmp_err_convert and
/// tcp_v4_err() of Linux. `None`: nothing.
fn fate_v4(kind: u8, code: u8, mtu: u16) -> Option<Fate> {
    let errno = match (kind, code) {
        (3, 4) => return Some(Fate::TooBig(mtu.into())),
        (3, 0 | 6 | 9 | 11) => Errno::ENETUNREACH,
        (3, 1 | 10 | 12..=15) => Errno::EHOSTUNREACH,
        (3, 2) => Errno::ENOPROTOOPT,
        (3, 3) => Errno::ECONNREFUSED,
        (3, 5) => Errno::EOPNOTSUPP,
        (3, 7) => Errno::EHOSTDOWN,
        (3, 8) => Errno::ENONET,
        // Code 1 is about a fragment that its receiver waited for.
        (11, 0) => Errno::EHOSTUNREACH,
        (12, _) => Errno::EPROTO,
        _ => return None,
    };
    let is_routing = matches!((kind, code), (3, 0 | 1));
    Some(Fate::Undelivered(Reason { errno, ends_half_open: is_routing || kind != 3, is_routing }))
}

/// The same for RFC 4443: icmpv6_err_convert() and tcp_v6_err().
fn fate_v6(kind: u8, code: u8, mtu: u32) -> Option<Fate> {
    let (errno, ends_half_open) = match (kind, code) {
        (2, _) => return Some(Fate::TooBig(mtu)),
        (1, 0) => (Errno::ENETUNREACH, false),
        (1, 1 | 5 | 6) => (Errno::EACCES, true),
        (1, 2 | 3) => (Errno::EHOSTUNREACH, false),
        (1, 4) => (Errno::ECONNREFUSED, true),
        (3, _) => (Errno::EHOSTUNREACH, false),
        (1 | 4, _) => (Errno::EPROTO, true),
        _ => return None,
    };
    let is_routing = (kind, code) == (1, 0);
    Some(Fate::Undelivered(Reason { errno, ends_half_open, is_routing }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::packet::tests::build;
    use proptest::prelude::*;
    use smoltcp::wire::TcpControl;

    /// An error from 9 about a segment with 1,400 bytes from 1 to 2, of which eight bytes are quoted.
    fn error(is_v4: bool, kind: u8, code: u8, rest: u32) -> Vec<u8> {
        let address = |last: u8| match is_v4 {
            true => IpAddr::from([10, 0, 0, last]),
            false => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
        };
        let headers_len = if is_v4 { 20 } else { 40 };
        let quoted = build((address(1), 80), (address(2), 4000), TcpControl::None, &[7; 1400]);
        let mut icmp = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), &quoted[..headers_len + 8]].concat();
        let mut packet = build((address(9), 0), (address(1), 0), TcpControl::None, &[])[..headers_len].to_vec();
        let len = icmp.len() as u16;
        if is_v4 {
            packet[2..4].copy_from_slice(&(20 + len).to_be_bytes());
            (packet[9], packet[10], packet[11]) = (PROTOCOL_ICMP, 0, 0);
            let field = !checksum::sum(&packet);
            packet[10..12].copy_from_slice(&field.to_be_bytes());
        } else {
            packet[4..6].copy_from_slice(&len.to_be_bytes());
            packet[6] = PROTOCOL_ICMPV6;
        }
        let pseudo_header = match is_v4 {
            true => 0,
            false => checksum::add(checksum::sum(&packet[8..40]), PROTOCOL_ICMPV6.into()),
        };
        let sum = checksum::add(pseudo_header, checksum::sum(&icmp));
        let field = !if is_v4 { sum } else { checksum::add(sum, len) };
        icmp[2..4].copy_from_slice(&field.to_be_bytes());
        packet.extend(icmp);
        packet
    }

    #[test]
    fn says_which_packet_it_is_about() {
        for (is_v4, packet_len, packet) in
            [(true, 1444, error(true, 3, 4, 1280)), (false, 1464, error(false, 2, 0, 1280))]
        {
            assert!(is_icmp(&packet));
            let error = parse(&packet).unwrap();
            assert_eq!((error.seq, error.packet_len), (1000, packet_len));
            assert_eq!((error.flow.local().port(), error.flow.remote().port()), (80, 4000));
            assert_eq!((error.flow.local().is_ipv4(), error.fate), (is_v4, Fate::TooBig(1280)));
        }
        assert!(!is_icmp(&build(([10, 0, 0, 1].into(), 1), ([10, 0, 0, 2].into(), 1), TcpControl::None, &[])));
    }

    #[test]
    fn rfc1122_3_2_2_1_unreachable() {
        let check = |is_v4, kind, code, expected: Option<(Errno, bool)>| {
            let fate = parse(&error(is_v4, kind, code, 0)).map(|error| error.fate);
            let reason = match fate {
                Ok(Fate::Undelivered(reason)) => Some((reason.errno, reason.ends_half_open)),
                _ => None,
            };
            assert_eq!(reason, expected, "{kind} {code}");
        };
        check(true, 3, 0, Some((Errno::ENETUNREACH, true)));
        check(true, 3, 3, Some((Errno::ECONNREFUSED, false)));
        check(true, 3, 4, None);
        check(true, 3, 13, Some((Errno::EHOSTUNREACH, false)));
        check(true, 3, 16, None);
        check(true, 11, 0, Some((Errno::EHOSTUNREACH, true)));
        check(true, 11, 1, None);
        check(true, 12, 0, Some((Errno::EPROTO, true)));
        check(true, 5, 0, None);
        check(false, 1, 0, Some((Errno::ENETUNREACH, false)));
        check(false, 1, 1, Some((Errno::EACCES, true)));
        check(false, 1, 9, Some((Errno::EPROTO, true)));
        check(false, 3, 0, Some((Errno::EHOSTUNREACH, false)));
        check(false, 128, 0, None);
    }

    proptest! {
        #[test]
        fn never_panics(packet in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&packet);
        }

        #[test]
        fn never_panics_on_nearly_valid(at in 0usize..96, byte: u8, cut in 0usize..97, is_v4: bool) {
            let mut packet = if is_v4 { error(true, 3, 4, 0) } else { error(false, 2, 0, 0) };
            let at = at % packet.len();
            packet[at] = byte;
            packet.truncate(cut);
            let _ = parse(&packet);
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 0usize..(20 + 8 + 28) * 8) {
            let mut packet = error(true, 3, 4, 1280);
            packet[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&packet).is_err());
        }
    }
}
