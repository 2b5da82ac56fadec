//! A flow whose route goes, and comes back or not.

#[allow(dead_code, reason = "each file of tests uses its part of the script")]
mod script;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use script::{Script, only, segment, syn};
use sim::{FlatRoutes, PORT};
use smoltcp::wire::{TcpControl, TcpRepr};
use stack::outside::{Hop, Routes};
use stack::socket::tcp::TcpState;
use stack::stack::Stack;
use stack::{Duration, Errno, Instant};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SECOND: Duration = Duration::from_secs(1);

fn script_over(routes: impl Routes + 'static) -> Script {
    let now = Instant::from_secs(1);
    let mut stack = Stack::new(Box::new(routes), Box::new(sim::Claims::default()), 7, now);
    let peer = script::Peer::attach(&mut stack);
    Script { now, stack, peer }
}

/// Routes that are there, or not.
struct Switched {
    is_on: Arc<AtomicBool>,
    errno: Errno,
}

impl Routes for Switched {
    fn next_hop(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop {
        match self.is_on.load(Ordering::Relaxed) {
            true => FlatRoutes { resolved_at: Instant::ZERO, mtu: 1500 }.next_hop(local, remote, now),
            false => Hop::Unreachable(self.errno),
        }
    }

    fn generation(&self) -> u64 {
        self.is_on.load(Ordering::Relaxed).into()
    }

    fn refresh(&mut self, _: Instant) {}
}

#[test]
fn rfc9293_3_8_3_bytes_for_which_there_is_no_way_have_their_time_too() {
    let check = |errno, expected| {
        let is_on = Arc::new(AtomicBool::new(true));
        let mut script = script_over(Switched { is_on: is_on.clone(), errno });
        let flow = script.connect(PORT);
        let isn = only(script.turn()).seq;
        let number = Some(script::number(isn.wrapping_add(1)));
        script.say(TcpRepr { window_scale: None, ack_number: number, ..syn(7) });
        for is_on_again in [true, false] {
            is_on.store(false, Ordering::Relaxed);
            script.stack.tcp_send(flow, b"x").unwrap();
            assert_eq!(script.wait(SECOND * 900), []);
            assert_eq!(script.stack.tcp_state(flow), TcpState::Established);
            if is_on_again {
                is_on.store(true, Ordering::Relaxed);
                assert_eq!(script.wait(SECOND)[0].payload, b"x");
                let ack = segment(TcpControl::None, 8, Some(isn.wrapping_add(2)), b"");
                script.say(ack);
            }
        }
        script.wait(SECOND * 25);
        assert_eq!(script.stack.tcp_state(flow), TcpState::Closed);
        assert_eq!(script.stack.tcp_take_error(flow), Some(expected));
    };
    check(Errno::ENETUNREACH, Errno::ETIMEDOUT);
    check(Errno::EHOSTUNREACH, Errno::EHOSTUNREACH);
}

/// Routes that count how often they were asked.
struct Counted(Arc<AtomicUsize>);

impl Routes for Counted {
    fn next_hop(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop {
        self.0.fetch_add(1, Ordering::Relaxed);
        FlatRoutes { resolved_at: Instant::ZERO, mtu: 1500 }.next_hop(local, remote, now)
    }

    fn generation(&self) -> u64 {
        0
    }

    fn refresh(&mut self, _: Instant) {}
}

/// The kernel sees none of the packets: that the way is in use, and that nobody answers, it is told by the question.
#[test]
fn rfc1122_3_3_1_4_the_way_to_a_peer_that_does_not_answer_is_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut script = script_over(Counted(asked.clone()));
    let flow = script.connect(PORT);
    let isn = only(script.turn()).seq;
    let number = Some(script::number(isn.wrapping_add(1)));
    script.say(TcpRepr { window_scale: None, ack_number: number, ..syn(7) });
    let opened = asked.load(Ordering::Relaxed);
    script.stack.tcp_send(flow, b"x").unwrap();
    script.turn();
    assert_eq!(asked.load(Ordering::Relaxed), opened);
    script.wait(SECOND * 10);
    assert!(asked.load(Ordering::Relaxed) >= opened + 2);
    script.say(segment(TcpControl::None, 8, Some(isn.wrapping_add(2)), b""));
    let answered = asked.load(Ordering::Relaxed);
    script.stack.tcp_send(flow, b"y").unwrap();
    script.turn();
    assert_eq!(asked.load(Ordering::Relaxed), answered);
}
