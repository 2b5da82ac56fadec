//! Frames to the last byte: built, read back, damaged and mended.

use crate::sim::pattern;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket};
use std::fmt::{self, Debug, Formatter};
use std::net::{IpAddr, SocketAddr};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// What a segment is to look like; its bytes follow from its sequence number.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// How far its port is from the peer's.
    pub other_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// At most 40 bytes.
    pub options: Vec<u8>,
    pub len: usize,
}

/// What a frame says.
pub struct Parsed {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub shift: Option<u8>,
    /// TSval.
    pub timestamp: Option<u32>,
    /// TSecr.
    pub echo: Option<u32>,
    pub payload: Vec<u8>,
    pub checksums_hold: bool,
}

impl Debug for Parsed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Parsed { seq, ack, flags, window, .. } = self;
        write!(f, "seq {seq} ack {ack} flags {flags:#x} window {window}, {} bytes", self.payload.len())
    }
}

/// An Ethernet frame with a segment whose checksums hold.
pub fn build(from: SocketAddr, to: SocketAddr, shape: &Shape, tagged: bool) -> Vec<u8> {
    let options_len = shape.options.len().min(40).next_multiple_of(4);
    let tcp_len = 20 + options_len + shape.len;
    let mut frame = packet(from.ip(), to.ip(), 6, &vec![0; tcp_len], tagged);
    let tcp_start = frame.len() - tcp_len;
    let tcp = &mut frame[tcp_start..];
    tcp[..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&shape.seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&shape.ack.to_be_bytes());
    tcp[12] = (((20 + options_len) / 4) as u8) << 4;
    tcp[13] = shape.flags;
    tcp[14..16].copy_from_slice(&shape.window.to_be_bytes());
    let options = &shape.options[..shape.options.len().min(40)];
    tcp[20..20 + options.len()].copy_from_slice(options);
    mend(&mut frame);
    frame
}

/// An Ethernet frame with an IP packet of any protocol.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8], tagged: bool) -> Vec<u8> {
    let ip = IpRepr::new(from.into(), to.into(), IpProtocol::from(protocol), body.len(), 64);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if tagged {
        frame.extend([0x81, 0x00, 0x00, 0x07]);
    }
    frame.extend(if from.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
    let ip_start = frame.len();
    frame.resize(ip_start + ip.header_len(), 0);
    ip.emit(&mut frame[ip_start..], &ChecksumCapabilities::default());
    frame.extend(body);
    frame
}

/// An ICMP error of a router about the packet that `quoted` begins.
pub fn icmp_error(to: IpAddr, kind: u8, code: u8, rest: u32, quoted: &[u8], tagged: bool) -> Vec<u8> {
    let router: IpAddr = if to.is_ipv4() { [10, 0, 0, 254].into() } else { [0xfd00, 0, 0, 0, 0, 0, 0, 254].into() };
    let mut icmp = [&[kind, code, 0, 0], &rest.to_be_bytes()[..], quoted].concat();
    let protocol = match (router, to) {
        (IpAddr::V6(router), IpAddr::V6(to)) => {
            Icmpv6Packet::new_unchecked(&mut icmp).fill_checksum(&router, &to);
            58
        }
        _ => {
            Icmpv4Packet::new_unchecked(&mut icmp).fill_checksum();
            1
        }
    };
    packet(router, to, protocol, &icmp, tagged)
}

/// Where the IP packet and the TCP header of a frame begin, and where the segment ends.
fn places(frame: &[u8]) -> Option<(usize, usize, usize)> {
    let ethertype = |at: usize| Some([*frame.get(at)?, *frame.get(at + 1)?]);
    let ip_start = match ethertype(12)? {
        [0x81, 0x00] | [0x88, 0xa8] => 18,
        _ => 14,
    };
    let packet = frame.get(ip_start..)?;
    match ethertype(ip_start - 2)? {
        [0x08, 0x00] => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            let is_ours = ip.version() == 4 && ip.header_len() == 20 && ip.next_header() == IpProtocol::Tcp;
            is_ours.then_some((ip_start, ip_start + 20, ip_start + usize::from(ip.total_len())))
        }
        [0x86, 0xdd] => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let is_ours = ip.version() == 6 && ip.next_header() == IpProtocol::Tcp;
            is_ours.then_some((ip_start, ip_start + 40, ip_start + ip.total_len()))
        }
        _ => None,
    }
}

fn addresses(packet: &[u8]) -> (IpAddr, IpAddr) {
    match packet[0] >> 4 {
        4 => {
            let ip = Ipv4Packet::new_unchecked(packet);
            (ip.src_addr().into(), ip.dst_addr().into())
        }
        _ => {
            let ip = Ipv6Packet::new_unchecked(packet);
            (ip.src_addr().into(), ip.dst_addr().into())
        }
    }
}

/// Makes a frame, whatever its headers have become, into one with the right bytes and checksums.
pub fn mend(frame: &mut [u8]) {
    let Some((ip_start, tcp_start, end)) = places(frame) else { return };
    let (from, to) = addresses(&frame[ip_start..]);
    if from.is_ipv4() {
        Ipv4Packet::new_unchecked(&mut frame[ip_start..]).fill_checksum();
    }
    let Ok(mut tcp) = TcpPacket::new_checked(&mut frame[tcp_start..end]) else { return };
    let first = tcp.seq_number().0.wrapping_add(i32::from(tcp.syn())) as u32;
    for (at, byte) in tcp.payload_mut().iter_mut().enumerate() {
        *byte = pattern(first.wrapping_add(at as u32) as usize);
    }
    tcp.fill_checksum(&from.into(), &to.into());
}

/// Reads a frame; `None` if it is no segment.
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    let (ip_start, tcp_start, end) = places(frame)?;
    let (from, to) = addresses(&frame[ip_start..]);
    let tcp = TcpPacket::new_checked(&frame[tcp_start..end]).ok()?;
    let ip_holds = from.is_ipv6() || Ipv4Packet::new_unchecked(&frame[ip_start..]).verify_checksum();
    let mut parsed = Parsed {
        from: (from, tcp.src_port()).into(),
        to: (to, tcp.dst_port()).into(),
        seq: tcp.seq_number().0 as u32,
        ack: tcp.ack_number().0 as u32,
        flags: frame[tcp_start + 13],
        window: tcp.window_len(),
        shift: None,
        timestamp: None,
        echo: None,
        payload: tcp.payload().to_vec(),
        checksums_hold: ip_holds && tcp.verify_checksum(&from.into(), &to.into()),
    };
    let mut options = tcp.options();
    while let Ok((rest, option)) = TcpOption::parse(options) {
        match option {
            TcpOption::EndOfList => break,
            TcpOption::WindowScale(shift) => parsed.shift = Some(shift),
            TcpOption::TimeStamp { tsval, tsecr } => (parsed.timestamp, parsed.echo) = (Some(tsval), Some(tsecr)),
            _ => {}
        }
        options = rest;
    }
    Some(parsed)
}

/// A timestamp option with its padding (RFC 7323, appendix A).
pub fn timestamp(value: u32, echo: u32) -> Vec<u8> {
    [[1, 1, 8, 10], value.to_be_bytes(), echo.to_be_bytes()].concat()
}
