//! What the peer is told of segments that came out of order (SACK: RFC 2018) or twice (D-SACK: RFC 2883).
//!
//! smoltcp, which holds the bytes, names one block of them, and only when it answers a segment at once. Here is what it
//! has named lately, for every ACK.

use crate::tcp_options::BLOCKS_MAX;
use crate::time_wait::after;

/// The SACK blocks of a flow.
#[derive(Debug, Default, Clone, Copy)]
pub struct SackBlocks {
    /// The peer takes them.
    permitted: bool,
    /// The latest first.
    blocks: [(u32, u32); BLOCKS_MAX],
    len: u8,
    /// The latest segment with bytes.
    latest: (u32, u32),
    /// What of it had come before, and the peer has not been told.
    twice: Option<(u32, u32)>,
    /// It is out of order and has not been answered.
    unanswered: bool,
}

impl SackBlocks {
    /// The peer's SYN has come, with or without SACK-permitted.
    pub fn begin(&mut self, permitted: bool) {
        self.permitted = permitted;
    }

    /// Whether the peer takes blocks.
    pub fn is_permitted(&self) -> bool {
        self.permitted
    }

    /// Bytes have come, from `start` to `end`.
    pub fn received(&mut self, start: u32, end: u32, rcv_nxt: u32) {
        self.latest = (start, end);
        self.unanswered = after(start, rcv_nxt);
        self.twice = match after(rcv_nxt, start) {
            true => Some((start, earlier(end, rcv_nxt))),
            false => self.blocks().iter().find_map(|&block| common(block, (start, end))),
        };
    }

    /// The latest bytes are still to be answered: smoltcp has no room to remember where they belong.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// What an ACK that goes out now is to say, and how many blocks that is, of at most `len_max`. `named` is the block
    /// that smoltcp has put into it.
    pub fn tell(&mut self, ack: u32, named: Option<(u32, u32)>, len_max: usize) -> ([(u32, u32); BLOCKS_MAX], usize) {
        self.unanswered = false;
        self.retain(|block| after(block.1, ack));
        if let Some(named) = named.filter(|named| after(named.0, ack) && after(named.1, named.0)) {
            self.learn(named);
        }
        let twice = self.twice.take().filter(|_| self.permitted);
        let mut told = [(0, 0); BLOCKS_MAX];
        let blocks = twice.iter().chain(self.blocks());
        let len = told.iter_mut().zip(blocks).take(len_max).map(|(place, block)| *place = *block).count();
        (told, len)
    }

    /// RFC 2018, 4: the first block has the latest segment; what smoltcp names otherwise is its lowest.
    fn learn(&mut self, named: (u32, u32)) {
        let is_latest = !after(named.0, self.latest.0) && after(named.1, self.latest.0);
        if !is_latest && self.blocks().contains(&named) {
            return;
        }
        self.retain(|&block| after(block.0, named.1) || after(named.0, block.1));
        let len = (usize::from(self.len) + 1).min(BLOCKS_MAX);
        let at = if is_latest { 0 } else { len - 1 };
        self.blocks.copy_within(at..len - 1, at + 1);
        self.blocks[at] = named;
        self.len = len as u8;
    }

    fn blocks(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.len)]
    }

    fn retain(&mut self, stays: impl Fn(&(u32, u32)) -> bool) {
        let mut len = 0;
        for at in 0..usize::from(self.len) {
            if stays(&self.blocks[at]) {
                self.blocks[len] = self.blocks[at];
                len += 1;
            }
        }
        self.len = len as u8;
    }
}

/// What two ranges have in common.
fn common(a: (u32, u32), b: (u32, u32)) -> Option<(u32, u32)> {
    let start = if after(a.0, b.0) { a.0 } else { b.0 };
    Some((start, earlier(a.1, b.1))).filter(|(start, end)| after(*end, *start))
}

fn earlier(a: u32, b: u32) -> u32 {
    if after(a, b) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RCV.NXT is 100 all the time; numbers wrap.
    const BASE: u32 = u32::MAX - 150;

    struct Receiver(SackBlocks);

    impl Receiver {
        fn new() -> Self {
            let mut blocks = SackBlocks::default();
            blocks.begin(true);
            Receiver(blocks)
        }

        fn receives(&mut self, start: u32, end: u32) -> &mut Self {
            self.0.received(BASE.wrapping_add(start), BASE.wrapping_add(end), BASE.wrapping_add(100));
            self
        }

        fn check(&mut self, named: Option<(u32, u32)>, len_max: usize, expected: &[(u32, u32)]) {
            let wire = |(start, end)| (BASE.wrapping_add(start), BASE.wrapping_add(end));
            let (told, len) = self.0.tell(BASE.wrapping_add(100), named.map(wire), len_max);
            assert_eq!(told[..len].to_vec(), expected.iter().map(|&block| wire(block)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rfc2018_4_the_latest_block_is_the_first() {
        let mut receiver = Receiver::new();
        for at in [200, 140, 300] {
            receiver.receives(at, at + 10);
            assert!(receiver.0.is_unanswered());
            receiver.0.tell(BASE.wrapping_add(100), Some((BASE.wrapping_add(at), BASE.wrapping_add(at + 10))), 3);
            assert!(!receiver.0.is_unanswered());
        }
        receiver.check(None, 3, &[(300, 310), (140, 150), (200, 210)]);
        receiver.check(Some((140, 150)), 3, &[(300, 310), (140, 150), (200, 210)]);
        receiver.receives(150, 200).check(Some((140, 210)), 3, &[(140, 210), (300, 310)]);
        receiver.receives(400, 410).check(Some((400, 410)), 2, &[(400, 410), (140, 210)]);
    }

    #[test]
    fn more_blocks_than_fit_are_forgotten_and_named_again() {
        let mut receiver = Receiver::new();
        for at in [200u32, 220, 240, 260, 280] {
            receiver.receives(at, at + 10).0.tell(
                BASE.wrapping_add(100),
                Some((BASE.wrapping_add(at), BASE.wrapping_add(at + 10))),
                3,
            );
        }
        receiver.check(Some((200, 210)), 4, &[(280, 290), (260, 270), (240, 250), (200, 210)]);
    }

    #[test]
    fn rfc2883_4_what_came_twice_is_the_first_block_once() {
        let mut receiver = Receiver::new();
        receiver.receives(50, 90).check(None, 3, &[(50, 90)]);
        receiver.check(None, 3, &[]);
        receiver.receives(90, 110).check(None, 3, &[(90, 100)]);
        receiver.receives(200, 220).check(Some((200, 220)), 3, &[(200, 220)]);
        receiver.receives(210, 230).check(Some((200, 230)), 3, &[(210, 220), (200, 230)]);
    }

    #[test]
    fn rfc2018_3_nothing_is_told_to_whom_it_means_nothing() {
        let mut receiver = Receiver(SackBlocks::default());
        receiver.receives(50, 90).check(None, 3, &[]);
    }

    #[test]
    fn what_is_acknowledged_is_no_block() {
        let mut receiver = Receiver::new();
        receiver.receives(200, 210).check(Some((200, 210)), 3, &[(200, 210)]);
        let (_, len) = receiver.0.tell(BASE.wrapping_add(210), None, 3);
        assert_eq!(len, 0);
    }
}
