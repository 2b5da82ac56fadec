//! The waits that go on: what each of them has counted or taken, and gives back at its end.
//!
//! A wait that sleeps may be left without returning: a signal handler jumps out of it (siglongjmp(3)), or ends its thread
//! (pthread_exit(3)). So that stands here and not on the thread's stack, and is given back on such a thread's way out.
//! A handler that only jumps within itself ends the waits below it early, too: they are ended once, and go on to the end
//! of their handler.

use crate::calls::duplicate;
use crate::description::Description;
use crate::waker::WakerId;
use crate::world::{self, World};
use crate::{admission, epoll, fork, keeper, thread};
use stack::Errno;
use stack::slab::Key;
use std::cell::Cell;

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// A socket, which lives on for the wait if it is closed.
    Socket(Key),
    /// An epoll instance, likewise.
    Set(Key),
    /// What poll(2) is given.
    Several,
}

/// A thread's wait, or one of its waits: a signal handler may wait, too.
pub struct Wait {
    /// That thread's wait which a handler has interrupted.
    outer: Option<Key>,
    subject: Subject,
    /// The inherited listeners at which it is counted.
    admitted: Vec<Key>,
    sleep: Option<Asleep>,
}

/// How it sleeps.
#[derive(Debug, Clone, Copy)]
pub enum Asleep {
    /// By a waker.
    By(WakerId),
    /// In an epoll instance, from this generation on.
    In(u64),
}

/// A wait begins, which is counted at the listeners `admitted` already.
///
/// # Errors
/// `EBADF`: what it waits for is gone. `ENOMEM`: too many.
pub fn begin(world: &mut World, subject: Subject, admitted: Vec<Key>) -> Result<Key, Errno> {
    let World { descriptions, sets, waits, .. } = world;
    let waiters = match subject {
        Subject::Socket(key) => Some(&mut descriptions.get_mut(key).ok_or(Errno::EBADF)?.waiters),
        Subject::Set(key) => Some(&mut sets.get_mut(key).ok_or(Errno::EBADF)?.waiters),
        Subject::Several => None,
    };
    let begun = Cell::new(Some(Wait { outer: thread::wait(), subject, admitted, sleep: None }));
    let renew = |slot: &mut Wait| begun.take().into_iter().for_each(|begun| *slot = begun);
    let wait = waits.insert(|| begun.take(), renew).ok_or(Errno::ENOMEM)?;
    waiters.into_iter().for_each(|waiters| *waiters += 1);
    thread::set_wait(Some(wait));
    Ok(wait)
}

/// It goes to sleep; false: it has ended already.
pub fn begin_sleep(world: &mut World, wait: Key, sleep: Asleep) -> bool {
    world.waits.get_mut(wait).map(|it| it.sleep = Some(sleep)).is_some()
}

/// It is awake again; with a waker it slept on `sockets`.
pub fn end_sleep(world: &mut World, wait: Key, sockets: impl IntoIterator<Item = Key>) {
    let Some(it) = world.waits.get_mut(wait) else { return };
    match (it.sleep.take(), it.subject) {
        (Some(Asleep::By(waker)), _) => {
            for key in sockets {
                world.description(key).into_iter().for_each(|description| forget_sleeper(description, waker));
            }
            world.wakers.give_back(waker);
        }
        (Some(Asleep::In(generation)), Subject::Set(key)) => {
            world.sets.get_mut(key).into_iter().for_each(|set| set.end_sleep(generation));
        }
        _ => {}
    }
}

fn forget_sleeper(description: &mut Description, waker: WakerId) {
    description.sleepers.retain(|&sleeper| sleeper != waker);
}

/// It ends, unless it has ended already.
pub fn end(world: &mut World, wait: Key) {
    let Some(it) = world.waits.get_mut(wait) else { return };
    let (outer, subject, admitted) = (it.outer, it.subject, std::mem::take(&mut it.admitted));
    if it.sleep.is_some() {
        // It was left, and with it the list of what it slept on.
        let all: Vec<Key> = world.descriptions.iter().map(|(key, _)| key).collect();
        end_sleep(world, wait, all);
    }
    world.waits.remove(wait);
    thread::set_wait(outer);
    admission::end(world, admitted);
    match subject {
        Subject::Socket(key) => duplicate::end_wait(world, key),
        Subject::Set(key) => epoll::end_wait(world, key),
        Subject::Several => {}
    }
}

/// This thread jumps, or ends: its waits are over.
#[inline]
pub fn leave() {
    if thread::wait().is_some() {
        leave_all();
    }
}

#[cold]
fn leave_all() {
    // A child of vfork(2) jumps in its parent's memory.
    if !fork::is_served() {
        return;
    }
    let Ok(mut world) = world::enter() else { return };
    while let Some(wait) = thread::wait() {
        thread::set_wait(None);
        end(&mut world, wait);
    }
    drop(world);
    keeper::leave_for_good();
}

/// In a child of fork(2), whatever goes on is the parent's.
pub fn forget(world: &mut World) {
    let all: Vec<Key> = world.waits.iter().map(|(wait, _)| wait).collect();
    all.into_iter().for_each(|wait| world.waits.remove(wait));
}
