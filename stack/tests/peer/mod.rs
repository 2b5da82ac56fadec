//! A scripted peer that keeps the numbers of one flow.

use crate::script::{Heard, Script, only, segment};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::Duration;
use stack::socket::FlowId;
use stack::socket::tcp::TcpOptions;

/// The stack and its peer; `..peer.ack()` is a segment of the right numbers.
pub struct Peer {
    pub script: Script,
    /// The peer's SND.NXT.
    pub seq: u32,
    /// The peer's RCV.NXT: the end of what the stack has sent in order.
    pub rcv_nxt: u32,
    heard: Vec<Heard>,
}

impl Peer {
    /// Nothing has been said.
    pub fn new() -> Self {
        Peer { script: Script::new(), seq: 5_000, rcv_nxt: 0, heard: Vec::new() }
    }

    /// A flow that the peer has opened.
    pub fn accepted(options: TcpOptions) -> (Self, FlowId) {
        Peer::accepted_with(segment(TcpControl::Syn, 5_000, None, &[]), options)
    }

    /// A flow that the peer has opened by this SYN.
    pub fn accepted_with(syn: TcpRepr<'_>, options: TcpOptions) -> (Self, FlowId) {
        let mut peer = Peer { seq: syn.seq_number.0 as u32, ..Peer::new() };
        let listener = peer.script.listen_with(8, options);
        peer.send(syn);
        let syn_ack = peer.only();
        assert_eq!((syn_ack.control, syn_ack.ack), (TcpControl::Syn, Some(peer.seq + 1)));
        peer.seq += 1;
        peer.rcv_nxt = syn_ack.seq.wrapping_add(1);
        peer.send(peer.ack());
        assert_eq!(peer.replies(), []);
        let flow = peer.script.stack.tcp_accept(listener).unwrap();
        (peer, flow)
    }

    /// An ACK of where the peer stands.
    pub fn ack(&self) -> TcpRepr<'static> {
        segment(TcpControl::None, self.seq, Some(self.rcv_nxt), &[])
    }

    /// Sends a segment, and turns the stack until it has said what it has to say at once.
    pub fn send(&mut self, segment: TcpRepr<'_>) {
        let heard = self.script.say(segment);
        self.heard.extend(heard);
    }

    /// Sends bytes in order.
    pub fn send_bytes(&mut self, payload: &[u8]) {
        self.send(TcpRepr { control: TcpControl::Psh, payload, ..self.ack() });
        self.seq += payload.len() as u32;
    }

    /// Turns the stack without a segment, until it is quiet.
    pub fn turn(&mut self) {
        self.heard.extend(self.script.turn());
    }

    /// What the stack has said since the last time.
    pub fn replies(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// The only segment that the stack has said.
    pub fn only(&mut self) -> Heard {
        only(self.replies())
    }

    /// Lets time pass, following the stack's deadlines; `answer` hears each segment and may send one.
    pub fn pass(&mut self, len: Duration, mut answer: impl FnMut(&mut Peer, Heard)) {
        let end = self.script.now + len;
        loop {
            self.turn();
            for heard in self.replies() {
                answer(self, heard);
            }
            match self.script.stack.deadline().filter(|&deadline| deadline <= end) {
                Some(deadline) => self.script.now = deadline.max(self.script.now + Duration::from_micros(1)),
                None => break,
            }
        }
        self.script.now = end;
        self.turn();
    }

    /// What the stack says in a time in which the peer is silent.
    pub fn silence(&mut self, len: Duration) -> Vec<Heard> {
        let mut heard = self.replies();
        heard.extend(self.script.wait(len));
        heard
    }
}
