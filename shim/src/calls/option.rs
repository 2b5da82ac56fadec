//! getsockopt(2) and setsockopt(2).
//!
//! An option that concerns what we serve is kept by us. Every other one goes to the kernel's socket behind ours, which
//! checks it, remembers it and answers it as ever; on a connection it changes nothing else, which is warned of once.

use super::passed;
use crate::description::{Description, Role};
use crate::world::{self, World};
use crate::{args, clock, sys};
use libc::{c_int, linger, timeval};
use stack::Errno;
use stack::slab::Key;
use stack::socket::Socket;
use stack::socket::info::TcpInfo;
use stack::socket::tcp::{TcpOptions, TcpState};
use std::mem::offset_of;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::time::Duration;

/// setsockopt(2). `None` when the kernel's socket is to be set, be it alone or too.
///
/// # Errors
/// What the kernel's socket says.
pub fn set(fd: RawFd, key: Key, level: c_int, name: c_int, value: &[u8]) -> Result<Option<()>, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    let kept = keep(description, level, name, value);
    let is_flow = matches!(description.role, Role::Flow(_));
    match kept {
        Ok(true) if (level, name) == (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => set_quick_ack(&mut world, key, value),
        Ok(true) => apply(&mut world, key),
        Ok(false) => return passed::set(&mut world, fd, key, (level, name), value).map(Some),
        // The kernel's socket says what is wrong in its own words.
        Err(_) => return Ok(None),
    }
    // A flow's kernel socket is not asked any more; before, it may yet be the one that serves.
    Ok(is_flow.then_some(()))
}

/// Keeps the value of an option that concerns us; false if it does not.
fn keep(description: &mut Description, level: c_int, name: c_int, value: &[u8]) -> Result<bool, Errno> {
    let is_flow = matches!(description.role, Role::Flow(_));
    let settings = &mut description.settings;
    match (level, name) {
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => settings.tcp.nodelay = args::option_int(value)? != 0,
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => settings.tcp.keepalive = args::option_int(value)? != 0,
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => {
            settings.tcp.keepalive_idle_s = within(value, 1..=KEEPALIVE_S_MAX)?;
        }
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => {
            settings.tcp.keepalive_interval_s = within(value, 1..=KEEPALIVE_S_MAX)?;
        }
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => {
            settings.tcp.keepalive_probes = within(value, 1..=KEEPALIVE_PROBES_MAX)?;
        }
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => settings.tcp.user_timeout_ms = within(value, 0..=c_int::MAX)?,
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO) => settings.receive_timeout = timeout(value)?,
        (libc::SOL_SOCKET, libc::SO_SNDTIMEO) => settings.send_timeout = timeout(value)?,
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            let (on, seconds) = (args::option_int(value)?, args::option_int(value.get(4..).unwrap_or_default())?);
            settings.linger_s = (on != 0).then_some(seconds);
        }
        (libc::IPPROTO_TCP, libc::TCP_CORK) => settings.corked = args::option_int(value)? != 0,
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) if !is_flow => settings.v6only = args::option_int(value)? != 0,
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => settings.reuse_address = args::option_int(value)? != 0,
        // Not remembered: the connection is told, and goes its own way again (tcp(7)).
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => drop(args::option_int(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Linux's bounds for the times and the number of keepalive probes: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPCNT.
const KEEPALIVE_S_MAX: c_int = 32_767;
const KEEPALIVE_PROBES_MAX: c_int = 127;

fn within(value: &[u8], range: RangeInclusive<c_int>) -> Result<u32, Errno> {
    Some(args::option_int(value)?).filter(|value| range.contains(value)).map(|value| value as u32).ok_or(Errno::EINVAL)
}

/// A timeout of socket(7): zero is for ever.
fn timeout(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let word = |index: usize| {
        let bytes = value.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| i64::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
    };
    let time = args::duration(timeval { tv_sec: word(0)?, tv_usec: word(1)? }).ok_or(Errno::EINVAL)?;
    Ok((!time.is_zero()).then_some(time))
}

fn set_quick_ack(world: &mut World, key: Key, value: &[u8]) {
    let socket = world.descriptions.get(key).and_then(Description::socket);
    if let (Some(Socket::Flow(id)), Some(stack), Ok(quick)) = (socket, world.stack(), args::option_int(value)) {
        stack.tcp_set_quick_ack(id, quick != 0);
    }
}

fn apply(world: &mut World, key: Key) {
    let Some(description) = world.descriptions.get(key) else { return };
    let (socket, options): (Option<Socket>, TcpOptions) = (description.socket(), description.settings.tcp);
    let is_corked = description.settings.corked;
    match (socket, world.stack()) {
        (Some(Socket::Flow(id)), Some(stack)) => {
            stack.tcp_set_options(id, options);
            if !is_corked {
                world.flush_reply();
            }
        }
        (Some(Socket::Listener(id)), Some(stack)) => stack.tcp_set_listener_options(id, options),
        _ => {}
    }
}

/// getsockopt(2) on a connection, for at most `room` bytes: the value's bytes and their number, or `None` when the kernel's
/// socket answers.
pub fn get(key: Key, level: c_int, name: c_int, room: usize) -> Result<Option<Value>, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    let Role::Flow(flow) = &description.role else { return Ok(None) };
    let (id, settings, family) = (flow.id, description.settings, description.family);
    let stack = world.stack().ok_or(Errno::EBADF)?;
    Ok(Some(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_ERROR) => Value::int(stack.tcp_take_error(id).map_or(0, |errno| errno.0)),
        (libc::SOL_SOCKET, libc::SO_TYPE) => Value::int(libc::SOCK_STREAM),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => Value::int(libc::IPPROTO_TCP),
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => Value::int(family),
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => Value::int(0),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => Value::int(settings.tcp.keepalive.into()),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => Value::int(settings.reuse_address.into()),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO) => Value::time(settings.receive_timeout),
        (libc::SOL_SOCKET, libc::SO_SNDTIMEO) => Value::time(settings.send_timeout),
        (libc::SOL_SOCKET, libc::SO_LINGER) => Value::linger(settings.linger_s),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => Value::int(settings.tcp.nodelay.into()),
        (libc::IPPROTO_TCP, libc::TCP_CORK) => Value::int(settings.corked.into()),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => Value::int(settings.tcp.keepalive_idle_s as c_int),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => Value::int(settings.tcp.keepalive_interval_s as c_int),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => Value::int(settings.tcp.keepalive_probes as c_int),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => Value::int(settings.tcp.user_timeout_ms as c_int),
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => Value::int(stack.tcp_quick_ack(id).into()),
        (libc::IPPROTO_TCP, libc::TCP_TIMESTAMP) => match stack.tcp_timestamp(id, clock::now()) {
            Some(value) => Value::int(value as c_int),
            None => return Ok(None),
        },
        (libc::IPPROTO_TCP, libc::TCP_INFO | libc::TCP_MAXSEG) => match stack.tcp_info(id, clock::now()) {
            Some(info) if name == libc::TCP_INFO => Value::info(&info),
            Some(info) => Value::int(info.send_mss as c_int),
            None => return Ok(None),
        },
        (libc::SOL_SOCKET, libc::SO_INCOMING_CPU) => Value::int(sys::processor() as c_int),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) if family == libc::AF_INET6 => Value::int(settings.v6only.into()),
        (libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM) if family == libc::AF_INET6 => match stack.tcp_state(id) {
            TcpState::Established => Value::int(family),
            _ => return Err(Errno::ENOTCONN),
        },
        (libc::SOL_SOCKET, SO_PEERNAME) => {
            let (_, peer) = stack.tcp_endpoints(id).ok_or(Errno::ENOTCONN)?;
            let (bytes, len) = args::format_address(peer, family);
            // Room for more is not filled, but refused.
            if room > len {
                return Err(Errno::EINVAL);
            }
            Value::of(&[&bytes[..len]])
        }
        _ => {
            passed::lay(&mut world, key)?;
            return Ok(None);
        }
    }))
}

/// The peer's address (asm-generic/socket.h).
const SO_PEERNAME: c_int = 28;

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
    fn of(parts: &[&[u8]]) -> Self {
        let mut value = Value { bytes: [0; TCP_INFO_LEN], len: 0 };
        for part in parts {
            value.bytes[value.len..value.len + part.len()].copy_from_slice(part);
            value.len += part.len();
        }
        value
    }

    fn int(value: c_int) -> Self {
        Self::of(&[&value.to_ne_bytes()])
    }

    /// A timeout of socket(7): zero is for ever.
    pub fn time(timeout: Option<Duration>) -> Self {
        let timeout = timeout.unwrap_or_default();
        Self::of(&[&timeout.as_secs().to_ne_bytes(), &u64::from(timeout.subsec_micros()).to_ne_bytes()])
    }

    fn linger(seconds: Option<c_int>) -> Self {
        let linger { l_onoff, l_linger } =
            linger { l_onoff: seconds.is_some().into(), l_linger: seconds.unwrap_or_default() };
        Self::of(&[&l_onoff.to_ne_bytes(), &l_linger.to_ne_bytes()])
    }

    /// struct tcp_info; what the stack does not know is 0.
    fn info(info: &TcpInfo) -> Self {
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

    fn check(level: c_int, name: c_int, value: &[u8], expected: Result<bool, Errno>) -> Description {
        let mut description = Description::new(libc::AF_INET);
        assert_eq!(keep(&mut description, level, name, value), expected);
        description
    }

    #[test]
    fn timeouts_are_kept_and_answered() {
        let value = [3u64.to_ne_bytes(), 500_000u64.to_ne_bytes()].concat();
        let kept = check(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value, Ok(true)).settings.receive_timeout;
        assert_eq!(kept, Some(Duration::from_millis(3500)));
        assert_eq!(Value::time(kept).bytes(), value);
        let kept = check(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &[0; 16], Ok(true)).settings.receive_timeout;
        assert_eq!(kept, None);
    }

    #[test]
    fn lingering_is_kept_and_answered() {
        let value = [1i32.to_ne_bytes(), 5i32.to_ne_bytes()].concat();
        let kept = check(libc::SOL_SOCKET, libc::SO_LINGER, &value, Ok(true)).settings.linger_s;
        assert_eq!(kept, Some(5));
        assert_eq!(Value::linger(kept).bytes(), value);
    }

    #[test]
    fn keepalive_takes_its_times() {
        let mut description = check(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1i32.to_ne_bytes(), Ok(true));
        let times = [(libc::TCP_KEEPIDLE, 9i32), (libc::TCP_KEEPINTVL, 8), (libc::TCP_KEEPCNT, 7)];
        for (name, value) in times {
            assert_eq!(keep(&mut description, libc::IPPROTO_TCP, name, &value.to_ne_bytes()), Ok(true));
        }
        let tcp = description.settings.tcp;
        assert!(tcp.keepalive);
        assert_eq!((tcp.keepalive_idle_s, tcp.keepalive_interval_s, tcp.keepalive_probes), (9, 8, 7));
    }

    #[test]
    fn what_is_wrong_or_unknown_is_not_kept() {
        check(libc::IPPROTO_TCP, libc::TCP_NODELAY, &[1], Err(Errno::EINVAL));
        check(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, &0i32.to_ne_bytes(), Err(Errno::EINVAL));
        check(libc::SOL_SOCKET, libc::SO_MARK, &1i32.to_ne_bytes(), Ok(false));
    }
}
