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

mod cubic;
mod hystart;
mod rtt;
mod scoreboard;
mod timers;

use crate::packet::{ACK, FIN, MSS_DEFAULT, RST, SYN, Segment, set_window};
use crate::tcp_options::Options;
use crate::time_wait::after;
use crate::timestamps;
use crate::wire_state::WireState;
use crate::{Duration, Instant};
use cubic::Cubic;
use hystart::HyStart;
use rtt::Rtt;
use scoreboard::Scoreboard;

/// The largest window there is (RFC 7323, 2.3).
const WINDOW_BYTES_MAX: f64 = 1_073_725_440.0;
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
    /// It was, up to this sequence number.
    Sent(u32),
}

/// What a flow knows of its path, as TCP_INFO has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// SRTT; zero before the first measurement.
    pub round_trip: Duration,
    /// RTTVAR; zero before the first measurement.
    pub variation: Duration,
    /// RTO, before any backoff.
    pub timeout: Duration,
    /// The congestion window, in segments.
    pub window: u32,
    /// The slow start threshold, in segments; `u32::MAX` before the first loss.
    pub threshold: u32,
}

/// What a flow has under way.
#[derive(Debug, Clone, Copy)]
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
    /// It has fired so often that the path may be a black hole.
    stuck: bool,
    last_sent: Instant,
    /// The end of the segment whose round trip is being measured, and when it was sent.
    timed: Option<(u32, Instant)>,
    /// What was sent while the congestion window was full ends here.
    full_until: u32,
    rtt: Rtt,
    cubic: Cubic,
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
            stuck: false,
            last_sent: Instant::ZERO,
            timed: None,
            full_until: 0,
            rtt: Rtt::default(),
            cubic: Cubic::default(),
            hystart: HyStart::default(),
            round_end: 0,
        }
    }

    /// What is known of the path.
    pub fn path(&self) -> Path {
        Path {
            round_trip: self.rtt.smoothed(),
            variation: self.rtt.variation(),
            timeout: self.rtt.timeout(),
            window: self.cubic.window() as u32,
            threshold: self.cubic.threshold() as u32,
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
            self.all_is_lost(now);
            self.edge = self.allowed();
            self.stirred = true;
        }
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
        let window = u32::from(segment.window) << shift;
        let bare = segment.payload_len == 0 && !segment.has(SYN | FIN);
        let repeats = bare && segment.ack == self.una && self.flight() > 0 && !after(wire.rcv_nxt, segment.seq);
        let spurious_probe = self.absorb(options, segment.ack);
        if after(segment.ack, self.una) {
            let age_ms = options.timestamp.and_then(|timestamp| wire.timestamps.age_ms(timestamp.echo, now));
            self.advance(segment.ack, spurious_probe, age_ms, now);
        } else if repeats && !self.sack && window == self.window && window > 0 {
            // With a closed window it is the answer to a probe.
            self.duplicate_acks += 1;
        }
        if self.flight() == 0 && now > self.last_sent + self.rtt.timeout() {
            self.cubic.on_idle();
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

    /// Follows a segment on its way out. False if it is not to be sent: smoltcp started again, and this one is not
    /// lost, or not to be sent yet. `news`: its ACK or window is news to the peer, so that it has to go in any case.
    pub fn sends(&mut self, segment: &Segment, news: bool, now: Instant) -> bool {
        let len = segment.sequence_len();
        if len == 0 || segment.has(RST) {
            return true;
        }
        let end = segment.seq.wrapping_add(len);
        if segment.has(SYN) {
            self.timed = (self.nxt != end).then_some((end, now));
            (self.una, self.nxt, self.cursor, self.edge) = (segment.seq, end, end, end);
            (self.lost_below, self.resent_below, self.full_until, self.round_end) = (end, end, end, end);
            (self.timer_from, self.last_sent) = (now, now);
            return true;
        }
        if self.told == 0 || (self.flight() == 0 && end == self.nxt) {
            // A probe of a closed window, or of a silent peer: smoltcp does not count it either.
            if after(end, self.nxt) {
                self.nxt = end;
            }
            return true;
        }
        self.cursor = end;
        if after(end, self.nxt) {
            return self.sends_new(segment, end, news, now);
        }
        let lost = self.missing().is_some_and(|(start, _)| after(end, start) && after(self.edge, start));
        let probe = self.probe == Probe::Due && end == self.nxt;
        if lost {
            self.resent_below = end;
            self.resent_at = self.nxt;
        }
        if probe {
            self.probe = Probe::Sent(end);
        }
        if lost || probe {
            self.give_up_measuring();
            self.timer_from = now;
        }
        lost || probe || news
    }

    /// A segment with something new in it.
    fn sends_new(&mut self, segment: &Segment, end: u32, news: bool, now: Instant) -> bool {
        let within = after(self.nxt, segment.seq) || after(self.told_edge(), segment.seq);
        if !within && segment.payload_len > 0 && !news {
            return false;
        }
        if self.flight() == 0 {
            self.timer_from = now;
        }
        self.timed = self.timed.or(Some((end, now)));
        self.nxt = end;
        self.last_sent = now;
        if self.probe == Probe::Due {
            self.probe = Probe::None;
        }
        let full = f64::from(self.flight() + self.mss) / f64::from(self.mss);
        if full * if self.cubic.is_slow_start() { 2.0 } else { 1.0 } >= self.cubic.window() {
            self.full_until = end;
        }
        true
    }

    /// Whether Nagle's algorithm is to hold back what is less than a segment (`wanted` by the application, with
    /// `queued` bytes unacknowledged). It also keeps a window that opens by bits from being filled with crumbs.
    pub fn nagle(&self, wanted: bool, queued: usize) -> bool {
        let room = self.edge.wrapping_sub(self.una) as usize;
        if queued > room { true } else { wanted && !after(self.nxt, self.cursor) }
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
        let partial = self.phase != Phase::Open && after(self.recover, ack);
        if self.phase != Phase::Recovery && !after(ack, self.full_until) {
            self.cubic.on_ack(f64::from(acked) / f64::from(self.mss), self.rtt.smoothed(), now);
        }
        if self.cubic.is_slow_start() {
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
            self.phase = Phase::Open;
        } else if !self.sack && self.phase == Phase::Recovery {
            // RFC 6582, 3.2, step 3: what follows a partial ACK is lost too.
            (self.lost_below, self.resent_below) = (self.first_segment_end(), ack);
        }
        if let Probe::Sent(end) = self.probe
            && !after(end, ack)
        {
            self.probe = Probe::None;
            if !spurious_probe && self.phase == Phase::Open {
                // RFC 8985, 7.4: the probe has repaired a loss that is to be answered for.
                self.cubic.on_loss();
            }
        }
    }

    fn watch_slow_start(&mut self, ack: u32, now: Instant) {
        if after(ack, self.round_end) {
            self.round_end = self.nxt;
            self.hystart.next_round(now);
        }
        let (window, rtt, rtt_min) = (self.cubic.window(), self.rtt.latest(), self.rtt.minimum());
        if self.phase == Phase::Open && self.hystart.is_over(window, rtt, rtt_min, now) {
            self.cubic.end_slow_start();
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
            self.cubic.on_loss();
        }
        if after(self.lost_below, self.resent_at) && after(self.resent_below, self.una) {
            // What was sent later than the latest retransmission has arrived, but the retransmission has not.
            (self.resent_below, self.resent_at) = (self.una, self.nxt);
        }
    }

    /// The first that is lost and was not sent again: from where to where.
    fn missing(&self) -> Option<(u32, u32)> {
        self.board.hole(self.resent_below, self.lost_below)
    }

    /// How many numbers of sequence space are under way.
    pub fn flight(&self) -> u32 {
        self.nxt.wrapping_sub(self.una)
    }

    fn window_bytes(&self) -> u32 {
        (self.cubic.window() * f64::from(self.mss)).min(WINDOW_BYTES_MAX) as u32
    }

    fn first_segment_end(&self) -> u32 {
        self.una.wrapping_add(self.mss.min(self.flight()))
    }

    /// Up to where may be sent: RFC 6675's `pipe` is filled up to the congestion window, first with what is lost,
    /// then with what is new.
    fn allowed(&self) -> u32 {
        let arrived = if self.sack { self.board.bytes() } else { self.duplicate_acks.saturating_mul(self.mss) };
        let mut lost = 0;
        let mut from = self.resent_below;
        while let Some((start, end)) = self.board.hole(from, self.lost_below) {
            lost += end.wrapping_sub(start);
            from = end;
        }
        let pipe = self.flight().saturating_sub(arrived.saturating_add(lost));
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

    /// The edge as coarsely as smoltcp was told of it.
    fn told_edge(&self) -> u32 {
        let room = self.edge.wrapping_sub(self.una);
        self.una.wrapping_add(room.checked_next_multiple_of(1 << self.shift).unwrap_or(room))
    }

    /// Lowers the window of a segment to `room` bytes, or as near above as its field can say.
    fn tell(&mut self, packet: &mut [u8], segment: &mut Segment, room: u32) {
        let shift = if segment.has(SYN) { 0 } else { self.shift };
        let field = room.div_ceil(1 << shift).min(u32::from(segment.window)) as u16;
        if field < segment.window {
            set_window(packet, segment, field);
        }
        self.told = field;
    }
}
