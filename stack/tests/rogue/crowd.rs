//! What a listener makes of a storm: flows that nobody meant to open, whose bytes are still the right ones.

use crate::sim::pattern;
use stack::socket::{FlowId, ListenerId};
use stack::stack::Stack;

/// The accepted flows, and where each one's stream may stand.
#[derive(Default)]
pub struct Crowd {
    /// Sequence numbers behind the SYNs that were sent.
    starts: Vec<u32>,
    flows: Vec<(FlowId, Vec<u32>)>,
}

impl Crowd {
    pub fn syn(&mut self, seq: u32) {
        self.starts.push(seq.wrapping_add(1));
    }

    /// Accepts what waits, and reads what is there: from one of the starts on it is the peer's stream.
    pub fn read(&mut self, stack: &mut Stack, listener: Option<ListenerId>) {
        let Some(listener) = listener else { return };
        while let Ok(flow) = stack.tcp_accept(listener) {
            self.flows.push((flow, self.starts.clone()));
        }
        for (flow, starts) in &mut self.flows {
            let mut buf = [0; 3_000];
            let Ok(len) = stack.tcp_recv(*flow, &mut buf) else { continue };
            let is_next = |start: u32, at: usize| buf[at] == pattern(start.wrapping_add(at as u32) as usize);
            starts.retain(|&start| (0..len).all(|at| is_next(start, at)));
            assert!(!starts.is_empty(), "bytes that nobody has sent");
            starts.iter_mut().for_each(|start| *start = start.wrapping_add(len as u32));
        }
    }

    pub fn write(&mut self, stack: &mut Stack, len: usize) {
        for (flow, _) in &self.flows {
            let _ = stack.tcp_send(*flow, &vec![7; len]);
        }
    }

    pub fn close(&mut self, stack: &mut Stack, reset: bool) {
        if let Some((flow, _)) = self.flows.pop() {
            stack.tcp_close(flow, reset);
        }
    }

    pub fn close_all(&mut self, stack: &mut Stack) {
        while !self.flows.is_empty() {
            self.close(stack, false);
        }
    }
}
