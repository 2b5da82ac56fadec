//! Inherited listeners: where several processes wait on one listening socket, each is steered the connections that it
//! waits for.
//!
//! Who owns a receive queue could have every connection that comes in by it. A server whose processes each serve one
//! connection at a time (Apache's prefork, gunicorn) would then have all clients wait for one process, while the others
//! sleep in accept(2) on the kernel's socket. So where a listener is inherited, the owner is steered as many new
//! connections as threads of its own wait for one. The others pass to the kernel's listener, and wake whoever waits
//! there. An event loop is steered all of them, since it soon accepts again; but one whose process has sent the listener
//! to another one (SCM_RIGHTS), and so has it share, only as many as it waits for, like a thread.
//!
//! A listener that a process has not used when it forks may be for the child alone (a test that connects to its own
//! child): in the parent, too, it counts as inherited from then on.

use crate::description::{Description, Listener, Role, Watch};
use crate::handoff::Mailbox;
use crate::world::World;
use crate::{clock, handoff, sys, thread};
use stack::Instant;
use stack::outside::Opens;
use stack::slab::Key;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// What this process is steered of an inherited listener's new connections.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// This process has sent the listener to another one.
    is_shared: bool,
    /// It is this process's own, and only lent to its children until it is used here.
    is_lent: bool,
    /// Threads that wait for one each.
    waiting: u32,
    /// What the steering program was told.
    pub opens: Opens,
    /// Some wait here, and none is accepted.
    pub neglect: Option<Neglect>,
}

/// For how long connections have waited without one being accepted.
#[derive(Debug, Clone, Copy)]
pub struct Neglect {
    /// Since when.
    pub since: Instant,
    /// How often that was seen: the process had as many chances to come for them.
    pub looks: u32,
}

/// There was an inherited listener: what the keeper asks without the lock.
static MAY_BE_SHARED: AtomicBool = AtomicBool::new(false);

/// Whether there may be inherited listeners.
pub fn may_be_shared() -> bool {
    MAY_BE_SHARED.load(Ordering::Relaxed)
}

/// None for now; who was steered here stays ours.
const NONE_NOW: Opens = Opens::Next(0);

/// In a child of fork(2), the listeners are inherited. Nobody waits yet.
pub fn inherit(world: &mut World) {
    let World { descriptions, inherited, .. } = world;
    let is_listener = |role: &Role| matches!(role, Role::Listener(_));
    let listeners = descriptions.iter().filter(|(_, description)| is_listener(&description.role));
    let listeners: Vec<Key> = listeners.map(|(key, _)| key).collect();
    inherited.clear();
    listeners.into_iter().for_each(|key| add(world, key));
}

/// A listener of another process's is inherited. Nobody waits yet.
pub fn add(world: &mut World, key: Key) {
    if let Ok(description) = world.description(key)
        && let Role::Listener(listener) = &mut description.role
    {
        listener.is_used = false;
        let opens = NONE_NOW;
        listener.admission = Some(Admission { is_shared: false, is_lent: false, waiting: 0, opens, neglect: None });
        world.inherited.push(key);
        MAY_BE_SHARED.store(true, Ordering::Relaxed);
    }
}

/// A child of fork(2) has this process's listeners. Those that this process has not used itself may be for the child
/// alone: nothing is steered here before it does.
pub fn lend(world: &mut World) {
    let is_lent = |role: &Role| matches!(role, Role::Listener(it) if !it.is_used && it.admission.is_none());
    let lent = world.descriptions.iter().filter(|(_, description)| is_lent(&description.role));
    let lent: Vec<Key> = lent.map(|(key, _)| key).collect();
    for key in lent {
        add(world, key);
        admit(world, key, |admission| {
            admission.is_lent = true;
            NONE_NOW
        });
    }
}

/// A listener goes to another process, too.
pub fn share(world: &mut World, key: Key) {
    handoff::note_elsewhere(world, key);
    let Ok(description) = world.description(key) else { return };
    let Role::Listener(listener) = &mut description.role else { return };
    listener.is_used |= listener.id.is_some();
    match &mut listener.admission {
        Some(admission) => admission.is_shared = true,
        None => {
            listener.admission =
                Some(Admission { is_shared: true, is_lent: false, waiting: 0, opens: NONE_NOW, neglect: None });
            world.inherited.push(key);
            MAY_BE_SHARED.store(true, Ordering::Relaxed);
        }
    }
    world.is_shut = true;
    reopen(world, key);
}

/// A thread comes to wait for a connection of one of `sockets`, in accept(2) or poll(2). Returns the inherited listeners
/// among them, at which it is counted.
pub fn begin(world: &mut World, sockets: impl Iterator<Item = Key>) -> Vec<Key> {
    if world.inherited.is_empty() {
        return Vec::new();
    }
    let listeners: Vec<Key> = sockets.filter(|key| world.inherited.contains(key)).collect();
    listeners.iter().for_each(|&key| count(world, key, |waiting| waiting.saturating_add(1)));
    listeners
}

/// A thread comes to wait in an epoll instance; as `begin`.
pub fn begin_in_set(world: &mut World, set: Key) -> Vec<Key> {
    if world.inherited.is_empty() || !(thread::serves_one_by_one() || world.is_shut) {
        return Vec::new();
    }
    let World { descriptions, inherited, .. } = &*world;
    let listeners: Vec<Key> =
        inherited.iter().copied().filter(|&key| is_asked(world, key, |watch| watch.set == set)).collect();
    if thread::serves_one_by_one() {
        return begin(world, listeners.into_iter());
    }
    let is_shared = |key: &Key| descriptions.get(*key).and_then(|it| it.admission()).is_some_and(|it| it.is_shared);
    let (shared, own): (Vec<Key>, Vec<Key>) = listeners.into_iter().partition(is_shared);
    own.into_iter().for_each(|key| admit(world, key, |_| Opens::All));
    let World { descriptions, inherited, is_shut, .. } = &mut *world;
    let is_shut_there = |it: &Description| it.is_steered() && it.admission().is_some_and(|it| it.opens != Opens::All);
    *is_shut = inherited.iter().any(|key| descriptions.get(*key).is_some_and(is_shut_there));
    begin(world, shared.into_iter())
}

/// What is asked of a listener in an epoll instance has changed: where nobody asks for its connections any more (the process
/// has as many as it wants), they are not steered here.
pub fn note_asked(world: &mut World, key: Key) {
    let admission = world.descriptions.get(key).and_then(Description::admission);
    if admission.is_some_and(|admission| admission.opens == Opens::All) && !is_asked(world, key, |_| true) {
        admit(world, key, |_| NONE_NOW);
        world.is_shut = true;
    }
}

/// Whether an epoll instance is to tell of a listener's connections, of those where `counts` says so.
fn is_asked(world: &World, key: Key, counts: impl Fn(&Watch) -> bool) -> bool {
    let item = |watch: &Watch| world.sets.get(watch.set)?.item(watch.item);
    let asks = |watch: &&Watch| item(watch).is_some_and(|item| item.events & libc::EPOLLIN as u32 != 0);
    world.descriptions.get(key).is_some_and(|listener| listener.watches.iter().filter(asks).any(counts))
}

/// This process uses a listener.
pub fn note_use(world: &mut World, key: Key) {
    if let Ok(description) = world.description(key)
        && let Role::Listener(listener) = &mut description.role
        && !listener.is_used
    {
        listener.is_used = true;
        listener.mailbox.into_iter().for_each(Mailbox::note_use);
        let Some(Admission { is_lent, is_shared, .. }) = listener.admission else { return };
        (world.has_new_listeners, world.is_shut) = (true, true);
        if is_lent && !is_shared {
            take_back(world, key);
        }
    }
}

/// A listener of this process's own is steered all again: its children are no servers (PostgreSQL's, before the first
/// connection), or end with it.
fn take_back(world: &mut World, key: Key) {
    admit(world, key, |_| Opens::All);
    world.inherited.retain(|&inherited| inherited != key);
    if let Ok(Description { role: Role::Listener(listener), .. }) = world.description(key) {
        listener.admission = None;
    }
}

/// Whether a connection may be accepted from the kernel's listener `fd`: one is there, and none that was steered here is
/// on its way, which would have to wait for the other one to end. Until that is settled, no more are steered here.
pub fn may_take_from_kernel(world: &mut World, fd: RawFd, key: Key) -> bool {
    let Ok(description) = world.description(key) else { return true };
    let Role::Listener(listener) = &description.role else { return true };
    let (Some(Admission { opens: Opens::Next(_), .. }), Some(id)) = (listener.admission, listener.id) else {
        return true;
    };
    let is_there = sys::is_readable(fd);
    if is_there {
        admit(world, key, |_| NONE_NOW);
        world.turn(clock::now());
    }
    let is_on_its_way = world.stack().is_some_and(|stack| stack.tcp_is_opening(id));
    if !is_there && !is_on_its_way {
        reopen(world, key);
    }
    is_there && !is_on_its_way
}

/// Steers here again what is waited for.
pub fn reopen(world: &mut World, key: Key) {
    if world.description(key).is_ok_and(|listener| listener.admission().is_some_and(|it| it.opens == NONE_NOW)) {
        admit(world, key, |admission| Opens::Next(admission.waiting));
    }
}

/// Steers no more of them here, until this process waits there again.
pub fn shut(world: &mut World, key: Key) {
    world.is_shut = true;
    admit(world, key, |_| NONE_NOW);
}

/// One of them was accepted here.
pub fn note_accepted(world: &mut World, key: Key) {
    if !world.inherited.is_empty()
        && let Ok(Description { role: Role::Listener(Listener { admission: Some(admission), .. }), .. }) =
            world.description(key)
    {
        admission.neglect = None;
    }
}

/// It waits no longer where it was counted.
pub fn end(world: &mut World, listeners: Vec<Key>) {
    listeners.into_iter().for_each(|key| count(world, key, |waiting| waiting.saturating_sub(1)));
}

fn count(world: &mut World, key: Key, change: impl FnOnce(u32) -> u32) {
    world.is_shut = true;
    admit(world, key, |admission| {
        admission.waiting = change(admission.waiting);
        Opens::Next(admission.waiting)
    });
}

fn admit(world: &mut World, key: Key, decide: impl FnOnce(&mut Admission) -> Opens) {
    let Ok(description) = world.description(key) else { return };
    let Role::Listener(listener) = &mut description.role else { return };
    let (Some(admission), id) = (&mut listener.admission, listener.id) else { return };
    admission.opens = decide(admission);
    let opens = admission.opens;
    if let (Some(id), Some(stack)) = (id, world.stack()) {
        stack.tcp_admit(id, opens);
    }
}
