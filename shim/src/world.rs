//! Everything that a process's calls share, behind one lock; and a turn of the stack.
//!
//! A program with one thread takes the lock without contention. It is never held across a wait.

use crate::attach::Network;
use crate::cancel::{Cancelled, Disabled};
use crate::children::Children;
use crate::description::{Description, Role, Settings, poll_bits};
use crate::epoll_set::EpollSet;
use crate::epoll_set::cookie::Cookie;
use crate::handoff::{self, Left, Token};
use crate::inherited::Inheritance;
use crate::interruption::Deferral;
use crate::limits::{DESCRIPTIONS_MAX, LINGERING_LOOKS, LINGERING_MAX, LOOPBACK_TURNS, SETS_MAX, WAITS_MAX};
use crate::old_sets::OldSets;
use crate::placeholder::Placeholders;
use crate::relay::{self, Relays};
use crate::waits::Wait;
use crate::waker::Wakers;
use crate::{children, clock, epoll, exit, fd_table, keeper, signals, stats, sys, thread};
use libc::c_int;
use parking_lot::{Mutex, MutexGuard};
use stack::slab::{Key, Slab};
use stack::stack::Stack;
use stack::{Errno, Instant, Readiness};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What a process's calls share.
pub struct World {
    /// The sockets of ours.
    pub descriptions: Slab<Description>,
    /// The epoll instances that hold some of them.
    pub sets: Slab<EpollSet>,
    /// fd numbers for accepted flows.
    pub placeholders: Placeholders,
    /// For the threads that sleep.
    pub wakers: Wakers,
    /// Of the application's threads.
    pub waits: Slab<Wait>,
    /// The stack, once there is a use for it.
    pub network: Option<Network>,
    /// There is no stack and will be none: the kernel serves everything.
    pub cannot_attach: bool,
    /// There are listeners that the stack does not yet know of.
    pub has_new_listeners: bool,
    /// The listeners that a parent process has left to this one and others.
    pub inherited: Vec<Key>,
    /// Not every new connection of theirs is steered to this process.
    pub is_shut: bool,
    /// Flows that were handed to the kernel.
    pub relays: Relays,
    /// Children of fork(2) that may come for some.
    pub children: Children,
    /// What says that a connection was given away.
    pub tokens: Vec<Token>,
    /// Where such lie whose listeners were closed.
    pub left: Vec<Left>,
    /// Flows of those before this process.
    pub inheritance: Inheritance,
    /// Epoll instances of the parent process.
    pub old_sets: OldSets,
    /// Threads that are to end.
    pub cancelled: Cancelled,
    /// Sets that are watched through the kernel.
    nested: Vec<Key>,
    /// Shadows of closed flows: their ports stay reserved in the kernel while the stack still uses them.
    lingering: VecDeque<(RawFd, SocketAddr)>,
}

/// Where the world is: at one place for the life of a process, at another in a child of fork(2).
static WORLD: LazyLock<AtomicPtr<Mutex<World>>> = LazyLock::new(|| AtomicPtr::new(settle(World::new())));

/// Gives a world a place for good.
fn settle(world: World) -> *mut Mutex<World> {
    Box::into_raw(Box::new(Mutex::new(world)))
}

fn world() -> &'static Mutex<World> {
    // SAFETY: `settle` made it, and nothing frees it.
    unsafe { &*WORLD.load(Ordering::Acquire) }
}

/// Turns that have changed something, by whichever thread.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// How many turns have changed something so far: a number that a waiting thread watches without the lock.
pub fn turns() -> u64 {
    TURNS.load(Ordering::Acquire)
}

/// The world, locked.
pub struct Inside {
    // Dropped in this order.
    guard: MutexGuard<'static, World>,
    _mark: Mark,
    /// Its thread is not cancelled meanwhile.
    pub disabled: Disabled,
}

/// This thread is inside for as long as this lives, and no handler of a signal runs in it.
struct Mark {
    _deferral: Deferral,
}

impl Mark {
    fn new() -> Self {
        let deferral = Deferral::begin();
        thread::set_inside(true);
        Mark { _deferral: deferral }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        thread::set_inside(false);
    }
}

impl Deref for Inside {
    type Target = World;

    fn deref(&self) -> &World {
        &self.guard
    }
}

impl DerefMut for Inside {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.guard
    }
}

/// Takes the lock for a call of the application.
///
/// # Errors
/// `EAGAIN`: this thread has it already: the handler of a fault of its own calls in.
pub fn enter() -> Result<Inside, Errno> {
    if thread::is_inside() {
        return Err(Errno::EAGAIN);
    }
    signals::wrap_all();
    exit::stop_if_ending();
    keeper::rouse();
    Ok(enter_quietly())
}

/// Takes the lock without rousing the keeper: for itself, and for fork(2).
pub fn enter_quietly() -> Inside {
    let mark = Mark::new();
    Inside { guard: world().lock(), _mark: mark, disabled: Disabled::new() }
}

/// Moves the world behind a lock of its own, in a child of fork(2): threads of the parent, which the child does not
/// have, may wait for the old one, and to give that back would be to look for them.
pub fn move_to_child(held: Inside) -> Inside {
    let Inside { mut guard, _mark, disabled } = held;
    let inherited = std::mem::replace(&mut *guard, World::new());
    std::mem::forget(guard);
    WORLD.store(settle(inherited), Ordering::Release);
    Inside { guard: world().lock(), _mark, disabled }
}

/// Whether frames wait to be received; false, too, while another thread has the lock.
pub fn is_rx_pending() -> bool {
    let _mark = Mark::new();
    world().try_lock().is_some_and(|mut world| world.is_rx_pending())
}

/// poll(2)'s bits for what is true of a socket now, its shadow included; `None` if it is gone.
pub fn bits_now(descriptions: &mut Slab<Description>, stack: Option<&Stack>, key: Key) -> Option<u32> {
    let description = descriptions.get_mut(key)?;
    description.refresh_shadow();
    Some(poll_bits(description.readiness(stack)))
}

impl World {
    fn new() -> Self {
        World {
            descriptions: Slab::new(DESCRIPTIONS_MAX),
            sets: Slab::new(SETS_MAX),
            placeholders: Placeholders::default(),
            wakers: Wakers::default(),
            waits: Slab::new(WAITS_MAX),
            network: None,
            cannot_attach: false,
            has_new_listeners: false,
            inherited: Vec::new(),
            is_shut: false,
            relays: Relays::default(),
            children: Children::default(),
            tokens: Vec::new(),
            left: Vec::new(),
            inheritance: Inheritance::default(),
            old_sets: OldSets::default(),
            cancelled: Cancelled::default(),
            nested: Vec::new(),
            lingering: VecDeque::new(),
        }
    }

    /// The stack, once there is a use for it.
    pub fn stack(&mut self) -> Option<&mut Stack> {
        self.network.as_mut().map(|network| &mut network.stack)
    }

    /// Whether frames wait to be received.
    pub fn is_rx_pending(&mut self) -> bool {
        self.stack().is_some_and(|stack| stack.rx_pending())
    }

    /// Whether calls have left something to send.
    pub fn is_flush_pending(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.stack.flush_pending())
    }

    /// When the stack next has to be turned, whatever arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.network.as_ref().and_then(|network| network.stack.deadline())
    }

    /// One turn of the stack; whoever waits for what has happened is told. Over the loopback what it has sent is back at
    /// once, and is dealt with at once, as by the kernel: there a program may count on it.
    pub fn turn(&mut self, now: Instant) {
        self.turn_once(now);
        for _ in 0..LOOPBACK_TURNS {
            if !self.network.as_mut().is_some_and(Network::is_loopback_pending) {
                return;
            }
            self.turn_once(now);
        }
    }

    fn turn_once(&mut self, now: Instant) {
        let Some(stack) = self.stack() else { return };
        keeper::note_turn();
        let has_changed = stack.poll(now);
        self.announce_ready();
        relay::pump_ready(self, now);
        self.settle_nested();
        self.finish_lingering();
        if has_changed {
            TURNS.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether connections within this host are ours.
    pub fn serves_loopback(&self) -> bool {
        self.network.as_ref().is_some_and(Network::serves_loopback)
    }

    /// Sends what the calls since the last turn have left to send, unless this thread is about to wait, which sends it.
    /// Nothing is held back where the other end may be this process's, too.
    pub fn flush_reply(&mut self) {
        let now = clock::now();
        if !thread::may_hold_back(now) || self.serves_loopback() {
            self.flush(now);
            thread::has_sent(clock::now());
        }
    }

    /// Sends what there is to send.
    pub fn flush(&mut self, now: Instant) {
        let Some(network) = &mut self.network else { return };
        network.stack.flush(now);
        if network.is_loopback_pending() {
            self.turn(now);
        }
    }

    fn announce_ready(&mut self) {
        while let Some(ready) = self.stack().and_then(|stack| stack.next_ready()) {
            self.announce(Key::from_bits(ready.token), ready.rose);
        }
    }

    /// Tells whoever waits for a socket that something has happened to it.
    pub fn announce(&mut self, key: Key, rose: Readiness) {
        let Some(description) = self.descriptions.get(key) else { return };
        if let Role::Relay(_) = description.role {
            self.relays.note(key);
        }
        for watch in &description.watches {
            if let Some(set) = self.sets.get_mut(watch.set) {
                set.queue(watch.item, poll_bits(rose));
            }
        }
        for &sleeper in &description.sleepers {
            self.wakers.wake(sleeper);
        }
    }

    /// poll(2)'s bits for what is true of a socket; `None` if it is gone.
    pub fn bits(&self, key: Key) -> Option<u32> {
        self.readiness(key).map(poll_bits)
    }

    /// What is true of a socket; `None` if it is gone.
    pub fn readiness(&self, key: Key) -> Option<Readiness> {
        let stack = self.network.as_ref().map(|network| &network.stack);
        Some(self.descriptions.get(key)?.readiness(stack))
    }

    /// A new description; its fds are to be added.
    ///
    /// # Errors
    /// `ENOBUFS`: too many.
    pub fn describe(&mut self, family: c_int, role: Role, nonblocking: bool, settings: Settings) -> Result<Key, Errno> {
        let make = || Some(Description::new(family));
        self.descriptions.insert(make, |slot| slot.renew(family, role, nonblocking, settings)).ok_or(Errno::ENOBUFS)
    }

    /// The description behind a key from the fd table.
    ///
    /// # Errors
    /// `EBADF`: it was closed in the meantime.
    pub fn description(&mut self, key: Key) -> Result<&mut Description, Errno> {
        self.descriptions.get_mut(key).ok_or(Errno::EBADF)
    }

    /// Hands a socket to the kernel for good: from now on its fds are not ours.
    pub fn give_to_kernel(&mut self, key: Key) {
        let Some(description) = self.descriptions.get(key) else { return };
        stats::count(&stats::CALLS_PASSED);
        for &fd in &description.fds {
            fd_table::clear(fd);
        }
        if let Some(&fd) = description.fds.first() {
            // While it was ours, O_NONBLOCK may have changed. It can only fail on a closed fd.
            let _ = sys::set_nonblocking(fd, description.nonblocking);
        }
        self.move_watches_to_kernel(key);
        self.remove(key);
    }

    /// Has the kernel watch a description's fds, which are its own by now, as if they had never been ours.
    pub fn move_watches_to_kernel(&mut self, key: Key) {
        let Some(description) = self.descriptions.get_mut(key) else { return };
        // A shadow is registered already, under a cookie of ours.
        let operation = if description.has_shadow() { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        for watch in std::mem::take(&mut description.watches) {
            if let Some(set) = self.sets.get_mut(watch.set)
                && let Some(item) = set.item(watch.item).copied()
            {
                // One that waits for EPOLL_CTL_MOD is not to be reported before.
                let data = if item.is_armed() { item.data } else { Cookie::Wake.pack() };
                let _ = match operation {
                    libc::EPOLL_CTL_ADD => epoll::register(set.epfd, item.fd, &description.fds, (item.events, data)),
                    _ => sys::epoll_control(set.epfd, operation, item.fd, item.events, data),
                };
                set.remove(watch.item);
            }
        }
    }

    /// Ends a description: who sleeps on it is woken, and its registrations vanish.
    pub fn remove(&mut self, key: Key) {
        self.announce(key, Readiness::default());
        let Some(description) = self.descriptions.get(key) else { return };
        for watch in &description.watches {
            if let Some(set) = self.sets.get_mut(watch.set) {
                set.remove(watch.item);
            }
        }
        if let Role::Listener(listener) = &description.role
            && let Some(mailbox) = listener.mailbox
        {
            handoff::leave(self, mailbox);
        }
        self.inherited.retain(|&inherited| inherited != key);
        self.descriptions.remove(key);
    }

    /// The keys of the flows that are not the kernel's.
    pub fn flows(&self) -> Vec<Key> {
        let is_flow = |role: &Role| matches!(role, Role::Flow(_));
        self.descriptions.iter().filter(|(_, description)| is_flow(&description.role)).map(|(key, _)| key).collect()
    }

    /// Closes every flow, as the kernel closes every fd when a process ends. Those that others have stay, as relays.
    pub fn close_all(&mut self) {
        self.inherited.clone().into_iter().for_each(|key| handoff::give_away(self, key));
        for key in self.flows() {
            if children::take_over(self, key) {
                continue;
            }
            let Ok(description) = self.description(key) else { continue };
            let (Role::Flow(flow), reset) = (&description.role, description.settings.linger_s == Some(0)) else {
                continue;
            };
            let id = flow.id;
            if let Some(stack) = self.stack() {
                stack.tcp_close(id, reset);
            }
        }
    }

    /// Keeps the local port of a closed flow reserved by its shadow `fd` until the stack is done with it.
    pub fn linger(&mut self, fd: RawFd, local: SocketAddr) {
        self.lingering.push_back((fd, local));
        if self.lingering.len() > LINGERING_MAX {
            self.finish_first_lingering();
        }
    }

    fn finish_lingering(&mut self) {
        for _ in 0..LINGERING_LOOKS.min(self.lingering.len()) {
            let Some(&(_, local)) = self.lingering.front() else { return };
            if self.stack().is_some_and(|stack| stack.is_port_held(local.ip(), local.port())) {
                self.lingering.rotate_left(1);
            } else {
                self.finish_first_lingering();
            }
        }
    }

    fn finish_first_lingering(&mut self) {
        if let Some((fd, _)) = self.lingering.pop_front() {
            fd_table::clear(fd);
            sys::close(fd);
        }
    }

    /// Forgets the parent's closed flows and what it watches, in a child of fork(2).
    pub fn drop_lingering(&mut self) {
        self.nested.clear();
        while !self.lingering.is_empty() {
            self.finish_first_lingering();
        }
    }

    /// Adds our half of an epoll instance; `None` when there are too many.
    pub fn insert_set(&mut self, set: EpollSet) -> Option<Key> {
        let set = Cell::new(Some(set));
        self.sets.insert(
            || set.take(),
            |slot| {
                if let Some(set) = set.take() {
                    *slot = set
                }
            },
        )
    }

    /// Wakes every thread that sleeps in an epoll instance.
    pub fn rouse_sets(&mut self) {
        let sets: Vec<Key> = self.sets.iter().map(|(key, _)| key).collect();
        sets.into_iter().for_each(|set| self.sets.get_mut(set).into_iter().for_each(EpollSet::rouse));
    }

    /// From now on the kernel, too, is to see whether a set has something. Says whether it has.
    pub fn nest(&mut self, key: Key) -> bool {
        if self.sets.get_mut(key).is_some_and(EpollSet::nest) {
            self.nested.push(key);
        }
        self.is_set_ready(key)
    }

    /// What nested sets had may have been read in the meantime: then the kernel is not to see it any more.
    fn settle_nested(&mut self) {
        for index in 0..self.nested.len() {
            self.is_set_ready(self.nested[index]);
        }
    }

    fn is_set_ready(&mut self, key: Key) -> bool {
        let World { sets, descriptions, network, .. } = self;
        let stack = network.as_ref().map(|network| &network.stack);
        let Some(set) = sets.get_mut(key) else { return false };
        set.is_ready(|description| bits_now(descriptions, stack, description))
    }

    /// Ends our half of an epoll instance.
    pub fn close_set(&mut self, key: Key) {
        let Some(set) = self.sets.get(key) else { return };
        for (_, item) in set.items() {
            if let Some(description) = self.descriptions.get_mut(item.description) {
                description.watches.retain(|watch| watch.set != key);
            }
        }
        for &fd in &set.fds {
            fd_table::clear(fd);
        }
        for fd in set.own_fds() {
            fd_table::clear(fd);
            sys::close(fd);
        }
        self.nested.retain(|&nested| nested != key);
        self.sets.remove(key);
    }
}
