//! What setsockopt(2) asks of a TCP socket, as tcp(7) has it.

use super::ip::IpOptions;
use crate::Duration;
use crate::limits::{FIN_WAIT_2_LEN, RTO_INITIAL, RTO_MAX, SYN_ACK_RETRIES, SYN_RETRIES};

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
    /// TCP_CORK.
    pub corked: bool,
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
    /// TCP_NOTSENT_LOWAT, in bytes; 0 is none.
    pub notsent_lowat: u32,
    /// TCP_CONGESTION.
    pub congestion_control: CongestionControl,
    /// TCP_MAXSEG: the largest segment in either direction, in bytes of payload and options; 0 is what the path takes.
    pub segment_max: u16,
    /// TCP_SYNCNT: how often a SYN or SYN-ACK is sent again; 0 is the system's own number.
    pub syn_retries: u8,
    /// TCP_DEFER_ACCEPT: for how many of those times the ACK of a SYN-ACK needs bytes to open a flow.
    pub deferred_retries: u8,
    /// TCP_LINGER2, in seconds; 0 is the system's own time, and less than 0 none.
    pub fin_wait_2_s: i32,
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
            corked: false,
            keepalive: false,
            keepalive_idle_s: 7200,
            keepalive_interval_s: 75,
            keepalive_probes: 9,
            user_timeout_ms: 0,
            notsent_lowat: 0,
            congestion_control: CongestionControl::Cubic,
            segment_max: 0,
            syn_retries: 0,
            deferred_retries: 0,
            fin_wait_2_s: 0,
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

    /// TCP_NOTSENT_LOWAT, where it bounds anything.
    pub(crate) fn notsent_lowat(&self) -> Option<u32> {
        Some(self.notsent_lowat).filter(|&lowat| lowat > 0 && lowat < u32::MAX)
    }

    /// How often a SYN is sent again.
    pub fn syn_retries(&self) -> u8 {
        if self.syn_retries > 0 { self.syn_retries } else { SYN_RETRIES }
    }

    /// How often a SYN-ACK is sent again.
    pub(crate) fn syn_ack_retries(&self) -> u8 {
        if self.syn_retries > 0 { self.syn_retries } else { SYN_ACK_RETRIES }
    }

    /// TCP_MAXSEG, where it is set.
    pub(crate) fn segment_max(&self) -> Option<u16> {
        Some(self.segment_max).filter(|&max| max > 0)
    }

    /// TCP_LINGER2 as it holds, in seconds.
    pub fn fin_wait_2_s(&self) -> i32 {
        if self.fin_wait_2_s != 0 { self.fin_wait_2_s } else { FIN_WAIT_2_LEN.secs() as i32 }
    }

    /// How long an orphan waits for the peer's FIN; `None` is not at all.
    pub(crate) fn fin_wait_2_len(&self) -> Option<Duration> {
        u64::try_from(self.fin_wait_2_s()).ok().map(Duration::from_secs)
    }
}

/// How long it takes until a first attempt and so many retries are over: a second, doubled each time (RFC 6298, 2.1
/// and 5.5).
pub(crate) fn retries_len(retries: u8) -> Duration {
    (0..=retries).map(retry_wait).fold(Duration::ZERO, |sum, wait| sum + wait)
}

/// How long is waited after so many retries.
pub(crate) fn retry_wait(retries: u8) -> Duration {
    (RTO_INITIAL * (1 << retries.min(16))).min(RTO_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6298_5_5_waits_double_up_to_two_minutes() {
        let secs = [0, 1, 5, 6, 7, 8].map(|retries| retries_len(retries).secs());
        assert_eq!(secs, [1, 3, 63, 127, 247, 367]);
    }
}
