//! Loss: what may be sent when, what is sent again, and when.
//!
//! smoltcp remains the machine of bytes and segments, without a congestion control of its own. Three levers move it:
//! - **The window that it is told.** On the way in, the window field of an ACK is lowered to what congestion control
//!   allows. It opens segment by segment, so smoltcp never counts duplicate ACKs: those that would tell it nothing
//!   are withheld from it.
//! - **Its clock.** Shown a time beyond its retransmission timer, it starts again at SND.UNA (`wants_rewind`).
//! - **A sieve.** On the way out, of what it then sends again, only what is lost passes (`sends`).
//!
//! What is lost is decided as in RFC 8985 (RACK-TLP), from the peer's SACK blocks: what has not arrived although later
//! segments have, and these a quarter of a round trip ago. A segment that was sent again counts as lost once more
//! when segments that were sent after it arrive. How much may be under way is RFC 6675's `pipe` against CUBIC's
//! window. A peer without SACK has three duplicate ACKs (RFC 5681) and NewReno's partial ACKs (RFC 6582).

mod congestion;
mod cubic;
mod hystart;
mod path;
mod reno;
mod rtt;
mod scoreboard;
mod sieve;
mod timers;

use crate::Instant;
use crate::packet::{ACK, FIN, MSS_DEFAULT, RST, SYN, Segment, set_window};
use crate::socket::tcp::CongestionControl;
use crate::tcp_options::Options;
use crate::time_wait::after;
use crate::timestamps;
use crate::wire_state::WireState;
use congestion::Congestion;
use hystart::HyStart;
pub use path::{Path, Recovery};
use rtt::Rtt;
use scoreboard::Scoreboard;

/// Duplicate ACKs of a peer without SACK that mean a loss (RFC 5681, 3.2).
const DUPLICATE_ACKS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is missing.
    Open,
    /// Something is, until `recover` is acknowledged.
    Recovery,
    /// The timer has fired: everything before `recover` is missing.
    Loss,
}

/// The probe for a lost tail (RFC 8985, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    /// Due: the last segment is to be sent again.
    Due,
    /// It was, up to this sequence number, at this time.
    Sent(u32, Instant),
}

/// How it was before a loss: the peer's timestamps may show that there was none (Eifel: RFC 3522, RFC 4015).
#[derive(Debug, Clone, Copy)]
struct Undo {
    congestion: Congestion,
    /// When the first segment was sent again.
    resent_at: Option<Instant>,
}

/// What a flow has under way.
#[derive(Debug)]
pub struct Loss {
    /// The largest payload, in bytes.
    mss: u32,
    /// The shift of the peer's window field.
    shift: u8,
    sack: bool,
    /// SND.UNA and SND.NXT as they are on the wire.
    una: u32,
    nxt: u32,
    /// Where smoltcp is, and the latest time that it was shown to start again.
    cursor: u32,
    clock: Instant,
    /// Something has come in, or the clock has spoken, since smoltcp started again: without that it need not once more.
    stirred: bool,
    /// Up to where may be sent.
    edge: u32,
    /// The peer's window in bytes, and the field that smoltcp was told.
    window: u32,
    told: u16,
    told_in_syn: bool,
    board: Scoreboard,
    duplicate_acks: u32,
    phase: Phase,
    recover: u32,
    /// What is missing before this is lost ...
    lost_below: u32,
    /// ... and was sent again before this ...
    resent_below: u32,
    /// ... when SND.NXT was this.
    resent_at: u32,
    /// What is missing before this is lost a while after that instant.
    passed: Option<(u32, Instant)>,
    probe: Probe,
    /// When the retransmission timer was started, and how often it has fired since something was acknowledged.
    timer_from: Instant,
    backoff: u32,
    timeouts_total: u16,
    /// D-SACK blocks of the peer's.
    duplicates: u32,
    /// It has fired so often that the path may be a black hole.
    stuck: bool,
    last_sent: Instant,
    /// The end of the segment whose round trip is being measured, and when it was sent.
    timed: Option<(u32, Instant)>,
    /// What was sent while the congestion window was full ends here.
    full_until: u32,
    /// The last segment that was less than a whole one ended here.
    small_until: u32,
    /// Boxed: most flows lose nothing.
    undo: Option<Box<Undo>>,
    rtt: Rtt,
    congestion: Congestion,
    hystart: HyStart,
    /// Where the round of slow start ends.
    round_end: u32,
}

impl Loss {
    /// Of a flow that has sent nothing.
    pub fn new() -> Self {
        Loss {
            mss: MSS_DEFAULT.into(),
            shift: 0,
            sack: false,
            una: 0,
            nxt: 0,
            cursor: 0,
            clock: Instant::ZERO,
            stirred: false,
            edge: 0,
            window: 0,
            told: 0,
            told_in_syn: false,
            board: Scoreboard::default(),
            duplicate_acks: 0,
            phase: Phase::Open,
            recover: 0,
            lost_below: 0,
            resent_below: 0,
            resent_at: 0,
            passed: None,
            probe: Probe::None,
            timer_from: Instant::ZERO,
            backoff: 0,
            timeouts_total: 0,
            duplicates: 0,
            stuck: false,
            last_sent: Instant::ZERO,
            timed: None,
            full_until: 0,
            small_until: 0,
            undo: None,
            rtt: Rtt::default(),
            congestion: Congestion::new(CongestionControl::Cubic),
            hystart: HyStart::default(),
            round_end: 0,
        }
    }

    /// Segments are to carry no more bytes than this.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
    }

    /// What is under way was too big for its path: it is sent again at once, in segments of the size that now holds.
    /// That is no sign of congestion, so the window stays (tcp_simple_retransmit() of Linux).
    pub fn send_again(&mut self, now: Instant) {
        if self.flight() > 0 && self.told > 0 {
            self.give_up_measuring();
            self.undo = None;
            self.all_is_lost(now);
            self.edge = self.allowed();
            self.stirred = true;
        }
    }

    /// TCP_CONGESTION.
    pub fn set_congestion_control(&mut self, control: CongestionControl) {
        self.congestion.set_control(control);
    }

    /// The round trip that is being measured cannot be told from another one (Karn's algorithm).
    pub fn give_up_measuring(&mut self) {
        self.timed = None;
    }

    /// Follows a segment on its way in, and lowers its window. False if smoltcp need not see it.
    pub fn received(
        &mut self,
        packet: &mut [u8],
        segment: &mut Segment,
        options: &Options,
        wire: &WireState,
        now: Instant,
    ) -> bool {
        if segment.has(RST) {
            return true;
        }
        if segment.has(SYN) {
            (self.shift, self.sack) = (options.window_shift.unwrap_or(0), options.sack_permitted);
        }
        if !segment.has(ACK) {
            self.tell(packet, segment, self.window_bytes());
            return true;
        }
        if after(self.una, segment.ack) || after(segment.ack, self.nxt) {
            return true;
        }
        let shift = if segment.has(SYN) { 0 } else { self.shift };
        let mut window = u32::from(segment.window) << shift;
        if window == 0 && after(self.cursor, segment.ack) {
            // The peer has taken back a window that was used: what is sent again probes it, as in Linux. smoltcp would
            // neither send it again nor probe.
            window = self.mss.min(self.cursor.wrapping_sub(segment.ack));
            set_window(packet, segment, window.div_ceil(1 << shift) as u16);
        }
        let bare = segment.payload_len == 0 && !segment.has(SYN | FIN);
        let repeats = bare && segment.ack == self.una && self.flight() > 0 && !after(wire.rcv_nxt, segment.seq);
        let spurious_probe = self.absorb(options, segment.ack);
        self.duplicates = self.duplicates.wrapping_add(spurious_probe.into());
        if after(segment.ack, self.una) {
            let age_ms = options.timestamp.and_then(|timestamp| wire.timestamps.age_ms(timestamp.echo, now));
            self.advance(segment.ack, spurious_probe, age_ms, now);
        } else if repeats && !self.sack && window == self.window && window > 0 {
            // With a closed window it is the answer to a probe.
            self.duplicate_acks += 1;
        }
        if self.flight() == 0 && now > self.last_sent + self.rtt.timeout() {
            self.congestion.on_idle();
        }
        self.window = window;
        self.stirred = true;
        self.detect(now);
        self.edge = self.allowed();
        let told = self.told;
        self.tell(packet, segment, self.edge.wrapping_sub(segment.ack));
        if told == 0 && self.told > 0 {
            // The window opens: what probed it is not late.
            self.timer_from = now;
        }
        !(repeats && self.told == told)
    }

    /// Takes in the SACK blocks. True if one of them says that something arrived twice (RFC 2883).
    fn absorb(&mut self, options: &Options, ack: u32) -> bool {
        let mut twice = false;
        for &(start, end) in options.blocks.iter().flatten() {
            if !after(end, ack) {
                twice = true;
            } else if !after(end, self.nxt) && !after(self.una, start) && after(end, start) {
                self.board.insert(start, end);
            }
        }
        twice
    }

    /// Something new is acknowledged.
    ///
    /// `age_ms`: how long ago the segment was sent that the peer's timestamp echoes.
    fn advance(&mut self, ack: u32, spurious_probe: bool, age_ms: Option<u32>, now: Instant) {
        let acked = ack.wrapping_sub(self.una);
        match (self.timed, age_ms) {
            (Some((end, sent_at)), _) if !after(end, ack) => {
                self.rtt.sample(now - sent_at);
                self.timed = None;
            }
            // Coarse, but it tells a segment from its retransmission (RFC 7323, 4.1).
            (None, Some(age_ms)) => self.rtt.sample(timestamps::round_trip(age_ms)),
            _ => {}
        }
        if let Some(&Undo { congestion, resent_at: Some(at) }) = self.undo.as_deref()
            && is_earlier(age_ms, at, now)
        {
            // The segment itself has arrived, not its retransmission.
            self.congestion.undo(&congestion);
            (self.phase, self.passed) = (Phase::Open, None);
            (self.lost_below, self.resent_below) = (ack, ack);
        }
        let partial = self.phase != Phase::Open && after(self.recover, ack);
        if self.phase != Phase::Recovery && !after(ack, self.full_until) {
            self.congestion.on_ack(f64::from(acked) / f64::from(self.mss), self.rtt.smoothed(), now);
        }
        if self.congestion.is_slow_start() {
            self.watch_slow_start(ack, now);
        }
        self.una = ack;
        (self.timer_from, self.backoff, self.duplicate_acks) = (now, 0, 0);
        self.board.acknowledge(ack);
        for mark in [&mut self.cursor, &mut self.lost_below, &mut self.resent_below] {
            if after(ack, *mark) {
                *mark = ack;
            }
        }
        self.passed = self.passed.filter(|(below, _)| after(*below, ack));
        if !partial {
            (self.phase, self.undo) = (Phase::Open, None);
        } else if !self.sack && self.phase == Phase::Recovery {
            // RFC 6582, 3.2, step 3: what follows a partial ACK is lost too.
            (self.lost_below, self.resent_below) = (self.first_segment_end(), ack);
        }
        if let Probe::Sent(end, at) = self.probe
            && !after(end, ack)
        {
            self.probe = Probe::None;
            if !spurious_probe && !is_earlier(age_ms, at, now) && self.phase == Phase::Open {
                // RFC 8985, 7.4: the probe has repaired a loss that is to be answered for.
                self.congestion.on_loss();
            }
        }
    }

    fn watch_slow_start(&mut self, ack: u32, now: Instant) {
        if after(ack, self.round_end) {
            self.round_end = self.nxt;
            self.hystart.next_round(now);
        }
        let (window, rtt, rtt_min) = (self.congestion.window(), self.rtt.latest(), self.rtt.minimum());
        if self.congestion.has_hystart() && self.phase == Phase::Open && self.hystart.is_over(window, rtt, rtt_min, now)
        {
            self.congestion.end_slow_start();
        }
    }

    /// Decides what is lost (RFC 8985, 6.2).
    fn detect(&mut self, now: Instant) {
        let high = match self.board.high() {
            Some(high) => Some(high),
            None if self.duplicate_acks >= DUPLICATE_ACKS => Some(self.first_segment_end()),
            None => None,
        };
        if let Some(high) = high.filter(|high| self.passed.is_none() && after(*high, self.lost_below)) {
            self.passed = Some((high, now));
        }
        if let Some((below, _)) = self.passed
            && self.passed_at().is_some_and(|at| at <= now)
        {
            self.passed = None;
            self.lost_below = below;
        }
        if self.phase == Phase::Open && self.missing().is_some() {
            self.phase = Phase::Recovery;
            self.recover = self.nxt;
            self.prepare_undo();
            self.congestion.on_loss();
        }
        if after(self.lost_below, self.resent_at) && after(self.resent_below, self.una) {
            // What was sent later than the latest retransmission has arrived, but the retransmission has not.
            (self.resent_below, self.resent_at) = (self.una, self.nxt);
        }
    }

    fn prepare_undo(&mut self) {
        let congestion = self.congestion;
        self.undo.get_or_insert_with(|| Box::new(Undo { congestion, resent_at: None }));
    }

    /// The first that is lost and was not sent again: from where to where.
    fn missing(&self) -> Option<(u32, u32)> {
        self.board.hole(self.resent_below, self.lost_below)
    }

    fn first_segment_end(&self) -> u32 {
        self.una.wrapping_add(self.mss.min(self.flight()))
    }

    /// How much is lost and was not sent again.
    fn lost_bytes(&self) -> u32 {
        let (mut lost, mut from) = (0, self.resent_below);
        while let Some((start, end)) = self.board.hole(from, self.lost_below) {
            lost += end.wrapping_sub(start);
            from = end;
        }
        lost
    }

    /// Up to where may be sent: RFC 6675's `pipe` is filled up to the congestion window, first with what is lost,
    /// then with what is new.
    fn allowed(&self) -> u32 {
        let arrived = if self.sack { self.board.bytes() } else { self.duplicate_acks.saturating_mul(self.mss) };
        let pipe = self.flight().saturating_sub(arrived.saturating_add(self.lost_bytes()));
        let mut room = self.window_bytes().saturating_sub(pipe);
        if self.missing().is_some_and(|(start, _)| start == self.una) {
            // RFC 6675, 5, step 4.3: the first retransmission waits for nothing.
            room = room.max(self.mss);
        }
        let mut from = self.resent_below;
        while let Some((start, end)) = self.board.hole(from, self.lost_below) {
            let len = end.wrapping_sub(start);
            if room < len {
                return start.wrapping_add(room.next_multiple_of(self.mss));
            }
            room -= len;
            from = end;
        }
        self.nxt.wrapping_add(room)
    }

    /// Lowers the window of a segment to `room` bytes, or as near above as its field can say.
    fn tell(&mut self, packet: &mut [u8], segment: &mut Segment, room: u32) {
        let shift = if segment.has(SYN) { 0 } else { self.shift };
        let field = room.div_ceil(1 << shift).min(u32::from(segment.window)) as u16;
        if field < segment.window {
            set_window(packet, segment, field);
        }
        (self.told, self.told_in_syn) = (field, segment.has(SYN));
    }
}

/// Whether an echo of this age is of a segment that went out before `at`, by the clock of timestamps.
fn is_earlier(age_ms: Option<u32>, at: Instant, now: Instant) -> bool {
    age_ms.is_some_and(|age_ms| i64::from(age_ms) > now.total_millis() - at.total_millis())
}
