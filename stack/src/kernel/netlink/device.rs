//! A device that routes lead through: one of our interfaces, or a VLAN on top of one.

use super::socket::Requests;
use crate::limits::LINK_HEADER_LEN_MAX;
use crate::outside::InterfaceId;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
};
use std::net::IpAddr;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// What stands in front of the packets that leave through a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    /// Which of our interfaces carries it.
    pub interface: InterfaceId,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Whether it is the loopback: it has no neighbours, and its Ethernet headers say nothing.
    pub is_loopback: bool,
    mac: [u8; 6],
    tag: Option<Tag>,
}

/// A VLAN tag: its protocol (802.1Q or 802.1ad), and its id. Priorities are not mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    protocol: u16,
    id: u16,
}

/// Asks what a device is; `None` if it is not on one of our `interfaces`.
pub(super) fn find(requests: &mut Requests, index: u32, interfaces: &[u32]) -> Option<Device> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    match requests.ask(RouteNetlinkMessage::GetLink(question), 0) {
        Ok(Some(RouteNetlinkMessage::NewLink(answer))) => understand(&answer, interfaces),
        _ => None,
    }
}

fn understand(answer: &LinkMessage, interfaces: &[u32]) -> Option<Device> {
    let (mut mac, mut mtu, mut below, mut tag) = (None, None, None, None);
    let on = |index, mac, mtu, tag| ours(answer, index, interfaces, mac, mtu, tag);
    for attribute in &answer.attributes {
        match attribute {
            LinkAttribute::Address(address) => mac = address.as_slice().try_into().ok(),
            LinkAttribute::Mtu(len) => mtu = Some(u16::try_from(*len).unwrap_or(u16::MAX)),
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkInfo(infos) => tag = infos.iter().find_map(vlan),
            // The index of what is below it is one of another namespace's.
            LinkAttribute::LinkNetNsId(_) => return on(answer.header.index, mac?, mtu?, None),
            _ => (),
        }
    }
    on(answer.header.index, mac?, mtu?, None).or_else(|| on(below?, mac?, mtu?, Some(tag?)))
}

fn ours(
    answer: &LinkMessage,
    index: u32,
    interfaces: &[u32],
    mac: [u8; 6],
    mtu: u16,
    tag: Option<Tag>,
) -> Option<Device> {
    let place = interfaces.iter().position(|interface| *interface == index)?;
    let is_loopback = answer.header.link_layer_type == LinkLayerType::Loopback;
    Some(Device { interface: InterfaceId(place as u16), mtu, is_loopback, mac, tag })
}

fn vlan(info: &LinkInfo) -> Option<Tag> {
    let LinkInfo::Data(InfoData::Vlan(infos)) = info else { return None };
    let (mut protocol, mut id) = (VlanProtocol::default(), None);
    for info in infos {
        match info {
            InfoVlan::Protocol(value) => protocol = *value,
            InfoVlan::Id(value) => id = Some(*value),
            _ => (),
        }
    }
    Some(Tag { protocol: protocol.into(), id: id? })
}

impl Device {
    /// The Ethernet header of packets for a neighbour, and how much of it is used.
    pub fn header(&self, to: [u8; 6], remote: IpAddr) -> ([u8; LINK_HEADER_LEN_MAX], u8) {
        let mut header = [0; LINK_HEADER_LEN_MAX];
        header[..6].copy_from_slice(&to);
        header[6..12].copy_from_slice(&self.mac);
        let mut len = 12;
        let ethertype = if remote.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        for word in self.tag.into_iter().flat_map(|tag| [tag.protocol, tag.id]).chain([ethertype]) {
            header[len..len + 2].copy_from_slice(&word.to_be_bytes());
            len += 2;
        }
        (header, len as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer about device 5, with a MAC and an MTU, and these attributes besides.
    fn answer(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut answer = LinkMessage::default();
        answer.header.index = 5;
        answer.attributes = vec![LinkAttribute::Mtu(1496), LinkAttribute::Address(vec![2; 6])];
        answer.attributes.extend(attributes);
        answer
    }

    #[test]
    fn our_interfaces_and_vlans_on_them_are_ours() {
        let vlan = |infos| LinkAttribute::LinkInfo(vec![LinkInfo::Data(InfoData::Vlan(infos))]);
        let q = || vlan(vec![InfoVlan::Id(7)]);
        let ad = || vlan(vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Ad), InfoVlan::Id(9)]);
        let check = |attributes, interfaces: &[u32], expected: Option<(u16, Option<Tag>)>| {
            let found = understand(&answer(attributes), interfaces);
            assert!(found.is_none_or(|device| (device.mtu, device.mac) == (1496, [2; 6])));
            assert_eq!(found.map(|device| (device.interface.0, device.tag)), expected);
        };
        check(vec![], &[3, 5], Some((1, None)));
        check(vec![], &[3], None);
        check(vec![LinkAttribute::Link(3), q()], &[4, 3], Some((1, Some(Tag { protocol: 0x8100, id: 7 }))));
        check(vec![LinkAttribute::Link(3), ad()], &[3], Some((0, Some(Tag { protocol: 0x88a8, id: 9 }))));
        check(vec![LinkAttribute::Link(3), q()], &[4], None);
        check(vec![LinkAttribute::Link(3), q(), LinkAttribute::LinkNetNsId(0)], &[3], None);
        check(vec![LinkAttribute::Link(3), LinkAttribute::LinkNetNsId(0)], &[5], Some((0, None)));
        check(vec![LinkAttribute::Link(3)], &[3], None);
    }

    #[test]
    fn headers_have_a_tag_or_not() {
        let check = |tag, remote: &str, expected: &[u8]| {
            let device = Device { interface: InterfaceId(0), mtu: 1500, is_loopback: false, mac: [2; 6], tag };
            let (header, len) = device.header([1; 6], remote.parse().expect("an address"));
            assert_eq!(header[..12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
            assert_eq!(&header[12..usize::from(len)], expected);
        };
        check(None, "10.0.0.1", &[8, 0]);
        check(None, "fd00::1", &[0x86, 0xdd]);
        check(Some(Tag { protocol: 0x8100, id: 0x123 }), "10.0.0.1", &[0x81, 0, 1, 0x23, 8, 0]);
        check(Some(Tag { protocol: 0x88a8, id: 7 }), "fd00::1", &[0x88, 0xa8, 0, 7, 0x86, 0xdd]);
    }
}
