//! Options that only the kernel's socket behind ours knows: it checks, remembers and answers them.
//!
//! What changes nothing but for the kernel itself stays there. With an option that would change what goes over the wire in
//! a way that the stack has not, a socket stays the kernel's, if it comes before connect(2) or listen(2); on a connection it
//! is refused, as by a kernel that was built without it.

use super::option;
use crate::args;
use crate::description::{Description, Role, Shadow};
use crate::limits::{PASSED_LEN_MAX, PASSED_MAX};
use crate::log::warn_once;
use crate::world::World;
use crate::{placeholder, stats, sys};
use libc::c_int;
use stack::Errno;
use stack::slab::Key;
use stack::socket::tcp::TcpOptions;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A level and a name.
pub type Name = (c_int, c_int);

/// One that was set, and to what.
type Set = (Name, Vec<u8>);

const PRIORITY: Name = (libc::SOL_SOCKET, libc::SO_PRIORITY);

/// What was set, in order.
#[derive(Debug, Default, Clone)]
pub struct Passed {
    all: Option<Arc<Vec<Set>>>,
    /// The kernel's socket has them: on a placeholder they are laid when it is first asked.
    is_laid: bool,
}

impl Passed {
    /// For a connection that a listener with these accepts.
    pub fn handed_down(&self) -> Self {
        Passed { all: self.all.clone(), is_laid: false }
    }

    /// Whether there is one with which the socket stays the kernel's.
    pub fn keeps_with_kernel(&self) -> bool {
        self.all.iter().flat_map(|all| all.iter()).any(|(name, value)| is_kernels(*name, value))
    }

    /// One is ours again.
    pub fn forget(&mut self, name: Name) {
        if let Some(all) = &mut self.all {
            Arc::make_mut(all).retain(|(other, _)| *other != name);
        }
    }

    fn remember(&mut self, name: Name, value: &[u8]) {
        if name == PRIORITY {
            return;
        }
        let all = Arc::make_mut(self.all.get_or_insert_default());
        all.retain(|(other, _)| *other != name);
        if all.len() < PASSED_MAX && value.len() <= PASSED_LEN_MAX {
            all.push((name, value.to_vec()));
        }
    }
}

/// Of linux/tcp.h and linux/in6.h, where the libc crate lacks them.
const TCP_AO_ADD_KEY: c_int = 38;
const TCP_AO_INFO: c_int = 40;
const TCP_AO_REPAIR: c_int = 42;
const IPV6_MINHOPCOUNT: c_int = 73;

/// Whether an option, so set, leaves a socket to the kernel: the stack has nothing like it.
fn is_kernels(name: Name, value: &[u8]) -> bool {
    let is_on = args::option_int(value).is_ok_and(|value| value != 0);
    match name {
        (libc::SOL_SOCKET, libc::SO_MARK | libc::SO_DONTROUTE) => is_on,
        // What is told beside the bytes, in control messages.
        (
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMP | libc::SO_TIMESTAMPNS | libc::SO_TIMESTAMPING | SO_TIMESTAMP_NEW..=SO_TIMESTAMPING_NEW,
        ) => is_on,
        (libc::SOL_SOCKET, libc::SO_PEEK_OFF) => args::option_int(value).is_ok_and(|offset| offset >= 0),
        (
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER
            | libc::SO_ATTACH_BPF
            | libc::SO_ATTACH_REUSEPORT_CBPF
            | libc::SO_ATTACH_REUSEPORT_EBPF
            | libc::SO_TXTIME,
        ) => true,
        (libc::IPPROTO_TCP, libc::TCP_MD5SIG | libc::TCP_MD5SIG_EXT | TCP_AO_ADD_KEY..=TCP_AO_INFO | TCP_AO_REPAIR) => {
            true
        }
        (libc::IPPROTO_TCP, libc::TCP_REPAIR) => is_on,
        // Those that are served do not come here.
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => true,
        (libc::IPPROTO_IP, libc::IP_OPTIONS) => value.iter().any(|&byte| byte != 0),
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT | libc::IP_MINTTL | libc::IP_XFRM_POLICY | libc::IP_IPSEC_POLICY) => {
            is_on
        }
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT | IPV6_MINHOPCOUNT) => is_on,
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_HOPOPTS
            | libc::IPV6_RTHDR
            | libc::IPV6_DSTOPTS
            | libc::IPV6_RTHDRDSTOPTS
            | libc::IPV6_2292PKTOPTIONS,
        ) => !value.is_empty(),
        (libc::IPPROTO_IPV6, libc::IPV6_XFRM_POLICY | libc::IPV6_IPSEC_POLICY) => true,
        _ => false,
    }
}

/// SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING with times of 64 bits (asm-generic/socket.h).
const SO_TIMESTAMP_NEW: c_int = 63;
const SO_TIMESTAMPING_NEW: c_int = 65;

/// What Linux says of an option on a connection and not before, and so not its socket behind ours.
fn of_a_connection(name: Name, value: &[u8], family: c_int) -> Option<Errno> {
    let number = args::option_int(value).ok()?;
    match name {
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN | libc::TCP_FASTOPEN_CONNECT | libc::TCP_FASTOPEN_NO_COOKIE) => {
            Some(Errno::EINVAL)
        }
        (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) if number == 0 => Some(Errno::EINVAL),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) if family == libc::AF_INET6 => Some(Errno::EINVAL),
        (libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM) if family == libc::AF_INET6 => {
            Some(if number == libc::AF_INET { Errno::EADDRNOTAVAIL } else { Errno::EINVAL })
        }
        _ => None,
    }
}

/// Sets an option of the kernel's socket.
///
/// # Errors
/// What the kernel says. `ENOPROTOOPT`: on a connection, one that the stack would have to know. `ENOENT`: TCP_ULP, or an
/// algorithm of TCP_CONGESTION.
pub fn set(world: &mut World, fd: RawFd, key: Key, name: Name, value: &[u8]) -> Result<(), Errno> {
    let description = world.description(key)?;
    let is_served = match &description.role {
        Role::Flow(_) | Role::Relay(_) => true,
        Role::Listener(listener) => listener.id.is_some(),
        Role::Undecided | Role::Datagram(_) => false,
    };
    if description.is_flow() {
        if name == (libc::IPPROTO_TCP, libc::TCP_ULP) {
            // As a kernel that has no such protocol.
            return Err(Errno::ENOENT);
        }
        if let Some(errno) = of_a_connection(name, value, description.family) {
            return Err(errno);
        }
        if !is_followed(name) {
            warn_once!(?name, "setsockopt: an option that only the kernel's socket knows");
            stats::count(&stats::CALLS_PASSED);
        }
    }
    if is_served && is_kernels(name, value) {
        warn_once!(?name, "setsockopt: an option that is not served");
        // As by a kernel without that algorithm, or without the option.
        let is_algorithm = name == (libc::IPPROTO_TCP, libc::TCP_CONGESTION);
        return Err(if is_algorithm { Errno::ENOENT } else { Errno::ENOPROTOOPT });
    }
    lay(world, key)?;
    sys::set_option(fd, name.0, name.1, value)?;
    let description = world.description(key)?;
    description.passed.remember(name, value);
    if let (libc::SOL_SOCKET, libc::SO_BINDTODEVICE | libc::SO_BINDTOIFINDEX) = name {
        description.device = sys::bound_device(fd);
    }
    if is_followed(name) {
        follow(world, fd, key, name, value)?;
    }
    Ok(())
}

/// Whether the kernel's socket says what becomes of the number, and the stack keeps to that.
fn is_followed(name: Name) -> bool {
    matches!(
        name,
        (
            libc::SOL_SOCKET,
            libc::SO_RCVBUF | libc::SO_RCVBUFFORCE | libc::SO_SNDBUF | libc::SO_SNDBUFFORCE | libc::SO_RCVLOWAT
        ) | (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP)
            | (libc::IPPROTO_IP, libc::IP_TOS | libc::IP_TTL)
            | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS | libc::IPV6_UNICAST_HOPS)
    )
}

fn follow(world: &mut World, fd: RawFd, key: Key, (level, name): Name, value: &[u8]) -> Result<(), Errno> {
    let asked = match (level, name) {
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE) => libc::SO_RCVBUF,
        (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE) => libc::SO_SNDBUF,
        (_, asked) => asked,
    };
    // A datagram socket has no window.
    let Ok(number) = sys::option_int(fd, level, asked) else { return Ok(()) };
    let is_default = args::option_int(value) == Ok(-1);
    keep_followed(&mut world.description(key)?.settings.tcp, (level, asked), number, is_default);
    option::apply(world, key);
    Ok(())
}

/// Keeps what the kernel's socket says of an option that is followed; `is_default`: it was set back.
pub fn keep_followed(tcp: &mut TcpOptions, name: Name, number: c_int, is_default: bool) {
    let hop_limit = Some(number as u8).filter(|_| !is_default);
    match name {
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => tcp.receive_buffer = number as u32,
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => tcp.send_buffer = number as u32,
        (libc::SOL_SOCKET, _) => tcp.receive_lowat = number as u32,
        (libc::IPPROTO_IP, libc::IP_TOS) => tcp.v4.traffic_class = number as u8,
        (libc::IPPROTO_IP, _) => tcp.v4.hop_limit = hop_limit,
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => tcp.v6.traffic_class = number as u8,
        (libc::IPPROTO_IPV6, _) => tcp.v6.hop_limit = hop_limit,
        _ => tcp.window_clamp = number as u32,
    }
}

/// Lays on a connection's placeholder what its listener has handed down: before the kernel's socket is asked.
///
/// # Errors
/// What socket(2) says.
pub fn lay(world: &mut World, key: Key) -> Result<(), Errno> {
    let description = world.description(key)?;
    if let Role::Flow(flow) = &mut description.role
        && flow.shadow == Shadow::Placeholder
    {
        placeholder::part(&description.fds, description.family)?;
        flow.shadow = Shadow::Own;
    }
    let Description { role, passed, fds, .. } = world.description(key)?;
    let is_placeholder = match role {
        Role::Flow(flow) => flow.shadow != Shadow::Bound,
        Role::Relay(relay) => !relay.is_bound(),
        _ => false,
    };
    let (Some(all), Some(&fd)) = (&passed.all, fds.first()) else { return Ok(()) };
    if !is_placeholder || passed.is_laid {
        return Ok(());
    }
    for (name, value) in all.iter() {
        // The kernel took it on a socket like this one. By now the process may lack the privilege.
        let _ = sys::set_option(fd, name.0, name.1, value);
    }
    // Which is not handed down, but follows from IP_TOS.
    let _ = sys::set_option(fd, PRIORITY.0, PRIORITY.1, &0u32.to_ne_bytes());
    passed.is_laid = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: [u8; 4] = 1i32.to_ne_bytes();
    const OFF: [u8; 4] = 0i32.to_ne_bytes();

    #[test]
    fn what_the_stack_lacks_keeps_a_socket_with_the_kernel_while_it_is_on() {
        let mark = (libc::SOL_SOCKET, libc::SO_MARK);
        let mut passed = Passed::default();
        passed.remember(PRIORITY, &ON);
        passed.remember((libc::IPPROTO_IP, libc::IP_TTL), &ON);
        assert!(!passed.keeps_with_kernel());
        passed.remember(mark, &ON);
        assert!(passed.keeps_with_kernel());
        passed.remember(mark, &OFF);
        assert!(!passed.keeps_with_kernel());
        passed.remember((libc::SOL_SOCKET, libc::SO_ATTACH_BPF), &OFF);
        assert!(passed.keeps_with_kernel());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut passed = Passed::default();
        for name in 0..2 * PASSED_MAX as c_int {
            passed.remember((libc::IPPROTO_IP, name), &ON);
        }
        passed.remember((libc::IPPROTO_IP, 0), &[1; PASSED_LEN_MAX + 1]);
        assert_eq!(passed.all.map(|all| all.len()), Some(PASSED_MAX - 1));
    }

    #[test]
    fn a_connection_says_of_some_options_what_a_fresh_socket_does_not() {
        let v6only = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
        assert_eq!(of_a_connection(v6only, &ON, libc::AF_INET6), Some(Errno::EINVAL));
        assert_eq!(of_a_connection(v6only, &ON, libc::AF_INET), None);
        assert_eq!(of_a_connection((libc::IPPROTO_TCP, libc::TCP_FASTOPEN), &ON, libc::AF_INET), Some(Errno::EINVAL));
        assert_eq!(of_a_connection((libc::IPPROTO_IP, libc::IP_TTL), &ON, libc::AF_INET), None);
    }
}
