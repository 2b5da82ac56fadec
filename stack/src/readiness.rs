//! What is true of a socket right now, in the terms of poll(2).

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of conditions; empty is `Readiness::default()`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    /// Something to read, a connection to accept, or the end of the stream: EPOLLIN.
    pub const READABLE: Self = Readiness(1);
    /// Room to write: EPOLLOUT.
    pub const WRITABLE: Self = Readiness(2);
    /// The peer will send no more: EPOLLRDHUP.
    pub const PEER_CLOSED: Self = Readiness(4);
    /// Both directions are over: EPOLLHUP.
    pub const HANGUP: Self = Readiness(8);
    /// An error is waiting to be read: EPOLLERR.
    pub const ERROR: Self = Readiness(16);
    /// Of what has happened only: its state has changed, which wakes whoever waits for anything (sk_state_change of Linux).
    pub const STATE: Self = Readiness(32);
    /// An urgent byte is there to be read: EPOLLPRI.
    pub const PRIORITY: Self = Readiness(64);
    /// Of what has happened only: bytes have come, but fewer than SO_RCVLOWAT asks for. It wakes who takes them all the same.
    pub const BYTES: Self = Readiness(128);

    /// Whether nothing is true.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether everything in `other` is true.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether something in `other` is true.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is true here and not in `other`.
    pub fn without(self, other: Self) -> Self {
        Readiness(self.0 & !other.0)
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Readiness(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Readiness {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Readiness(self.0 & other.0)
    }
}
