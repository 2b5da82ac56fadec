//! Sockets to which something has happened, in the order in which it happened, each once.

use crate::readiness::Readiness;
use crate::socket::Socket;
use std::collections::VecDeque;

/// What a socket keeps for the ready list.
#[derive(Debug, Default, Clone, Copy)]
pub struct Watch {
    /// What the owner calls the socket; 0 is nobody's.
    pub token: u64,
    rose: Readiness,
    queued: bool,
}

/// The sockets that wait to be collected.
#[derive(Default)]
pub struct ReadyList(VecDeque<Socket>);

impl ReadyList {
    /// Notes that `rose` happened to a socket.
    pub fn push(&mut self, socket: Socket, watch: &mut Watch, rose: Readiness) {
        if rose.is_empty() || watch.token == 0 {
            return;
        }
        watch.rose |= rose;
        if !watch.queued {
            watch.queued = true;
            self.0.push_back(socket);
        }
    }

    /// Takes the next socket; its `Watch` is then to be `take`n.
    pub fn pop(&mut self) -> Option<Socket> {
        self.0.pop_front()
    }
}

impl Watch {
    /// A socket that its owner calls `token`.
    pub fn new(token: u64) -> Self {
        Watch { token, ..Watch::default() }
    }

    /// Whether the socket waits to be collected.
    pub fn is_queued(&self) -> bool {
        self.queued
    }

    /// What has happened since the last time.
    pub fn take(&mut self) -> Readiness {
        self.queued = false;
        std::mem::take(&mut self.rose)
    }
}
