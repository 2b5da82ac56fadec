//! Segments that the front writes itself, without a socket: SYN-ACKs, and ACKs for flows in TIME-WAIT.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::outside::LinkId;
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

/// The IP header of a segment.
pub fn ip_of(source: SocketAddr, destination: SocketAddr, tcp: &TcpRepr<'_>) -> IpRepr {
    IpRepr::new(source.ip().into(), destination.ip().into(), IpProtocol::Tcp, tcp.buffer_len(), 64)
}

/// Writes a packet; `packet` is just as long as it.
pub fn emit(ip: &IpRepr, tcp: &TcpRepr<'_>, packet: &mut [u8]) {
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut *packet, &checksums);
    let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    tcp.emit(&mut segment, &ip.src_addr(), &ip.dst_addr(), &checksums);
}

impl Stack {
    /// Sends a segment of the front's own to a flow's peer, behind this Ethernet header.
    pub(crate) fn answer(&mut self, link: LinkId, header: &[u8], key: &FlowKey, tcp: &TcpRepr<'_>, now: Instant) {
        let ip = ip_of(key.local(), key.remote(), tcp);
        let lent = self.ports[usize::from(link.0)].link.tx_frame();
        let returned = self.outgoing.lend(lent, header.len());
        debug_assert!(returned.is_none());
        (&mut self.outgoing).consume(ip.buffer_len(), |packet| emit(&ip, tcp, packet));
        self.send_outgoing(None, link, header, now);
    }
}
