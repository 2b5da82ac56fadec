//! What setsockopt(2) asks of a TCP socket, as tcp(7) has it.

use super::ip::{IpFields, IpOptions};
use crate::Duration;
use crate::settings::Settings;

/// The algorithms of TCP_CONGESTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CongestionControl {
    /// "cubic": RFC 9438.
    Cubic,
    /// "reno": RFC 5681.
    Reno,
}

impl CongestionControl {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            CongestionControl::Cubic => "cubic",
            CongestionControl::Reno => "reno",
        }
    }

    /// The one of that name.
    pub fn named(name: &[u8]) -> Option<Self> {
        [CongestionControl::Cubic, CongestionControl::Reno]
            .into_iter()
            .find(|control| control.name().as_bytes() == name)
    }
}

/// What setsockopt has asked of a flow; a listener's are inherited by what it accepts. What is 0 is as `Settings` say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// TCP_CORK.
    pub corked: bool,
    /// SO_OOBINLINE.
    pub urgent_inline: bool,
    /// SO_KEEPALIVE.
    pub keepalive: bool,
    /// TCP_KEEPIDLE, in seconds.
    pub keepalive_idle_s: u32,
    /// TCP_KEEPINTVL, in seconds.
    pub keepalive_interval_s: u32,
    /// TCP_KEEPCNT.
    pub keepalive_probes: u32,
    /// TCP_USER_TIMEOUT, in milliseconds; 0 is none.
    pub user_timeout_ms: u32,
    /// TCP_NOTSENT_LOWAT, in bytes.
    pub notsent_lowat: u32,
    /// SO_RCVBUF as getsockopt(2) says it, in bytes: twice the largest window. 0 grows as needed.
    pub receive_buffer: u32,
    /// SO_SNDBUF as getsockopt(2) says it, in bytes: twice what may be queued. 0 grows as needed.
    pub send_buffer: u32,
    /// SO_RCVLOWAT, in bytes: with fewer a flow is not readable; 0 is 1.
    pub receive_lowat: u32,
    /// TCP_WINDOW_CLAMP, in bytes; 0 is none.
    pub window_clamp: u32,
    /// TCP_CONGESTION.
    pub congestion_control: Option<CongestionControl>,
    /// TCP_MAXSEG: the largest segment in either direction, in bytes of payload and options; 0 is what the path takes.
    pub segment_max: u16,
    /// TCP_SYNCNT: how often a SYN or SYN-ACK is sent again.
    pub syn_retries: u8,
    /// TCP_DEFER_ACCEPT: for how many of those times the ACK of a SYN-ACK needs bytes to open a flow.
    pub deferred_retries: u8,
    /// TCP_LINGER2, in seconds; less than 0 is none.
    pub fin_wait_2_s: i32,
    /// What concerns IPv4.
    pub v4: IpOptions,
    /// What concerns IPv6.
    pub v6: IpOptions,
}

impl TcpOptions {
    /// What setsockopt asked of this version of IP.
    pub(crate) fn ip(&self, is_v4: bool) -> &IpOptions {
        if is_v4 { &self.v4 } else { &self.v6 }
    }

    /// What stands in the IP headers of what is sent.
    pub(crate) fn ip_fields(&self, system: &Settings, is_v4: bool) -> IpFields {
        let IpOptions { traffic_class, hop_limit, .. } = *self.ip(is_v4);
        IpFields { traffic_class, hop_limit: hop_limit.unwrap_or(system.hop_limit(is_v4)) }
    }

    /// TCP_USER_TIMEOUT, where it is set.
    pub(crate) fn user_timeout(&self) -> Option<Duration> {
        (self.user_timeout_ms > 0).then(|| Duration::from_millis(self.user_timeout_ms.into()))
    }

    /// SO_KEEPALIVE's times and number as they hold: TCP_KEEPIDLE and TCP_KEEPINTVL in seconds, and TCP_KEEPCNT.
    pub fn keepalive_times(&self, system: &Settings) -> (u32, u32, u32) {
        (
            or(self.keepalive_idle_s, system.keepalive_idle_s),
            or(self.keepalive_interval_s, system.keepalive_interval_s),
            or(self.keepalive_probes, system.keepalive_probes),
        )
    }

    /// TCP_NOTSENT_LOWAT, where it bounds anything.
    pub(crate) fn notsent_lowat(&self, system: &Settings) -> Option<u32> {
        Some(or(self.notsent_lowat, system.notsent_lowat)).filter(|&lowat| lowat < u32::MAX)
    }

    /// How often a SYN is sent again.
    pub fn syn_retries(&self, system: &Settings) -> u8 {
        or(self.syn_retries.into(), system.syn_retries.into()) as u8
    }

    /// How often a SYN-ACK is sent again.
    pub(crate) fn syn_ack_retries(&self, system: &Settings) -> u8 {
        or(self.syn_retries.into(), system.syn_ack_retries.into()) as u8
    }

    /// TCP_MAXSEG, where it is set.
    pub(crate) fn segment_max(&self) -> Option<u16> {
        Some(self.segment_max).filter(|&max| max > 0)
    }

    /// TCP_CONGESTION as it holds.
    pub fn congestion_control(&self, system: &Settings) -> CongestionControl {
        self.congestion_control.unwrap_or(system.congestion_control)
    }

    /// TCP_LINGER2 as it holds, in seconds.
    pub fn fin_wait_2_s(&self, system: &Settings) -> i32 {
        if self.fin_wait_2_s != 0 { self.fin_wait_2_s } else { system.fin_timeout_s as i32 }
    }

    /// How long an orphan waits for the peer's FIN; `None` is not at all.
    pub(crate) fn fin_wait_2_len(&self, system: &Settings) -> Option<Duration> {
        u64::try_from(self.fin_wait_2_s(system)).ok().map(Duration::from_secs)
    }
}

/// What a socket was set to, or else the system's value.
fn or(own: u32, system: u32) -> u32 {
    if own > 0 { own } else { system }
}
