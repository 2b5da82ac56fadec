//! Segments without bytes that the front writes itself, without a socket: SYN-ACKs, RSTs for strays, ACKs for closed
//! flows, challenge ACKs, probes.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::outside::LinkId;
use crate::packet::{self, ACK, Segment};
use crate::socket::ip::IpFields;
use crate::stack::Stack;
use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use std::net::SocketAddr;

/// Bytes that any packet without payload fits in: IPv6's header, and TCP's with all its options.
pub const EMPTY_PACKET_LEN_MAX: usize = 40 + 60;

/// A segment with nothing in it but its ports.
pub fn empty(source: SocketAddr, destination: SocketAddr, seq: u32, ack: Option<u32>) -> TcpRepr<'static> {
    TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        control: TcpControl::None,
        seq_number: TcpSeqNumber(seq as i32),
        ack_number: ack.map(|ack| TcpSeqNumber(ack as i32)),
        window_len: u16::MAX,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// The RST for a segment that nobody wants (RFC 9293, 3.10.7.1). smoltcp's lacks the ACK unless that was a SYN.
pub fn reset(segment: &Segment) -> TcpRepr<'static> {
    let (seq, ack) = match segment.has(ACK) {
        true => (segment.ack, None),
        false => (0, Some(segment.seq.wrapping_add(segment.sequence_len()))),
    };
    let empty = empty(segment.key.local(), segment.key.remote(), seq, ack);
    TcpRepr { control: TcpControl::Rst, window_len: 0, ..empty }
}

/// The IP header of a segment.
pub fn ip_of(source: SocketAddr, destination: SocketAddr, tcp: &TcpRepr<'_>) -> IpRepr {
    IpRepr::new(source.ip().into(), destination.ip().into(), IpProtocol::Tcp, tcp.buffer_len(), 64)
}

/// Writes a packet; `packet` is just as long as it.
pub fn emit(ip: &IpRepr, tcp: &TcpRepr<'_>, packet: &mut [u8], checksums: &ChecksumCapabilities) {
    ip.emit(&mut *packet, checksums);
    let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    tcp.emit(&mut segment, &ip.src_addr(), &ip.dst_addr(), checksums);
}

impl Stack {
    /// Sends a segment of the front's own to a flow's peer, behind this Ethernet header and with these fields of IP's.
    pub(crate) fn answer(
        &mut self,
        link: LinkId,
        header: &[u8],
        fields: IpFields,
        key: &FlowKey,
        tcp: &TcpRepr<'_>,
        now: Instant,
    ) {
        let ip = ip_of(key.local(), key.remote(), tcp);
        let lent = self.ports[usize::from(link.0)].link.tx_frame();
        let returned = self.outgoing.lend(lent, header.len());
        debug_assert!(returned.is_none());
        (&mut self.outgoing).consume(ip.buffer_len(), |packet| {
            emit(&ip, tcp, packet, &ChecksumCapabilities::default());
            packet::set_ip_fields(packet, fields);
            packet::seal_ip(packet);
        });
        self.send_outgoing(None, link, header, now);
    }
}
