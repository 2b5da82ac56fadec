//! Neighbours: whose MAC address is known, who is being looked for, and who does not answer.
//!
//! The kernel does the looking (ARP, neighbour discovery). We prompt it, since it sees none of our packets.

use super::super::sys;
use super::socket::Requests;
use crate::limits::{NEIGHBOUR_FAILED_LEN, NEIGHBOUR_PROMPT, NEIGHBOUR_REVALIDATE, NEIGHBOUR_USE_LEN, NEIGHBOURS_MAX};
use crate::{Errno, Instant};
use ahash::AHashMap;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// The port of the discard service (RFC 863).
const DISCARD: u16 = 9;

/// The device's index and the address.
type Key = (u32, IpAddr);

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Its MAC address.
    Usable([u8; 6]),
    /// The kernel is looking for it.
    Resolving,
    /// It did not answer lately.
    Failed,
}

struct Neighbour {
    state: State,
    /// Whether the kernel would confirm the address before it relied on it for long (NUD_STALE).
    stale: bool,
    /// When the kernel may be prompted again.
    prompt_at: Instant,
    /// When somebody last asked for it.
    used_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Usable([u8; 6]),
    Resolving,
    Failed { until: Instant },
}

/// The neighbours that somebody has asked for.
pub(super) struct Neighbours {
    table: AHashMap<Key, Neighbour>,
    /// Every neighbour, by when it is next looked at: always the same time later, so that the first is the earliest.
    revalidations: VecDeque<(Instant, Key)>,
    /// Whether the kernel lets us prompt it by rtnetlink (CAP_NET_ADMIN).
    is_admin: bool,
}

impl Default for Neighbours {
    fn default() -> Self {
        Neighbours { table: AHashMap::new(), revalidations: VecDeque::new(), is_admin: true }
    }
}

impl Neighbours {
    /// Forgets everything if there is no room for another one; true if so.
    pub fn make_room(&mut self, device: u32, address: IpAddr) -> bool {
        let is_full = self.table.len() >= NEIGHBOURS_MAX && !self.table.contains_key(&(device, address));
        if is_full {
            self.clear();
        }
        is_full
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.table.clear();
        self.revalidations.clear();
    }

    /// What is known of a neighbour. Prompts the kernel, now and then, if it is not usable.
    pub fn find(&mut self, requests: &mut Requests, device: u32, address: IpAddr, now: Instant) -> Found {
        let key = (device, address);
        let Neighbours { table, revalidations, is_admin } = self;
        let neighbour = table.entry(key).or_insert_with(|| {
            revalidations.push_back((now + NEIGHBOUR_REVALIDATE, key));
            let (state, stale) = ask(requests, key);
            Neighbour { state, stale, prompt_at: now, used_at: now }
        });
        neighbour.used_at = now;
        match neighbour.state {
            State::Usable(mac) => Found::Usable(mac),
            State::Failed { until } if now < until => Found::Failed,
            State::Failed { .. } | State::Resolving => {
                neighbour.state = State::Resolving;
                if now >= neighbour.prompt_at {
                    neighbour.prompt_at = now + NEIGHBOUR_PROMPT;
                    // A solicitation without a datagram behind it comes from the link-local address (RFC 4861, 7.2.2), which
                    // there may not be, or not yet (RFC 4862, 5.4).
                    if !address.is_ipv6() || send_datagram(key).is_err() {
                        prompt(requests, key, is_admin);
                    }
                }
                Found::Resolving
            }
        }
    }

    /// Learns from a notice; true if it changes what `find` has said.
    pub fn update(&mut self, message: &NeighbourMessage, deleted: bool, now: Instant) -> bool {
        let Some(neighbour) =
            address(message).and_then(|address| self.table.get_mut(&(message.header.ifindex, address)))
        else {
            return false;
        };
        let before = neighbour.state;
        neighbour.stale = message.header.state == NeighbourState::Stale;
        neighbour.state = match usable_mac(message) {
            Some(mac) if !deleted => State::Usable(mac),
            _ if message.header.state == NeighbourState::Failed && !deleted => {
                State::Failed { until: now + NEIGHBOUR_FAILED_LEN }
            }
            _ => State::Resolving,
        };
        if neighbour.state != before {
            neighbour.prompt_at = now;
        }
        neighbour.state != before
    }

    /// Prompts the kernel to confirm the stale neighbours among those that are due and in use.
    pub fn revalidate(&mut self, requests: &mut Requests, now: Instant) {
        while let Some((_, key)) = self.revalidations.pop_front_if(|(due, _)| *due <= now) {
            if let Some(neighbour) = self.table.get(&key) {
                if neighbour.stale && now < neighbour.used_at + NEIGHBOUR_USE_LEN {
                    prompt(requests, key, &mut self.is_admin);
                }
                self.revalidations.push_back((now + NEIGHBOUR_REVALIDATE, key));
            }
        }
    }
}

/// What the kernel knows of a neighbour, and whether it is stale. One who failed before gets another chance.
fn ask(requests: &mut Requests, key: Key) -> (State, bool) {
    match requests.ask(RouteNetlinkMessage::GetNeighbour(message(key)), 0) {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(answer))) => {
            let state = usable_mac(&answer).map_or(State::Resolving, State::Usable);
            (state, answer.header.state == NeighbourState::Stale)
        }
        _ => (State::Resolving, false),
    }
}

/// Has the kernel confirm a neighbour, or resolve one of IPv4: by NTF_USE, or where we may not, by a datagram for it to send.
fn prompt(requests: &mut Requests, key: Key, is_admin: &mut bool) {
    if *is_admin {
        let mut message = message(key);
        message.header.flags = NeighbourFlags::Use;
        let answer = requests.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_ACK);
        *is_admin = answer.map(drop) != Err(Errno::EPERM);
    }
    if !*is_admin {
        // Should it fail, the next prompt may do better.
        let _ = send_datagram(key);
    }
}

/// Sends an empty datagram to a neighbour's discard port, through the kernel.
fn send_datagram((device, address): Key) -> io::Result<()> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    let fd = socket.as_raw_fd();
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &device)?;
    match address {
        IpAddr::V4(address) => sys::send_packet(fd, &[], &sys::address_v4(address, DISCARD)),
        IpAddr::V6(address) => sys::send_packet(fd, &[], &sys::address_v6(address, DISCARD, device)),
    }
}

/// A message that names a neighbour.
fn message((device, address): Key) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = device;
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

fn address(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

/// The MAC address, in the states in which the kernel itself would send to it (NUD_VALID).
fn usable_mac(message: &NeighbourMessage) -> Option<[u8; 6]> {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    if !matches!(message.header.state, Reachable | Stale | Delay | Probe | Permanent | Noarp) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(address) => address.as_slice().try_into().ok(),
        _ => None,
    })
}
