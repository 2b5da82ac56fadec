//! The child's side of inherited flows: they are asked for when they are used, and released when they are closed.

use crate::channel::{self, Message};
use crate::fd_table::{self, Entry};
use crate::limits::{DESCRIPTIONS_MAX, OBTAIN_WAIT_MAX, UPSTREAMS_MAX};
use crate::relay::{close_own, put_in_place};
use crate::sys;
use crate::world::{self, World};
use stack::Errno;
use stack::slab::{Key, Slab};
use std::os::fd::RawFd;

/// What a process has from those before it.
pub struct Inheritance {
    upstreams: Slab<Upstream>,
    flows: Slab<Inherited>,
}

/// A process that has flows which this one inherited.
struct Upstream {
    channel: RawFd,
    /// How many of them this process has not yet asked for or closed.
    count: usize,
}

/// A flow of another process.
struct Inherited {
    /// Who has it; stale if there is no way to ask.
    upstream: Key,
    /// What it is called there.
    flow: u64,
    /// The fds that stand for it here.
    fds: Vec<RawFd>,
}

impl Default for Inheritance {
    fn default() -> Self {
        Inheritance { upstreams: Slab::new(UPSTREAMS_MAX), flows: Slab::new(DESCRIPTIONS_MAX) }
    }
}

impl Inheritance {
    /// The keys of those that can still be asked.
    pub fn upstreams(&self) -> Vec<Key> {
        self.upstreams.iter().map(|(key, _)| key).collect()
    }

    /// The channel to one of them.
    pub fn channel(&self, upstream: Key) -> Option<RawFd> {
        self.upstreams.get(upstream).map(|upstream| upstream.channel)
    }

    /// In a child of fork(2): speaks to it through a channel of its own, or not at all.
    pub fn speak_anew(&mut self, key: Key, channel: Option<RawFd>) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        close_own(upstream.channel);
        match channel {
            Some(channel) => {
                fd_table::set(channel, Entry::Internal);
                upstream.channel = channel;
            }
            None => self.upstreams.remove(key),
        }
    }

    /// A new one, to be asked through `channel`.
    pub fn add_upstream(&mut self, channel: RawFd) -> Option<Key> {
        fd_table::set(channel, Entry::Internal);
        let make = || Upstream { channel, count: 0 };
        self.upstreams.insert(|| Some(make()), |slot| *slot = make())
    }

    /// From now on `fds` stand for the flow that `upstream` calls `flow`.
    pub fn add(&mut self, upstream: Option<Key>, flow: u64, fds: &[RawFd]) {
        let upstream = upstream.unwrap_or(Key::from_bits(0));
        let make = || Inherited { upstream, flow, fds: fds.to_vec() };
        let Some(key) = self.flows.insert(|| Some(make()), |slot| *slot = make()) else { return };
        if let Some(upstream) = self.upstreams.get_mut(upstream) {
            upstream.count += 1;
        }
        for &fd in fds {
            fd_table::become_inherited(fd, key);
        }
    }

    /// Another copy of an inherited flow.
    pub fn add_fd(&mut self, key: Key, fd: RawFd) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.fds.push(fd);
        }
    }

    /// One copy less; the last one releases the flow.
    pub fn remove_fd(&mut self, key: Key, fd: RawFd) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.fds.retain(|&other| other != fd);
        if flow.fds.is_empty() {
            self.release(key);
        }
    }

    fn release(&mut self, key: Key) {
        let Some(flow) = self.flows.get(key) else { return };
        let (upstream_key, name) = (flow.upstream, flow.flow);
        self.flows.remove(key);
        let Some(upstream) = self.upstreams.get_mut(upstream_key) else { return };
        upstream.count -= 1;
        if upstream.count == 0 {
            // The end of the channel releases everything.
            close_own(upstream.channel);
            self.upstreams.remove(upstream_key);
        } else if channel::say(upstream.channel, Message::Release(name), None) == Err(Errno::EAGAIN) {
            tracing::warn!("a connection that was closed here stays open: its owner does not listen");
        }
    }
}

/// Comes to use an inherited flow: from now on its fds are the kernel's. If its owner is gone, they are those of a connection
/// that was lost.
pub fn obtain(key: Key) {
    let Ok(Ok(reply)) = world::enter().map(|world| ask(&world, key)) else { return };
    let other = reply.and_then(await_answer).or_else(|error| {
        tracing::warn!(%error, "a connection of the parent process is lost");
        lost()
    });
    let mut world = world::enter_quietly();
    let Ok(other) = other else { return };
    let inheritance = &mut world.inheritance;
    if let Some(flow) = inheritance.flows.get(key) {
        flow.fds.iter().for_each(|&fd| put_in_place(fd, other));
        inheritance.release(key);
    }
    sys::close(other);
}

/// Asks for it, and returns where the answer will come. `EBADF`: another thread has been here.
fn ask(world: &World, key: Key) -> Result<Result<RawFd, Errno>, Errno> {
    let flow = world.inheritance.flows.get(key).ok_or(Errno::EBADF)?;
    let Some(channel) = world.inheritance.channel(flow.upstream) else { return Ok(Err(Errno::ECONNRESET)) };
    let [ours, theirs] = match channel::make() {
        Ok(pair) => pair,
        Err(errno) => return Ok(Err(errno)),
    };
    let asked = channel::say(channel, Message::Obtain(flow.flow), Some(theirs));
    sys::close(theirs);
    Ok(match asked {
        Ok(()) => Ok(ours),
        Err(errno) => {
            sys::close(ours);
            Err(errno)
        }
    })
}

fn await_answer(reply: RawFd) -> Result<RawFd, Errno> {
    let answer = channel::await_message(reply, OBTAIN_WAIT_MAX, channel::take_answer);
    sys::close(reply);
    answer
}

/// A connection that was reset: ECONNRESET once, then the end of the stream, and EPIPE.
fn lost() -> Result<RawFd, Errno> {
    let [end, other] = sys::socket_pair(libc::SOCK_STREAM)?;
    // What lies unread at an end that is closed resets the other one (unix(7)).
    let _ = sys::send(other, &[0]);
    sys::close(end);
    Ok(other)
}
