//! Moving bytes between flows and their relays, both ways: what fits, and no more is taken than fits.

use super::{Direction, Relay, bait, end, question};
use crate::description::{Description, Role};
use crate::limits::RELAY_PIECE_LEN;
use crate::sys;
use crate::world::World;
use stack::slab::Key;
use stack::socket::tcp::How;
use stack::stack::Stack;
use stack::{Errno, Instant};
use std::os::fd::RawFd;

/// Moves what there is for all relays to which something has happened, and sends it.
pub fn pump_ready(world: &mut World, now: Instant) {
    if world.relays.ready.is_empty() {
        return;
    }
    let mut buffer = std::mem::take(&mut world.relays.buffer);
    buffer.resize(RELAY_PIECE_LEN, 0);
    for key in std::mem::take(&mut world.relays.ready) {
        pump(world, key, &mut buffer);
        if let Ok(Description { role: Role::Relay(relay), .. }) = world.description(key)
            && !relay.rest.is_empty()
        {
            // The next turn tries again.
            world.relays.note(key);
        }
    }
    world.relays.buffer = buffer;
    if let Some(stack) = world.stack() {
        stack.flush(now);
    }
}

fn pump(world: &mut World, key: Key, buffer: &mut [u8]) {
    loop {
        let World { descriptions, network, .. } = world;
        let Some(description) = descriptions.get_mut(key) else { return };
        let (Role::Relay(relay), Some(network)) = (&mut description.role, network) else { return };
        let stack = &mut network.stack;
        match relay.move_inward(stack, buffer).and_then(|()| relay.move_outward(stack, buffer)) {
            Ok(Some(asked)) => question::answer(world, key, asked),
            Ok(None) if relay.is_over() => {
                bait::remove(relay.end);
                return end(world, key, false);
            }
            Ok(None) => return,
            // Whoever closed it last had not read everything: as with a socket, the peer is told.
            Err(Errno::ECONNRESET) => return end(world, key, true),
            Err(_) => return end(world, key, false),
        }
    }
}

impl Relay {
    /// From the flow to the other end. An error ends the relay.
    fn move_inward(&mut self, stack: &mut Stack, buffer: &mut [u8]) -> Result<(), Errno> {
        while self.inward != Direction::Over {
            let len = match stack.tcp_peek(self.flow, buffer) {
                // Who writes has heard of it first.
                Ok(0) if self.is_lost => return Err(Errno::ECONNRESET),
                Ok(0) => {
                    self.inward = Direction::Over;
                    // It can only fail when nobody is there to see it.
                    let _ = sys::shutdown(self.end, libc::SHUT_WR);
                    return Ok(());
                }
                Ok(len) => len,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            let taken = match self.inward {
                Direction::Open => match sys::send(self.end, &buffer[..len]) {
                    Ok(taken) => taken,
                    Err(Errno::EPIPE) if sys::is_hung_up(self.end) => return Ok(()),
                    Err(Errno::EPIPE) => {
                        self.inward = Direction::Dropped;
                        continue;
                    }
                    Err(Errno::EAGAIN) => return Ok(()),
                    Err(errno) => return Err(errno),
                },
                _ => len,
            };
            stack.tcp_recv(self.flow, &mut buffer[..taken])?;
        }
        Ok(())
    }

    /// From the other end to the flow, up to a question.
    fn move_outward(&mut self, stack: &mut Stack, buffer: &mut [u8]) -> Result<Option<RawFd>, Errno> {
        while self.outward == Direction::Open {
            // How much is taken depends on the memory that there is: what is not, waits here.
            if !self.rest.is_empty() {
                match stack.tcp_send_part(self.flow, &self.rest, false) {
                    Ok(taken) => drop(self.rest.drain(..taken)),
                    Err(Errno::EAGAIN) => {}
                    Err(errno) => return Ok(self.refuse(errno)),
                }
                if !self.rest.is_empty() {
                    return Ok(None);
                }
            }
            let room = match stack.tcp_room(self.flow) {
                Ok(room) => room.min(buffer.len()),
                Err(Errno::EAGAIN) => 0,
                Err(errno) => return Ok(self.refuse(errno)),
            };
            if room == 0 {
                return Ok(None);
            }
            match bait::look(self.end, &mut buffer[..room]) {
                Ok((0, _)) => {
                    self.outward = Direction::Over;
                    if !sys::is_hung_up(self.end) {
                        let _ = stack.tcp_shutdown(self.flow, How::Write);
                    }
                }
                Ok((len, asked)) => {
                    self.rest.extend_from_slice(&buffer[..len - usize::from(asked.is_some())]);
                    bait::take(self.end, &mut buffer[..len]);
                    // If its fd was lost, for want of a number, it is no question any more, and no byte of the flow's.
                    if let Some(Ok(asked)) = asked {
                        return Ok(Some(asked));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// The flow takes no more. If it has failed, who reads is told, after what is still to be read.
    fn refuse(&mut self, errno: Errno) -> Option<RawFd> {
        self.is_lost = errno != Errno::EPIPE && self.inward != Direction::Over;
        self.outward = Direction::Over;
        self.rest.clear();
        // It can only fail when nobody is there to see it.
        let _ = sys::shutdown(self.end, libc::SHUT_RD);
        None
    }

    /// Whether nothing comes any more, either way: both directions have ended, or the other end is closed everywhere and
    /// all that was written to it is on its way.
    fn is_over(&self) -> bool {
        self.outward == Direction::Over && sys::is_hung_up(self.end)
    }
}
