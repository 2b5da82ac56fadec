//! fork(2): the child begins unattached, with its parent's listeners, and comes by its parent's flows when it uses them.
//!
//! The rings and frames are not mapped in the child (MADV_DONTFORK), so that it can neither disturb the parent's stack
//! nor keep its queues busy. What a child of vfork(2) or of a raw clone(2) calls is the kernel's: it is not the process
//! that the fds were made in, and shares the memory that describes them.

use crate::channel::{self, Message};
use crate::children::{self, Children};
use crate::description::Role;
use crate::handoff::{self, Left, Token};
use crate::relay::{Relays, close_own};
use crate::world::{self, Inside, World};
use crate::{admission, attach, config, exit, heap, keeper, old_sets, signals, sys, waits};
use stack::Errno;
use stack::slab::Key;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

thread_local! {
    /// The lock, and the child's channels, for the time of a fork. Without a destructor, as all thread-locals of ours.
    static HELD: Cell<Option<ManuallyDrop<(Inside, Channels)>>> = const { Cell::new(None) };
}

/// The process that is served; 0: none.
static SERVED: AtomicI32 = AtomicI32::new(0);

/// Whether the calling process is the one that is served.
pub fn is_served() -> bool {
    SERVED.load(Ordering::Relaxed) == sys::process_id()
}

/// Serves this process, and the children that it makes by fork(2).
pub fn install() {
    SERVED.store(sys::process_id(), Ordering::Relaxed);
    // SAFETY: three functions that live as long as the process: the library is never unloaded.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    if failed != 0 {
        tracing::error!("children of fork(2) will share their parent's sockets");
    }
}

/// Whether a child has something of ours, to serve which it needs memory of its own.
pub fn child_needs_memory() -> bool {
    if !is_served() || crate::thread::is_inside() {
        return false;
    }
    let world = world::enter_quietly();
    has_flows(&world) || !world.inheritance.upstreams().is_empty()
}

fn has_flows(world: &World) -> bool {
    world.descriptions.iter().any(|(_, description)| matches!(description.role, Role::Flow(_)))
}

/// How a child will reach those whose flows it has.
struct Channels {
    /// This process: its end, and the child's.
    own: Option<[RawFd; 2]>,
    /// Those before it: the child's end.
    upstream: Vec<(Key, RawFd)>,
}

impl Channels {
    fn open(world: &World) -> Self {
        let own = has_flows(world).then(channel::make).and_then(|made| match made {
            Ok(ends) => Some(ends),
            Err(error) => {
                tracing::warn!(%error, "a child loses the connections of its parent");
                None
            }
        });
        let inheritance = &world.inheritance;
        let upstream = inheritance.upstreams().into_iter();
        let upstream = upstream.filter_map(|key| Some((key, announce_child(inheritance.channel(key)?)?))).collect();
        Channels { own, upstream }
    }
}

/// Tells one of those before this process that there will be a child. Returns the child's end of its channel.
fn announce_child(upstream: RawFd) -> Option<RawFd> {
    let [theirs, childs] = channel::make().ok()?;
    let said = channel::say(upstream, Message::Fork, Some(theirs));
    sys::close(theirs);
    if said.is_err() {
        sys::close(childs);
    }
    said.ok().map(|()| childs)
}

extern "C" fn before() {
    // The handler of a fault that interrupted us forks with the lock taken by its own thread; the child calls exec or
    // _exit (signal-safety(7)), for which it needs no lock.
    if !crate::thread::is_inside() {
        let mut world = world::enter_quietly();
        handoff::prepare(&mut world);
        let channels = Channels::open(&world);
        HELD.set(Some(ManuallyDrop::new((world, channels))));
    }
    heap::hold();
}

extern "C" fn in_parent() {
    heap::release();
    let Some((mut world, channels)) = HELD.take().map(ManuallyDrop::into_inner) else { return };
    channels.upstream.into_iter().for_each(|(_, childs)| sys::close(childs));
    admission::lend(&mut world);
    if let Some([ours, childs]) = channels.own {
        sys::close(childs);
        // If there is no child, this is heard of as its end.
        children::add(&mut world, ours);
    }
}

extern "C" fn in_child() {
    heap::release();
    SERVED.store(sys::process_id(), Ordering::Relaxed);
    exit::forget();
    signals::forget();
    if let Some((world, channels)) = HELD.take().map(ManuallyDrop::into_inner) {
        let mut world = world::move_to_child(world);
        begin_anew(&mut world, channels);
    }
}

/// Makes a process that is nobody's child, and in nobody's process group: what ends those of this one must not end it
/// before it has sent what is queued. True in it; the lock is its own thread's there.
///
/// # Errors
/// What fork(2) says.
pub fn make_orphan() -> Result<bool, Errno> {
    let failed = || Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN));
    // SAFETY: in the child, which has no other thread, the C library goes on working.
    match unsafe { libc::fork() } {
        -1 => Err(failed()),
        0 => {
            sys::new_session();
            // SAFETY: as above.
            match unsafe { libc::fork() } {
                0 => Ok(true),
                -1 => sys::exit(1),
                _ => sys::exit(0),
            }
        }
        child if sys::wait_for(child) == 0 => Ok(false),
        _ => Err(Errno::EAGAIN),
    }
}

/// Forgets the stack, which another process has. True if it was prepared and not yet attached.
pub fn leave_stack(world: &mut World) -> bool {
    let mut is_prepared = false;
    if let Some(network) = world.network.take() {
        is_prepared = !network.is_attached();
        network.fds().into_iter().for_each(close_own);
        // Its rings are not there, or not ours any more, and its flows are not ours to end.
        std::mem::forget(network);
    }
    world.drop_lingering();
    std::mem::take::<Children>(&mut world.children).fds().for_each(close_own);
    std::mem::take(&mut world.tokens).iter().flat_map(Token::fds).for_each(close_own);
    std::mem::take(&mut world.left).into_iter().for_each(Left::close);
    keeper::forget_relays();
    std::mem::take::<Relays>(&mut world.relays).fd().into_iter().for_each(close_own);
    let keys: Vec<_> = world.descriptions.iter().map(|(key, _)| key).collect();
    for key in keys {
        let Ok(description) = world.description(key) else { continue };
        match &mut description.role {
            Role::Relay(relay) => {
                relay.fds().for_each(close_own);
                world.descriptions.remove(key);
            }
            Role::Listener(listener) => {
                listener.id = None;
                world.has_new_listeners = true;
            }
            Role::Datagram(datagram) => datagram.inherit(),
            Role::Flow(_) | Role::Undecided => {}
        }
    }
    is_prepared
}

fn begin_anew(world: &mut World, channels: Channels) {
    if let Some(event) = keeper::forget() {
        close_own(event);
    }
    let is_prepared = leave_stack(world);
    waits::forget(world);
    world.wakers.forget();
    inherit(world, channels);
    admission::inherit(world);
    old_sets::disown(world);
    if is_prepared && config::get().is_some() {
        // While it still has its parent's privileges.
        attach::prepare(world);
    }
}

/// The parent's sockets, as the child has them.
fn inherit(world: &mut World, channels: Channels) {
    let inheritance = &mut world.inheritance;
    for key in inheritance.upstreams() {
        let channel = channels.upstream.iter().find(|(upstream, _)| *upstream == key);
        inheritance.speak_anew(key, channel.map(|(_, channel)| *channel));
    }
    let parent = channels.own.and_then(|[parents, ours]| {
        sys::close(parents);
        inheritance.add_upstream(ours)
    });
    let keys: Vec<_> = world.descriptions.iter().map(|(key, _)| key).collect();
    for key in keys {
        let Ok(description) = world.description(key) else { continue };
        description.sleepers.clear();
        description.watches.clear();
        description.waiters = 0;
        if description.is_closed {
            // For the parent's threads only.
            std::mem::take(&mut description.fds).into_iter().for_each(close_own);
            world.descriptions.remove(key);
            continue;
        }
    }
    part_with_flows(world, parent);
}

/// What were flows of this process are `owner`'s, to be asked for; without one they are lost.
pub fn part_with_flows(world: &mut World, owner: Option<Key>) {
    for key in world.flows() {
        let Ok(description) = world.description(key) else { continue };
        let fds = std::mem::take(&mut description.fds);
        world.inheritance.add(owner, key.to_bits(), &fds);
        world.descriptions.remove(key);
    }
}
