//! What setsockopt asks of IP: ip(7), ipv6(7).

/// The options of one version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpOptions {
    /// IP_MTU_DISCOVER or IPV6_MTU_DISCOVER.
    pub discovery: MtuDiscovery,
    /// IP_RECVERR or IPV6_RECVERR: ICMP errors are the socket's errors at once. They are not queued.
    pub errors_are_hard: bool,
    /// IP_TOS or IPV6_TCLASS.
    pub traffic_class: u8,
    /// IP_TTL or IPV6_UNICAST_HOPS; `None` is as `Settings` say.
    pub hop_limit: Option<u8>,
}

/// What the sender of a packet chooses of its IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpFields {
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
}

impl Default for IpOptions {
    /// As Linux, with ip_no_pmtu_disc at 0.
    fn default() -> Self {
        IpOptions { discovery: MtuDiscovery::Want, errors_are_hard: false, traffic_class: 0, hop_limit: None }
    }
}

/// How the path's MTU is found out, by the names and numbers of linux/in.h: IP_PMTUDISC_DONT to IP_PMTUDISC_OMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MtuDiscovery {
    Dont = 0,
    Want = 1,
    Do = 2,
    Probe = 3,
    Interface = 4,
    Omit = 5,
}

impl MtuDiscovery {
    /// By its number; `None` for one that there is not.
    pub fn from_number(number: u32) -> Option<Self> {
        use MtuDiscovery::{Do, Dont, Interface, Omit, Probe, Want};
        [Dont, Want, Do, Probe, Interface, Omit].into_iter().find(|&discovery| discovery as u32 == number)
    }
}
