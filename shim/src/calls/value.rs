//! What getsockopt(2) answers, byte for byte.

use libc::{c_int, linger};
use stack::limits::ACK_DELAY;
use stack::socket::info::TcpInfo;
use std::time::Duration;

/// What both ends have agreed on: linux/tcp.h.
const TCPI_OPT_TIMESTAMPS: u8 = 1;
const TCPI_OPT_SACK: u8 = 2;
const TCPI_OPT_WSCALE: u8 = 4;

/// The slow start threshold before the first loss: TCP_INFINITE_SSTHRESH of Linux.
const SSTHRESH_INFINITE: u32 = 0x7fff_ffff;

/// The segment size of a peer that has sent none: TCP_MIN_RCVMSS of Linux.
const RECEIVED_MSS_UNKNOWN: u16 = 536;

/// Duplicate ACKs that mean a loss (RFC 5681, 3.2), as `tcpi_reordering` says it.
const DUPLICATE_ACKS: u32 = 3;

/// struct tcp_info of linux/tcp.h as of Linux 6.7.
const TCP_INFO_LEN: usize = 248;

/// The value of an option.
pub struct Value {
    bytes: [u8; TCP_INFO_LEN],
    len: usize,
}

impl Value {
    /// These bytes, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut value = Value { bytes: [0; TCP_INFO_LEN], len: 0 };
        parts.iter().for_each(|part| value.push(part));
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

    /// struct tcp_info of linux/tcp.h in its order, up to the last field that the stack can fill; what it does not know
    /// is 0. Nothing bounds the pace but the windows.
    pub fn info(info: &TcpInfo) -> Self {
        let (path, tally) = (&info.path, &info.tally);
        let segments = |bytes: u32| bytes.div_ceil(info.send_mss);
        let micros = |time: stack::Duration| time.total_micros().min(u32::MAX.into()) as u32;
        let millis = |time: stack::Duration| time.total_millis() as u32;
        let option = |agreed: bool, bit: u8| if agreed { bit } else { 0 };
        let options = option(info.timestamps, TCPI_OPT_TIMESTAMPS)
            | option(info.sack, TCPI_OPT_SACK)
            | option(info.peer_window_shift.is_some(), TCPI_OPT_WSCALE);
        let shifts = info.peer_window_shift.map_or(0, |shift| shift | info.window_shift << 4);
        let counted = |count: u32| count.min(u8::MAX.into()) as u8;
        let states = [info.state as u8, path.recovery as u8, counted(path.timeouts), counted(info.probes)];
        let rest = [counted(path.timeouts), options, shifts, 0];
        let largest = if tally.largest > 0 { tally.largest } else { RECEIVED_MSS_UNKNOWN };
        let of_tcp_3_10 = [
            micros(path.timeout),
            micros(ACK_DELAY),
            info.send_mss,
            largest.into(),
            info.unacknowledged,
            segments(path.sacked),
            segments(path.lost),
            0, // retrans: under way for the second time
            0, // fackets
            millis(info.since_sent),
            0, // last_ack_sent
            millis(info.since_data),
            millis(info.since_heard),
            info.path_mtu,
            info.receive_window,
            micros(path.round_trip),
            micros(path.variation),
            path.threshold.min(SSTHRESH_INFINITE),
            path.window,
            info.advertised_mss,
            DUPLICATE_ACKS,
            0, // rcv_rtt
            0, // rcv_space
            info.retransmissions,
        ];
        let mut value = Self::of(&[&states, &rest]);
        value.push_words(&of_tcp_3_10);
        value.push_longs(&[u64::MAX, u64::MAX, tally.bytes_acked, tally.bytes_received]);
        value.push_words(&[tally.segments_out, tally.segments_in, info.unsent, micros(path.round_trip_min)]);
        value.push_words(&[tally.data_segments_in, tally.data_segments_out]);
        // delivery_rate, busy_time, rwnd_limited, sndbuf_limited; delivered and delivered_ce.
        value.push_longs(&[0; 5]);
        value.push_longs(&[tally.bytes_sent, tally.bytes_resent]);
        value.push_words(&[path.duplicates, 0, tally.out_of_order, info.send_window, info.receive_window, 0]);
        value.push(&path.timeouts_total.to_ne_bytes());
        // total_rto_recoveries, total_rto_time.
        value.push(&[0; 6]);
        value
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.push(&word.to_ne_bytes()));
    }

    fn push_longs(&mut self, longs: &[u64]) {
        longs.iter().for_each(|long| self.push(&long.to_ne_bytes()));
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::socket::info::{Path, Recovery, Tally};
    use stack::socket::tcp::TcpState;
    use std::mem::offset_of;

    #[test]
    fn times_and_names_are_as_long_as_the_kernels() {
        let timeval = [3u64.to_ne_bytes(), 500_000u64.to_ne_bytes()].concat();
        assert_eq!(Value::time(Some(Duration::from_millis(3500))).bytes(), timeval);
        assert_eq!(Value::linger(Some(5)).bytes(), [1i32.to_ne_bytes(), 5i32.to_ne_bytes()].concat());
        assert_eq!(Value::name("reno").bytes(), b"reno\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn tcp_info_has_its_fields_where_linux_has_them() {
        let us = stack::Duration::from_micros;
        let path = Path {
            round_trip: us(1),
            variation: us(2),
            timeout: us(3),
            window: 4,
            threshold: 5,
            round_trip_min: us(6),
            recovery: Recovery::Loss,
            sacked: 7_000,
            lost: 8_000,
            timeouts: 9,
            timeouts_total: 10,
            duplicates: 11,
        };
        let tally = Tally {
            segments_in: 12,
            data_segments_in: 13,
            out_of_order: 14,
            largest: 15,
            bytes_received: 16,
            segments_out: 17,
            data_segments_out: 18,
            bytes_sent: 19,
            bytes_resent: 20,
            bytes_acked: 21,
        };
        let info = TcpInfo {
            state: TcpState::FinWait1,
            probes: 22,
            send_mss: 1000,
            advertised_mss: 24,
            unacknowledged: 25,
            retransmissions: 26,
            path_mtu: 27,
            path,
            tally,
            unsent: 28,
            send_window: 29,
            receive_window: 30,
            since_sent: us(31_000),
            since_data: us(32_000),
            since_heard: us(33_000),
            timestamps: true,
            sack: true,
            peer_window_shift: Some(7),
            window_shift: 2,
        };
        let value = Value::info(&info);
        let bytes = value.bytes();
        assert_eq!((bytes.len(), &bytes[..7]), (TCP_INFO_LEN, &[4, 3, 9, 22, 9, 7, 0x27][..]));
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let words = [
            (offset_of!(libc::tcp_info, tcpi_rto), 3),
            (offset_of!(libc::tcp_info, tcpi_snd_mss), 1000),
            (offset_of!(libc::tcp_info, tcpi_rcv_mss), 15),
            (offset_of!(libc::tcp_info, tcpi_unacked), 25),
            (offset_of!(libc::tcp_info, tcpi_sacked), 7),
            (offset_of!(libc::tcp_info, tcpi_lost), 8),
            (offset_of!(libc::tcp_info, tcpi_last_data_sent), 31),
            (offset_of!(libc::tcp_info, tcpi_last_data_recv), 32),
            (offset_of!(libc::tcp_info, tcpi_last_ack_recv), 33),
            (offset_of!(libc::tcp_info, tcpi_pmtu), 27),
            (offset_of!(libc::tcp_info, tcpi_rtt), 1),
            (offset_of!(libc::tcp_info, tcpi_rttvar), 2),
            (offset_of!(libc::tcp_info, tcpi_snd_ssthresh), 5),
            (offset_of!(libc::tcp_info, tcpi_snd_cwnd), 4),
            (offset_of!(libc::tcp_info, tcpi_advmss), 24),
            (offset_of!(libc::tcp_info, tcpi_total_retrans), 26),
            // Of linux/tcp.h; the libc crate ends here.
            (120, 21),
            (128, 16),
            (136, 17),
            (140, 12),
            (144, 28),
            (148, 6),
            (152, 13),
            (156, 18),
            (200, 19),
            (208, 20),
            (216, 11),
            (224, 14),
            (228, 29),
            (232, 30),
            (240, 10),
        ];
        for (at, expected) in words {
            assert_eq!(word(at), expected, "at {at}");
        }
    }
}
