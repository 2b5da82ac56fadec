//! UDP sockets: what comes through the rings for them, and sending through the rings, as udp(7) says, never blocking.
//!
//! Behind each of them stands a socket of the kernel's with the same port. Whatever does not fit here is for that one,
//! so that sending says no more than whether the datagram is on its way.

use super::tcp::ListenAddress;
use super::{Socket, UdpId};
use crate::datagram::{self, Datagram, Headers};
use crate::datagram_queue::DatagramQueue;
use crate::flow_table::FlowKey;
use crate::limits::FORWARDED_LEN_MAX;
use crate::link::Link;
use crate::outside::{Hop, InterfaceId, LinkId, NextHop};
use crate::port_space::ClaimId;
use crate::readiness::Readiness;
use crate::ready_list::Watch;
use crate::slab::Key;
use crate::stack::Stack;
use crate::udp_sockets::{UdpSocket, Way};
use crate::{Errno, Instant};
use smoltcp::phy::TxToken;
use std::net::{IpAddr, SocketAddr};

pub use crate::datagram_queue::Arrival;

/// Where a UDP socket is bound and connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Its local address; one, if it is connected.
    pub address: ListenAddress,
    /// Its local port.
    pub port: u16,
    /// From whom alone it receives.
    pub peer: Option<SocketAddr>,
    /// SO_REUSEPORT: it shares what arrives with others of the same address and port.
    pub shares_port: bool,
}

/// How a datagram is sent.
#[derive(Debug, Clone, Copy)]
pub struct Dispatch {
    /// To whom.
    pub to: SocketAddr,
    /// From which address; `None`: from the socket's, or from one that suits the route.
    pub from: Option<IpAddr>,
    /// Through which interface alone; `None`: whichever the route says.
    pub interface: Option<InterfaceId>,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Routers may cut it up (IP_PMTUDISC_DONT).
    pub may_fragment: bool,
    /// Its length in bytes.
    pub len: usize,
}

impl Stack {
    /// Receives, from now on, what arrives for a socket of the kernel's that is bound so: claims its port. At most about
    /// `receive_limit` bytes wait for it.
    ///
    /// # Errors
    /// - `ENOBUFS`: a bound reached.
    pub fn udp_open(&mut self, binding: Binding, receive_limit: usize, token: u64) -> Result<UdpId, Errno> {
        let claims = self.claim_datagrams(&binding)?;
        let make = || UdpSocket {
            binding,
            receive_limit,
            queue: DatagramQueue::default(),
            claims: claims.clone(),
            watch: Watch::new(token),
            way: None,
        };
        match self.udp_sockets.insert(make) {
            Some(key) => Ok(UdpId(key)),
            None => {
                self.release_datagrams(claims);
                Err(Errno::ENOBUFS)
            }
        }
    }

    /// Whether there is a socket that receives.
    pub fn receives_datagrams(&self) -> bool {
        !self.udp_sockets.is_empty()
    }

    /// The kernel's socket was bound or connected anew. What has been received stays.
    ///
    /// # Errors
    /// - `ENOBUFS`: a bound reached; the socket is as it was.
    pub fn udp_rebind(&mut self, socket: UdpId, binding: Binding) -> Result<(), Errno> {
        let claims = self.claim_datagrams(&binding)?;
        let old = self.udp_sockets.get_mut(socket.0).map(|socket| std::mem::replace(&mut socket.claims, claims));
        self.release_datagrams(old.unwrap_or_default());
        self.udp_sockets.rebind(socket.0, binding);
        Ok(())
    }

    /// Leaves what arrives from now on to the kernel's socket. What has been received stays.
    pub fn udp_release(&mut self, socket: UdpId) {
        let claims = self.udp_sockets.get_mut(socket.0).map(|socket| std::mem::take(&mut socket.claims));
        self.release_datagrams(claims.unwrap_or_default());
    }

    /// close(2).
    pub fn udp_close(&mut self, socket: UdpId) {
        self.udp_release(socket);
        self.udp_sockets.remove(socket.0);
    }

    /// SO_RCVBUF.
    pub fn udp_set_receive_limit(&mut self, socket: UdpId, bytes: usize) {
        if let Some(socket) = self.udp_sockets.get_mut(socket.0) {
            socket.receive_limit = bytes;
        }
    }

    /// The next datagram that was received.
    pub fn udp_next(&self, socket: UdpId) -> Option<&Arrival> {
        self.udp_sockets.get(socket.0)?.queue.front()
    }

    /// Copies as much of the next datagram as fits into `pieces`, and takes it away unless it is `peek`ed at.
    ///
    /// # Errors
    /// - `EAGAIN`: there is none.
    pub fn udp_receive<'a>(
        &mut self,
        socket: UdpId,
        pieces: impl Iterator<Item = &'a mut [u8]>,
        peek: bool,
    ) -> Result<Arrival, Errno> {
        let queue = &mut self.udp_sockets.get_mut(socket.0).ok_or(Errno::EAGAIN)?.queue;
        let arrival = *queue.front().ok_or(Errno::EAGAIN)?;
        queue.copy_front(pieces);
        if !peek {
            queue.pop();
        }
        Ok(arrival)
    }

    /// Sends what `pieces` hold as one datagram, with the next `flush` or `poll`. False: the kernel's socket is to do it.
    /// The route is not through a link of ours, or its next hop is not yet known; the datagram is larger than its MTU, or
    /// than every path lets through, or not one that the socket may send; there is no free frame.
    ///
    /// Copies once; sums once.
    pub fn udp_send<'a>(
        &mut self,
        socket: UdpId,
        dispatch: &Dispatch,
        pieces: impl Iterator<Item = &'a [u8]>,
        now: Instant,
    ) -> bool {
        let Some(Binding { address, port, .. }) = self.udp_sockets.get(socket.0).map(|socket| socket.binding) else {
            return false;
        };
        let local = match address {
            ListenAddress::One(address) => dispatch.from.or(Some(address)),
            _ => dispatch.from,
        };
        let to = dispatch.to;
        let is_of_family = match address {
            ListenAddress::AnyV4 => to.is_ipv4(),
            ListenAddress::AnyV6 => to.is_ipv6(),
            _ => true,
        };
        if !is_of_family || local.is_some_and(|local| local.is_ipv4() != to.is_ipv4()) || to.port() == 0 {
            return false;
        }
        let Some(next_hop) = self.way_to(socket.0, local, to.ip(), now) else { return false };
        if dispatch.interface.is_some_and(|interface| interface != next_hop.interface) {
            return false;
        }
        let Some(link) = self.ports.iter().position(|port| port.interface == next_hop.interface) else { return false };
        // What goes farther may meet a narrower link. Of that the kernel hears, and cuts up what is too large for it.
        let path_mtu = if next_hop.is_on_link { next_hop.mtu } else { next_hop.mtu.min(FORWARDED_LEN_MAX) };
        let route_mtu = self.ports[link].link.mtu().min(path_mtu.into());
        let packet_len = datagram::packet_len(to.ip(), dispatch.len);
        if packet_len > self.mtu_towards(to.ip(), route_mtu, now) {
            return false;
        }
        let link = LinkId(link as u16);
        let Some(frame) = self.free_frame(link, now) else { return false };
        let headers = Headers {
            source: SocketAddr::new(local.unwrap_or(next_hop.source), port),
            destination: to,
            hop_limit: dispatch.hop_limit,
            traffic_class: dispatch.traffic_class,
            identification: dispatch.may_fragment.then(|| self.next_identification()),
        };
        let header = &next_hop.header[..usize::from(next_hop.header_len)];
        let returned = self.outgoing.lend(Some(frame), header.len());
        debug_assert!(returned.is_none());
        (&mut self.outgoing).consume(packet_len, |packet| datagram::write(packet, &headers, pieces));
        self.send_outgoing(None, link, header, now);
        self.counters.datagrams_sent += 1;
        true
    }

    /// The number of the next packet that may be cut up.
    fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }

    /// The next hop, if it is known: as it was for the last datagram, where that went the same way.
    fn way_to(&mut self, key: Key, local: Option<IpAddr>, remote: IpAddr, now: Instant) -> Option<NextHop> {
        let generation = self.routes.generation();
        let socket = self.udp_sockets.get_mut(key)?;
        if let Some(way) = socket.way
            && (way.local, way.remote, way.generation) == (local, remote, generation)
        {
            return Some(way.next_hop);
        }
        let Hop::Ready(next_hop) = self.routes.next_hop(local, remote, now) else { return None };
        socket.way = Some(Way { local, remote, next_hop, generation });
        Some(next_hop)
    }

    /// Takes in a datagram that was steered to us.
    pub(crate) fn receive_datagram(&mut self, link: LinkId, packet: &[u8], datagram: &Datagram) {
        let Some(key) = self.udp_sockets.find(&FlowKey::new(datagram.local, datagram.remote)) else {
            return self.counters.drop_no_socket += 1;
        };
        let Some(socket) = self.udp_sockets.get_mut(key) else { return };
        let arrival = Arrival {
            source: datagram.remote,
            destination: datagram.local.ip(),
            interface: self.ports[usize::from(link.0)].interface,
            hop_limit: datagram.hop_limit,
            traffic_class: datagram.traffic_class,
            len: datagram.payload.len(),
        };
        if !socket.queue.push(arrival, &packet[datagram.payload.clone()], socket.receive_limit) {
            return self.counters.drop_receive_queue += 1;
        }
        self.counters.datagrams_received += 1;
        self.ready.push(Socket::Udp(UdpId(key)), &mut socket.watch, Readiness::READABLE);
    }

    fn claim_datagrams(&mut self, binding: &Binding) -> Result<Vec<ClaimId>, Errno> {
        let mut claims = Vec::new();
        for address in binding.address.claimed() {
            match self.claims.hold_for_datagrams(address, binding.port) {
                Ok(claim) => claims.push(claim),
                Err(errno) => {
                    self.release_datagrams(claims);
                    return Err(errno);
                }
            }
        }
        Ok(claims)
    }

    fn release_datagrams(&mut self, claims: Vec<ClaimId>) {
        claims.into_iter().for_each(|claim| self.claims.release_by_listener(claim));
    }
}
