//! A veth pair in a network namespace of the calling thread's own. It is gone when the thread and its children are.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The end that the steering program is attached to.
pub const INTERFACE: &str = "us0";
/// The end that frames are sent into.
pub const PEER: &str = "us1";

/// The MAC address of [`INTERFACE`], which frames are sent to.
const MAC: &str = "02:00:00:00:00:01";

/// The IPv4 address of [`INTERFACE`].
pub const ADDRESS_V4: &str = "10.0.0.1";

/// Held by the test that runs: a child forked in another would keep copies of its fds, and so its sockets and its
/// program, alive for a while.
static RUNNING: Mutex<()> = Mutex::new(());

/// A namespace with the pair. Frames carry source addresses that nobody has.
pub struct Network {
    /// The index of [`INTERFACE`].
    pub index: u32,
    sender: OwnedFd,
    _running: Option<MutexGuard<'static, ()>>,
}

impl Network {
    /// Moves the calling thread into a new namespace, with a pair of one queue a side, once no other test runs.
    pub fn new() -> Network {
        Network::with_queues(1)
    }

    /// The same with several queues a side. Which of them a frame is sent to is the kernel's choice.
    pub fn with_queues(count: u32) -> Network {
        // A test that failed leaves nothing behind that the next one could stumble on.
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        Network { _running: Some(running), ..Network::in_new_namespace(count) }
    }

    /// Moves the calling thread on into a second namespace.
    pub fn another(&self) -> Network {
        Network::in_new_namespace(1)
    }

    fn in_new_namespace(queue_count: u32) -> Network {
        // SAFETY: takes a number; only this thread moves.
        let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(moved, 0, "these tests need root: {}", io::Error::last_os_error());
        let queues = format!("numtxqueues {queue_count} numrxqueues {queue_count}");
        ip(&format!("link add {INTERFACE} address {MAC} {queues} type veth peer name {PEER} {queues}"));
        ip(&format!("address add {ADDRESS_V4}/24 dev {INTERFACE}"));
        for end in [INTERFACE, PEER] {
            ip(&format!("link set {end} mtu 9000 up"));
        }
        Network { index: index_of(INTERFACE), sender: packet_socket(index_of(PEER)), _running: None }
    }

    /// Sends a whole Ethernet frame into the peer, so that it arrives at the interface.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` is live, and its length is its own.
        let sent = unsafe { libc::send(self.sender.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}

/// Runs `ip` in the thread's namespace.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip of iproute2 runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The index of an interface of the thread's namespace.
pub fn index_of(interface: &str) -> u32 {
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "no interface {interface}");
    index
}

/// An AF_PACKET socket that sends on one interface and receives nothing. packet(7).
fn packet_socket(index: u32) -> OwnedFd {
    // SAFETY: takes numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just made, and ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a sockaddr_ll of zeroes is a valid one.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    let len = size_of_val(&address) as u32;
    // SAFETY: `address` is live and `len` bytes long.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "{}", io::Error::last_os_error());
    socket
}

/// The two ends of a pipe: where to read, where to write.
pub fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two fds.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: just made, and ours alone.
    let [read, write] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
    (read, write)
}
