//! Buffers that change while a flow is open: nothing of that is seen, in the bytes or on the wire.

#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "each file of tests uses its part of the simulation")]
mod sim;

use proptest::prelude::*;
use script::{Heard, Script, segment, syn};
use sim::party::Party;
use sim::{Conditions, World, pattern};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::link::fault::Faults;
use stack::socket::FlowId;
use stack::socket::tcp::TcpOptions;
use stack::stack::Stack;
use stack::{Duration, Errno};

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// A buffer size as setsockopt(2) makes it, small or large, or 0 for one that grows.
    fn size(&mut self) -> u32 {
        if self.below(4) == 0 { 0 } else { (2304 + self.below(1000) as u32 * 10) << self.below(8) }
    }

    fn resize(&mut self, stack: &mut Stack, flow: FlowId) {
        let (receive_buffer, send_buffer) = (self.size(), self.size());
        stack.tcp_set_options(flow, TcpOptions { receive_buffer, send_buffer, ..TcpOptions::default() });
    }
}

/// Both ends send, and change their buffers about once in so many steps; returns how often they did.
fn transfer(conditions: Conditions, up_len: usize, down_len: usize, steps: u64) -> u64 {
    let (mut world, mut dice) = (World::new(conditions), Dice(conditions.seed));
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    let (mut client, mut server) = (Party::new(client, up_len), Party::new(server, down_len));
    while client.end.is_none() || server.end.is_none() {
        if dice.below(steps) == 0 {
            dice.resize(&mut world.client, client.flow);
            dice.resize(&mut world.server, server.flow);
        }
        // An application that is slow leaves bytes unread.
        let is_quiet = !world.step();
        if is_quiet || dice.below(3) == 0 {
            client.act(&mut world.client);
        }
        if is_quiet || dice.below(3) == 0 {
            server.act(&mut world.server);
        }
        assert!(!is_quiet || world.step() || (client.end.is_some() && server.end.is_some()), "all is quiet");
    }
    for (party, len) in [(&client, down_len), (&server, up_len)] {
        assert!(party.end != Some(Ok(())) || party.received == len, "{:?} after {}", party.end, party.received);
    }
    world.client.counters().buffers_changed + world.server.counters().buffers_changed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_arrive_while_buffers_change(
        seed: u64,
        loss_permille in 0u32..40,
        duplicate_permille in 0u32..40,
        reorder_permille in 0u32..100,
        reorder_us in 1u64..5_000,
        up_len in 1usize..400_000,
        down_len in 1usize..400_000,
        steps in 1u64..30,
    ) {
        let reorder_delay_max = Duration::from_micros(reorder_us);
        let faults = Faults { loss_permille, duplicate_permille, reorder_permille, reorder_delay_max, ..Faults::default() };
        transfer(Conditions { faults, seed, ..Conditions::calm() }, up_len, down_len, steps);
    }
}

#[test]
fn buffers_do_change_amid_a_transfer() {
    let reorder_delay_max = Duration::from_micros(300);
    let faults = Faults { loss_permille: 5, reorder_permille: 20, reorder_delay_max, ..Faults::default() };
    let changed = transfer(Conditions { faults, ..Conditions::calm() }, 2_000_000, 1_000_000, 10);
    assert!(changed > 20, "{changed}");
}

/// A peer that fills every window to its edge, in order, and looks at the edges.
struct Filler {
    script: Script,
    flow: FlowId,
    /// The peer's SND.NXT, and the furthest edge that it was told of.
    seq: u32,
    edge: u32,
    ack: u32,
    acked: u32,
    sent: usize,
    read: usize,
}

const SHIFT: u32 = 7;
const ISN: u32 = u32::MAX - 100_000;

impl Filler {
    fn new() -> Self {
        let mut script = Script::new();
        let listener = script.listen(1);
        let syn_ack = script::only(script.say(syn(ISN)));
        let (seq, ack) = (ISN.wrapping_add(1), syn_ack.seq.wrapping_add(1));
        script.say(segment(TcpControl::None, seq, Some(ack), &[]));
        let flow = script.stack.tcp_accept(listener).unwrap();
        let edge = seq.wrapping_add(syn_ack.window.into());
        Filler { script, flow, seq, edge, ack, acked: seq, sent: 0, read: 0 }
    }

    /// The edge moves left by its rounding at most (RFC 7323, 2.4).
    fn hear(&mut self, heard: Vec<Heard>) {
        for heard in heard {
            let edge = heard.ack.unwrap().wrapping_add(u32::from(heard.window) << SHIFT);
            let moved = edge.wrapping_sub(self.edge) as i32;
            assert!(moved > -(1 << SHIFT), "the edge moved by {moved}");
            if moved > 0 {
                self.edge = edge;
            }
            self.acked = heard.ack.unwrap();
            self.ack = heard.seq.wrapping_add(heard.payload.len() as u32);
        }
    }

    fn fill(&mut self, len: usize) {
        let room = self.edge.wrapping_sub(self.seq) as usize;
        let payload: Vec<u8> = (self.sent..self.sent + len.min(room)).map(pattern).collect();
        self.sent += payload.len();
        let line = segment(TcpControl::Psh, self.seq, Some(self.ack), &payload);
        self.seq = self.seq.wrapping_add(payload.len() as u32);
        let heard = self.script.say(TcpRepr { ..line });
        self.hear(heard);
    }

    fn read(&mut self, len: usize) {
        let mut buf = vec![0; len];
        match self.script.stack.tcp_recv(self.flow, &mut buf) {
            Ok(len) => {
                assert!(buf[..len].iter().copied().eq((self.read..self.read + len).map(pattern)));
                self.read += len;
            }
            Err(errno) => assert_eq!(errno, Errno::EAGAIN),
        }
        let heard = self.script.turn();
        self.hear(heard);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is offered is taken, and what is offered does not shrink.
    #[test]
    fn what_was_offered_is_taken(seed: u64) {
        let (mut filler, mut dice) = (Filler::new(), Dice(seed));
        for _ in 0..400 {
            match dice.below(20) {
                0..10 => filler.fill(1 + dice.below(1460) as usize),
                10..14 => filler.read(1 + dice.below(1 << (4 + dice.0 % 16)) as usize),
                14..17 => filler.script.now += Duration::from_micros(dice.below(30_000)),
                17 => drop(filler.script.stack.tcp_send(filler.flow, &[1; 1000][..dice.below(1000) as usize])),
                _ => dice.resize(&mut filler.script.stack, filler.flow),
            }
        }
        let heard = filler.script.wait(Duration::from_secs(1));
        filler.hear(heard);
        prop_assert_eq!(filler.acked, filler.seq);
        prop_assert_eq!(filler.script.stack.counters().drop_beyond_window, 0);
        while filler.read < filler.sent {
            filler.read(100_000);
        }
    }
}
