//! What a flow has sent and received, in numbers that only grow: TCP_INFO's (RFC 4898).

use crate::packet::Segment;

/// The numbers of one flow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Segments that were received.
    pub segments_in: u32,
    /// Those of them with bytes.
    pub data_segments_in: u32,
    /// Those of them that came before what stands in front of them.
    pub out_of_order: u32,
    /// The most bytes that came in one segment.
    pub largest: u16,
    /// Sequence numbers that were received in order.
    pub bytes_received: u64,
    /// Segments that were sent.
    pub segments_out: u32,
    /// Those of them with bytes.
    pub data_segments_out: u32,
    /// Bytes that were sent, again or not.
    pub bytes_sent: u64,
    /// Bytes that were sent again.
    pub bytes_resent: u64,
    /// Sequence numbers that the peer has acknowledged.
    pub bytes_acked: u64,
}

impl Tally {
    /// A segment has come that is to be processed.
    pub fn received(&mut self, segment: &Segment, is_out_of_order: bool) {
        self.segments_in = self.segments_in.wrapping_add(1);
        if segment.payload_len > 0 {
            self.data_segments_in = self.data_segments_in.wrapping_add(1);
            self.out_of_order = self.out_of_order.wrapping_add(is_out_of_order.into());
            self.largest = self.largest.max(segment.payload_len);
        }
    }

    /// A segment leaves, `again` or for the first time.
    pub fn sent(&mut self, segment: &Segment, again: bool) {
        self.segments_out = self.segments_out.wrapping_add(1);
        if segment.payload_len > 0 {
            self.data_segments_out = self.data_segments_out.wrapping_add(1);
            self.bytes_sent += u64::from(segment.payload_len);
            self.bytes_resent += if again { segment.payload_len.into() } else { 0 };
        }
    }

    /// A segment without bytes leaves that the front has written itself.
    pub fn answered(&mut self) {
        self.segments_out = self.segments_out.wrapping_add(1);
    }
}
