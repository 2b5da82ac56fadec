//! Attaching: how a process comes by the receive queues of its interfaces.
//!
//! It happens in two steps. listen(2), connect(2) and setuid(2) only prepare: they open what needs privileges (the steering maps, AF_XDP
//! sockets), and take nothing. The first use (a connect, or an accept or a wait on a listener) takes the queues. So a
//! master process never takes the queues that its worker is to serve, and the worker takes them although it has dropped
//! its privileges by then. Queues that another process holds are tried again as connections come in over the kernel.

use crate::config::{self, Settings};
use crate::description::Role;
use crate::epoll_set::EpollSet;
use crate::epoll_set::cookie::Cookie;
use crate::guardian::Prepared;
use crate::limits::{ATTACH_RETRY, LOOPBACK_MTU, MEMORY_LEN_MIN, MEMORY_PARTS, SPARE_SOCKETS, UMEM_FRAMES};
use crate::output::Output;
use crate::world::{self, World};
use crate::{admission, args, clock, datagram, fd_table, fork, keeper, signals, sys, sysctl};
use fd_table::Entry;
use stack::kernel::interface::Interface;
use stack::kernel::loopback;
use stack::kernel::netlink::NetlinkRoutes;
use stack::kernel::steer::KernelSteer;
use stack::kernel::xsk::{self, XskLink};
use stack::kernel::{AttachedMode, Mode, Steering};
use stack::limits::QUEUE_RELEASE_MS_MAX;
use stack::link::Link;
use stack::link::pcap::{self, Pcap};
use stack::outside::{InterfaceId, NextHop};
use stack::slab::Key;
use stack::socket::tcp::ListenAddress;
use stack::stack::Stack;
use stack::{Errno, Instant};
use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    /// What libxdp's next socket(2) is answered with, or -1.
    static HANDED_OVER: Cell<RawFd> = const { Cell::new(-1) };
}

/// The stack and the interfaces that it serves.
pub struct Network {
    /// The stack.
    pub stack: Stack,
    interfaces: Vec<Served>,
    /// The stack's two netlink sockets.
    netlink: [RawFd; 2],
    /// Where the counters go at exit.
    pub stats: Option<Output>,
    /// Where captured packets go.
    capture: Option<Output>,
    /// For the guardian, until it is started.
    guardian: Option<Prepared>,
    /// The end of the channel to it.
    guarded: Option<RawFd>,
    /// When to try again for queues that another process holds.
    retry_at: Instant,
    retry_after: Duration,
}

/// One interface.
struct Served {
    interface: Interface,
    steering: Arc<Steering>,
    /// The AF_XDP socket of each queue, once it is ours.
    rings: Vec<Option<RawFd>>,
    /// AF_XDP sockets that were opened while that was allowed.
    spare: Vec<OwnedFd>,
}

impl Network {
    /// The AF_XDP sockets, which are readable when frames wait.
    pub fn rings(&self) -> impl Iterator<Item = RawFd> {
        self.interfaces.iter().flat_map(|served| served.rings.iter().flatten().copied())
    }

    /// Whether this process has taken a queue.
    pub fn is_attached(&self) -> bool {
        self.rings().next().is_some()
    }

    /// Whether connections within this host are ours.
    pub fn serves_loopback(&self) -> bool {
        self.loopback().is_some()
    }

    fn loopback(&self) -> Option<InterfaceId> {
        let index = self.interfaces.iter().position(|served| served.interface.is_loopback)?;
        Some(InterfaceId(index as u16))
    }

    /// Whether frames that came over the loopback wait: what this process has just sent, or what that was answered with.
    pub fn is_loopback_pending(&mut self) -> bool {
        self.loopback().is_some_and(|loopback| self.stack.rx_pending_at(loopback))
    }

    /// Whether no other interface is served than the one of this index.
    pub fn is_only(&self, device: u32) -> bool {
        self.interfaces.iter().all(|served| served.interface.index == device)
    }

    /// Whether a hop leaves by the interface of this index.
    pub fn is_by(&self, hop: &NextHop, device: u32) -> bool {
        self.interfaces.get(usize::from(hop.interface.0)).is_some_and(|served| served.interface.index == device)
    }

    /// Whether a reply to a packet that leaves by `hop` comes to this process, at whichever queue it arrives.
    pub fn is_whole(&self, hop: &NextHop) -> bool {
        let served = self.interfaces.get(usize::from(hop.interface.0));
        served.is_some_and(|served| served.rings.iter().all(Option::is_some))
    }

    /// The kernel's index of an interface.
    pub fn index_of(&self, interface: InterfaceId) -> u32 {
        self.interfaces.get(usize::from(interface.0)).map_or(0, |served| served.interface.index)
    }

    /// The interface of the kernel's index, if it is one of ours.
    pub fn interface_of(&self, index: u32) -> Option<InterfaceId> {
        let at = self.interfaces.iter().position(|served| served.interface.index == index)?;
        Some(InterfaceId(at as u16))
    }

    /// Every fd that a child of fork(2) must close.
    pub fn fds(&self) -> Vec<RawFd> {
        let held = |served: &Served| {
            served.spare.iter().map(AsRawFd::as_raw_fd).chain(served.steering.fds()).collect::<Vec<_>>()
        };
        let files = self.stats.iter().chain(&self.capture).map(|file| file.fd()).chain(self.netlink);
        let guardian = self.guardian.iter().flat_map(Prepared::fds).chain(self.guarded);
        self.rings().chain(self.interfaces.iter().flat_map(held)).chain(files).chain(guardian).collect()
    }
}

/// Whatever a guardian is needed for; without it the connections are served as well.
fn guarded<T>(result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "no guardian: should this process be killed, peers that wait do so for ever")).ok()
}

/// Opens what needs privileges. Does nothing when that is done, or has failed before.
pub fn prepare(world: &mut World) {
    let Some(settings) = config::get() else { return };
    if world.network.is_some() || world.cannot_attach {
        return;
    }
    match Network::prepare(settings) {
        Ok(network) => {
            for fd in network.fds() {
                fd_table::set(fd, Entry::Internal);
            }
            world.network = Some(network);
        }
        Err(error) => {
            world.cannot_attach = true;
            tracing::error!(%error, "cannot serve any interface; the kernel does");
        }
    }
}

/// Prepares while that is allowed: whoever gives up root usually does so to serve.
pub fn before_privileges_change() {
    if config::get().is_some()
        && fork::is_served()
        && let Ok(mut world) = world::enter()
    {
        prepare(&mut world);
    }
}

impl Network {
    fn prepare(settings: &Settings) -> io::Result<Network> {
        let mut interfaces = Vec::new();
        for name in &settings.interfaces {
            match Served::prepare(name, settings.xdp) {
                Ok(served) => interfaces.push(served),
                Err(error) => tracing::error!(%error, interface = ?name, "cannot serve the interface; the kernel does"),
            }
        }
        if interfaces.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let described: Vec<Interface> = interfaces.iter().map(|served| served.interface.clone()).collect();
        let steer = KernelSteer::new(interfaces.iter().map(|served| Arc::clone(&served.steering)).collect());
        let routes = NetlinkRoutes::new(&described)?;
        let netlink = routes.fds();
        let now = clock::now();
        let mut stack = Stack::new(Box::new(routes), Box::new(steer), sys::random(), now);
        stack.configure(sysctl::read(&described[0].name));
        stack.set_memory_bound((sys::memory_len() / MEMORY_PARTS * 3).max(MEMORY_LEN_MIN));
        Ok(Network {
            stack,
            interfaces,
            netlink,
            stats: Output::open_to_append(settings.stats.as_ref()),
            capture: Output::open(settings.pcap.as_ref()),
            guardian: guarded(Prepared::open()),
            guarded: None,
            retry_at: now,
            retry_after: ATTACH_RETRY,
        })
    }
}

impl Network {
    /// Starts the guardian, once.
    fn start_guardian(&mut self) {
        let Some(prepared) = self.guardian.take() else { return };
        if let Some((register, channel)) = guarded(prepared.start()) {
            self.stack.set_register(Box::new(register));
            self.guarded = Some(channel);
        }
        prepared.fds().for_each(fd_table::clear);
    }
}

impl Served {
    fn prepare(name: &std::ffi::CStr, mode: Mode) -> io::Result<Served> {
        let mut interface = Interface::query(name)?;
        if interface.is_loopback {
            loopback::admit_own_packets()?;
            interface.mtu = interface.mtu.min(LOOPBACK_MTU);
        }
        let steering = Steering::attach(interface.index, mode)?;
        if steering.attached_mode() == AttachedMode::Generic && mode != Mode::Generic && !interface.is_loopback {
            tracing::warn!(interface = ?name, "the steering program is attached in generic mode: it is slower");
        }
        let queues = interface.rx_queues as usize;
        let spare = (0..queues * SPARE_SOCKETS).map_while(|_| xsk::open_socket().ok()).collect();
        Ok(Served { interface, steering: Arc::new(steering), rings: vec![None; queues], spare })
    }
}

/// Attaches for the use of a socket, if it is a listener.
pub fn attach_for(world: &mut World, key: Key) {
    match world.description(key).map(|description| &description.role) {
        Ok(Role::Listener(_)) => {
            admission::note_use(world, key);
            attach(world, clock::now());
        }
        Ok(Role::Datagram(_)) => datagram::settle(world, key),
        _ => {}
    }
}

/// Takes the queues that are free, and serves the listeners on them. Cheap when there is nothing to do.
pub fn attach(world: &mut World, now: Instant) {
    prepare(world);
    let Some(network) = &mut world.network else { return };
    let is_complete = network.interfaces.iter().all(|served| served.rings.iter().all(Option::is_some));
    if !is_complete && network.retry_at <= now {
        take_queues(world, now);
    }
    if world.has_new_listeners && world.network.as_ref().is_some_and(Network::is_attached) {
        world.has_new_listeners = false;
        serve_listeners(world);
    }
}

fn take_queues(world: &mut World, now: Instant) {
    let Some(network) = &mut world.network else { return };
    let is_first = !network.is_attached();
    let Network { stack, interfaces, capture, retry_at, retry_after, .. } = network;
    // Who has a queue when this process begins to may be about to end; later it is tried again anyway.
    let wait_ms = if *retry_after == ATTACH_RETRY { QUEUE_RELEASE_MS_MAX } else { 0 };
    let mut taken = Vec::new();
    for (index, served) in interfaces.iter_mut().enumerate() {
        for queue in 0..served.rings.len() {
            match served.take(queue, wait_ms) {
                Ok(None) => {}
                Ok(Some(link)) => {
                    let ring = link.fd();
                    fd_table::set(ring, Entry::Internal);
                    served.rings[queue] = Some(ring);
                    if is_first && taken.is_empty() {
                        begin_capture(capture);
                    }
                    stack.add_link(InterfaceId(index as u16), captured(link, *capture));
                    taken.push(ring);
                }
                Err(error) => {
                    let name = &served.interface.name;
                    tracing::info!(%error, interface = ?name, queue, "the queue is not ours: the kernel serves it");
                }
            }
        }
    }
    *retry_at = clock::after(now, *retry_after).unwrap_or(now);
    *retry_after *= 2;
    if taken.is_empty() {
        return;
    }
    tracing::info!(queues = taken.len(), "attached");
    network.start_guardian();
    for (_, set) in world.sets.iter() {
        taken.iter().for_each(|&ring| watch_ring(set, ring));
    }
    // Whoever sleeps otherwise is to sleep on these, too.
    world.wakers.wake_all();
    match keeper::start() {
        Ok(()) => signals::trap_defaults(),
        Err(error) => tracing::error!(%error, "no keeper: flows stand still while no thread waits"),
    }
}

impl Served {
    /// Takes a queue; `None` if it is ours already.
    fn take(&mut self, queue: usize, wait_ms: u32) -> io::Result<Option<XskLink>> {
        if self.rings[queue].is_some() {
            return Ok(None);
        }
        // A socket that failed to bind cannot be used again, so a spare one is taken only where a new one is refused.
        let socket = xsk::open_socket().or_else(|error| self.spare.pop().ok_or(error))?;
        HANDED_OVER.set(socket.into_raw_fd());
        let link = XskLink::bind(&self.interface.name, queue as u32, self.interface.mtu, UMEM_FRAMES, wait_ms);
        if let Some(unused) = handed_over() {
            sys::close(unused);
        }
        let link = link?;
        // SAFETY: the link keeps its socket open.
        let socket = unsafe { BorrowedFd::borrow_raw(link.fd()) };
        self.steering.own_queue(queue as u32, socket)?;
        Ok(Some(link))
    }
}

/// The AF_XDP socket that is meant for libxdp's call of socket(2), once.
pub fn handed_over() -> Option<RawFd> {
    let fd = HANDED_OVER.replace(-1);
    (fd != -1).then_some(fd)
}

/// Begins the capture file, which all links of the process share.
fn begin_capture(capture: &mut Option<Output>) {
    if let Some(Err(error)) = capture.map(|file| file.begin(&pcap::file_header())) {
        tracing::error!(%error, "cannot capture");
        *capture = None;
    }
}

fn captured(link: XskLink, capture: Option<Output>) -> Box<dyn Link> {
    match capture {
        Some(file) => Box::new(Pcap::new(link, Box::new(file), clock::wall_offset().as_nanos() as i64)),
        None => Box::new(link),
    }
}

/// Makes a wait in the real epoll instance end when frames arrive.
pub fn watch_ring(set: &EpollSet, ring: RawFd) {
    let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
    if let Err(error) = sys::epoll_control(set.epfd, libc::EPOLL_CTL_ADD, ring, events, Cookie::Ring.pack()) {
        tracing::error!(%error, "an epoll instance cannot wait for frames");
    }
}

fn serve_listeners(world: &mut World) {
    let is_new = |role: &Role| matches!(role, Role::Listener(listener) if listener.id.is_none());
    let new = world.descriptions.iter().filter(|(_, it)| is_new(&it.role) && it.is_steered());
    let waiting: Vec<Key> = new.map(|(key, _)| key).collect();
    for key in waiting {
        if let Err(error) = serve_listener(world, key) {
            tracing::warn!(%error, "a listener is left to the kernel");
        }
    }
}

fn serve_listener(world: &mut World, key: Key) -> Result<(), Errno> {
    let World { descriptions, network, .. } = world;
    let (Some(description), Some(network)) = (descriptions.get_mut(key), network) else { return Ok(()) };
    let (Some(&fd), settings) = (description.fds.first(), description.settings) else { return Ok(()) };
    let Role::Listener(listener) = &mut description.role else { return Ok(()) };
    let mut name: sys::AddressBuffer = [0; size_of::<sys::AddressBuffer>()];
    let len = sys::socket_name(fd, &mut name)?;
    let local = args::parse_address(&name[..len]).ok_or(Errno::EAFNOSUPPORT)?;
    let address = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => ListenAddress::AnyV4,
        IpAddr::V6(ip) if ip.is_unspecified() && settings.v6only => ListenAddress::AnyV6,
        IpAddr::V6(ip) if ip.is_unspecified() => ListenAddress::Any,
        ip => ListenAddress::One(ip.to_canonical()),
    };
    let id = network.stack.tcp_listen(address, local.port(), listener.backlog, settings.tcp, key.to_bits())?;
    listener.id = Some(id);
    if let Some(admission) = listener.admission {
        network.stack.tcp_admit(id, admission.opens);
    }
    tracing::info!(%local, "listening");
    Ok(())
}
