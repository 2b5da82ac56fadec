//! The steering program (eBPF) and its loader: which packets of an interface come to this process.
//!
//! `steer.bpf.c` is the program. It redirects the packets that the owner of their receive queue has claimed to that
//! owner's AF_XDP socket, and passes every other packet to the kernel. [`Steering`] is one owner's share in it.
//!
//! Attaching needs CAP_BPF and CAP_NET_ADMIN, joining others CAP_SYS_ADMIN; after that no privilege is needed.

mod attach;
mod bpf;
mod claim;
mod fd;
mod map;
mod program;

pub use claim::{ClaimKey, Opens};
pub use fd::{high_fd, high_fd_floor};

use map::Map;
use program::{ClaimsByQueue, Xsks};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Receive queues of an interface that can have an owner: those with a lower number than this.
pub const QUEUES_MAX: u32 = 64;

/// Claims that one owner can hold: each of the 65,536 ports at four addresses. The table's empty buckets take 4 MiB.
pub const CLAIMS_MAX: u32 = 1 << 18;

/// How to attach the program to an interface that has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, or where it cannot, in the kernel's generic mode.
    Auto,
    /// In the driver: before the kernel allocates an skb.
    Native,
    /// On skbs, with any driver.
    Generic,
}

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// On skbs.
    Generic,
}

/// One owner's share in the steering program on one interface: queues, and a table of claims that holds on all of them.
///
/// The program stays attached as long as any process holds a `Steering` on the interface. Nothing has to be undone at
/// the end: with its AF_XDP socket a queue's owner is gone, and the packets of its claims pass to the kernel.
#[derive(Debug)]
pub struct Steering {
    link: OwnedFd,
    xsks: Xsks,
    claims_by_queue: ClaimsByQueue,
    claims: Map<ClaimKey, u32>,
    mode: AttachedMode,
}

impl Steering {
    /// Joins the program that another process of ours attached to the interface, in whatever mode that chose, or
    /// attaches it.
    ///
    /// # Errors
    /// - `ErrorKind::ResourceBusy`: another XDP program is attached; the message names it. `EBUSY`, `EEXIST` or `ENOENT`
    ///   when that changes all the time.
    /// - `EPERM`: a capability is missing.
    /// - `ENODEV`: no such interface. `EOPNOTSUPP`: not with this driver, in native mode.
    /// - `EMFILE`, `ENOMEM`; `EINVAL` from a kernel before 5.18, which does not know `xdp.frags`.
    pub fn attach(interface_index: u32, mode: Mode) -> io::Result<Steering> {
        let attachment = attach::join_or_attach(interface_index, mode)?;
        Ok(Steering {
            link: attachment.link,
            xsks: attachment.program.xsks,
            claims_by_queue: attachment.program.claims_by_queue,
            claims: Map::create_hash(c"claims", CLAIMS_MAX)?,
            mode: attachment.mode,
        })
    }

    /// How the program is attached: generic may be less than was asked for.
    pub fn attached_mode(&self) -> AttachedMode {
        self.mode
    }

    /// Makes `xsk` the receiver of `queue` for what is claimed here. Call it once the socket is bound to the queue,
    /// which proves that no other process owns it.
    ///
    /// The former owner's claims on this queue end first. Waits for an RCU grace period, some milliseconds.
    ///
    /// # Errors
    /// `E2BIG`: `queue` is not below [`QUEUES_MAX`]. `EOPNOTSUPP`: `xsk` is not an AF_XDP socket.
    pub fn own_queue(&self, queue: u32, xsk: BorrowedFd<'_>) -> io::Result<()> {
        self.claims_by_queue.insert(&queue, &self.claims.as_raw_fd())?;
        self.xsks.insert(&queue, &xsk.as_raw_fd())
    }

    /// Steers the packets of `key` to this owner from now on; of TCP segments that open a connection, those that `opens`
    /// says. Claiming again changes that. One system call.
    ///
    /// # Errors
    /// `E2BIG`: [`CLAIMS_MAX`] reached. `ENOMEM`.
    pub fn claim(&self, key: &ClaimKey, opens: Opens) -> io::Result<()> {
        self.claims.insert(key, &opens.word())
    }

    /// The packets of `key` pass to the kernel again. One system call.
    ///
    /// # Errors
    /// `ENOENT`: it was not claimed.
    pub fn release(&self, key: &ClaimKey) -> io::Result<()> {
        self.claims.remove(key)
    }

    /// The fds that are held: the link and the maps, all high and close-on-exec. A child made by fork(2) closes its
    /// copies, or the program stays attached as long as it lives.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        let Steering { link, xsks, claims_by_queue, claims, mode: _ } = self;
        [link.as_raw_fd(), xsks.as_raw_fd(), claims_by_queue.as_raw_fd(), claims.as_raw_fd()].into_iter()
    }
}
