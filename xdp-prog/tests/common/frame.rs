//! Ethernet frames, as plain bytes that a test may then bend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// Length of an Ethernet header without a tag, in bytes.
pub const ETHERNET_LEN: usize = 14;

/// A UDP datagram without a checksum.
pub fn udp(destination: &str, payload: &[u8]) -> Vec<u8> {
    let destination: SocketAddr = destination.parse().unwrap();
    let mut datagram = [1_000u16, destination.port(), 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    frame(destination.ip(), UDP, &datagram)
}

/// The same frame to a group of hosts: multicast or broadcast.
pub fn to_group(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[0] |= 1;
    frame
}

/// A TCP segment without data or options; its checksum is wrong.
pub fn tcp(destination: &str, flags: u8) -> Vec<u8> {
    let destination: SocketAddr = destination.parse().unwrap();
    let mut segment = [0; 20];
    segment[2..4].copy_from_slice(&destination.port().to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    frame(destination.ip(), TCP, &segment)
}

/// The same from a given IPv4 source.
pub fn tcp_from(source: &str, destination: &str, flags: u8) -> Vec<u8> {
    let source: SocketAddrV4 = source.parse().unwrap();
    let mut frame = tcp(destination, flags);
    frame[ETHERNET_LEN + 12..ETHERNET_LEN + 16].copy_from_slice(&source.ip().octets());
    frame[ETHERNET_LEN + 20..ETHERNET_LEN + 22].copy_from_slice(&source.port().to_be_bytes());
    frame
}

/// The same frame behind an 802.1Q tag, or one of another EtherType.
pub fn tagged(frame: &[u8], ethertype: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(ethertype.to_be_bytes());
    tagged.extend([0, 5]);
    tagged.extend(&frame[12..]);
    tagged
}

/// The same IPv4 packet with four bytes of options (NOP, NOP, NOP, end).
pub fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[ETHERNET_LEN] = 0x46;
    let options_at = ETHERNET_LEN + 20;
    frame.splice(options_at..options_at, [1, 1, 1, 0]);
    frame
}

/// The same IPv4 packet with another flags and fragment offset field. RFC 791.
pub fn with_fragment_field(frame: &[u8], field: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[ETHERNET_LEN + 6..ETHERNET_LEN + 8].copy_from_slice(&field.to_be_bytes());
    frame
}

/// The same IPv6 packet behind an extension header of eight bytes. RFC 8200.
pub fn with_extension(frame: &[u8], extension: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let next_header = std::mem::replace(&mut frame[ETHERNET_LEN + 6], extension);
    let extension_at = ETHERNET_LEN + 40;
    frame.splice(extension_at..extension_at, [next_header, 0, 0, 0, 0, 0, 0, 0]);
    frame
}

/// An ICMP error of this type, about a packet from `source` to `destination`: IPv4 or IPv6, as they are. It quotes the
/// packet's IP header and eight bytes more; its checksum is wrong. RFC 792, RFC 4443.
pub fn icmp_error(kind: u8, protocol: u8, source: &str, destination: &str) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let ports = [source.port(), destination.port(), 0, 0].map(u16::to_be_bytes).concat();
    let mut error = [kind, 0, 0, 0, 0, 0, 0, 0].to_vec();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut quoted = ipv4_header(to, protocol, 1_480);
            quoted[12..16].copy_from_slice(&from.octets());
            error.extend(quoted);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut quoted = ipv6_header(to, protocol, 1_460);
            quoted[8..24].copy_from_slice(&from.octets());
            error.extend(quoted);
        }
        _ => panic!("one version"),
    }
    error.extend(ports);
    frame(source.ip(), if source.is_ipv4() { ICMP } else { ICMPV6 }, &error)
}

fn frame(destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    // The MAC address of the interface that frames are sent to.
    let mut frame = [2, 0, 0, 0, 0, 1].to_vec();
    frame.extend([2, 0, 0, 0, 0, 9]);
    match destination {
        IpAddr::V4(destination) => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4_header(destination, protocol, payload.len()));
        }
        IpAddr::V6(destination) => {
            frame.extend([0x86, 0xdd]);
            frame.extend(ipv6_header(destination, protocol, payload.len()));
        }
    }
    frame.extend(payload);
    frame
}

fn ipv4_header(destination: Ipv4Addr, protocol: u8, payload_len: usize) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + payload_len as u16).to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&[10, 0, 0, 9]);
    header[16..20].copy_from_slice(&destination.octets());
    let sum: u32 = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn ipv6_header(destination: Ipv6Addr, protocol: u8, payload_len: usize) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = 64;
    header[8..24].copy_from_slice(&"fd00::9".parse::<Ipv6Addr>().unwrap().octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}
