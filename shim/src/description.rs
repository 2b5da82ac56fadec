//! A description: what the fds that dup(2) made of one socket share.

use crate::admission::Admission;
use crate::calls::bind::Chosen;
use crate::calls::passed::Passed;
use crate::calls::zerocopy::Zerocopy;
use crate::datagram::Datagram;
use crate::handoff::Mailbox;
use crate::relay::Relay;
use crate::sys;
use crate::waker::WakerId;
use libc::c_int;
use stack::slab::Key;
use stack::socket::tcp::TcpOptions;
use stack::socket::{FlowId, ListenerId, Socket};
use stack::stack::Stack;
use stack::{Errno, Readiness};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

/// Which registration in which epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The set.
    pub set: Key,
    /// The registration.
    pub item: Key,
}

/// A socket of ours.
#[derive(Debug)]
pub struct Description {
    /// AF_INET or AF_INET6.
    pub family: c_int,
    /// The fds that stand for it.
    pub fds: Vec<RawFd>,
    /// What it has become.
    pub role: Role,
    /// O_NONBLOCK.
    pub nonblocking: bool,
    /// What a new socket has until setsockopt(2) says otherwise, and an accepted one takes over from its listener.
    pub settings: Settings,
    /// The options that only the kernel's socket knows.
    pub passed: Passed,
    /// Why the connection that it was is over: SO_ERROR, once.
    pub error: Option<Errno>,
    /// It was shut down before it was a connection: the kernel knows what that makes it, and serves it from then on.
    pub is_shut: bool,
    /// What bind(2) has chosen.
    pub chosen: Chosen,
    /// What getsockname(2) says while it is not bound again: what the connection that it was has left behind.
    pub left: Option<SocketAddr>,
    /// The interface that it is bound to (SO_BINDTODEVICE), by its index.
    pub device: Option<u32>,
    /// What it has sent with MSG_ZEROCOPY.
    pub zerocopy: Zerocopy,
    /// Where epoll_ctl(2) has registered it.
    pub watches: Vec<Watch>,
    /// Threads that sleep until something happens to it.
    pub sleepers: Vec<WakerId>,
    /// Threads whose calls wait for it.
    pub waiters: u32,
    /// The application has closed it: it lives on, by an fd of our own, for those that wait.
    pub is_closed: bool,
}

/// What setsockopt(2) has set, beside what only the kernel's socket knows.
#[derive(Debug, Default, Clone, Copy)]
pub struct Settings {
    /// What the stack does.
    pub tcp: TcpOptions,
    /// SO_RCVTIMEO; `None` is for ever.
    pub receive_timeout: Option<Duration>,
    /// SO_SNDTIMEO; `None` is for ever.
    pub send_timeout: Option<Duration>,
    /// SO_LINGER, in seconds.
    pub linger_s: Option<c_int>,
    /// SO_ZEROCOPY.
    pub zerocopy: bool,
    /// TCP_INQ.
    pub tells_unread: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
    /// IPV6_V6ONLY.
    pub v6only: bool,
}

/// What a socket has become.
#[derive(Debug)]
pub enum Role {
    /// Made, perhaps bound: the kernel's in all but that it may yet become one of the others.
    Undecided,
    /// A connection.
    Flow(Flow),
    /// A listening socket.
    Listener(Listener),
    /// A UDP socket. Its shadow is one in the kernel.
    Datagram(Datagram),
    /// A connection that was handed to the kernel: no fd stands for it any more.
    Relay(Relay),
}

/// A connection of ours.
#[derive(Debug)]
pub struct Flow {
    /// The stack's flow.
    pub id: FlowId,
    /// What the kernel has in its place.
    pub shadow: Shadow,
    /// What connect(2) says of it.
    pub standing: Standing,
    /// After how many forks of this process it began: later ones have copies of it.
    pub born: u64,
}

/// How far connect(2) has come with a flow: enum socket_state of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not yet said how it ended.
    Connecting,
    /// It is done.
    Connected,
    /// It was shut down before that was said.
    Disconnecting,
}

/// The kernel's socket behind a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shadow {
    /// The application's own, bound to the flow's port, which it reserves.
    Bound,
    /// A placeholder, which is no flow's own.
    Placeholder,
    /// One of its own, which remembers options.
    Own,
}

/// A listening socket. Its shadow listens in the kernel.
#[derive(Debug)]
pub struct Listener {
    /// The stack's listener, once this process serves it.
    pub id: Option<ListenerId>,
    /// The bound of the accept queue.
    pub backlog: usize,
    /// The shadow was seen to have a connection.
    pub shadow_is_ready: bool,
    /// The next accept(2) looks at the shadow first, so that neither side starves the other.
    pub shadow_is_next: bool,
    /// This process has waited there or accepted.
    pub is_used: bool,
    /// Other processes have it, too, or had it first: which connections are for this one.
    pub admission: Option<Admission>,
    /// Where those are for the others.
    pub mailbox: Option<Mailbox>,
    /// It comes from another program, or went to one: others may have it that do not have the mailbox.
    pub is_elsewhere: bool,
}

impl Listener {
    /// One that this process does not serve yet.
    pub fn new(backlog: usize) -> Self {
        Listener {
            id: None,
            backlog,
            shadow_is_ready: false,
            shadow_is_next: false,
            is_used: false,
            admission: None,
            mailbox: None,
            is_elsewhere: false,
        }
    }
}

impl Description {
    /// A new socket.
    pub fn new(family: c_int) -> Self {
        Description {
            family,
            fds: Vec::new(),
            role: Role::Undecided,
            nonblocking: false,
            settings: Settings::default(),
            passed: Passed::default(),
            error: None,
            is_shut: false,
            chosen: Chosen::default(),
            left: None,
            zerocopy: Zerocopy::default(),
            device: None,
            watches: Vec::new(),
            sleepers: Vec::new(),
            waiters: 0,
            is_closed: false,
        }
    }

    /// Makes a closed one a new socket, keeping its memory.
    pub fn renew(&mut self, family: c_int, role: Role, nonblocking: bool, settings: Settings) {
        (self.family, self.role, self.nonblocking, self.settings) = (family, role, nonblocking, settings);
        (self.passed, self.error, self.is_shut, self.device) = (Passed::default(), None, false, None);
        (self.chosen, self.left, self.zerocopy) = (Chosen::default(), None, Zerocopy::default());
        (self.waiters, self.is_closed) = (0, false);
        self.fds.clear();
        self.watches.clear();
        self.sleepers.clear();
    }

    /// Whether it is a connection of ours, in whosever hands.
    pub fn is_flow(&self) -> bool {
        matches!(self.role, Role::Flow(_) | Role::Relay(_))
    }

    /// What the stack knows it as.
    pub fn socket(&self) -> Option<Socket> {
        match &self.role {
            Role::Flow(flow) => Some(Socket::Flow(flow.id)),
            Role::Relay(relay) => Some(Socket::Flow(relay.flow)),
            Role::Listener(listener) => listener.id.map(Socket::Listener),
            Role::Datagram(datagram) => datagram.id.map(Socket::Udp),
            Role::Undecided => None,
        }
    }

    /// Which new connections it is steered, if it is an inherited listener.
    pub fn admission(&self) -> Option<&Admission> {
        match &self.role {
            Role::Listener(listener) => listener.admission.as_ref(),
            _ => None,
        }
    }

    /// Whether connections are steered to a listener: its own process need not have used it.
    pub fn is_steered(&self) -> bool {
        matches!(&self.role, Role::Listener(listener) if listener.is_used || listener.admission.is_none())
    }

    /// What is true of it now. `stack` is the one of this process, if there is one.
    pub fn readiness(&self, stack: Option<&Stack>) -> Readiness {
        let ours = self.socket().zip(stack).map(|(socket, stack)| stack.readiness(socket)).unwrap_or_default();
        match &self.role {
            Role::Listener(listener) if listener.shadow_is_ready => ours | Readiness::READABLE,
            // What cannot go out at once, the shadow waits for.
            Role::Datagram(datagram) => ours | datagram.turns.shadow | Readiness::WRITABLE,
            Role::Undecided if self.is_shut => self.fds.first().map(|&fd| conditions(fd)).unwrap_or_default(),
            // As Linux says of a TCP socket that is not connected.
            Role::Undecided if self.error.is_some() => Readiness::WRITABLE | Readiness::HANGUP | Readiness::ERROR,
            Role::Undecided => Readiness::WRITABLE | Readiness::HANGUP,
            Role::Flow(_) if self.zerocopy.is_done() => ours | Readiness::ERROR,
            _ => ours,
        }
    }

    /// Whether there is a socket of the kernel's beside it that may have something to say.
    pub fn has_shadow(&self) -> bool {
        matches!(self.role, Role::Listener(_) | Role::Datagram(_))
    }

    /// Looks again whether the shadow, once seen to have something, still has it.
    pub fn refresh_shadow(&mut self) {
        let Some(fd) = self.fds.first().copied() else { return };
        match &mut self.role {
            Role::Listener(listener) if listener.shadow_is_ready => listener.shadow_is_ready = sys::is_readable(fd),
            Role::Datagram(datagram) => datagram.refresh_shadow(fd),
            _ => {}
        }
    }
}

/// What is true of the kernel's socket.
fn conditions(fd: RawFd) -> Readiness {
    let asked = CONDITIONS.iter().fold(0, |all, (_, bits)| all | *bits as i16);
    let bits = u32::from(sys::look(fd, asked) as u16);
    let has = |(_, asked): &&(Readiness, i32)| bits & *asked as u32 != 0;
    CONDITIONS.iter().filter(has).fold(Readiness::default(), |all, (condition, _)| all | *condition)
}

/// Each condition, and the bits that ask for it and no other one.
const CONDITIONS: [(Readiness, i32); 5] = [
    (Readiness::READABLE, libc::EPOLLIN),
    (Readiness::WRITABLE, libc::EPOLLOUT),
    (Readiness::PEER_CLOSED, libc::EPOLLRDHUP),
    (Readiness::HANGUP, libc::EPOLLHUP),
    (Readiness::ERROR, libc::EPOLLERR),
];

/// poll(2)'s bits for what is true, or for what has happened; epoll(7)'s are the same numbers.
pub fn poll_bits(readiness: Readiness) -> u32 {
    if readiness.contains(Readiness::STATE) {
        return !0;
    }
    let bits = [
        (Readiness::READABLE, libc::EPOLLIN | libc::EPOLLRDNORM),
        (Readiness::WRITABLE, libc::EPOLLOUT | libc::EPOLLWRNORM),
        (Readiness::PEER_CLOSED, libc::EPOLLRDHUP | libc::EPOLLIN | libc::EPOLLRDNORM),
        (Readiness::HANGUP, libc::EPOLLHUP),
        (Readiness::ERROR, libc::EPOLLERR),
        (Readiness::PRIORITY, libc::EPOLLPRI),
    ];
    bits.iter().filter(|(condition, _)| readiness.contains(*condition)).fold(0, |all, (_, bits)| all | *bits as u32)
}
