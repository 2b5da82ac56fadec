//! What getsockopt(2) answers, byte for byte.

use libc::{c_int, linger};
use stack::socket::info::TcpInfo;
use std::mem::offset_of;
use std::time::Duration;

/// What both ends have agreed on: linux/tcp.h.
const TCPI_OPT_TIMESTAMPS: u8 = 1;
const TCPI_OPT_SACK: u8 = 2;
const TCPI_OPT_WSCALE: u8 = 4;

/// The slow start threshold before the first loss: TCP_INFINITE_SSTHRESH of Linux.
const SSTHRESH_INFINITE: u32 = 0x7fff_ffff;

/// struct tcp_info of linux/tcp.h, as long as it was when it was introduced.
const TCP_INFO_LEN: usize = 104;

/// The value of an option.
pub struct Value {
    bytes: [u8; TCP_INFO_LEN],
    len: usize,
}

impl Value {
    /// These bytes, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut value = Value { bytes: [0; TCP_INFO_LEN], len: 0 };
        for part in parts {
            value.bytes[value.len..value.len + part.len()].copy_from_slice(part);
            value.len += part.len();
        }
        value
    }

    /// An int.
    pub fn int(value: c_int) -> Self {
        Self::of(&[&value.to_ne_bytes()])
    }

    /// A struct timeval; zero is for ever.
    pub fn time(timeout: Option<Duration>) -> Self {
        let timeout = timeout.unwrap_or_default();
        Self::of(&[&timeout.as_secs().to_ne_bytes(), &u64::from(timeout.subsec_micros()).to_ne_bytes()])
    }

    /// A struct linger.
    pub fn linger(seconds: Option<c_int>) -> Self {
        let linger { l_onoff, l_linger } =
            linger { l_onoff: seconds.is_some().into(), l_linger: seconds.unwrap_or_default() };
        Self::of(&[&l_onoff.to_ne_bytes(), &l_linger.to_ne_bytes()])
    }

    /// A name, as long as the kernel's (TCP_CA_NAME_MAX).
    pub fn name(name: &str) -> Self {
        let mut value = Self::of(&[name.as_bytes()]);
        value.len = 16;
        value
    }

    /// struct tcp_info; what the stack does not know is 0.
    pub fn info(info: &TcpInfo) -> Self {
        let mut value = Value { bytes: [0; TCP_INFO_LEN], len: TCP_INFO_LEN };
        value.bytes[offset_of!(libc::tcp_info, tcpi_state)] = info.state as u8;
        value.bytes[offset_of!(libc::tcp_info, tcpi_probes)] = info.probes as u8;
        let option = |agreed: bool, bit: u8| if agreed { bit } else { 0 };
        value.bytes[offset_of!(libc::tcp_info, tcpi_options)] = option(info.timestamps, TCPI_OPT_TIMESTAMPS)
            | option(info.sack, TCPI_OPT_SACK)
            | option(info.peer_window_shift.is_some(), TCPI_OPT_WSCALE);
        if let Some(shift) = info.peer_window_shift {
            value.bytes[offset_of!(libc::tcp_info, tcpi_snd_rcv_wscale)] = shift | info.window_shift << 4;
        }
        let words = [
            (offset_of!(libc::tcp_info, tcpi_rto), info.path.timeout.total_micros() as u32),
            (offset_of!(libc::tcp_info, tcpi_snd_mss), info.send_mss),
            (offset_of!(libc::tcp_info, tcpi_unacked), info.unacknowledged),
            (offset_of!(libc::tcp_info, tcpi_last_data_recv), info.since_data.total_millis() as u32),
            (offset_of!(libc::tcp_info, tcpi_last_ack_recv), info.since_heard.total_millis() as u32),
            (offset_of!(libc::tcp_info, tcpi_pmtu), info.path_mtu),
            (offset_of!(libc::tcp_info, tcpi_rtt), info.path.round_trip.total_micros() as u32),
            (offset_of!(libc::tcp_info, tcpi_rttvar), info.path.variation.total_micros() as u32),
            (offset_of!(libc::tcp_info, tcpi_snd_ssthresh), info.path.threshold.min(SSTHRESH_INFINITE)),
            (offset_of!(libc::tcp_info, tcpi_snd_cwnd), info.path.window),
            (offset_of!(libc::tcp_info, tcpi_advmss), info.advertised_mss),
            (offset_of!(libc::tcp_info, tcpi_total_retrans), info.retransmissions),
        ];
        for (at, word) in words {
            value.bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        value
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_are_as_long_as_the_kernels() {
        let timeval = [3u64.to_ne_bytes(), 500_000u64.to_ne_bytes()].concat();
        assert_eq!(Value::time(Some(Duration::from_millis(3500))).bytes(), timeval);
        assert_eq!(Value::linger(Some(5)).bytes(), [1i32.to_ne_bytes(), 5i32.to_ne_bytes()].concat());
        assert_eq!(Value::name("reno").bytes(), b"reno\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
