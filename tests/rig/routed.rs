//! Two hosts with a router between them, whose links may differ in what they let through.

use crate::hosts::{Family, Host, Hosts, INTERFACE, Wiring};
use std::net::IpAddr;

/// The router's interface towards the far host.
const FAR_INTERFACE: &str = "us1";

/// The networks on either side of the router, as the second byte of IPv4 addresses.
const FAR_NETWORK: u8 = 8;

/// What makes a host a router, which tells of every packet that it cannot deliver, and looks for its neighbours at once.
const AS_A_ROUTER: [&str; 5] = [
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.conf.default.accept_dad=0",
];

/// Two hosts and a router.
#[derive(Debug)]
pub struct Routed {
    /// Where the program under test runs.
    pub ours: Host,
    /// The router.
    pub router: Host,
    /// Where its peer runs.
    pub far: Host,
}

impl Routed {
    /// All links have an MTU of 1500.
    pub fn new() -> Routed {
        let router = Host::new(7, 2);
        router.run(&[&["sysctl", "-qw"][..], &AS_A_ROUTER].concat());
        let (ours, router) = Hosts::joined(Host::new(7, 1), router, Wiring::default()).into_both();
        let far = Host::new(FAR_NETWORK, 2);
        let end_of_far = ["type", "veth", "peer", "name", INTERFACE, "netns", far.name()];
        router.ip(&[&["link", "add", FAR_INTERFACE][..], &end_of_far].concat());
        let mtu = Wiring::default().mtu;
        far.set_up_interface(INTERFACE, mtu, |family| far.address(family));
        router.set_up_interface(FAR_INTERFACE, mtu, router_on_far_side);
        for family in Family::ALL {
            ours.ip(&["route", "add", "default", "via", &router.address(family).to_string()]);
            far.ip(&["route", "add", "default", "via", &router_on_far_side(family).to_string()]);
        }
        Routed { ours, router, far }
    }

    /// The router sends no packets of more than `mtu` bytes to the far host. The far host knows nothing of it.
    pub fn narrowed(self, mtu: u32) -> Routed {
        for family in Family::ALL {
            let far = self.far.address(family).to_string();
            self.router.ip(&["route", "add", &far, "dev", FAR_INTERFACE, "mtu", &mtu.to_string()]);
        }
        self
    }

    /// The router tells nobody what becomes of packets.
    pub fn without_icmp(self) -> Routed {
        // What it forwards, and its neighbour discovery, come in or leave without a look at the rules for what is local.
        for (version, protocol) in [("-4", "icmp"), ("-6", "ipv6-icmp")] {
            self.router.ip(&[version, "rule", "add", "iif", "lo", "ipproto", protocol, "blackhole"]);
        }
        self
    }
}

impl Default for Routed {
    fn default() -> Self {
        Routed::new()
    }
}

fn router_on_far_side(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, FAR_NETWORK, 0, 1]),
        Family::V6 => IpAddr::from([0xfd00 | u16::from(FAR_NETWORK), 0, 0, 0, 0, 0, 0, 1]),
    }
}
