//! Segments without bytes that the front writes itself: ACKs for a closed flow, challenge ACKs, probes.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::outside::LinkId;
use crate::stack::Stack;
use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// What such a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareAck {
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// SEG.WND as it stands in the header, scaled already.
    pub window: u16,
}

impl Stack {
    /// Sends an ACK from `key`'s local to its remote end, behind an Ethernet header; lost if there is no free frame.
    pub(crate) fn send_bare_ack(&mut self, key: &FlowKey, what: BareAck, link: LinkId, header: &[u8], now: Instant) {
        let tcp = TcpRepr {
            src_port: key.local().port(),
            dst_port: key.remote().port(),
            control: TcpControl::None,
            seq_number: TcpSeqNumber(what.seq as i32),
            ack_number: Some(TcpSeqNumber(what.ack as i32)),
            window_len: what.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (local, remote) = (key.local().ip(), key.remote().ip());
        let ip = IpRepr::new(local.into(), remote.into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
        let lent = self.ports[usize::from(link.0)].link.tx_frame();
        let returned = self.outgoing.lend(lent, header.len());
        debug_assert!(returned.is_none());
        let checksums = ChecksumCapabilities::default();
        (&mut self.outgoing).consume(ip.buffer_len(), |packet| {
            ip.emit(&mut *packet, &checksums);
            let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
            tcp.emit(&mut segment, &local.into(), &remote.into(), &checksums);
        });
        self.send_outgoing(None, link, header, now);
    }
}
