//! epoll_ctl(2) and epoll_wait(2) for epoll instances that hold sockets of ours.
//!
//! An epoll instance has a set beside it from its creation, or from when a socket of ours is added to it (see
//! [`epoll_set`](crate::epoll_set)), and everything of the kernel's stays where it is.

use crate::args::Room;
use crate::attach::{self, watch_ring};
use crate::cancel::{self, CANCELLED};
use crate::datagram::readiness_of;
use crate::description::{Description, Role, Watch};
use crate::epoll_set::cookie::Cookie;
use crate::epoll_set::{EpollSet, Item};
use crate::fd_table::{self, Entry};
use crate::interruption::Waiting;
use crate::sys::SignalMask;
use crate::wait::{earliest, sleep_until, spin};
use crate::waits::{self, Asleep, Subject};
use crate::world::{self, Inside, World};
use crate::{admission, clock, sys, thread};
use libc::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT,
    EPOLLWAKEUP, c_int, epoll_event,
};
use stack::Errno;
use stack::slab::Key;
use std::os::fd::RawFd;
use std::time::Duration;

/// What a call of epoll_ctl(2) asks for.
#[derive(Debug, Clone, Copy)]
pub struct Control {
    /// The epoll instance.
    pub epfd: RawFd,
    /// EPOLL_CTL_ADD, EPOLL_CTL_MOD or EPOLL_CTL_DEL.
    pub operation: c_int,
    /// The fd.
    pub fd: RawFd,
    /// What to ask for; nothing to delete.
    pub event: epoll_event,
}

/// epoll_ctl(2) for a socket of ours.
///
/// # Errors
/// - `EEXIST`: added already. `ENOENT`: not added. `EINVAL`: no epoll instance, or flags that exclude each other.
/// - `EBADF`: not open. `ENOSPC` stands for a bound of ours.
pub fn control(key: Key, control: Control) -> Result<(), Errno> {
    let Control { epfd, operation, fd, event } = control;
    if epfd == fd {
        return Err(Errno::EINVAL);
    }
    let mut world = world::enter()?;
    let existing = fd_table::epoll(epfd);
    let set = match existing {
        Some(set) => set?,
        None => promote(&mut world, epfd)?,
    };
    check(operation, event.events)?;
    let found = find(&mut world, set, key, fd)?;
    match (operation, found) {
        (EPOLL_CTL_DEL | EPOLL_CTL_MOD, None) => Err(Errno::ENOENT),
        (EPOLL_CTL_DEL, Some(item)) => remove(&mut world, set, key, item),
        (EPOLL_CTL_ADD, Some(_)) => Err(Errno::EEXIST),
        (EPOLL_CTL_ADD, None) => add(&mut world, set, key, Item::new(fd, key, event.events, event.u64)),
        (EPOLL_CTL_MOD, Some(item)) => modify(&mut world, set, key, item, event),
        _ => Err(Errno::EINVAL),
    }
}

/// Notes that an epoll instance is added to another one of the kernel's, which from now on has to see what we have.
pub fn note_nested(set: Key) {
    if let Ok(mut world) = world::enter() {
        world.nest(set);
    }
}

/// Puts a set beside an epoll instance.
///
/// # Errors
/// `EINVAL`: it is none. `EBADF`: not open. `EMFILE`, `ENOMEM`.
pub fn promote(world: &mut World, epfd: RawFd) -> Result<Key, Errno> {
    if !fd_table::fits(epfd) {
        return Err(Errno::EBADF);
    }
    let copy = sys::duplicate_high(epfd)?;
    let set = match sys::event_fd() {
        Ok(wake) => EpollSet::new(epfd, copy, wake),
        Err(errno) => {
            sys::close(copy);
            return Err(errno);
        }
    };
    let [_, wake] = set.own_fds();
    if let Err(errno) = sys::epoll_control(copy, EPOLL_CTL_ADD, wake, EPOLLIN as u32, Cookie::Wake.pack()) {
        set.own_fds().into_iter().for_each(sys::close);
        return Err(errno);
    }
    world.network.iter().flat_map(|network| network.rings()).for_each(|ring| watch_ring(&set, ring));
    set.own_fds().into_iter().for_each(|fd| fd_table::set(fd, Entry::Internal));
    let key = world.insert_set(set).ok_or(Errno::ENOMEM)?;
    fd_table::set(epfd, Entry::Epoll(key));
    Ok(key)
}

fn find(world: &mut World, set: Key, key: Key, fd: RawFd) -> Result<Option<Key>, Errno> {
    let World { descriptions, sets, .. } = world;
    let set_items = sets.get(set).ok_or(Errno::EBADF)?;
    let watches = &descriptions.get(key).ok_or(Errno::EBADF)?.watches;
    let mut here = watches.iter().filter(|watch| watch.set == set).map(|watch| watch.item);
    Ok(here.find(|&item| set_items.item(item).is_some_and(|item| item.fd == fd)))
}

/// What EPOLLEXCLUSIVE allows (linux/fs/eventpoll.c): only when it is added, and nothing beside these.
fn check(operation: c_int, events: u32) -> Result<(), Errno> {
    let allowed = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    let is_exclusive = events & EPOLLEXCLUSIVE as u32 != 0;
    match operation {
        EPOLL_CTL_MOD if is_exclusive => Err(Errno::EINVAL),
        EPOLL_CTL_ADD if is_exclusive && events & !(allowed as u32) != 0 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Adds a socket of ours to a set.
///
/// # Errors
/// As for [`control`].
pub fn add(world: &mut World, set: Key, key: Key, item: Item) -> Result<(), Errno> {
    attach::attach_for(world, key);
    let added = world.sets.get_mut(set).ok_or(Errno::EBADF)?.add(item).ok_or(Errno::ENOMEM)?;
    let watches = &mut world.description(key)?.watches;
    // Most sockets are in one set, and there may be many.
    watches.reserve_exact(1);
    watches.push(Watch { set, item: added });
    if world.description(key)?.has_shadow() {
        watch_shadow(world, set, &item, EPOLL_CTL_ADD)?;
    }
    queue_if_ready(world, set, key, added);
    Ok(())
}

fn modify(world: &mut World, set: Key, key: Key, item: Key, event: epoll_event) -> Result<(), Errno> {
    let registered = world.sets.get_mut(set).ok_or(Errno::EBADF)?;
    let was_exclusive = registered.item(item).is_some_and(|item| item.events & EPOLLEXCLUSIVE as u32 != 0);
    if was_exclusive {
        return Err(Errno::EINVAL);
    }
    registered.modify(item, event.events, event.u64);
    let changed = registered.item(item).copied();
    if let (Some(changed), true) = (changed, world.description(key)?.has_shadow()) {
        watch_shadow(world, set, &changed, EPOLL_CTL_MOD)?;
    }
    queue_if_ready(world, set, key, item);
    admission::note_asked(world, key);
    Ok(())
}

fn remove(world: &mut World, set: Key, key: Key, item: Key) -> Result<(), Errno> {
    world.description(key)?.watches.retain(|watch| *watch != Watch { set, item });
    let registered = world.sets.get_mut(set).ok_or(Errno::EBADF)?;
    let removed = registered.item(item).copied();
    registered.remove(item);
    if let (Some(removed), true) = (removed, world.description(key)?.has_shadow()) {
        watch_shadow(world, set, &removed, EPOLL_CTL_DEL)?;
    }
    admission::note_asked(world, key);
    Ok(())
}

fn queue_if_ready(world: &mut World, set: Key, key: Key, item: Key) {
    let bits = world.bits(key).unwrap_or(0);
    if let Some(set) = world.sets.get_mut(set) {
        set.queue(item, bits);
    }
}

/// Registers the shadow of a socket, so that what comes over the kernel ends a wait, too.
fn watch_shadow(world: &mut World, set: Key, item: &Item, operation: c_int) -> Result<(), Errno> {
    let (epfd, fds) = (world.sets.get(set).ok_or(Errno::EBADF)?.epfd, &world.description(item.description)?.fds);
    let registration = (item.shadow_events(), Cookie::Shadow(item.fd).pack());
    match operation {
        EPOLL_CTL_ADD => register(epfd, item.fd, fds, registration),
        _ => sys::epoll_control(epfd, operation, item.fd, registration.0, registration.1),
    }
}

/// Registers `fd` in a real epoll instance. If it is none of `fds`, which stand for the same, it has been closed since it
/// was registered with us; then what it stood for is registered all the same, if possible by that number, and lives in
/// there as long as those.
pub fn register(epfd: RawFd, fd: RawFd, fds: &[RawFd], (events, data): (u32, u64)) -> Result<(), Errno> {
    if fds.contains(&fd) {
        return sys::epoll_control(epfd, EPOLL_CTL_ADD, fd, events, data);
    }
    let open = *fds.first().ok_or(Errno::EBADF)?;
    let copy = match sys::fcntl(open, libc::F_DUPFD_CLOEXEC, fd.into())? {
        copy if copy == fd => copy,
        // There is something else at that number.
        copy => sys::move_high(copy)?,
    };
    let registered = sys::epoll_control(epfd, EPOLL_CTL_ADD, copy, events, data);
    sys::close(copy);
    registered
}

/// A socket that was registered before it listened: its shadow has something to say from now on.
pub fn watch_new_listener(world: &mut World, key: Key) {
    watch_shadow_everywhere(world, key, EPOLL_CTL_ADD);
}

/// A listener listens no more: what its shadow says means nothing.
pub fn forget_listener(world: &mut World, key: Key) {
    watch_shadow_everywhere(world, key, EPOLL_CTL_DEL);
}

fn watch_shadow_everywhere(world: &mut World, key: Key, operation: c_int) {
    let watches = world.descriptions.get(key).map(|description| description.watches.clone()).unwrap_or_default();
    for Watch { set, item } in watches {
        let item = world.sets.get(set).and_then(|set| set.item(item)).copied();
        // The kernel can only be short of memory; then its connections wait for the next accept.
        let _ = item.map(|item| watch_shadow(world, set, &item, operation));
    }
}

/// epoll_wait(2) and its variants on an epoll instance with a set; without `timeout` it waits for ever.
///
/// # Errors
/// `EINTR`: a signal handler ran. `EBADF`: closed. `EFAULT`: no room for events. `CANCELLED`.
pub fn wait(key: Key, events: Room<epoll_event>, timeout: Option<Duration>, mask: SignalMask) -> Result<usize, Errno> {
    let mut world = world::enter()?;
    if cancel::is_due(&world) {
        return Err(CANCELLED);
    }
    let admitted = admission::begin_in_set(&mut world, key);
    let own = waits::begin(&mut world, Subject::Set(key), admitted)?;
    let reported = wait_in(world, own, key, events, timeout, mask);
    if thread::wait() == Some(own) {
        waits::end(&mut world::enter_quietly(), own);
    }
    reported
}

/// A thread waits no longer. What another one has closed meanwhile lived on for it, as in the kernel.
pub fn end_wait(world: &mut World, key: Key) {
    let Some(set) = world.sets.get_mut(key) else { return };
    set.waiters -= 1;
    close_if_unused(world, key);
}

/// Ends a set that no fd stands for any more, unless a thread still waits in it.
pub fn close_if_unused(world: &mut World, key: Key) {
    if world.sets.get(key).is_some_and(|set| set.fds.is_empty() && set.waiters == 0) {
        world.close_set(key);
    }
}

fn wait_in(
    world: Inside,
    own: Key,
    key: Key,
    mut events: Room<epoll_event>,
    timeout: Option<Duration>,
    mask: SignalMask,
) -> Result<usize, Errno> {
    let waiting = Waiting::begin();
    let start = clock::now();
    thread::begin_wait(start);
    let until = timeout.and_then(|timeout| clock::after(start, timeout));
    let mut may_spin = timeout != Some(Duration::ZERO);
    let mut entered = Some(world);
    loop {
        let mut world = entered.take().map_or_else(world::enter, Ok)?;
        let now = clock::now();
        world.turn(now);
        let set = world.sets.get_mut(key).ok_or(Errno::EBADF)?;
        let epfd = set.epfd;
        if set.is_kernel_next(now) {
            drop(world);
            let theirs = ask_kernel(key, &mut events, |events| sys::look_in_epoll(epfd, events))?.kept;
            if theirs > 0 {
                thread::end_wait();
                return Ok(theirs);
            }
            world = world::enter()?;
        }
        let ours = collect(&mut world, key, &mut events)?;
        if ours > 0 {
            let has_room = ours < events.len();
            let asks = has_room && world.sets.get_mut(key).is_some_and(|set| set.is_time_to_ask(now));
            if !asks {
                // While the lock is held: a busy event loop need not take it again for that.
                waits::end(&mut world, own);
            }
            drop(world);
            thread::end_wait();
            let look = |events: &mut Room<epoll_event>| sys::look_in_epoll(epfd, events);
            let asked = if asks { ask_kernel(key, &mut events.behind(ours), look) } else { Ok(Asked::default()) };
            // What was collected is not to be lost to an error.
            return Ok(ours + asked.unwrap_or_default().kept);
        }
        if may_spin {
            let turns = world::turns();
            drop(world);
            let mut asked = Ok(Asked::default());
            may_spin = spin(turns, until, || {
                asked = ask_kernel(key, &mut events, |events| sys::look_in_epoll(epfd, events));
                asked != Ok(Asked::default())
            });
            match asked? {
                Asked { kept: 0, .. } => continue,
                Asked { kept, .. } => return Ok(kept),
            }
        }
        let wake_at = earliest(until, world.deadline());
        if cancel::is_due(&world) {
            return Err(CANCELLED);
        }
        let generation = world.sets.get_mut(key).ok_or(Errno::EBADF)?.begin_sleep();
        waits::begin_sleep(&mut world, own, Asleep::In(generation));
        drop(world);
        let asked = ask_kernel(key, &mut events, |events| match timeout {
            Some(Duration::ZERO) => sys::look_in_epoll(epfd, events),
            _ => sleep_until(wake_at, |timeout| sys::sleep_in_epoll(&waiting, epfd, events, timeout, mask)),
        });
        waits::end_sleep(&mut world::enter_quietly(), own, []);
        let is_interrupted = waiting.take().is_some() || asked == Err(Errno::EINTR);
        let is_over = is_interrupted || until.is_some_and(|until| until <= clock::now());
        match asked.map(|asked| asked.kept) {
            Ok(0) if !is_over => may_spin = true,
            Ok(0) | Err(Errno::EINTR) => {
                let mut world = world::enter()?;
                world.turn(clock::now());
                let ours = collect(&mut world, key, &mut events)?;
                // What is there comes before a signal, as in the kernel.
                return if ours > 0 || !is_interrupted { Ok(ours) } else { Err(Errno::EINTR) };
            }
            done => return done,
        }
    }
}

fn collect(world: &mut World, key: Key, events: &mut Room<epoll_event>) -> Result<usize, Errno> {
    let World { sets, descriptions, network, .. } = world;
    let set = sets.get_mut(key).ok_or(Errno::EBADF)?;
    let stack = network.as_ref().map(|network| &network.stack);
    // One more than there can be, so that the set sees whether the room was full.
    let events = events.first(set.queued() + 1);
    let bits = |description| world::bits_now(descriptions, stack, description);
    let count = match events {
        Ok(events) => set.collect(events, bits),
        Err(errno) if set.is_ready(bits) => return Err(errno),
        // Memory that is not there is not needed.
        Err(_) => 0,
    };
    set.settle();
    Ok(count)
}

/// What the real epoll instance has reported.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Asked {
    /// Events of the application's, now at the front.
    kept: usize,
    /// Events of our own.
    own: usize,
}

/// Waits in the real epoll instance by `wait`, and keeps only what is the application's.
fn ask_kernel(
    key: Key,
    events: &mut Room<epoll_event>,
    wait: impl FnOnce(&mut Room<epoll_event>) -> Result<usize, Errno>,
) -> Result<Asked, Errno> {
    let count = wait(events)?;
    // The kernel has written so many there.
    let events = events.first(count)?;
    let mut kept = 0;
    for index in 0..count {
        let event = events[index];
        match Cookie::unpack(event.u64) {
            None => {
                events[kept] = event;
                kept += 1;
            }
            Some(Cookie::Shadow(fd)) => shadow_is_ready(key, fd, event.events),
            Some(Cookie::Wake | Cookie::Ring) => {}
        }
    }
    Ok(Asked { kept, own: count - kept })
}

/// The kernel has something for a socket with a shadow: the set is to say so.
fn shadow_is_ready(set: Key, fd: RawFd, bits: u32) {
    let mut world = world::enter_quietly();
    let Some((key, item)) = shadow_of(&mut world, set, fd) else { return };
    let Ok(description) = world.description(key) else { return };
    match &mut description.role {
        Role::Listener(listener) => listener.shadow_is_ready = true,
        Role::Datagram(datagram) => datagram.turns.shadow |= readiness_of(bits),
        _ => {}
    }
    world.sets.get_mut(set).into_iter().for_each(|set| set.queue(item, bits));
}

/// Whose shadow was registered as `fd`, and the registration.
fn shadow_of(world: &mut World, set: Key, fd: RawFd) -> Option<(Key, Key)> {
    if let Some(key) = fd_table::socket(fd)
        && let Ok(Some(item)) = find(world, set, key, fd)
    {
        return Some((key, item));
    }
    // It has been closed since; copies of it are open.
    let mut items = world.sets.get(set)?.items();
    let has_shadow = |key| world.descriptions.get(key).is_some_and(Description::has_shadow);
    items.find(|(_, item)| item.fd == fd && has_shadow(item.description)).map(|(key, item)| (item.description, key))
}
