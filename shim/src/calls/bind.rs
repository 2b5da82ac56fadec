//! bind(2) in the kernel's socket, which holds the port: the application's, and that of a connect(2).

use crate::args;
use crate::description::{Description, Role};
use crate::limits::PORT_PICKS_MAX;
use crate::sys::{self, AddressBuffer};
use crate::world;
use libc::c_int;
use stack::Errno;
use stack::slab::Key;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// What bind(2) has chosen, which stays when a connection is over: SOCK_BINDADDR_LOCK and SOCK_BINDPORT_LOCK of Linux.
#[derive(Debug, Default, Clone, Copy)]
pub struct Chosen {
    /// An address, not every one.
    pub address: bool,
    /// A port, not any one.
    pub port: bool,
}

impl Chosen {
    /// What binding to this address chooses.
    pub fn by(address: SocketAddr) -> Self {
        Chosen { address: !address.ip().is_unspecified(), port: address.port() != 0 }
    }
}

/// bind(2), or `None` when the kernel is to do it.
///
/// # Errors
/// What the kernel says. `EINVAL`: it has become something that is bound already.
pub fn bind(fd: RawFd, key: Key, address: &[u8]) -> Result<Option<()>, Errno> {
    let mut world = world::enter()?;
    let description = world.description(key)?;
    match description.role {
        Role::Relay(_) | Role::Datagram(_) => Ok(None),
        Role::Flow(_) | Role::Listener(_) => Err(Errno::EINVAL),
        Role::Undecided => {
            sys::bind(fd, address)?;
            description.chosen = args::parse_address(address).map(Chosen::by).unwrap_or_default();
            Ok(Some(()))
        }
    }
}

/// Where the kernel's socket is bound: port 0 if it is not.
///
/// # Errors
/// What the kernel says.
pub fn bound(fd: RawFd) -> Result<SocketAddr, Errno> {
    let mut name: AddressBuffer = [0; size_of::<AddressBuffer>()];
    let len = sys::socket_name(fd, &mut name)?;
    let name = args::parse_address(&name[..len]).ok_or(Errno::EAFNOSUPPORT)?;
    Ok(SocketAddr::new(name.ip().to_canonical(), name.port()))
}

/// Reserves the local port of a connection in the kernel: the application's, or one that the kernel picks. The kernel does
/// not know what connections of closed sockets are still under way, and picks until there is one that is not taken.
///
/// # Errors
/// `EADDRNOTAVAIL`: none is left. What else the kernel says.
pub fn reserve(
    fd: RawFd,
    family: c_int,
    bound: SocketAddr,
    source: IpAddr,
    is_taken: impl Fn(SocketAddr) -> bool,
) -> Result<SocketAddr, Errno> {
    if bound.port() != 0 {
        return Ok(SocketAddr::new(source, bound.port()));
    }
    for _ in 0..PORT_PICKS_MAX {
        let local = pick(fd, family, source)?;
        if !is_taken(local) {
            return Ok(local);
        }
        release(fd, family, !bound.ip().is_unspecified()).map_err(|_| Errno::EADDRNOTAVAIL)?;
    }
    Err(Errno::EADDRNOTAVAIL)
}

/// Binds to a port that the kernel picks.
fn pick(fd: RawFd, family: c_int, source: IpAddr) -> Result<SocketAddr, Errno> {
    let (address, len) = args::format_address(SocketAddr::new(source, 0), family);
    bind_to_any_port(fd, &address[..len])?;
    let local = self::bound(fd)?;
    if local.port() != 0 {
        return Ok(local);
    }
    set_late(fd, false)?;
    let again = bind_to_any_port(fd, &address[..len]);
    set_late(fd, true)?;
    again.and_then(|()| self::bound(fd))
}

fn bind_to_any_port(fd: RawFd, address: &[u8]) -> Result<(), Errno> {
    sys::bind(fd, address).map_err(|errno| match errno {
        // As connect(2) says it.
        Errno::EADDRINUSE => Errno::EADDRNOTAVAIL,
        errno => errno,
    })
}

/// IP_BIND_ADDRESS_NO_PORT, for both families.
fn set_late(fd: RawFd, is_late: bool) -> Result<(), Errno> {
    sys::set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &c_int::from(is_late).to_ne_bytes())
}

/// Has the kernel's socket of a connection that is over keep of `local` what bind(2) has chosen, and no more.
pub fn unbind(description: &mut Description, local: SocketAddr, was_bound: bool) {
    let (Some(&fd), Chosen { address, port }) = (description.fds.first(), description.chosen) else { return };
    if port && was_bound {
        return;
    }
    // As on Linux the number is still said, though anybody may have it.
    description.left =
        Some(SocketAddr::new(if address { local.ip() } else { any_of(description.family) }, local.port()));
    if was_bound && let Err(errno) = release(fd, description.family, address) {
        tracing::debug!(%errno, "a port that stays reserved");
    }
}

/// An address of AF_UNSPEC.
const NOWHERE: [u8; size_of::<libc::sockaddr>()] = [0; size_of::<libc::sockaddr>()];

fn any_of(family: c_int) -> IpAddr {
    if family == libc::AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Releases the port of a kernel's socket, and its address unless that is chosen. A socket that has never been anything
/// keeps its port, one that has listened does not.
fn release(fd: RawFd, family: c_int, keeps_address: bool) -> Result<(), Errno> {
    sys::listen(fd, 0)?;
    sys::connect(fd, &NOWHERE)?;
    if keeps_address {
        return Ok(());
    }
    let (any, len) = args::format_address(SocketAddr::new(any_of(family), 0), family);
    let was_late = sys::option_int(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)? != 0;
    set_late(fd, true)?;
    let released = sys::bind(fd, &any[..len]);
    set_late(fd, was_late)?;
    released
}
