//! What an interface is like: its index, MTU, MAC address and receive queues.

use super::sys;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use xdp_prog::QUEUES_MAX;

/// ETHTOOL_GCHANNELS of linux/ethtool.h, which libc does not define.
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// struct ethtool_channels of linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// An Ethernet interface (or the loopback, whose packets have an Ethernet header too), as it was when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name.
    pub name: CString,
    /// The index, as in rtnetlink(7).
    pub index: u32,
    /// The largest IP packet, in bytes.
    pub mtu: usize,
    /// The MAC address.
    pub mac: [u8; 6],
    /// Whether it is the loopback.
    pub is_loopback: bool,
    /// How many receive queues are in use.
    pub rx_queues: u32,
}

impl Interface {
    /// Asks the kernel. netdevice(7).
    ///
    /// # Errors
    /// `ENODEV`: no such interface. `EOPNOTSUPP`: it has no Ethernet header.
    pub fn query(name: &CStr) -> io::Result<Interface> {
        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        let index = request(&socket, name, libc::SIOCGIFINDEX)?;
        let mtu = request(&socket, name, libc::SIOCGIFMTU)?;
        let address = request(&socket, name, libc::SIOCGIFHWADDR)?;
        // SAFETY: SIOCGIFINDEX has filled in the union's index.
        let index = unsafe { index.ifr_ifru.ifru_ifindex };
        // SAFETY: SIOCGIFMTU has filled in the union's MTU.
        let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
        // SAFETY: SIOCGIFHWADDR has filled in the union's address.
        let address = unsafe { address.ifr_ifru.ifru_hwaddr };
        if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&address.sa_family) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(Interface {
            name: name.to_owned(),
            index: index as u32,
            mtu: mtu as usize,
            is_loopback: address.sa_family == libc::ARPHRD_LOOPBACK,
            mac: std::array::from_fn(|byte| address.sa_data[byte] as u8),
            rx_queues: rx_queues(&socket, name)?,
        })
    }
}

/// One of the requests of netdevice(7) that need nothing but the name.
fn request(socket: &OwnedFd, name: &CStr, request: libc::Ioctl) -> io::Result<libc::ifreq> {
    let mut ifreq = named(name)?;
    // SAFETY: these requests take an ifreq; it holds no pointers.
    unsafe { sys::ioctl(socket.as_raw_fd(), request, &mut ifreq)? };
    Ok(ifreq)
}

/// An ifreq with nothing but a name.
fn named(name: &CStr) -> io::Result<libc::ifreq> {
    // SAFETY: zeroes are a valid ifreq: an empty name and a union of plain data.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes();
    if bytes.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(ifreq)
}

/// The channels that receive, or what sysfs lists for drivers that have no notion of channels.
fn rx_queues(socket: &OwnedFd, name: &CStr) -> io::Result<u32> {
    let mut channels = EthtoolChannels { cmd: ETHTOOL_GCHANNELS, ..EthtoolChannels::default() };
    let mut ifreq = named(name)?;
    ifreq.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: SIOCETHTOOL takes an ifreq that points to the command's structure, which is live.
    match unsafe { sys::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut ifreq) } {
        Ok(()) => Ok((channels.rx_count + channels.combined_count).max(1)),
        Err(_) => Ok(rx_queues_listed(name)),
    }
}

fn rx_queues_listed(name: &CStr) -> u32 {
    let name = name.to_string_lossy();
    let is_listed = |queue: &u32| {
        CString::new(format!("/sys/class/net/{name}/queues/rx-{queue}")).is_ok_and(|path| sys::exists(&path))
    };
    (0..QUEUES_MAX).take_while(is_listed).count().max(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known() {
        let loopback = Interface::query(c"lo").expect("a loopback");
        assert_eq!((loopback.mac, loopback.is_loopback, loopback.rx_queues), ([0; 6], true, 1));
        assert!(loopback.index > 0 && loopback.mtu > 0);
    }

    #[test]
    fn unknown_names_are_no_device() {
        for name in [c"us-nowhere", c"a-name-longer-than-ifreq-takes"] {
            assert_eq!(Interface::query(name).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        }
    }
}
