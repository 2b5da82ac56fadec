//! Segments without bytes that the front writes itself: RSTs for strays, ACKs for a closed flow, challenge ACKs, probes.

use crate::Instant;
use crate::flow_table::FlowKey;
use crate::outside::LinkId;
use crate::packet::{ACK, Segment};
use crate::stack::Stack;
use smoltcp::phy::{ChecksumCapabilities, TxToken};
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// What such a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bare {
    /// RST or nothing.
    pub control: TcpControl,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: Option<u32>,
    /// SEG.WND as it stands in the header, scaled already.
    pub window: u16,
}

impl Bare {
    /// An ACK of where a flow stands.
    pub fn ack(seq: u32, ack: u32, window: u16) -> Self {
        Bare { control: TcpControl::None, seq, ack: Some(ack), window }
    }

    /// The RST for a segment that nobody wants (RFC 9293, 3.10.7.1). smoltcp's lacks the ACK unless that was a SYN.
    pub fn reset(segment: &Segment) -> Self {
        let (seq, ack) = match segment.has(ACK) {
            true => (segment.ack, None),
            false => (0, Some(segment.seq.wrapping_add(segment.sequence_len()))),
        };
        Bare { control: TcpControl::Rst, seq, ack, window: 0 }
    }
}

impl Stack {
    /// Sends it from `key`'s local to its remote end, behind an Ethernet header; lost if there is no free frame.
    pub(crate) fn send_bare(&mut self, key: &FlowKey, bare: Bare, link: LinkId, header: &[u8], now: Instant) {
        let tcp = TcpRepr {
            src_port: key.local().port(),
            dst_port: key.remote().port(),
            control: bare.control,
            seq_number: TcpSeqNumber(bare.seq as i32),
            ack_number: bare.ack.map(|ack| TcpSeqNumber(ack as i32)),
            window_len: bare.window,
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
