//! One question to the kernel's forwarding tables: how do I reach this address?

use super::socket::Requests;
use crate::Errno;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// A route that packets can be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The index of the device that it leads through; to this host itself that is the loopback.
    pub device: u32,
    /// The gateway, or the destination itself where it is on the link.
    pub neighbour: IpAddr,
    /// The source address to use.
    pub source: IpAddr,
    /// The route's own MTU, in bytes.
    pub mtu: Option<u16>,
}

/// Asks for the route to `remote`; `None` is one that stays with the kernel: no unicast.
///
/// # Errors
/// `ENETUNREACH`, `EHOSTUNREACH`; `EACCES` and `EINVAL` for routes that prohibit and swallow.
pub(super) fn find(requests: &mut Requests, local: Option<IpAddr>, remote: IpAddr) -> Result<Option<Route>, Errno> {
    let question = RouteNetlinkMessage::GetRoute(question(local, remote));
    let Some(RouteNetlinkMessage::NewRoute(answer)) = requests.ask(question, 0)? else { return Err(Errno::EINVAL) };
    match answer.header.kind {
        RouteType::Unicast | RouteType::Local => Ok(understand(&answer, local, remote)),
        RouteType::Unreachable => Err(Errno::EHOSTUNREACH),
        RouteType::Prohibit => Err(Errno::EACCES),
        RouteType::BlackHole => Err(Errno::EINVAL),
        RouteType::Throw => Err(Errno::ENETUNREACH),
        _ => Ok(None),
    }
}

fn question(local: Option<IpAddr>, remote: IpAddr) -> RouteMessage {
    let (address_family, bits) = match remote {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut question = RouteMessage::default();
    question.header = RouteHeader {
        address_family,
        destination_prefix_length: bits,
        source_prefix_length: if local.is_some() { bits } else { 0 },
        ..RouteHeader::default()
    };
    question.attributes.push(RouteAttribute::Destination(remote.into()));
    question.attributes.extend(local.map(|local| RouteAttribute::Source(local.into())));
    question
}

fn understand(answer: &RouteMessage, local: Option<IpAddr>, remote: IpAddr) -> Option<Route> {
    let (mut device, mut neighbour, mut source, mut mtu) = (None, remote, local, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => neighbour = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => neighbour = (*gateway).into(),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => neighbour = (*gateway).into(),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = source.or(Some((*address).into())),
            RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => source = source.or(Some((*address).into())),
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(mtu_of),
            _ => (),
        }
    }
    Some(Route { device: device?, neighbour, source: source?, mtu })
}

fn mtu_of(metric: &RouteMetric) -> Option<u16> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(u16::try_from(*mtu).unwrap_or(u16::MAX)),
        _ => None,
    }
}
