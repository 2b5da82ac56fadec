//! The owner's side of inherited flows: which children of fork(2) live, and what they still have.
//!
//! Nothing is done for a flow at fork(2). A child that comes to use one asks for it, and gets it as a relay; until it has
//! asked or closed its copy (or has ended, or become another program), it holds the flow, and the owner's close is not
//! the last.

use crate::channel::{self, Message};
use crate::description::Role;
use crate::fd_table::{self, Entry};
use crate::relay;
use crate::world::World;
use stack::Errno;
use stack::slab::Key;
use std::collections::HashSet;
use std::os::fd::RawFd;

/// The children, and theirs.
#[derive(Default)]
pub struct Children {
    /// By age of what they have.
    all: Vec<Child>,
    next_id: u32,
    forks: u64,
    /// Relays that are kept for them.
    kept: Vec<Key>,
}

struct Child {
    id: u32,
    channel: RawFd,
    /// It has the flows that were there before this fork.
    fork: u64,
    /// But for these.
    released: HashSet<u64>,
}

impl Children {
    /// How many forks there were: what a new flow is born after.
    pub fn forks(&self) -> u64 {
        self.forks
    }

    /// Whether some child has a copy of a flow that was born after so many forks.
    pub fn hold(&self, key: Key, born: u64) -> bool {
        let may_have = self.all.iter().rev().take_while(|child| child.fork > born);
        may_have.into_iter().any(|child| !child.released.contains(&key.to_bits()))
    }

    /// Every fd of its own, for a child of fork(2) to close.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.all.iter().map(|child| child.channel)
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.all.iter().position(|child| child.id == id)
    }
}

/// A child was born that has every flow of ours, and speaks through `channel`.
pub fn add(world: &mut World, channel: RawFd) {
    world.children.forks += 1;
    let fork = world.children.forks;
    // It was born with the kernel's fds of those that are relays by now.
    let released = world.children.kept.iter().map(|key| key.to_bits()).collect();
    register(world, channel, fork, released);
}

fn register(world: &mut World, channel: RawFd, fork: u64, released: HashSet<u64>) {
    fd_table::set(channel, Entry::Internal);
    let id = world.children.next_id;
    if let Err(error) = world.relays.watch_child(channel, id) {
        tracing::warn!(%error, "a child is not listened to: it has lost the connections");
        return relay::close_own(channel);
    }
    let children = &mut world.children;
    children.next_id = id.wrapping_add(1);
    let at = children.all.partition_point(|child| child.fork <= fork);
    children.all.insert(at, Child { id, channel, fork, released });
}

/// Hears what a child has to say.
pub fn serve(world: &mut World, id: u32) {
    while let Some(at) = world.children.find(id) {
        match channel::listen(world.children.all[at].channel) {
            Ok((message, fd)) => obey(world, at, message, fd),
            Err(Errno::EAGAIN) => return,
            Err(_) => bury(world, at),
        }
    }
}

fn obey(world: &mut World, at: usize, message: Message, fd: Option<RawFd>) {
    let child = &mut world.children.all[at];
    match (message, fd) {
        (Message::Obtain(flow), Some(reply)) => {
            if !child.released.contains(&flow)
                && let Err(error) = give(world, at, Key::from_bits(flow), reply)
            {
                tracing::info!(%error, "a child asks in vain for a connection");
            }
            crate::sys::close(reply);
        }
        (Message::Release(flow), _) => {
            child.released.insert(flow);
            settle(world, Key::from_bits(flow));
        }
        (Message::Fork, Some(end)) => {
            let (fork, released) = (child.fork, child.released.clone());
            match crate::sys::move_high(end) {
                Ok(channel) => register(world, channel, fork, released),
                Err(error) => tracing::warn!(%error, "a child's child has lost the connections"),
            }
        }
        (Message::Obtain(_) | Message::Fork, None) => {}
    }
}

/// Gives a flow to the child, and keeps it for the others.
fn give(world: &mut World, at: usize, key: Key, reply: RawFd) -> Result<(), Errno> {
    let born = match &world.description(key)?.role {
        Role::Flow(flow) => flow.born,
        Role::Relay(relay) => relay.born,
        _ => return Err(Errno::ENOTCONN),
    };
    if born >= world.children.all[at].fork {
        return Err(Errno::EPERM);
    }
    let other = relay::hand_over(world, key)?;
    let given = channel::answer(reply, other);
    keep(world, key, born, other);
    given
}

/// Keeps the other end of a relay, if some child may come for it; whoever has other copies goes on.
fn keep(world: &mut World, key: Key, born: u64, other: RawFd) {
    if world.children.hold(key, born) && relay::keep(world, key, other) {
        world.children.kept.push(key);
    } else {
        crate::sys::close(other);
    }
}

/// Hands a flow to the kernel, for this process and its children.
///
/// # Errors
/// As for [`relay::hand_over`].
pub fn hand_over(world: &mut World, key: Key) -> Result<(), Errno> {
    let Role::Flow(flow) = &world.description(key)?.role else { return Ok(()) };
    let born = flow.born;
    let other = relay::hand_over(world, key)?;
    keep(world, key, born, other);
    Ok(())
}

/// The application closes its last copy of a flow. If children have it, too, it goes on as theirs: true.
pub fn take_over(world: &mut World, key: Key) -> bool {
    let Ok(description) = world.description(key) else { return false };
    let Role::Flow(flow) = &description.role else { return false };
    let born = flow.born;
    if !world.children.hold(key, born) {
        return false;
    }
    let handed_over = hand_over(world, key);
    if let Err(error) = handed_over {
        tracing::warn!(%error, "children lose a connection");
    }
    handed_over.is_ok()
}

/// A child has ended, or is another program now: it holds nothing any more.
fn bury(world: &mut World, at: usize) {
    relay::close_own(world.children.all.remove(at).channel);
    for key in world.children.kept.clone() {
        settle(world, key);
    }
}

/// Lets a relay go that no child may come for any more.
fn settle(world: &mut World, key: Key) {
    let Ok(description) = world.description(key) else { return };
    let Role::Relay(relay) = &description.role else { return };
    let born = relay.born;
    if relay.is_kept() && !world.children.hold(key, born) {
        world.children.kept.retain(|&kept| kept != key);
        relay::let_go(world, key);
    }
}
