//! getsockopt(2) and setsockopt(2).
//!
//! An option that concerns what we serve is kept by us. Every other one goes to the kernel's socket behind ours, which
//! checks it, remembers it and answers it as ever; on a connection it changes nothing else, which is warned of once.

use super::passed;
use super::value::Value;
use crate::description::Description;
use crate::world::{self, World};
use crate::{args, clock, sys};
use libc::{c_int, timeval};
use stack::Errno;
use stack::slab::Key;
use stack::socket::Socket;
use stack::socket::ip::MtuDiscovery;
use stack::socket::tcp::{CongestionControl, TcpOptions, TcpState};
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::time::Duration;

/// setsockopt(2). `None` when the kernel's socket is to be set, be it alone or too.
///
/// # Errors
/// What the kernel's socket says.
pub fn set(fd: RawFd, key: Key, level: c_int, name: c_int, value: &[u8]) -> Result<Option<()>, Errno> {
    set_in(&mut *world::enter()?, fd, key, level, name, value)
}

/// The same, inside; `fd` is the kernel's socket.
pub fn set_in(
    world: &mut World,
    fd: RawFd,
    key: Key,
    level: c_int,
    name: c_int,
    value: &[u8],
) -> Result<Option<()>, Errno> {
    let description = world.description(key)?;
    let kept = keep(description, level, name, value);
    let is_flow = description.is_flow();
    match kept {
        Ok(true) if (level, name) == (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => set_quick_ack(world, key, value),
        Ok(true) => apply(world, key),
        Ok(false) => return passed::set(world, fd, key, (level, name), value).map(Some),
        // A placeholder of the kernel's knows no IPv6.
        Err(errno) if is_flow && level == libc::IPPROTO_IPV6 => return Err(errno),
        // The kernel's socket says what is wrong in its own words.
        Err(_) => return Ok(None),
    }
    // A flow's kernel socket is not asked any more; before, it may yet be the one that serves.
    Ok(is_flow.then_some(()))
}

/// Keeps the value of an option that concerns us; false if it does not.
fn keep(description: &mut Description, level: c_int, name: c_int, value: &[u8]) -> Result<bool, Errno> {
    let is_flow = description.is_flow();
    let (settings, family) = (&mut description.settings, description.family);
    match (level, name) {
        (libc::IPPROTO_IPV6, _) if family != libc::AF_INET6 => return Ok(false),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => settings.tcp.nodelay = args::option_int(value)? != 0,
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => settings.tcp.keepalive = args::option_int(value)? != 0,
        (libc::SOL_SOCKET, libc::SO_OOBINLINE) => settings.tcp.urgent_inline = args::option_int(value)? != 0,
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
        (libc::IPPROTO_TCP, libc::TCP_CORK) => settings.tcp.corked = args::option_int(value)? != 0,
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) => settings.tcp.v4.discovery = discovery(value)?,
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => settings.tcp.v6.discovery = discovery(value)?,
        (libc::IPPROTO_IP, libc::IP_RECVERR) => settings.tcp.v4.errors_are_hard = args::option_int(value)? != 0,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => settings.tcp.v6.errors_are_hard = args::option_int(value)? != 0,
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) if !is_flow => settings.v6only = args::option_int(value)? != 0,
        (libc::SOL_SOCKET, libc::SO_ZEROCOPY) => settings.zerocopy = within(value, 0..=1)? != 0,
        (libc::IPPROTO_TCP, libc::TCP_INQ) => settings.tells_unread = within(value, 0..=1)? != 0,
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => settings.reuse_address = args::option_int(value)? != 0,
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT) => settings.tcp.notsent_lowat = args::option_int(value)? as u32,
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
            let name = value.split(|&byte| byte == 0).next().filter(|_| !value.is_empty()).ok_or(Errno::EINVAL)?;
            // Another one, if there is one of that name, is the kernel's.
            let Some(control) = CongestionControl::named(name) else { return Ok(false) };
            settings.tcp.congestion_control = Some(control);
            description.passed.forget((level, libc::TCP_CONGESTION));
        }
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => {
            let max = args::option_int(value)?;
            let is_valid = max == 0 || SEGMENT_MAX.contains(&max);
            settings.tcp.segment_max = u16::try_from(max).ok().filter(|_| is_valid).ok_or(Errno::EINVAL)?;
        }
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT) => settings.tcp.syn_retries = within(value, 1..=SYN_RETRIES_MAX)? as u8,
        (libc::IPPROTO_TCP, libc::TCP_LINGER2) => {
            settings.tcp.fin_wait_2_s = args::option_int(value)?.clamp(-1, FIN_WAIT_2_S_MAX);
        }
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) => {
            settings.tcp.deferred_retries = retries_of(args::option_int(value)?);
        }
        // Not remembered: the connection is told, and goes its own way again (tcp(7)).
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => drop(args::option_int(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Keeps what `kernel` (the value of an option) remembers of a socket that was made by another program.
pub fn recall(description: &mut Description, kernel: impl Fn(c_int, c_int, &mut [u8]) -> Option<usize>) {
    let tcp = [libc::TCP_NODELAY, libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT, libc::TCP_USER_TIMEOUT];
    let rest = [libc::TCP_CORK, libc::TCP_CONGESTION, libc::TCP_SYNCNT, libc::TCP_LINGER2, libc::TCP_DEFER_ACCEPT];
    let tcp = tcp.into_iter().chain(rest).map(|name| (libc::IPPROTO_TCP, name));
    let socket = [libc::SO_KEEPALIVE, libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, libc::SO_LINGER, libc::SO_REUSEADDR];
    let socket = socket.into_iter().chain([libc::SO_OOBINLINE, libc::SO_ZEROCOPY]);
    let socket = socket.into_iter().map(|name| (libc::SOL_SOCKET, name));
    let v4 = [libc::IP_MTU_DISCOVER, libc::IP_RECVERR].map(|name| (libc::IPPROTO_IP, name));
    let v6 = [libc::IPV6_V6ONLY, libc::IPV6_MTU_DISCOVER, libc::IPV6_RECVERR].map(|name| (libc::IPPROTO_IPV6, name));
    for (level, name) in tcp.chain(socket).chain(v4).chain(v6) {
        let mut value = [0; 16];
        if let Some(len) = kernel(level, name, &mut value) {
            // What the kernel says is a value that it has taken.
            let _ = keep(description, level, name, &value[..len]);
        }
    }
    let followed = [
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
        (libc::IPPROTO_IP, libc::IP_TOS),
        (libc::IPPROTO_IP, libc::IP_TTL),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    ];
    for name in followed {
        let mut value = [0; 4];
        if let Some(4) = kernel(name.0, name.1, &mut value) {
            passed::keep_followed(&mut description.settings.tcp, name, c_int::from_ne_bytes(value), false);
        }
    }
}

/// Linux's bounds for the times and the number of keepalive probes: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPCNT.
const KEEPALIVE_S_MAX: c_int = 32_767;
const KEEPALIVE_PROBES_MAX: c_int = 127;

/// Its bounds for the segment size (TCP_MIN_MSS, MAX_TCP_WINDOW), for the number of SYNs (MAX_TCP_SYNCNT) and for
/// the time in FIN-WAIT-2 (TCP_FIN_TIMEOUT_MAX).
const SEGMENT_MAX: RangeInclusive<c_int> = 88..=32_767;
const SYN_RETRIES_MAX: c_int = 127;
const FIN_WAIT_2_S_MAX: c_int = 120;

/// The retries that take at least so many seconds, and the seconds that so many retries take: Linux counts
/// TCP_DEFER_ACCEPT's time in retries (secs_to_retrans and retrans_to_secs of net/ipv4/tcp.c).
fn retries_of(seconds: c_int) -> u8 {
    (0..u8::MAX).find(|&retries| seconds_of(retries) >= seconds).unwrap_or(u8::MAX)
}

fn seconds_of(retries: u8) -> c_int {
    /// TCP_RTO_MAX.
    const WAIT_MAX_S: c_int = 120;
    (0..retries).map(|retry| if retry < 7 { 1 << retry } else { WAIT_MAX_S }).sum()
}

fn within(value: &[u8], range: RangeInclusive<c_int>) -> Result<u32, Errno> {
    Some(args::option_int(value)?).filter(|value| range.contains(value)).map(|value| value as u32).ok_or(Errno::EINVAL)
}

fn discovery(value: &[u8]) -> Result<MtuDiscovery, Errno> {
    let number = u32::try_from(args::option_int(value)?).map_err(|_| Errno::EINVAL)?;
    MtuDiscovery::from_number(number).ok_or(Errno::EINVAL)
}

/// A timeout of socket(7): zero is for ever.
pub fn timeout(value: &[u8]) -> Result<Option<Duration>, Errno> {
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

/// Tells the stack what a socket's options are.
pub fn apply(world: &mut World, key: Key) {
    let Some(description) = world.descriptions.get(key) else { return };
    let (socket, options): (Option<Socket>, TcpOptions) = (description.socket(), description.settings.tcp);
    match (socket, world.stack()) {
        (Some(Socket::Flow(id)), Some(stack)) => {
            stack.tcp_set_options(id, options);
            world.flush_reply();
        }
        (Some(Socket::Listener(id)), Some(stack)) => stack.tcp_set_listener_options(id, options),
        _ => {}
    }
}

/// getsockopt(2) on a connection, for at most `room` bytes: the value's bytes and their number, or `None` when the kernel's
/// socket answers.
pub fn get(key: Key, level: c_int, name: c_int, room: usize) -> Result<Option<Value>, Errno> {
    get_in(&mut *world::enter()?, key, level, name, room)
}

/// The same, inside.
pub fn get_in(world: &mut World, key: Key, level: c_int, name: c_int, room: usize) -> Result<Option<Value>, Errno> {
    let description = world.description(key)?;
    if (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR)
        && let Some(errno) = description.error.take()
    {
        return Ok(Some(Value::int(errno.0)));
    }
    let Some(Socket::Flow(id)) = description.socket() else { return Ok(None) };
    let (settings, family) = (description.settings, description.family);
    let stack = world.stack().ok_or(Errno::EBADF)?;
    let system = *stack.settings();
    let keepalive = settings.tcp.keepalive_times(&system);
    Ok(Some(match (level, name) {
        (libc::IPPROTO_IPV6, _) if family != libc::AF_INET6 => return Ok(None),
        (libc::SOL_SOCKET, libc::SO_ERROR) => Value::int(stack.tcp_take_error(id).map_or(0, |errno| errno.0)),
        (libc::SOL_SOCKET, libc::SO_TYPE) => Value::int(libc::SOCK_STREAM),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => Value::int(libc::IPPROTO_TCP),
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => Value::int(family),
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => Value::int(0),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => Value::int(settings.tcp.keepalive.into()),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE) => Value::int(settings.tcp.urgent_inline.into()),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => Value::int(settings.reuse_address.into()),
        (libc::SOL_SOCKET, libc::SO_ZEROCOPY) => Value::int(settings.zerocopy.into()),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO) => Value::time(settings.receive_timeout),
        (libc::SOL_SOCKET, libc::SO_SNDTIMEO) => Value::time(settings.send_timeout),
        (libc::SOL_SOCKET, libc::SO_LINGER) => Value::linger(settings.linger_s),
        (libc::IPPROTO_TCP, libc::TCP_INQ) => Value::int(settings.tells_unread.into()),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => Value::int(settings.tcp.nodelay.into()),
        (libc::IPPROTO_TCP, libc::TCP_CORK) => Value::int(settings.tcp.corked.into()),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => Value::int(keepalive.0 as c_int),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => Value::int(keepalive.1 as c_int),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => Value::int(keepalive.2 as c_int),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => Value::int(settings.tcp.user_timeout_ms as c_int),
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT) => Value::int(settings.tcp.notsent_lowat as c_int),
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => Value::name(settings.tcp.congestion_control(&system).name()),
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT) => Value::int(settings.tcp.syn_retries(&system).into()),
        (libc::IPPROTO_TCP, libc::TCP_LINGER2) => Value::int(settings.tcp.fin_wait_2_s(&system)),
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) => Value::int(seconds_of(settings.tcp.deferred_retries)),
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => Value::int(stack.tcp_quick_ack(id).into()),
        (libc::IPPROTO_TCP, libc::TCP_TIMESTAMP) => match stack.tcp_timestamp(id, clock::now()) {
            Some(value) => Value::int(value as c_int),
            None => return Ok(None),
        },
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) => Value::int(settings.tcp.v4.discovery as c_int),
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => Value::int(settings.tcp.v6.discovery as c_int),
        (libc::IPPROTO_IP, libc::IP_RECVERR) => Value::int(settings.tcp.v4.errors_are_hard.into()),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => Value::int(settings.tcp.v6.errors_are_hard.into()),
        (libc::IPPROTO_TCP, libc::TCP_INFO | libc::TCP_MAXSEG)
        | (libc::IPPROTO_IP, libc::IP_MTU)
        | (libc::IPPROTO_IPV6, libc::IPV6_MTU) => match (stack.tcp_info(id, clock::now()), name) {
            (None, _) => return Ok(None),
            (Some(info), libc::TCP_INFO) => Value::info(&info),
            (Some(info), libc::TCP_MAXSEG) => Value::int(info.send_mss as c_int),
            (Some(info), _) => Value::int(info.path_mtu as c_int),
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
            passed::lay(world, key)?;
            return Ok(None);
        }
    }))
}

/// The peer's address (asm-generic/socket.h).
const SO_PEERNAME: c_int = 28;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(level: c_int, name: c_int, value: &[u8], expected: Result<bool, Errno>) -> Description {
        let mut description = Description::new(libc::AF_INET);
        assert_eq!(keep(&mut description, level, name, value), expected);
        description
    }

    #[test]
    fn timeouts_are_kept() {
        let value = [3u64.to_ne_bytes(), 500_000u64.to_ne_bytes()].concat();
        let kept = check(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value, Ok(true)).settings.receive_timeout;
        assert_eq!(kept, Some(Duration::from_millis(3500)));
        let kept = check(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &[0; 16], Ok(true)).settings.receive_timeout;
        assert_eq!(kept, None);
    }

    #[test]
    fn lingering_is_kept() {
        let value = [1i32.to_ne_bytes(), 5i32.to_ne_bytes()].concat();
        let kept = check(libc::SOL_SOCKET, libc::SO_LINGER, &value, Ok(true)).settings.linger_s;
        assert_eq!(kept, Some(5));
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

    #[test]
    fn deferring_is_counted_in_retries() {
        let seconds = [-1, 0, 1, 2, 3, 4, 7, 8, 63, 127, 128, c_int::MAX];
        assert_eq!(seconds.map(retries_of), [0, 0, 1, 2, 2, 3, 3, 4, 6, 7, 8, 255]);
        assert_eq!([0, 1, 2, 3, 7, 8].map(seconds_of), [0, 1, 3, 7, 127, 247]);
    }

    #[test]
    fn an_algorithm_that_we_lack_is_not_kept() {
        let set = |name: &[u8], expected| check(libc::IPPROTO_TCP, libc::TCP_CONGESTION, name, expected).settings.tcp;
        assert_eq!(set(b"reno", Ok(true)).congestion_control, Some(CongestionControl::Reno));
        assert_eq!(set(b"reno\0\0\0", Ok(true)).congestion_control, Some(CongestionControl::Reno));
        set(b"bbr", Ok(false));
        set(b"", Err(Errno::EINVAL));
    }
}
