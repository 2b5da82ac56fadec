//! Two hosts (network namespaces) joined by a veth pair, or by a line with faults, each with an IPv4 and an IPv6 address.

use crate::kernel_tcp::KernelTcp;
use crate::line::Line;
use crate::namespace::Namespace;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use userstack_bench::fault_link::Conditions;

/// The name of the veth interface on either host.
pub const INTERFACE: &str = "us0";

/// TCP over which version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];
}

/// How the two hosts are joined.
#[derive(Debug, Clone, Copy)]
pub struct Wiring {
    /// The largest IP packet of the interfaces, in bytes.
    pub mtu: u32,
    /// Receive and transmit queues of each interface.
    pub queues: u32,
}

impl Default for Wiring {
    fn default() -> Self {
        Wiring { mtu: 1500, queues: 1 }
    }
}

/// One host: a namespace and its addresses.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    /// The network's part of its addresses.
    network: u8,
    /// The host's part of its addresses.
    number: u8,
}

impl Host {
    pub(crate) fn new(network: u8, number: u8) -> Host {
        Host { namespace: Namespace::new(), network, number }
    }

    /// Its address.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([10, self.network, 0, self.number]),
            Family::V6 => IpAddr::from([0xfd00 | u16::from(self.network), 0, 0, 0, 0, 0, 0, self.number.into()]),
        }
    }

    /// Its address and a port, in the notation of URLs.
    pub fn authority(&self, family: Family, port: u16) -> String {
        SocketAddr::new(self.address(family), port).to_string()
    }

    /// What its kernel's TCP has counted so far.
    pub fn kernel_tcp(&self) -> KernelTcp {
        KernelTcp::read(&self.namespace)
    }

    /// Whether a TCP socket of the kernel listens on `port`.
    pub fn is_listening(&self, port: u16) -> bool {
        !self.run(&["ss", "-Hltn", &format!("sport = :{port}")]).is_empty()
    }

    /// Leaves nothing to hardware that a line with faults does not have.
    fn without_offloads(self) -> Host {
        self.run(&["ethtool", "-K", INTERFACE, "tx", "off", "tso", "off", "gso", "off", "gro", "off"]);
        self
    }

    fn set_up(&self, wiring: Wiring) {
        self.set_up_interface(INTERFACE, wiring.mtu, |family| self.address(family));
    }

    /// Brings up an interface with these addresses.
    pub(crate) fn set_up_interface(&self, interface: &str, mtu: u32, address: impl Fn(Family) -> IpAddr) {
        self.ip(&["link", "set", interface, "mtu", &mtu.to_string(), "up"]);
        for family in Family::ALL {
            let (prefix_len, flags): (_, &[&str]) = match family {
                Family::V4 => (24, &[]),
                // Duplicate address detection would keep the address unusable for a second.
                Family::V6 => (64, &["nodad"]),
            };
            let address = format!("{}/{prefix_len}", address(family));
            self.ip(&[&["address", "add", &address, "dev", interface], flags].concat());
        }
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// Two hosts joined by a veth pair.
#[derive(Debug)]
pub struct Hosts {
    /// Over before its interfaces are.
    _line: Option<Line>,
    /// Where the program under test runs.
    pub ours: Host,
    /// Where its peer runs.
    pub peer: Host,
}

impl Hosts {
    /// Two hosts with one queue and an MTU of 1500.
    pub fn new() -> Hosts {
        Hosts::wired(Wiring::default())
    }

    /// Two hosts joined as `wiring` says.
    pub fn wired(wiring: Wiring) -> Hosts {
        Hosts::joined(Host::new(7, 1), Host::new(7, 2), wiring)
    }

    /// Joins two hosts as `wiring` says.
    pub(crate) fn joined(ours: Host, peer: Host, wiring: Wiring) -> Hosts {
        let queues = wiring.queues.to_string();
        let queues = ["numrxqueues", &queues, "numtxqueues", &queues];
        let end_of_ours = ["link", "add", INTERFACE];
        let end_of_peer = ["type", "veth", "peer", "name", INTERFACE, "netns", peer.name()];
        ours.ip(&[&end_of_ours[..], &queues, &end_of_peer, &queues].concat());
        ours.set_up(wiring);
        peer.set_up(wiring);
        Hosts { _line: None, ours, peer }
    }

    /// Two hosts joined by a line with faults.
    pub fn over(conditions: Conditions) -> Hosts {
        let ours = Host::new(7, 1);
        let peer = Host::new(7, 2);
        let line = Line::between([&ours, &peer], conditions);
        for host in [&ours, &peer] {
            host.set_up(Wiring::default());
        }
        let (ours, peer) = (ours.without_offloads(), peer.without_offloads());
        Hosts { _line: Some(line), ours, peer }
    }
}

impl Hosts {
    /// The two hosts, to be joined with others.
    pub(crate) fn into_both(self) -> (Host, Host) {
        (self.ours, self.peer)
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Hosts::new()
    }
}
