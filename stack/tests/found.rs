//! What the fuzz target has found, each as it was found; in the end an honest peer gets all that it is owed.

#[allow(dead_code, reason = "each file of tests uses its part of the peer")]
mod rogue;
#[allow(dead_code, reason = "only the routes and addresses are used here")]
mod sim;

use rogue::frame::{ACK, FIN, SYN, Shape};
use rogue::{Rogue, Setting};
use stack::Duration;
use stack::socket::tcp::{How, TcpOptions};

fn plain() -> Setting {
    Setting {
        six: false,
        tagged: false,
        active: false,
        irs: 5_000,
        mss: None,
        shift: None,
        sack: false,
        timestamps: false,
        options: TcpOptions::default(),
    }
}

/// An ACK of all that was sent and `ahead` more, with a closed window, `from` the next number on.
fn closing_ack(rogue: &Rogue, from: u32, ahead: i32) -> Shape {
    let ack = rogue.sent_end().wrapping_add_signed(ahead);
    Shape { seq: rogue.told_ack.wrapping_add(from), ack, flags: ACK, ..Shape::default() }
}

/// A segment that smoltcp has been told of and that has not gone out: its numbers are nobody's yet.
#[test]
fn an_ack_of_what_was_held_back() {
    let mut rogue = Rogue::new(plain());
    rogue.write(537);
    rogue.wait(Duration::from_millis(201));
    rogue.write(535);
    rogue.say(Shape { len: 1, ..closing_ack(&rogue, 1, -13) });
    rogue.say(closing_ack(&rogue, 0, 1));
    rogue.finish();
}

/// smoltcp drops it for its number; the front may not believe its ACK and window.
#[test]
fn an_ack_from_the_right_edge() {
    let mut rogue = Rogue::new(plain());
    rogue.write(2);
    rogue.wait(Duration::from_millis(201));
    rogue.write(1_608);
    rogue.say(Shape { seq: rogue.told_edge, ..closing_ack(&rogue, 0, 0) });
    rogue.finish();
}

/// Nothing that comes from further on may keep the window closed.
#[test]
fn a_closed_window_from_further_on() {
    let mut rogue = Rogue::new(plain());
    rogue.write(2_000);
    rogue.say(closing_ack(&rogue, 0, 0));
    rogue.say(closing_ack(&rogue, 3_502, 0));
    rogue.finish();
}

/// smoltcp drops it for its options; Linux takes it, and so the front has done.
#[test]
fn an_ack_with_unreadable_options() {
    let mut rogue = Rogue::new(Setting { mss: Some(536), ..plain() });
    rogue.say(rogue.honest(ACK | FIN, 0));
    for len in [5_210, 6_715, 5_462] {
        rogue.write(len);
    }
    rogue.say(rogue.honest(ACK, 0));
    rogue.write(2_445);
    rogue.say(rogue.honest(ACK, 0));
    rogue.wait(Duration::from_millis(204));
    rogue.say(Shape { window: 1, options: vec![2], ..closing_ack(&rogue, 0, 0) });
    rogue.write(1_608);
    rogue.say(closing_ack(&rogue, 0, -537));
    rogue.finish();
}

/// The FIN of a window that is taken back goes out all the same, and with it every timer did.
#[test]
fn a_close_behind_a_window_that_is_taken_back() {
    let mut rogue = Rogue::new(plain());
    rogue.write(1);
    rogue.say(closing_ack(&rogue, 0, -1));
    rogue.say(Shape { len: 1, ..closing_ack(&rogue, 1, -1) });
    rogue.close(false);
    rogue.finish();
}

/// In the window that a SYN queue allows, and not in the one that the flow was offered: it may not linger half open.
#[test]
fn an_opening_ack_from_the_right_edge() {
    let mut rogue = Rogue::unopened(plain());
    rogue.say(Shape { seq: 5_000, flags: SYN, window: 20_000, ..Shape::default() });
    for seq in [rogue.told_edge, rogue.told_edge.wrapping_sub(1)] {
        rogue.say(Shape { seq, len: 1, ..rogue.honest(ACK, 0) });
    }
    rogue.finish();
}

/// Who has shut down reading is told of no room that comes of it, as on Linux; but whoever probes is.
#[test]
fn a_probe_of_the_window_of_who_reads_no_more() {
    let options = TcpOptions { receive_buffer: 2_304, ..TcpOptions::default() };
    let mut rogue = Rogue::new(Setting { options, ..plain() });
    rogue.say(rogue.honest(ACK, 1_152));
    rogue.set_options(TcpOptions::default());
    rogue.shut(How::Both);
    rogue.say(rogue.honest(ACK, 0));
    rogue.finish();
}

/// An old byte, and new ones that find the window closed: smoltcp drops it, so its ACK may not count.
#[test]
fn an_ack_that_comes_with_bytes_for_a_closed_window() {
    let options = TcpOptions { receive_buffer: 2_304, ..TcpOptions::default() };
    let mut rogue = Rogue::new(Setting { options, ..plain() });
    rogue.say(rogue.honest(ACK, 539));
    rogue.set_options(TcpOptions { send_buffer: 2_304, ..TcpOptions::default() });
    rogue.say(rogue.honest(ACK, 614));
    rogue.shut(How::Write);
    rogue.say(Shape { len: 38, ..closing_ack(&rogue, u32::MAX, 0) });
    rogue.say(closing_ack(&rogue, 0, 1));
    rogue.finish();
}
