//! Epoll instances of the parent process, in a child of fork(2) that goes on using them.
//!
//! The kernel's instance is shared by both, and with our sockets the parent has put registrations of its own into it, of
//! which the child knows nothing. So the child's first use of it makes a new instance in its place, which holds what the
//! application had put into the old one.

use crate::epoll;
use crate::epoll_set::cookie::Cookie;
use crate::epoll_set::{EpollSet, Item};
use crate::fd_table::{self, Entry};
use crate::limits::SETS_MAX;
use crate::relay::{close_own, put_in_place};
use crate::world::{self, World};
use crate::{inherited, sys};
use libc::EPOLL_CTL_ADD;
use stack::Errno;
use stack::kernel::read_file;
use stack::slab::{Key, Slab};
use std::ffi::CString;
use std::os::fd::RawFd;

/// The instances that have not been used since.
pub struct OldSets(Slab<OldSet>);

#[derive(Default)]
struct OldSet {
    /// The application's fds that stand for it.
    fds: Vec<RawFd>,
    /// The fds of our own, the first of which is a copy of those.
    own: [RawFd; 2],
    /// The sockets of ours that it holds.
    items: Vec<Item>,
}

impl Default for OldSets {
    fn default() -> Self {
        OldSets(Slab::new(SETS_MAX))
    }
}

impl OldSets {
    /// Another fd stands for one.
    pub fn add_fd(&mut self, key: Key, fd: RawFd) {
        if let Some(set) = self.0.get_mut(key) {
            set.fds.push(fd);
        }
    }

    /// One fd less; with the last one, it is forgotten.
    pub fn remove_fd(&mut self, key: Key, fd: RawFd) {
        let Some(set) = self.0.get_mut(key) else { return };
        set.fds.retain(|&other| other != fd);
        if set.fds.is_empty() {
            set.own.into_iter().for_each(close_own);
            self.0.remove(key);
        }
    }
}

/// In a child of fork(2): all sets are the parent's.
pub fn disown(world: &mut World) {
    let sets = std::mem::replace(&mut world.sets, Slab::new(SETS_MAX));
    for (_, set) in sets.iter() {
        let items = set.items().map(|(_, item)| *item).collect();
        let (fds, own) = (set.fds.clone(), set.own_fds());
        let Some(key) = world.old_sets.0.insert(|| Some(OldSet::default()), |slot| *slot = OldSet { fds, own, items })
        else {
            continue;
        };
        set.fds.iter().for_each(|&fd| fd_table::set(fd, Entry::OldEpoll(key)));
    }
}

/// Comes to use one: from now on it is this process's.
pub fn renew(key: Key) {
    let Ok(mut world) = world::enter() else { return };
    match replace(&mut world, key) {
        Ok((set, items)) => {
            drop(world);
            items.into_iter().for_each(|item| register(set, item));
        }
        Err(error) => tracing::error!(%error, "a child cannot have its parent's epoll instance"),
    }
}

/// Puts a new instance in the place of the old one, with the kernel's fds of the latter. Returns what else is to be
/// registered.
fn replace(world: &mut World, key: Key) -> Result<(Key, Vec<Item>), Errno> {
    let old = world.old_sets.0.get_mut(key).ok_or(Errno::EBADF)?;
    let registered = registrations(old.own[0])?;
    let new = sys::epoll_create(libc::EPOLL_CLOEXEC)?;
    let OldSet { fds, own, items } = std::mem::take(old);
    world.old_sets.0.remove(key);
    fds.iter().for_each(|&fd| put_in_place(fd, new));
    own.into_iter().for_each(close_own);
    for (fd, events, data) in registered {
        // The parent may have handed a socket of ours to the kernel meanwhile: here it is still among the items.
        if Cookie::unpack(data).is_none() && fd_table::get(fd).is_none() {
            // What was closed since is not there any more.
            let _ = sys::epoll_control(new, EPOLL_CTL_ADD, fd, events, data);
        }
    }
    sys::close(new);
    let (&first, others) = fds.split_first().ok_or(Errno::EBADF)?;
    let set = epoll::promote(world, first)?;
    for &fd in others {
        world.sets.get_mut(set).into_iter().for_each(|set: &mut EpollSet| set.fds.push(fd));
        fd_table::set(fd, Entry::Epoll(set));
    }
    Ok((set, items))
}

/// Registers a socket of ours, if it is still what it was: a flow is one of the parent's, and comes as a relay.
fn register(set: Key, item: Item) {
    if let Some(Entry::Inherited(flow)) = fd_table::get(item.fd) {
        inherited::obtain(flow);
        let world = world::enter_quietly();
        if let Some(set) = world.sets.get(set) {
            let _ = sys::epoll_control(set.epfd, EPOLL_CTL_ADD, item.fd, item.events, item.data);
        }
    } else if fd_table::socket(item.fd) == Some(item.description) {
        let item = Item::new(item.fd, item.description, item.events, item.data);
        let _ = epoll::add(&mut world::enter_quietly(), set, item.description, item);
    }
}

/// What an epoll instance holds: fds, conditions, data (proc(5), /proc/pid/fdinfo).
fn registrations(epfd: RawFd) -> Result<Vec<(RawFd, u32, u64)>, Errno> {
    let path = CString::new(format!("/proc/self/fdinfo/{epfd}")).map_err(|_| Errno::EINVAL)?;
    let text = read_file(&path).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(registration).collect())
}

/// `tfd:        4 events:       19 data:                4  pos:0 ino:...`
fn registration(line: &str) -> Option<(RawFd, u32, u64)> {
    let mut words = line.strip_prefix("tfd:")?.split_whitespace();
    let fd = words.next()?.parse().ok()?;
    let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    let data = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    Some((fd, events, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_instance_holds_is_read() {
        let line = "tfd:        4 events: 8000001b data: ffffffff00000007  pos:0 ino:37ac15 sdev:f";
        assert_eq!(registration(line), Some((4, 0x8000_001b, 0xffff_ffff_0000_0007)));
        for line in ["", "flags:\t02000002", "tfd: x", "tfd: 4 events: 19"] {
            assert_eq!(registration(line), None);
        }
        let epfd = sys::epoll_create(libc::EPOLL_CLOEXEC).expect("an epoll instance");
        let event = sys::event_fd().expect("an eventfd");
        sys::epoll_control(epfd, EPOLL_CTL_ADD, event, libc::EPOLLIN as u32, 7).expect("it is added");
        let always = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        assert_eq!(registrations(epfd), Ok(vec![(event, libc::EPOLLIN as u32 | always, 7)]));
        [epfd, event].into_iter().for_each(sys::close);
    }
}
