//! What setsockopt(2) asks of a TCP socket, as tcp(7) has it.

use super::ip::IpOptions;
use crate::Duration;

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

/// What setsockopt has asked of a flow; a listener's are inherited by what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// SO_KEEPALIVE.
    pub keepalive: bool,
    /// TCP_KEEPIDLE, in seconds.
    pub keepalive_idle_s: u32,
    /// TCP_KEEPINTVL, in seconds.
    pub keepalive_interval_s: u32,
    /// TCP_KEEPCNT.
    pub keepalive_probes: u32,
    /// TCP_USER_TIMEOUT, in milliseconds; 0 is the system's own times.
    pub user_timeout_ms: u32,
    /// TCP_CONGESTION.
    pub congestion_control: CongestionControl,
    /// What concerns IPv4.
    pub v4: IpOptions,
    /// What concerns IPv6.
    pub v6: IpOptions,
}

impl Default for TcpOptions {
    /// tcp(7).
    fn default() -> Self {
        TcpOptions {
            nodelay: false,
            keepalive: false,
            keepalive_idle_s: 7200,
            keepalive_interval_s: 75,
            keepalive_probes: 9,
            user_timeout_ms: 0,
            congestion_control: CongestionControl::Cubic,
            v4: IpOptions::default(),
            v6: IpOptions::default(),
        }
    }
}

impl TcpOptions {
    /// TCP_USER_TIMEOUT, where it is set.
    pub(crate) fn user_timeout(&self) -> Option<Duration> {
        (self.user_timeout_ms > 0).then(|| Duration::from_millis(self.user_timeout_ms.into()))
    }
}
