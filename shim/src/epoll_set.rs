//! Our half of an epoll instance: the sockets of ours that it holds, and which of them have something to say.
//!
//! The other half is the real epoll instance, which holds the application's kernel fds as the application put them
//! there, and under [`cookie`]s what we have to wake up for. The ready queue follows the kernel's (fs/eventpoll.c): a
//! level-triggered registration goes round in it for as long as it is ready, an edge-triggered one enters it when
//! something happens, and what is reported is what is true at that time.

use crate::limits::{ITEMS_MAX, KERNEL_ASK_PERIOD};
use crate::{clock, sys};
use libc::{EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLONESHOT, EPOLLWAKEUP};
use stack::Instant;
use stack::slab::{Key, Slab};
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// A registration: an fd together with its description (epoll(7), "Questions and answers", 1).
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// The fd that was registered.
    pub fd: RawFd,
    /// The description behind it at that time.
    pub description: Key,
    /// What was asked for.
    pub events: u32,
    /// What the application wants to be told.
    pub data: u64,
    /// It is in the ready queue.
    is_queued: bool,
}

/// The bits of `events` that are not conditions.
const MODES: u32 = (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE) as u32;

/// The conditions that are always reported.
const ALWAYS: u32 = (EPOLLERR | EPOLLHUP) as u32;

impl Item {
    /// A registration.
    pub fn new(fd: RawFd, description: Key, events: u32, data: u64) -> Self {
        Item { fd, description, events: asked(events), data, is_queued: false }
    }

    fn is(&self, mode: i32) -> bool {
        self.events & mode as u32 != 0
    }

    /// Whether it is reported: an EPOLLONESHOT registration is once, until EPOLL_CTL_MOD.
    pub fn is_armed(&self) -> bool {
        self.events & !MODES != 0
    }

    /// What the registration of a shadow is to ask for, so that the kernel wakes us just as often as we are to wake the
    /// application.
    pub fn shadow_events(&self) -> u32 {
        let conditions = libc::EPOLLIN | libc::EPOLLRDNORM | libc::EPOLLRDHUP | libc::EPOLLPRI;
        self.events & (conditions | EPOLLET | EPOLLEXCLUSIVE | EPOLLONESHOT) as u32
    }
}

fn asked(events: u32) -> u32 {
    events | ALWAYS
}

/// Our half of an epoll instance.
pub struct EpollSet {
    /// A copy of the real one's fd, of our own.
    pub epfd: RawFd,
    /// Registered in the real one, to wake who sleeps in it.
    wake: RawFd,
    /// The application's fds that stand for it.
    pub fds: Vec<RawFd>,
    /// Threads that wait in it.
    pub waiters: u32,
    /// Those of them that sleep in the real one.
    sleepers: u32,
    /// Those of the latter that are to wake up, whatever there is: they came before the present generation.
    roused: u32,
    generation: u64,
    /// The real one is itself watched through the kernel, which has to see that we have something.
    is_nested: bool,
    is_woken: bool,
    /// The last report was full of ours, and had no room for what the real one has.
    is_full: bool,
    /// When the real one is to be asked, though there is something of ours to report.
    ask_at: Instant,
    items: Slab<Item>,
    queue: VecDeque<Key>,
}

impl EpollSet {
    /// An empty set beside the epoll instance at the application's `fd`; `epfd` is our copy, which `wake` wakes.
    pub fn new(fd: RawFd, epfd: RawFd, wake: RawFd) -> Self {
        EpollSet {
            epfd,
            wake,
            fds: vec![fd],
            waiters: 0,
            sleepers: 0,
            roused: 0,
            generation: 0,
            is_nested: false,
            is_woken: false,
            is_full: false,
            ask_at: Instant::ZERO,
            items: Slab::new(ITEMS_MAX),
            queue: VecDeque::new(),
        }
    }

    /// Adds a registration; `None` when there are too many. If something is already true, `queue` it.
    pub fn add(&mut self, item: Item) -> Option<Key> {
        self.items.insert(|| Some(item), |slot| *slot = item)
    }

    /// A registration.
    pub fn item(&self, item: Key) -> Option<&Item> {
        self.items.get(item)
    }

    /// Changes what a registration asks for.
    pub fn modify(&mut self, item: Key, events: u32, data: u64) {
        if let Some(item) = self.items.get_mut(item) {
            (item.events, item.data) = (asked(events), data);
        }
    }

    /// Removes a registration.
    pub fn remove(&mut self, item: Key) {
        self.items.remove(item);
    }

    /// The registrations.
    pub fn items(&self) -> impl Iterator<Item = (Key, &Item)> {
        self.items.iter()
    }

    /// Something of `bits` has happened to an item: if it asked for that, it is looked at when events are collected.
    pub fn queue(&mut self, key: Key, bits: u32) {
        let Some(item) = self.items.get_mut(key) else { return };
        if item.is_queued || item.events & !MODES & bits == 0 {
            return;
        }
        item.is_queued = true;
        self.queue.push_back(key);
        if self.sleepers > 0 || self.is_nested {
            self.wake();
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many there are to look at.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Takes what is ready, up to the room in `into`; `bits` says what is true of a description now, or `None` if it
    /// is gone. Returns how many.
    pub fn collect(&mut self, into: &mut [libc::epoll_event], mut bits: impl FnMut(Key) -> Option<u32>) -> usize {
        let mut count = 0;
        // Those that stay ready go to the end of the queue, and come round with the next call.
        for _ in 0..self.queue.len() {
            if count == into.len() {
                break;
            }
            let Some(key) = self.queue.pop_front() else { break };
            let Some(item) = self.items.get_mut(key) else { continue };
            item.is_queued = false;
            let ready = bits(item.description).unwrap_or(0) & item.events & !MODES;
            if ready == 0 {
                continue;
            }
            into[count] = libc::epoll_event { events: ready, u64: item.data };
            count += 1;
            if item.is(EPOLLONESHOT) {
                // Until EPOLL_CTL_MOD arms it again, not even errors are reported.
                item.events &= MODES;
            } else if !item.is(EPOLLET) {
                item.is_queued = true;
                self.queue.push_back(key);
            }
        }
        self.is_full = count == into.len();
        count
    }

    /// Whether there is something ready; `bits` as for `collect`. What is queued and not ready any more is forgotten.
    pub fn is_ready(&mut self, mut bits: impl FnMut(Key) -> Option<u32>) -> bool {
        while let Some(&key) = self.queue.front() {
            if let Some(item) = self.items.get_mut(key) {
                if bits(item.description).unwrap_or(0) & item.events & !MODES != 0 {
                    return true;
                }
                item.is_queued = false;
            }
            self.queue.pop_front();
        }
        self.settle();
        false
    }

    /// Whether the real one is to be asked before ours are collected: they left it no room the last time.
    pub fn is_kernel_next(&mut self, now: Instant) -> bool {
        std::mem::take(&mut self.is_full) && self.is_time_to_ask(now)
    }

    /// Whether the real one has not been asked for so long that its fds are due, ready or not.
    pub fn is_time_to_ask(&mut self, now: Instant) -> bool {
        let is_time = self.ask_at <= now;
        if is_time {
            self.ask_at = clock::after(now, KERNEL_ASK_PERIOD).unwrap_or(now);
        }
        is_time
    }

    /// From now on the real epoll instance is to be readable while there is something to look at. False if it is so
    /// already.
    pub fn nest(&mut self) -> bool {
        if !self.is_idle() {
            self.wake();
        }
        !std::mem::replace(&mut self.is_nested, true)
    }

    /// Makes the real epoll instance report the wake-up.
    fn wake(&mut self) {
        if !self.is_woken {
            self.is_woken = true;
            sys::signal_event(self.wake);
        }
    }

    /// A thread comes to sleep in the real one. Returns what to end that with.
    pub fn begin_sleep(&mut self) -> u64 {
        self.sleepers += 1;
        self.generation
    }

    /// It sleeps no longer.
    pub fn end_sleep(&mut self, generation: u64) {
        self.sleepers -= 1;
        self.roused -= u32::from(generation != self.generation);
        self.settle();
    }

    /// Wakes every thread that sleeps in the real one.
    pub fn rouse(&mut self) {
        if self.sleepers > 0 {
            self.generation += 1;
            self.roused = self.sleepers;
            self.wake();
        }
    }

    /// Takes the wake-up back, once there is nothing left to be woken for, and nobody.
    pub fn settle(&mut self) {
        if self.is_woken && self.is_idle() && self.roused == 0 {
            self.is_woken = false;
            sys::clear_event(self.wake);
        }
    }

    /// The fds of its own, to be closed with it.
    pub fn own_fds(&self) -> [RawFd; 2] {
        [self.epfd, self.wake]
    }
}

/// What the data of our own registrations in a real epoll instance say.
pub mod cookie {
    use std::os::fd::RawFd;
    use std::sync::OnceLock;

    /// What one of our own registrations stands for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Cookie {
        /// The wake-up.
        Wake,
        /// An AF_XDP socket.
        Ring,
        /// The shadow of the listener at this fd.
        Shadow(RawFd),
    }

    const WAKE: u32 = u32::MAX;
    const RING: u32 = u32::MAX - 1;

    /// A random upper half. Applications use small numbers and pointers as data: neither has upper bits like these.
    fn mark() -> u32 {
        static MARK: OnceLock<u32> = OnceLock::new();
        *MARK.get_or_init(|| mark_from(crate::sys::random()))
    }

    fn mark_from(random: u64) -> u32 {
        let mark = random as u32;
        match mark >> 16 {
            0 => mark | 0x5a5a << 16,
            0xffff => mark ^ 0x5a5a << 16,
            _ => mark,
        }
    }

    impl Cookie {
        /// The data to register with.
        pub fn pack(self) -> u64 {
            let low = match self {
                Cookie::Wake => WAKE,
                Cookie::Ring => RING,
                Cookie::Shadow(fd) => fd as u32,
            };
            u64::from(mark()) << 32 | u64::from(low)
        }

        /// The inverse; `None` for the application's own data.
        pub fn unpack(data: u64) -> Option<Self> {
            if data >> 32 != u64::from(mark()) {
                return None;
            }
            Some(match data as u32 {
                WAKE => Cookie::Wake,
                RING => Cookie::Ring,
                fd => Cookie::Shadow(fd as RawFd),
            })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_cookie_is_neither_a_number_nor_a_pointer() {
            for random in [0, 0xffff, 0xffff_0000, 0xffff_ffff, 0x1234_5678] {
                assert!(!matches!(mark_from(random) >> 16, 0 | 0xffff));
            }
            for cookie in [Cookie::Wake, Cookie::Ring, Cookie::Shadow(0), Cookie::Shadow(1 << 20)] {
                assert_eq!(Cookie::unpack(cookie.pack()), Some(cookie));
            }
            assert_eq!(Cookie::unpack(7), None);
            assert_eq!(Cookie::unpack(0x0000_7fff_dead_beef), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{EPOLLIN, EPOLLOUT, epoll_event};
    use std::collections::HashMap;

    const IN: u32 = EPOLLIN as u32;
    const OUT: u32 = EPOLLOUT as u32;
    const ET: u32 = EPOLLET as u32;
    const ONESHOT: u32 = EPOLLONESHOT as u32;

    /// A set, and what is true of the descriptions.
    struct Rig {
        set: EpollSet,
        bits: HashMap<Key, u32>,
    }

    impl Rig {
        fn new() -> Self {
            Rig { set: EpollSet::new(-1, -1, -1), bits: HashMap::new() }
        }

        fn add(&mut self, name: u64, events: u32) -> (Key, Key) {
            let description = Key::from_bits(name);
            let item = self.set.add(Item::new(name as RawFd, description, events, name)).expect("there is room");
            (description, item)
        }

        /// `bits` became true.
        fn rise(&mut self, (description, item): (Key, Key), bits: u32) {
            *self.bits.entry(description).or_default() |= bits;
            self.set.queue(item, bits);
        }

        fn collect(&mut self, max: usize) -> Vec<(u64, u32)> {
            let mut events = vec![epoll_event { events: 0, u64: 0 }; max];
            let count = self.set.collect(&mut events, |description| self.bits.get(&description).copied());
            events[..count].iter().map(|event| (event.u64, event.events)).collect()
        }
    }

    #[test]
    fn level_triggered_is_said_for_as_long_as_it_is_true() {
        let mut rig = Rig::new();
        let a = rig.add(1, IN);
        rig.rise(a, IN | OUT);
        assert_eq!(rig.collect(8), [(1, IN)]);
        assert_eq!(rig.collect(8), [(1, IN)]);
        rig.bits.insert(a.0, 0);
        assert_eq!(rig.collect(8), []);
        assert!(rig.set.is_idle());
    }

    #[test]
    fn edge_triggered_is_said_once_for_each_rise() {
        let mut rig = Rig::new();
        let a = rig.add(1, IN | OUT | ET);
        rig.rise(a, IN);
        assert_eq!(rig.collect(8), [(1, IN)]);
        assert_eq!(rig.collect(8), []);
        // More bytes, though it was readable all the time; and what is said is all that is true.
        rig.bits.insert(a.0, OUT);
        rig.rise(a, IN);
        assert_eq!(rig.collect(8), [(1, IN | OUT)]);
        assert_eq!(rig.collect(8), []);
    }

    #[test]
    fn one_shot_is_said_once_until_armed_again() {
        let mut rig = Rig::new();
        let a = rig.add(1, IN | ONESHOT);
        rig.rise(a, IN);
        assert_eq!(rig.collect(8), [(1, IN)]);
        rig.rise(a, IN | EPOLLERR as u32);
        assert_eq!(rig.collect(8), []);
        rig.set.modify(a.1, IN | ONESHOT, 2);
        rig.set.queue(a.1, IN);
        assert_eq!(rig.collect(8), [(2, IN | EPOLLERR as u32)]);
    }

    #[test]
    fn what_nobody_asked_for_is_not_said_but_errors_are() {
        let mut rig = Rig::new();
        let a = rig.add(1, IN | ET);
        rig.rise(a, OUT);
        assert!(rig.set.is_idle());
        rig.rise(a, EPOLLHUP as u32);
        assert_eq!(rig.collect(8), [(1, EPOLLHUP as u32)]);
    }

    #[test]
    fn each_has_its_turn_when_there_is_little_room() {
        let mut rig = Rig::new();
        for name in 1..=3 {
            let item = rig.add(name, IN);
            rig.rise(item, IN);
        }
        assert_eq!(rig.collect(2), [(1, IN), (2, IN)]);
        assert_eq!(rig.collect(2), [(3, IN), (1, IN)]);
        assert_eq!(rig.collect(8), [(2, IN), (3, IN), (1, IN)]);
    }

    #[test]
    fn a_look_forgets_what_is_not_ready_any_more() {
        let mut rig = Rig::new();
        let (a, b) = (rig.add(1, IN), rig.add(2, IN));
        rig.rise(a, IN);
        rig.rise(b, IN);
        rig.bits.insert(a.0, 0);
        assert!(rig.set.is_ready(|description| rig.bits.get(&description).copied()));
        rig.bits.insert(b.0, 0);
        assert!(!rig.set.is_ready(|description| rig.bits.get(&description).copied()));
        assert!(rig.set.is_idle());
        rig.rise(a, IN);
        assert_eq!(rig.collect(8), [(1, IN)]);
    }

    #[test]
    fn the_kernel_is_next_where_it_had_no_room() {
        let mut rig = Rig::new();
        let a = rig.add(1, IN);
        rig.rise(a, IN);
        assert_eq!(rig.collect(2), [(1, IN)]);
        assert!(!rig.set.is_kernel_next(Instant::ZERO));
        assert_eq!(rig.collect(1), [(1, IN)]);
        assert!(rig.set.is_kernel_next(Instant::ZERO));
        assert!(!rig.set.is_kernel_next(Instant::ZERO));
    }

    #[test]
    fn what_is_closed_or_removed_is_not_said() {
        let mut rig = Rig::new();
        let (a, b) = (rig.add(1, IN), rig.add(2, IN));
        rig.rise(a, IN);
        rig.rise(b, IN);
        rig.bits.remove(&a.0);
        rig.set.remove(b.1);
        assert_eq!(rig.collect(8), []);
        // The slot's next owner is not the one that was queued.
        let c = rig.add(3, IN);
        rig.set.queue(b.1, IN);
        assert!(rig.set.is_idle());
        rig.rise(c, IN);
        assert_eq!(rig.collect(8), [(3, IN)]);
    }
}
