//! Waiting: a turn, a look, a short spin, then a sleep in the kernel.
//!
//! A sleeping thread wakes for a frame (the AF_XDP sockets are among what it sleeps on), for a deadline of the stack,
//! for its waker (another thread has turned the stack, or closed the socket), and for what else it waits for. All of
//! these stay true until they are dealt with, so that none is lost between the last look and the sleep.

use crate::cancel::{self, CANCELLED};
use crate::description::{Description, Role};
use crate::interruption::{Handled, Waiting, is_signal_pending};
use crate::limits::{BLIND_SLEEP_MAX, SPIN_LOOK_PERIOD, WAKE_COST};
use crate::sys::SignalMask;
use crate::waits::{self, Asleep, Subject};
use crate::world::{self, Inside, World};
use crate::{admission, clock, config, keeper, stats, sys, thread};
use libc::pollfd;
use stack::slab::Key;
use stack::{Errno, Instant};
use std::os::fd::RawFd;
use std::time::Duration;

/// How a call waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Which of the socket's timeouts holds.
    pub timeout: Timeout,
    /// The call itself must not wait (MSG_DONTWAIT).
    pub dont_wait: bool,
    /// A kernel socket that may end the wait, too, by becoming readable.
    pub shadow: Option<RawFd>,
    /// The call is a cancellation point (pthreads(7)).
    pub is_cancellable: bool,
}

/// A time of socket(7).
#[derive(Debug, Clone, Copy)]
pub enum Timeout {
    /// SO_RCVTIMEO.
    Receive,
    /// SO_SNDTIMEO.
    Send,
    /// SO_LINGER, which holds for a socket that does not block, too.
    Linger,
}

impl Patience {
    /// For a call that receives.
    pub const RECEIVE: Self =
        Patience { timeout: Timeout::Receive, dont_wait: false, shadow: None, is_cancellable: true };
    /// For a call that sends.
    pub const SEND: Self = Patience { timeout: Timeout::Send, ..Self::RECEIVE };
    /// For a call that sends a file.
    pub const SEND_FILE: Self = Patience { is_cancellable: false, ..Self::SEND };

    /// For a close that lingers.
    pub const LINGER: Self = Patience { timeout: Timeout::Linger, ..Self::SEND_FILE };

    /// The same, but not waiting if `dont_wait`.
    pub fn unless(self, dont_wait: bool) -> Self {
        Patience { dont_wait, ..self }
    }

    /// How long to wait: `None` is for ever.
    fn limit(self, description: &Description) -> Option<Duration> {
        let settings = &description.settings;
        match self.timeout {
            Timeout::Linger => settings.linger_s.map(|seconds| Duration::from_secs(seconds.max(0) as u64)),
            _ if self.dont_wait || description.nonblocking => Some(Duration::ZERO),
            Timeout::Receive => settings.receive_timeout,
            Timeout::Send => settings.send_timeout,
        }
    }
}

/// Repeats `attempt` until it says something else than `EAGAIN`, waiting in between as the socket's mode asks for.
///
/// # Errors
/// What `attempt` says; `EAGAIN` when the time is over; `EINTR`: a signal handler ran (signal(7)). `EBADF`: closed.
/// `CANCELLED`, of a cancellation point.
pub fn complete<T>(
    key: Key,
    patience: Patience,
    mut attempt: impl FnMut(&mut World) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut world = world::enter()?;
    if patience.is_cancellable && cancel::is_due(&world) {
        return Err(CANCELLED);
    }
    let first = attempt(&mut world);
    if !matches!(first, Err(Errno::EAGAIN)) {
        return first;
    }
    let limit = patience.limit(world.description(key)?);
    if limit == Some(Duration::ZERO) {
        if !(thread::polls_with_calls() || world.serves_loopback()) || !world.is_rx_pending() {
            return first;
        }
        world.turn(clock::now());
        return attempt(&mut world);
    }
    let admitted = admission::begin(&mut world, [key].into_iter());
    let wait = waits::begin(&mut world, Subject::Socket(key), admitted)?;
    let result = repeat(world, wait, key, patience, limit, attempt);
    waits::end(&mut world::enter_quietly(), wait);
    result
}

/// Repeats `attempt` for as long as `limit`.
fn repeat<T>(
    mut world: Inside,
    wait: Key,
    key: Key,
    patience: Patience,
    limit: Option<Duration>,
    mut attempt: impl FnMut(&mut World) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let waiting = Waiting::begin();
    let start = clock::now();
    thread::begin_wait(start);
    let until = limit.and_then(|limit| clock::after(start, limit));
    let mut may_spin = true;
    loop {
        let now = clock::now();
        world.turn(now);
        let result = attempt(&mut world);
        if !matches!(result, Err(Errno::EAGAIN)) || until.is_some_and(|until| until <= now) {
            return result;
        }
        if patience.is_cancellable && cancel::is_due(&world) {
            return Err(CANCELLED);
        }
        // The application may have closed the one that it called by.
        let shadow = patience.shadow.and(world.description(key)?.fds.first().copied());
        if may_spin {
            let turns = world::turns();
            drop(world);
            // It was asked just now.
            let mut is_asked = true;
            may_spin = spin(turns, until, || !std::mem::take(&mut is_asked) && shadow.is_some_and(sys::is_readable));
            world = world::enter()?;
            continue;
        }
        let mut sleep = Sleep::begin(&mut world, wait, [key]);
        let deadline = world.deadline();
        if matches!(world.description(key)?.role, Role::Flow(_)) {
            thread::note_sleep_on_one();
        }
        drop(world);
        sleep.fds.extend(shadow.map(readable));
        // What it says, the next look sees; and a handler that is none of the application's (setuid(2)'s) ends nothing.
        let _ = sleep.run(&waiting, earliest(until, deadline), SignalMask::NONE);
        world = world::enter()?;
        sleep.end(&mut world, [key]);
        // One with a time limit never begins again (signal(7)).
        if waiting.take().is_some_and(|handled| handled == Handled::End || limit.is_some()) {
            world.turn(clock::now());
            return match attempt(&mut world) {
                Err(Errno::EAGAIN) => Err(Errno::EINTR),
                result => result,
            };
        }
        may_spin = true;
    }
}

/// The earlier of two times, of which `None` never comes.
pub fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A wish to know when `fd` is readable.
pub fn readable(fd: RawFd) -> pollfd {
    pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Spins for as long as this thread's recent waits have shown to be worth it, at most until `until`. True if there is
/// something to look at: a frame, what another thread's turn has changed since `turns`, or what `look` has found; that
/// is called at once, and every [`SPIN_LOOK_PERIOD`] from then on. A signal ends it.
pub fn spin(turns: u64, until: Option<Instant>, mut look: impl FnMut() -> bool) -> bool {
    /// Looks at the rings between two looks at the clock.
    const RING_LOOKS: u32 = 16;

    let spin_us_max = config::get().map_or(0, |settings| settings.spin_us_max);
    let credit_us = thread::spin_credit_us(spin_us_max);
    let mut now = clock::now();
    let end = earliest(clock::after(now, Duration::from_micros(credit_us.into())), until);
    let mut look_at = now;
    while credit_us > 0 && end.is_some_and(|end| now < end) {
        if look_at <= now {
            if look() {
                return true;
            }
            look_at = clock::after(now, SPIN_LOOK_PERIOD).unwrap_or(now);
        }
        for _ in 0..RING_LOOKS {
            if is_signal_pending() {
                return false;
            }
            if world::is_rx_pending() || world::turns() != turns {
                thread::set_spin_credit_us(spin_us_max);
                return true;
            }
            std::hint::spin_loop();
        }
        now = clock::now();
    }
    false
}

/// Sleeps by `sleep`, until `until` at the latest, and learns from how long it took whether spinning is worth it.
pub fn sleep_until<T>(until: Option<Instant>, sleep: impl FnOnce(Option<Duration>) -> T) -> T {
    let start = clock::now();
    stats::count(&stats::SLEEPS);
    keeper::attend();
    let woken = sleep(until.map(|until| clock::until(start, until)));
    keeper::leave();
    let slept = clock::until(start, clock::now());
    let spin_us_max = config::get().map_or(0, |settings| settings.spin_us_max);
    let would_have_paid = slept <= Duration::from_micros(spin_us_max.into()) + WAKE_COST;
    thread::set_spin_credit_us(if would_have_paid { spin_us_max } else { thread::spin_credit_us(spin_us_max) / 2 });
    woken
}

/// A sleep in ppoll(2).
pub struct Sleep {
    /// What it sleeps on; the caller adds its own.
    pub fds: Vec<pollfd>,
    wait: Key,
    /// Without a waker, for want of a descriptor, it sleeps for a short time only.
    has_waker: bool,
}

impl Sleep {
    /// Prepares to sleep until something happens to one of `sockets`. From here on nothing is missed.
    pub fn begin(world: &mut World, wait: Key, sockets: impl IntoIterator<Item = Key>) -> Self {
        let (waker, event) = world.wakers.take().ok().unzip();
        let waker = waker.filter(|&waker| {
            let begins = waits::begin_sleep(world, wait, Asleep::By(waker));
            if !begins {
                world.wakers.give_back(waker);
            }
            begins
        });
        for key in sockets {
            if let Ok(description) = world.description(key) {
                description.sleepers.extend(waker);
            }
        }
        let rings = world.network.iter().flat_map(|network| network.rings());
        Sleep { fds: rings.chain(event).map(readable).collect(), wait, has_waker: waker.is_some() }
    }

    /// Sleeps, until `until` at the latest.
    ///
    /// # Errors
    /// What ppoll(2) says: `EINTR`.
    pub fn run(&mut self, waiting: &Waiting, until: Option<Instant>, mask: SignalMask) -> Result<usize, Errno> {
        let blind = (!self.has_waker).then(|| clock::after(clock::now(), BLIND_SLEEP_MAX)).flatten();
        sleep_until(earliest(until, blind), |timeout| sys::sleep_in_poll(waiting, &mut self.fds, timeout, mask))
    }

    /// Ends it; `sockets` are the same as at its beginning.
    pub fn end(self, world: &mut World, sockets: impl IntoIterator<Item = Key>) {
        waits::end_sleep(world, self.wait, sockets);
    }
}
