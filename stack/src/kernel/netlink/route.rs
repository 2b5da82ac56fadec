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
    let mut expires = false;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => neighbour = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => neighbour = (*gateway).into(),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => neighbour = (*gateway).into(),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = source.or(Some((*address).into())),
            RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => source = source.or(Some((*address).into())),
            RouteAttribute::CacheInfo(info) => expires = info.expires != 0,
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(mtu_of),
            _ => (),
        }
    }
    // What a connection of the kernel's has found out of the path is forgotten without a notice: ours find out themselves.
    let mtu = mtu.filter(|_| !expires);
    Some(Route { device: device?, neighbour, source: source?, mtu })
}

fn mtu_of(metric: &RouteMetric) -> Option<u16> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(u16::try_from(*mtu).unwrap_or(u16::MAX)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteCacheInfo;

    #[test]
    fn an_mtu_that_the_kernel_will_forget_is_not_the_route_s() {
        let local = IpAddr::from([10, 0, 0, 1]);
        let mtu = |expires: u32| {
            let mut info = [0; 32];
            info[8..12].copy_from_slice(&expires.to_ne_bytes());
            let mut answer = RouteMessage::default();
            answer.attributes = vec![
                RouteAttribute::Oif(7),
                RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
                RouteAttribute::CacheInfo(RouteCacheInfo::parse(&info).unwrap()),
            ];
            understand(&answer, Some(local), [10, 0, 0, 2].into()).unwrap().mtu
        };
        assert_eq!((mtu(0), mtu(59_000)), (Some(1400), None));
    }
}
