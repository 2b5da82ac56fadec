//! The keeper: a thread that turns the stack when no thread of the application attends to it.
//!
//! A thread attends while it sleeps in a wait of ours: it wakes for frames and deadlines. Between its waits, an active
//! thread turns the stack with its calls. Only one that leaves it alone for long needs the keeper: then it is the keeper
//! that sleeps on frames and deadlines.
//!
//! Whoever enters the world rouses a sleeping keeper, which then looks again every [`KEEPER_PERIOD`] for as long as
//! the process is active. In an idle process everybody sleeps, and nothing wakes up.

use crate::held_signals::HeldSignals;
use crate::limits::{KEEPER_PERIOD, KEEPER_STACK_LEN};
use crate::wait::{earliest, readable};
use crate::{admission, clock, exit, fd_table, handoff, relay, sys, thread, world};
use fd_table::Entry;
use stack::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How many threads of the application sleep in a wait of ours.
static ATTENDING: AtomicU32 = AtomicU32::new(0);

/// The keeper sleeps until it is roused, or until there is work for it.
static IS_ASLEEP: AtomicBool = AtomicBool::new(false);

/// How often the stack was turned: whether anybody else attends to it. Calls that only look are not enough.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// The eventfd that rouses it, or -1 while there is no keeper.
static EVENT: AtomicI32 = AtomicI32::new(-1);

/// The epoll instance of the relays, or -1 while there are none: nobody else waits for it.
static RELAYS: AtomicI32 = AtomicI32::new(-1);

/// Starts the keeper, unless it runs.
///
/// # Errors
/// What eventfd(2) or pthread_create(3) says.
pub fn start() -> Result<(), Errno> {
    if EVENT.load(Ordering::Relaxed) != -1 {
        return Ok(());
    }
    let event = sys::event_fd()?;
    fd_table::set(event, Entry::Internal);
    // Before the keeper runs: who rouses it has to find it.
    EVENT.store(event, Ordering::SeqCst);
    let builder = std::thread::Builder::new().name("userstack".to_owned()).stack_size(KEEPER_STACK_LEN);
    // The keeper has them blocked for good: they are the application's.
    let held = HeldSignals::hold();
    let started = builder.spawn(move || keep(event));
    drop(held);
    started.map(drop).map_err(|error| {
        EVENT.store(-1, Ordering::SeqCst);
        fd_table::clear(event);
        sys::close(event);
        Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))
    })
}

/// This thread goes to sleep in a wait of ours.
pub fn attend() {
    thread::attend();
    ATTENDING.fetch_add(1, Ordering::SeqCst);
}

/// It is awake again. If it was the last one, the keeper sees whether anybody goes on: what it woke for may be the
/// kernel's.
pub fn leave() {
    if thread::end_attending() {
        leave_once();
    }
}

fn leave_once() {
    // In a child of fork(2) that a signal handler made, nobody attends.
    let left = ATTENDING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
    if left == Ok(1) {
        rouse();
    }
}

/// This thread has left its waits without returning from them.
pub fn leave_for_good() {
    while thread::end_attending() {
        leave_once();
    }
}

/// Rouses the keeper if it sleeps: this thread is about to change something.
pub fn rouse() {
    if IS_ASLEEP.load(Ordering::SeqCst) && IS_ASLEEP.swap(false, Ordering::SeqCst) {
        sys::signal_event(EVENT.load(Ordering::Relaxed));
    }
}

/// Has it look whether the process ends; false: there is none.
pub fn summon() -> bool {
    let event = EVENT.load(Ordering::SeqCst);
    if event != -1 {
        IS_ASLEEP.store(false, Ordering::SeqCst);
        sys::signal_event(event);
    }
    event != -1
}

/// From now on it serves the relays, too.
pub fn wait_for_relays(epfd: RawFd) {
    RELAYS.store(epfd, Ordering::SeqCst);
    rouse();
}

/// There are none any more.
pub fn forget_relays() {
    RELAYS.store(-1, Ordering::SeqCst);
}

fn relays() -> Option<RawFd> {
    Some(RELAYS.load(Ordering::SeqCst)).filter(|&epfd| epfd != -1)
}

/// The stack is turned.
pub fn note_turn() {
    TURNS.fetch_add(1, Ordering::Relaxed);
}

/// In a child of fork(2) there is no keeper. Returns the parent's eventfd, to be closed.
pub fn forget() -> Option<RawFd> {
    ATTENDING.store(0, Ordering::SeqCst);
    IS_ASLEEP.store(false, Ordering::SeqCst);
    let event = EVENT.swap(-1, Ordering::Relaxed);
    (event != -1).then_some(event)
}

fn keep(event: RawFd) {
    let mut seen = TURNS.load(Ordering::Relaxed);
    loop {
        pause(event);
        exit::serve_end();
        if TURNS.load(Ordering::Relaxed) == seen {
            drive(event);
        } else if admission::may_be_shared() {
            // Threads are busy, but perhaps not with accepting.
            handoff::attend(&mut world::enter_quietly(), clock::now());
        }
        seen = TURNS.load(Ordering::Relaxed);
    }
}

/// Lets a period pass, but for the relays.
fn pause(event: RawFd) {
    let end = clock::after(clock::now(), KEEPER_PERIOD);
    loop {
        let now = clock::now();
        let left = end.map(|end| clock::until(now, end)).unwrap_or_default();
        let mut fds = [event, relays().unwrap_or(-1)].map(readable);
        // A wake-up from before cuts it short once, and does no harm.
        let _ = sys::poll(&mut fds, Some(left));
        if fds[1].revents == 0 || left.is_zero() {
            break;
        }
        relay::serve(&mut world::enter_quietly(), clock::now());
    }
    sys::clear_event(event);
}

/// Turns the stack whenever there is something to do, until roused. While somebody attends, that is only what they do not
/// know of.
fn drive(event: RawFd) {
    // From here on, whoever enters rouses us; so what is seen below cannot become stale while we sleep.
    IS_ASLEEP.store(true, Ordering::SeqCst);
    // Nor can an end that began before, whose summons is not to be lost.
    while IS_ASLEEP.load(Ordering::SeqCst) && !exit::has_begun() {
        let mut fds: Vec<_> = [event].into_iter().chain(relays()).map(readable).collect();
        let is_attended = ATTENDING.load(Ordering::SeqCst) > 0;
        let mut world = world::enter_quietly();
        let now = clock::now();
        // Who attends knows the deadlines of before its sleep; another thread may have made earlier ones.
        if !is_attended || world.deadline().is_some_and(|deadline| deadline <= now) || world.is_flush_pending() {
            world.turn(now);
        }
        relay::serve(&mut world, now);
        let look_at = handoff::attend(&mut world, now);
        let timeout = earliest(world.deadline(), look_at).map(|deadline| clock::until(now, deadline));
        if !is_attended {
            fds.extend(world.network.iter().flat_map(|network| network.rings()).map(readable));
        }
        drop(world);
        let _ = sys::poll(&mut fds, timeout);
    }
    sys::clear_event(event);
}

/// Drives the stack in the caller's thread: for at most `limit` until nothing is left to deliver, and for at most
/// `grace` until the peers, too, have closed. With nothing to do it makes no system call: a process in a sandbox may be
/// allowed few (seccomp(2)).
pub fn deliver(limit: Duration, grace: Duration) {
    let start = clock::now();
    loop {
        let mut world = world::enter_quietly();
        let now = clock::now();
        if world.stack().is_some_and(|stack| stack.flow_count() > 0 || stack.flush_pending()) {
            world.turn(now);
        }
        let Some(stack) = world.stack() else { return };
        let end = match (stack.undelivered(), stack.flow_count()) {
            (0, 0) => return,
            (0, _) => clock::after(start, grace),
            _ => clock::after(start, limit),
        };
        if end.is_some_and(|end| end <= now) {
            return stack.strike_delivered();
        }
        let until = crate::wait::earliest(end, stack.deadline()).unwrap_or(now);
        let mut fds: Vec<_> = world.network.iter().flat_map(|network| network.rings()).map(readable).collect();
        drop(world);
        let _ = sys::poll(&mut fds, Some(clock::until(now, until)));
    }
}
