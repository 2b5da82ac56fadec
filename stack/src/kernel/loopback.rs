//! What the loopback needs so that the kernel takes the packets that we send there to its own sockets.
//!
//! A packet of the kernel's crosses the loopback with its route attached. One of ours comes without, and the kernel
//! looks at it as if it came from outside: from an address of this host, or of 127/8, it would be a Martian. The
//! settings (ip-sysctl.rst of the kernel) hold for the loopback alone, on which nothing comes from outside.

use super::sys;
use std::ffi::CStr;
use std::io;

/// Packets from and to 127/8, packets from this host's own addresses, and such whose source is another interface's.
const SETTINGS: [(&CStr, &[u8]); 3] = [
    (c"/proc/sys/net/ipv4/conf/lo/route_localnet", b"1"),
    (c"/proc/sys/net/ipv4/conf/lo/accept_local", b"1"),
    (c"/proc/sys/net/ipv4/conf/lo/rp_filter", b"2"),
];

/// Has the kernel take what is sent on the loopback of the calling thread's network namespace, from now on.
///
/// # Errors
/// `EACCES`, `EPERM`, `EROFS`: the settings are not this process's to make.
pub fn admit_own_packets() -> io::Result<()> {
    SETTINGS.iter().try_for_each(|(path, value)| match sys::read_file(path)? {
        now if now.trim_ascii_end() == *value => Ok(()),
        _ => sys::write_setting(path, value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_and_may_have_been_made_before() {
        // SAFETY: takes a number; only this thread moves.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "this test needs root");
        for _ in 0..2 {
            admit_own_packets().expect("settings of a namespace of our own");
            for (path, value) in SETTINGS {
                assert_eq!(sys::read_file(path).expect("a readable file").trim_ascii_end(), value);
            }
        }
    }
}
