//! What holds for all sockets that setsockopt(2) says nothing else of: net.ipv4 of the kernel's ip-sysctl.rst.

use crate::Duration;
use crate::limits::{RTO_INITIAL, RTO_MAX, RTO_MIN};
use crate::socket::tcp::CongestionControl;

/// The settings, with Linux's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// tcp_syn_retries: how often a SYN is sent again.
    pub syn_retries: u8,
    /// tcp_synack_retries: how often a SYN-ACK is sent again.
    pub syn_ack_retries: u8,
    /// tcp_retries2: how often what an open flow has sent is sent again.
    pub retries: u8,
    /// tcp_orphan_retries: the same of a flow that its owner has closed; 0 is 8.
    pub orphan_retries: u8,
    /// tcp_fin_timeout: how long that one waits for the peer's FIN, in seconds.
    pub fin_timeout_s: u32,
    /// tcp_keepalive_time, in seconds.
    pub keepalive_idle_s: u32,
    /// tcp_keepalive_intvl, in seconds.
    pub keepalive_interval_s: u32,
    /// tcp_keepalive_probes.
    pub keepalive_probes: u32,
    /// tcp_notsent_lowat, in bytes.
    pub notsent_lowat: u32,
    /// ip_default_ttl.
    pub ttl: u8,
    /// hop_limit of net.ipv6.conf.
    pub hop_limit: u8,
    /// tcp_timestamps.
    pub timestamps: bool,
    /// tcp_congestion_control, where it is one of ours.
    pub congestion_control: CongestionControl,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            syn_retries: 6,
            syn_ack_retries: 5,
            retries: 15,
            orphan_retries: 0,
            fin_timeout_s: 60,
            keepalive_idle_s: 7200,
            keepalive_interval_s: 75,
            keepalive_probes: 9,
            notsent_lowat: u32::MAX,
            ttl: 64,
            hop_limit: 64,
            timestamps: true,
            congestion_control: CongestionControl::Cubic,
        }
    }
}

impl Settings {
    /// The TTL or hop limit of a packet of which nothing else is said.
    pub fn hop_limit(&self, is_v4: bool) -> u8 {
        if is_v4 { self.ttl } else { self.hop_limit }
    }

    /// How long what a flow has sent may stay unacknowledged.
    pub fn unanswered_len(&self) -> Duration {
        waits(RTO_MIN, self.retries)
    }

    /// How long a flow that its owner has closed may try to deliver what is queued, without progress.
    pub fn orphan_len(&self) -> Duration {
        waits(RTO_MIN, if self.orphan_retries > 0 { self.orphan_retries } else { 8 })
    }
}

/// How long it takes until a first SYN or SYN-ACK and so many retries are over (RFC 6298, 2.1 and 5.5).
pub fn opening_len(retries: u8) -> Duration {
    waits(RTO_INITIAL, retries)
}

/// How long is waited after so many retries of an opening.
pub fn opening_wait(retries: u8) -> Duration {
    doubled(RTO_INITIAL, retries)
}

/// A wait and so many more, each twice as long as the one before: tcp_model_timeout() of Linux.
fn waits(first: Duration, retries: u8) -> Duration {
    (0..=retries).fold(Duration::ZERO, |sum, retry| sum + doubled(first, retry))
}

fn doubled(first: Duration, times: u8) -> Duration {
    (first * (1 << times.min(16))).min(RTO_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6298_5_5_waits_double_up_to_two_minutes() {
        assert_eq!([0, 1, 5, 6, 7, 8].map(|retries| opening_len(retries).secs()), [1, 3, 63, 127, 247, 367]);
        let settings = Settings::default();
        // What ip-sysctl.rst says of the defaults.
        assert_eq!(
            (settings.unanswered_len().total_millis(), settings.orphan_len().total_millis()),
            (924_600, 102_200)
        );
    }
}
