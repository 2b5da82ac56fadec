//! Options of a relay: the flow has them, so whoever holds the other end asks its owner, from whatever program.
//!
//! A question is one byte among the flow's, with a socket beside it (SCM_RIGHTS): on that socket lies what is asked, and
//! there comes the answer.

use super::Relay;
use crate::calls::option;
use crate::description::{Description, Role};
use crate::fd_table::{self, Entry};
use crate::limits::{ANSWER_WAIT_MAX, OPTION_LEN_MAX};
use crate::relay::name::Name;
use crate::world::World;
use crate::{channel, config, fork, sys, thread};
use libc::{SOL_SOCKET, c_int};
use stack::Errno;
use stack::slab::Key;
use std::os::fd::RawFd;

/// An option: its level and its name.
type Option_ = (c_int, c_int);

/// What is asked: whether to set, the level, the name, and how much room there is for the answer.
const HEADER_LEN: usize = 16;
const GET: u32 = 0;
const SET: u32 = 1;

/// The options that the other end itself has: they say how calls on it wait, and how they ended.
const OF_THE_END: [c_int; 9] = [
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_ERROR,
    libc::SO_TYPE,
    libc::SO_ACCEPTCONN,
    libc::SO_RCVLOWAT,
    libc::SO_RCVBUF,
    libc::SO_SNDBUF,
    libc::SO_PEEK_OFF,
];

/// getsockopt(2) on an fd of the kernel's: the value, if the fd is a relay's other end and its owner answers.
pub fn get(fd: RawFd, option: Option_, room: usize) -> Option<Result<Vec<u8>, Errno>> {
    let name = name_of(fd, option)?;
    match option {
        (SOL_SOCKET, libc::SO_DOMAIN) => Some(Ok(name.family.to_ne_bytes().to_vec())),
        (SOL_SOCKET, libc::SO_PROTOCOL) => Some(Ok(libc::IPPROTO_TCP.to_ne_bytes().to_vec())),
        _ => ask(fd, GET, option, room, &[]),
    }
}

/// setsockopt(2) on an fd of the kernel's, if it is a relay's other end and its owner answers.
pub fn set(fd: RawFd, option: Option_, value: &[u8]) -> Option<Result<(), Errno>> {
    name_of(fd, option)?;
    ask(fd, SET, option, 0, value).map(|answer| answer.map(drop))
}

fn name_of(fd: RawFd, (level, name): Option_) -> Option<Name> {
    config::get()?;
    let is_of_the_end = level == SOL_SOCKET && OF_THE_END.contains(&name);
    if is_of_the_end || thread::is_inside() || !fork::is_served() {
        return None;
    }
    Name::of(fd)
}

fn ask(fd: RawFd, kind: u32, (level, name): Option_, room: usize, value: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
    let header = [kind, level as u32, name as u32, room.min(OPTION_LEN_MAX) as u32].map(u32::to_ne_bytes);
    let question = [header.as_flattened(), &value[..value.len().min(OPTION_LEN_MAX)]].concat();
    let [ours, theirs] = channel::make().ok()?;
    let asked = sys::send(ours, &question).and_then(|_| sys::send_with_fd(fd, &[0], Some(theirs)));
    sys::close(theirs);
    let mut answer = vec![0; size_of::<c_int>() + OPTION_LEN_MAX];
    let len = asked.and_then(|_| channel::await_message(ours, ANSWER_WAIT_MAX, |ours| sys::receive(ours, &mut answer)));
    sys::close(ours);
    answer.truncate(len.ok()?);
    let errno = c_int::from_ne_bytes(*answer.first_chunk()?);
    Some(if errno == 0 { Ok(answer.split_off(size_of::<c_int>())) } else { Err(Errno(errno)) })
}

/// Answers what lies on a socket that came through a relay, and closes it.
pub fn answer(world: &mut World, key: Key, reply: RawFd) {
    let mut question = [0; HEADER_LEN + OPTION_LEN_MAX];
    let answer = match sys::receive(reply, &mut question) {
        Ok(len) if len >= HEADER_LEN => decide(world, key, &question[..len]),
        _ => Err(Errno::EINVAL),
    };
    let (errno, value) = match answer {
        Ok(value) => (0, value),
        Err(Errno(errno)) => (errno, Vec::new()),
    };
    let _ = sys::send(reply, &[&errno.to_ne_bytes()[..], &value].concat());
    sys::close(reply);
}

fn decide(world: &mut World, key: Key, question: &[u8]) -> Result<Vec<u8>, Errno> {
    let (header, value) = question.split_at(HEADER_LEN);
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (level, name, room) = (word(4) as c_int, word(8) as c_int, word(12) as usize);
    let shadow = shadow(world, key)?;
    if word(0) == SET {
        return match option::set_in(world, shadow, key, level, name, value)? {
            Some(()) => Ok(Vec::new()),
            None => sys::set_option(shadow, level, name, value).map(|()| Vec::new()),
        };
    }
    match option::get_in(world, key, level, name, room)? {
        Some(value) => Ok(value.bytes().to_vec()),
        None => {
            let mut value = vec![0; room.min(OPTION_LEN_MAX)];
            let len = sys::option(shadow, level, name, &mut value)?;
            value.truncate(len);
            Ok(value)
        }
    }
}

/// The kernel's socket behind the flow, which remembers what the stack does not know: made if need be.
fn shadow(world: &mut World, key: Key) -> Result<RawFd, Errno> {
    let Description { family, role: Role::Relay(Relay { shadow, .. }), .. } = world.description(key)? else {
        return Err(Errno::ENOTCONN);
    };
    if let Some(shadow) = shadow {
        return Ok(*shadow);
    }
    let made = sys::socket(*family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0).and_then(sys::move_high)?;
    fd_table::set(made, Entry::Internal);
    *shadow = Some(made);
    world.description(key)?.fds.push(made);
    Ok(made)
}
