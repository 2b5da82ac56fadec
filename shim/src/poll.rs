//! poll(2) and select(2), where some of the fds are sockets of ours.

use crate::attach;
use crate::calls;
use crate::cancel::{self, CANCELLED};
use crate::datagram::readiness_of;
use crate::description::Role;
use crate::fd_table::{self, Entry};
use crate::interruption::Waiting;
use crate::sys::SignalMask;
use crate::wait::{Sleep, earliest, spin};
use crate::waits::{self, Subject};
use crate::world::{self, Inside, World};
use crate::{admission, clock, sys, thread};
use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, c_short, fd_set, pollfd};
use stack::Errno;
use stack::slab::Key;
use std::time::Duration;

/// Whether any of these fds is more than the kernel's.
pub fn is_ours(fds: &[pollfd]) -> bool {
    // All of them are used.
    fds.iter().filter(|fd| fd_table::used(fd.fd).is_some()).count() > 0
}

/// poll(2): fills in the `revents` and returns how many are not empty; without `timeout` it waits for ever.
///
/// # Errors
/// `EINTR`: a signal handler ran. `CANCELLED`.
pub fn poll(fds: &mut [pollfd], timeout: Option<Duration>, mask: SignalMask) -> Result<usize, Errno> {
    poll_once(fds, timeout, mask).map(|Polled { count, .. }| count)
}

/// What a wait has ended with.
struct Polled {
    /// How many `revents` are not empty.
    count: usize,
    /// There was an fd that is not open from the start.
    is_wrong: bool,
}

fn poll_once(fds: &mut [pollfd], timeout: Option<Duration>, mask: SignalMask) -> Result<Polled, Errno> {
    let mut world = world::enter()?;
    if cancel::is_due(&world) {
        return Err(CANCELLED);
    }
    let admitted = admission::begin(&mut world, sockets(fds));
    let own = waits::begin(&mut world, Subject::Several, admitted)?;
    let polled = wait(world, own, fds, timeout, mask);
    waits::end(&mut world::enter_quietly(), own);
    polled
}

fn wait(
    world: Inside,
    own: Key,
    fds: &mut [pollfd],
    timeout: Option<Duration>,
    mask: SignalMask,
) -> Result<Polled, Errno> {
    let waiting = Waiting::begin();
    let start = clock::now();
    thread::begin_wait(start);
    let until = timeout.and_then(|timeout| clock::after(start, timeout));
    let (mut may_spin, mut is_interrupted, mut is_first) = (true, false, true);
    let mut kernel = fds.to_vec();
    let mut entered = Some(world);
    loop {
        let mut world = entered.take().map_or_else(world::enter, Ok)?;
        let now = clock::now();
        world.turn(now);
        let ours = look(&mut world, fds, &mut kernel);
        drop(world);
        let theirs = ask_kernel(fds, &mut kernel)?;
        // What another thread closes meanwhile ends no wait, as in the kernel.
        let is_wrong = std::mem::take(&mut is_first) && fds.iter().any(|fd| fd.revents & POLLNVAL != 0);
        if ours + theirs > 0 || is_wrong || until.is_some_and(|until| until <= now) {
            thread::end_wait();
            return Ok(Polled { count: fds.iter().filter(|fd| fd.revents != 0).count(), is_wrong });
        }
        if is_interrupted {
            return Err(Errno::EINTR);
        }
        if may_spin {
            let turns = world::turns();
            may_spin = spin(turns, until, || ask_kernel(fds, &mut kernel).is_ok_and(|theirs| theirs > 0));
            continue;
        }
        let mut world = world::enter()?;
        let mut sleep = Sleep::begin(&mut world, own, sockets(fds));
        // Whatever another thread's turn has brought since the look above would wake no one now.
        if look(&mut world, fds, &mut kernel) > 0 {
            sleep.end(&mut world, sockets(fds));
            continue;
        }
        if cancel::is_due(&world) {
            sleep.end(&mut world, sockets(fds));
            return Err(CANCELLED);
        }
        let wake_at = earliest(until, world.deadline());
        drop(world);
        sleep.fds.extend(kernel.iter().filter(|fd| fd.fd >= 0 && fd.revents & POLLNVAL == 0));
        let woken = sleep.run(&waiting, wake_at, mask);
        sleep.end(&mut world::enter_quietly(), sockets(fds));
        // What is there comes before a signal, as in the kernel: one more look.
        is_interrupted = waiting.take().is_some() || woken == Err(Errno::EINTR);
        may_spin = !is_interrupted;
    }
}

fn sockets(fds: &[pollfd]) -> impl Iterator<Item = Key> {
    fds.iter().filter_map(|fd| fd_table::socket(fd.fd))
}

/// Fills in what is true of our sockets, and in `kernel` what is to be asked of the kernel: its own fds, and the shadows
/// of listeners. Returns how many of ours are ready.
fn look(world: &mut World, fds: &mut [pollfd], kernel: &mut [pollfd]) -> usize {
    let mut ready = 0;
    for (fd, kernel) in fds.iter_mut().zip(kernel) {
        (fd.revents, kernel.fd, kernel.events) = (0, fd.fd, fd.events);
        match fd_table::get(fd.fd) {
            None => {}
            Some(Entry::Internal) => {
                kernel.fd = -1;
                fd.revents = POLLNVAL;
            }
            Some(Entry::Epoll(set)) => {
                fd.revents = if world.nest(set) { fd.events & POLLIN } else { 0 };
            }
            // Given back to the kernel before this, unless a signal handler polls.
            Some(Entry::Inherited(_) | Entry::OldEpoll(_)) => {}
            Some(Entry::Socket(key) | Entry::Datagram(key)) => look_at_socket(world, key, fd, kernel),
        }
        ready += usize::from(fd.revents & !POLLNVAL != 0);
    }
    ready
}

fn look_at_socket(world: &mut World, key: Key, fd: &mut pollfd, kernel: &mut pollfd) {
    attach::attach_for(world, key);
    if let Ok(description) = world.description(key) {
        description.refresh_shadow();
    }
    // What is gone was closed, or given to the kernel just now: the kernel knows.
    let (Some(bits), Ok(description)) = (world.bits(key), world.description(key)) else { return };
    let bits = bits as c_short;
    match description.role {
        Role::Undecided if description.error.is_some() => kernel.fd = -1,
        Role::Undecided | Role::Relay(_) => return,
        Role::Listener(_) => kernel.events = fd.events & POLLIN,
        Role::Datagram(_) => {}
        Role::Flow(_) => kernel.fd = -1,
    }
    fd.revents = bits & (fd.events | POLLERR | POLLHUP | POLLNVAL);
}

/// Asks the kernel for its part, without waiting. Returns how many of its fds are ready.
fn ask_kernel(fds: &mut [pollfd], kernel: &mut [pollfd]) -> Result<usize, Errno> {
    if kernel.iter().all(|fd| fd.fd < 0) {
        return Ok(0);
    }
    sys::poll(kernel, Some(Duration::ZERO))?;
    let mut ready = 0;
    for (fd, kernel) in fds.iter_mut().zip(kernel) {
        if kernel.fd >= 0 {
            fd.revents |= kernel.revents;
            ready += usize::from(kernel.revents & !POLLNVAL != 0);
            note_shadow(kernel);
        }
    }
    Ok(ready)
}

/// What the kernel has for a UDP socket of ours is to be received from there.
fn note_shadow(kernel: &pollfd) {
    let shadow = readiness_of(kernel.revents as u32);
    if let (false, Some(key)) = (shadow.is_empty(), fd_table::datagram(kernel.fd)) {
        calls::datagram::note_shadow(key, shadow);
    }
}

/// The sets of select(2), each of them null or there.
pub struct Sets<'a> {
    /// For reading, writing, and exceptional conditions.
    pub sets: [Option<&'a mut [u64]>; 3],
    /// One more than the highest fd.
    pub count: usize,
}

/// What select(2) takes each set for: what is asked of poll(2), and what of its answer counts (linux/fs/select.c).
const CONDITIONS: [(c_short, c_short); 3] = [
    (POLLIN, POLLIN | POLLHUP | POLLERR | POLLNVAL),
    (POLLOUT, POLLOUT | POLLERR | POLLNVAL),
    (POLLPRI, POLLPRI | POLLNVAL),
];

const WORD_BITS: usize = u64::BITS as usize;

/// How many words of a set hold `count` fds.
pub fn words(count: usize) -> usize {
    count.div_ceil(WORD_BITS)
}

impl Sets<'_> {
    fn has(&self, set: usize, fd: usize) -> bool {
        self.sets[set].as_ref().is_some_and(|words| words[fd / WORD_BITS] >> (fd % WORD_BITS) & 1 != 0)
    }

    /// The sets as poll(2) wants them.
    fn to_poll(&self) -> Vec<pollfd> {
        let events = |fd| (0..3).filter(|&set| self.has(set, fd)).fold(0, |all, set| all | CONDITIONS[set].0);
        let wanted = (0..self.count).filter(|&fd| (0..3).any(|set| self.has(set, fd)));
        wanted.map(|fd| pollfd { fd: fd as i32, events: events(fd), revents: 0 }).collect()
    }

    /// Whether any of their fds is more than the kernel's.
    pub fn is_ours(&self) -> bool {
        let wanted = (0..self.count).filter(|&fd| (0..3).any(|set| self.has(set, fd)));
        wanted.filter(|&fd| fd_table::used(fd as i32).is_some()).count() > 0
    }

    /// Keeps in each set what has come true, and returns how many bits that are.
    fn keep(&mut self, fds: &[pollfd]) -> usize {
        let asked = self.sets.each_mut().map(|set| set.as_mut().map(|words| words.to_vec()));
        let mut count = 0;
        self.sets.iter_mut().flatten().for_each(|set| set.fill(0));
        for fd in fds {
            let (word, bit) = (fd.fd as usize / WORD_BITS, fd.fd as usize % WORD_BITS);
            for (index, (_, counts)) in CONDITIONS.iter().enumerate() {
                if let (Some(set), Some(asked)) = (&mut self.sets[index], &asked[index])
                    && asked[word] >> bit & 1 != 0
                    && fd.revents & counts != 0
                {
                    set[word] |= 1 << bit;
                    count += 1;
                }
            }
        }
        count
    }
}

/// select(2): keeps in each set what is ready and returns how many bits that are; without `timeout` it waits for ever.
///
/// # Errors
/// `EBADF`: an fd that is not open. `EINTR`: a signal handler ran.
pub fn select(sets: &mut Sets<'_>, timeout: Option<Duration>, mask: SignalMask) -> Result<usize, Errno> {
    let mut fds = sets.to_poll();
    let polled = poll_once(&mut fds, timeout, mask)?;
    // What was closed meanwhile counts as ready.
    if polled.is_wrong { Err(Errno::EBADF) } else { Ok(sets.keep(&fds)) }
}

const _: () = assert!(size_of::<fd_set>().is_multiple_of(size_of::<u64>()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn select_asks_and_answers_as_poll_does() {
        let (mut read, mut write) = ([1 << 3 | 1 << 5, 1], [1 << 3, 0]);
        let mut sets = Sets { sets: [Some(&mut read), Some(&mut write), None], count: 65 };
        let mut fds = sets.to_poll();
        let asked: Vec<_> = fds.iter().map(|fd| (fd.fd, fd.events)).collect();
        assert_eq!(asked, [(3, POLLIN | POLLOUT), (5, POLLIN), (64, POLLIN)]);
        (fds[0].revents, fds[1].revents, fds[2].revents) = (POLLOUT, POLLHUP, 0);
        assert_eq!(sets.keep(&fds), 2);
        assert_eq!((read, write), ([1 << 5, 0], [1 << 3, 0]));
    }

    #[test]
    fn fds_beyond_the_count_are_not_asked() {
        let mut read = [1 << 5, 0];
        let sets = Sets { sets: [Some(&mut read), None, None], count: 5 };
        assert!(sets.to_poll().is_empty());
        assert_eq!((words(0), words(64), words(65)), (0, 1, 2));
    }
}
