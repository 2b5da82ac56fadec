//! Next hops from the kernel's own routes and neighbours, over rtnetlink(7).

mod device;
mod neighbour;
mod route;
mod socket;

use super::interface::Interface;
use crate::limits::NEXT_HOPS_MAX;
use crate::outside::{Hop, NextHop, Routes};
use crate::{Errno, Instant};
use ahash::AHashMap;
use device::Device;
use neighbour::{Found, Neighbours};
use route::Route;
use socket::{Notice, Notices, Requests};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

/// The kernel's routes as seen by flows on some interfaces.
///
/// Each question is put to the kernel once, so that policy routing, metrics and source selection are its own; the
/// answer holds until the kernel tells of a change.
pub struct NetlinkRoutes {
    requests: Requests,
    notices: Notices,
    /// The indices of our interfaces, in the order of their ids.
    interfaces: Box<[u32]>,
    /// By index; `None` is not ours.
    devices: AHashMap<u32, Option<Device>>,
    ways: AHashMap<(Option<IpAddr>, IpAddr), Way>,
    neighbours: Neighbours,
    generation: u64,
}

/// A route and what its device is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Kernel,
    Ours { route: Route, device: Device },
}

impl NetlinkRoutes {
    /// The routes of the calling thread's network namespace. An interface's id is its place in `interfaces`.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS`: no netlink socket to be had.
    pub fn new(interfaces: &[Interface]) -> io::Result<NetlinkRoutes> {
        Ok(NetlinkRoutes {
            notices: Notices::open()?,
            requests: Requests::open()?,
            interfaces: interfaces.iter().map(|interface| interface.index).collect(),
            devices: AHashMap::new(),
            ways: AHashMap::new(),
            neighbours: Neighbours::default(),
            generation: 0,
        })
    }

    /// The two sockets: high, close-on-exec, and for a forked child to close.
    pub fn fds(&self) -> [RawFd; 2] {
        [self.requests.as_raw_fd(), self.notices.as_raw_fd()]
    }

    fn way(&mut self, local: Option<IpAddr>, remote: IpAddr) -> Result<Way, Errno> {
        if let Some(way) = self.ways.get(&(local, remote)) {
            return Ok(*way);
        }
        let way = match route::find(&mut self.requests, local, remote)? {
            Some(route) => match self.device(route.device) {
                Some(device) => Way::Ours { route, device },
                None => Way::Kernel,
            },
            None => Way::Kernel,
        };
        if self.ways.len() >= NEXT_HOPS_MAX {
            self.ways.clear();
        }
        self.ways.insert((local, remote), way);
        Ok(way)
    }

    fn device(&mut self, index: u32) -> Option<Device> {
        let NetlinkRoutes { devices, requests, interfaces, .. } = self;
        *devices.entry(index).or_insert_with(|| device::find(requests, index, interfaces))
    }

    /// The neighbour's MAC address. An answer that has just come in counts.
    fn neighbour(&mut self, device: u32, address: IpAddr, now: Instant) -> Found {
        if self.neighbours.make_room(device, address) {
            self.generation += 1;
        }
        match self.neighbours.find(&mut self.requests, device, address, now) {
            Found::Resolving => {
                self.read_notices(now);
                self.neighbours.find(&mut self.requests, device, address, now)
            }
            found => found,
        }
    }

    fn read_notices(&mut self, now: Instant) {
        let NetlinkRoutes { notices, neighbours, .. } = self;
        let (mut routes_changed, mut neighbours_changed) = (false, false);
        let complete = notices.read(|notice| match notice {
            Notice::Neighbour(message, deleted) => neighbours_changed |= neighbours.update(&message, deleted, now),
            Notice::Other => routes_changed = true,
        });
        if !complete {
            // Some notices are lost: nothing that was known is certain.
            self.neighbours.clear();
            routes_changed = true;
        }
        if routes_changed {
            self.ways.clear();
            self.devices.clear();
        }
        if routes_changed || neighbours_changed {
            self.generation += 1;
        }
    }
}

impl Routes for NetlinkRoutes {
    fn next_hop(&mut self, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Hop {
        let local = local.filter(|address| !address.is_unspecified());
        if needs_scope(remote) {
            return Hop::Kernel;
        }
        let (route, device) = match self.way(local, remote) {
            Ok(Way::Ours { route, device }) => (route, device),
            Ok(Way::Kernel) => return Hop::Kernel,
            Err(errno) => return Hop::Unreachable(errno),
        };
        let found = match device.is_loopback {
            true => Found::Usable([0; 6]),
            false => self.neighbour(route.device, route.neighbour, now),
        };
        let (header, header_len) = device.header(if let Found::Usable(mac) = found { mac } else { [0; 6] }, remote);
        let next_hop = NextHop {
            interface: device.interface,
            source: route.source,
            header,
            header_len,
            mtu: route.mtu.map_or(device.mtu, |mtu| mtu.min(device.mtu)),
            is_on_link: route.neighbour == remote,
        };
        match found {
            Found::Usable(_) => Hop::Ready(next_hop),
            Found::Resolving => Hop::Resolving(next_hop),
            Found::Failed => Hop::Unreachable(Errno::EHOSTUNREACH),
        }
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn refresh(&mut self, now: Instant) {
        self.read_notices(now);
        self.neighbours.revalidate(&mut self.requests, now);
    }
}

/// Whether an address means nothing without an interface (RFC 4007): an `IpAddr` has none to say.
fn needs_scope(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if Ipv6Addr::is_unicast_link_local(&address))
}
