//! A UDP datagram in an IP packet (RFC 768): read from one that was received, written into one to be sent.

use crate::checksum;
use crate::packet::{self, Malformed};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

const PROTOCOL_UDP: u8 = 17;

/// Bytes of the UDP header.
pub const HEADER_LEN: usize = 8;

/// A datagram that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Whom it is for.
    pub local: SocketAddr,
    /// Who sent it.
    pub remote: SocketAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Where its payload lies in the packet.
    pub payload: Range<usize>,
}

/// Whether an IP packet that was steered to us carries a datagram.
pub fn is_datagram(packet: &[u8]) -> bool {
    let protocol_at = match packet.first().map(|first| first >> 4) {
        Some(4) => 9,
        _ => 6,
    };
    packet.get(protocol_at) == Some(&PROTOCOL_UDP)
}

/// Parses an IP packet and verifies its checksums. Bytes behind the datagram's own length are ignored.
///
/// As of TCP (`packet::parse`), a checksum that is just the pseudo-header's sum is accepted. One of zero says over IPv4
/// that there is none; over IPv6 there has to be one (RFC 8200, 8.1).
pub fn parse(packet: &[u8]) -> Result<Datagram, Malformed> {
    let ip = packet::header(packet, PROTOCOL_UDP)?;
    if !packet::is_header_intact(&packet[..ip.start]) {
        return Err(Malformed::Checksum);
    }
    let udp = &packet[ip.start..ip.end];
    let header: &[u8; HEADER_LEN] = udp.first_chunk().ok_or(Malformed::Header)?;
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (remote_port, local_port, len, field) = (half(0), half(2), usize::from(half(4)), half(6));
    let udp = udp.get(..len).filter(|udp| udp.len() >= HEADER_LEN).ok_or(Malformed::Header)?;
    if field != 0 || ip.destination.is_ipv6() {
        let pseudo_header = checksum::pseudo_header(PROTOCOL_UDP, ip.addresses_sum, len);
        if field == 0 || field != pseudo_header && checksum::add(pseudo_header, checksum::sum(udp)) != !0 {
            return Err(Malformed::Checksum);
        }
    }
    Ok(Datagram {
        local: SocketAddr::new(ip.destination, local_port),
        remote: SocketAddr::new(ip.source, remote_port),
        hop_limit: ip.hop_limit,
        traffic_class: ip.traffic_class,
        payload: ip.start + HEADER_LEN..ip.start + len,
    })
}

/// The headers of a datagram to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Headers {
    /// Who sends it.
    pub source: SocketAddr,
    /// Whom it is for: of the same version of IP.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Routers may cut the packet up, which has this number (RFC 6864). IPv4's alone.
    pub identification: Option<u16>,
}

/// The length of the IP packet with `len` bytes of payload for `destination`.
pub fn packet_len(destination: IpAddr, len: usize) -> usize {
    let ip_len = if destination.is_ipv4() { 20 } else { 40 };
    ip_len + HEADER_LEN + len
}

/// Writes an IP packet, which is just as long as `packet`: its payload is what `pieces` hold, one after the other.
pub fn write<'a>(packet: &mut [u8], headers: &Headers, pieces: impl Iterator<Item = &'a [u8]>) {
    let (source, destination) = (headers.source, headers.destination);
    let start = packet_len(destination.ip(), 0) - HEADER_LEN;
    let len = packet.len() - start;
    let hop_limit = headers.hop_limit;
    let ip = IpRepr::new(source.ip().into(), destination.ip().into(), IpProtocol::Udp, len, hop_limit);
    ip.emit(&mut *packet, &ChecksumCapabilities::ignored());
    let addresses = if destination.is_ipv4() { write_v4(packet, headers) } else { write_v6(packet, headers) };
    let udp = &mut packet[start..];
    let mut at = HEADER_LEN;
    for piece in pieces {
        udp[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
    let fields = [source.port(), destination.port(), len as u16, 0];
    for (field, bytes) in fields.iter().zip(udp.chunks_exact_mut(2)) {
        bytes.copy_from_slice(&field.to_be_bytes());
    }
    let sum = checksum::add(checksum::pseudo_header(PROTOCOL_UDP, addresses, len), checksum::sum(udp));
    // Zero would say that there is none.
    let field = if sum == !0 { !0 } else { !sum };
    udp[6..8].copy_from_slice(&field.to_be_bytes());
}

/// What smoltcp's header lacks; returns the checksum's sum of the addresses.
fn write_v4(packet: &mut [u8], headers: &Headers) -> u16 {
    let mut ip = Ipv4Packet::new_unchecked(&mut *packet);
    ip.set_dscp(headers.traffic_class >> 2);
    ip.set_ecn(headers.traffic_class & 3);
    if let Some(identification) = headers.identification {
        ip.set_dont_frag(false);
        ip.set_ident(identification);
    }
    ip.fill_checksum();
    checksum::sum(&packet[12..20])
}

fn write_v6(packet: &mut [u8], headers: &Headers) -> u16 {
    Ipv6Packet::new_unchecked(&mut *packet).set_traffic_class(headers.traffic_class);
    checksum::sum(&packet[8..40])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::UdpPacket;

    fn headers(six: bool) -> Headers {
        let address = |last| -> IpAddr {
            if six { [0xfd00, 0, 0, 0, 0, 0, 0, last].into() } else { [10, 0, 0, last as u8].into() }
        };
        Headers {
            source: (address(1), 53).into(),
            destination: (address(2), 4000).into(),
            hop_limit: 7,
            traffic_class: 0xb9,
            identification: (!six).then_some(77),
        }
    }

    fn written(headers: &Headers, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xaa; packet_len(headers.destination.ip(), payload.len())];
        write(&mut packet, headers, payload.chunks(3));
        packet
    }

    #[test]
    fn is_read_as_it_was_written() {
        for six in [false, true] {
            let headers = headers(six);
            let mut packet = written(&headers, b"hello, world");
            // Ethernet's padding.
            packet.extend([0xee; 6]);
            assert!(is_datagram(&packet));
            let read = parse(&packet).unwrap();
            assert_eq!((read.remote, read.local), (headers.source, headers.destination));
            assert_eq!((read.hop_limit, read.traffic_class), (7, 0xb9));
            assert_eq!(&packet[read.payload], b"hello, world");
        }
    }

    #[test]
    fn smoltcp_finds_it_right() {
        for six in [false, true] {
            let headers = headers(six);
            let packet = written(&headers, b"hello");
            let udp = UdpPacket::new_checked(&packet[packet.len() - HEADER_LEN - 5..]).unwrap();
            assert!(udp.verify_checksum(&headers.source.ip().into(), &headers.destination.ip().into()));
        }
        let packet = written(&headers(false), b"hello");
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.dont_frag(), ip.ident()), (false, 77));
        let packet = written(&Headers { identification: None, ..headers(false) }, b"");
        assert!(Ipv4Packet::new_checked(&packet[..]).unwrap().dont_frag());
    }

    #[test]
    fn the_checksum_may_be_missing_over_ipv4_or_left_to_hardware() {
        for six in [false, true] {
            let mut packet = written(&headers(six), b"hello");
            let start = packet.len() - 5 - HEADER_LEN;
            packet[start + 6..start + 8].fill(0);
            assert_eq!(parse(&packet).is_ok(), !six);
            let ip = packet::header(&packet, PROTOCOL_UDP).unwrap();
            let partial = checksum::pseudo_header(PROTOCOL_UDP, ip.addresses_sum, HEADER_LEN + 5);
            packet[start + 6..start + 8].copy_from_slice(&partial.to_be_bytes());
            assert!(parse(&packet).is_ok());
        }
    }

    #[test]
    fn the_length_is_checked_and_what_follows_is_not_the_datagrams() {
        let packet = written(&headers(false), b"hello");
        let with_len = |len: u8| {
            let mut packet = packet.clone();
            packet[25] = len;
            packet[26..28].fill(0);
            parse(&packet).map(|datagram| datagram.payload)
        };
        assert_eq!(with_len(7), Err(Malformed::Header));
        assert_eq!(with_len(8), Ok(28..28));
        assert_eq!(with_len(13), Ok(28..33));
        assert_eq!(with_len(14), Err(Malformed::Header));
    }

    proptest! {
        #[test]
        fn never_panics(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (is_datagram(&packet), parse(&packet));
        }

        #[test]
        fn never_panics_on_nearly_valid(at in 0usize..56, byte: u8, cut in 0usize..60, six: bool) {
            let mut packet = written(&headers(six), b"hello");
            let at = at % packet.len();
            packet[at] = byte;
            packet.truncate(cut);
            let _ = parse(&packet);
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 0usize..33 * 8) {
            let mut packet = written(&headers(false), b"hello");
            packet[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&packet).is_err());
        }
    }
}
