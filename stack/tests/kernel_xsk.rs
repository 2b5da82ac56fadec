//! The AF_XDP link on a real veth pair. Needs root.

mod rig;

use rig::{Rig, VETH, veth};
use stack::Instant;
use stack::kernel::xsk::{XskLink, open_socket};
use stack::limits::{BURST_FRAMES_MAX, QUEUE_RELEASE_MS_MAX, UMEM_FRAMES_MIN};
use stack::link::{Frame, Link};
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;
use xdp_prog::{ClaimKey, Mode, Opens, Steering};

const PORT: u16 = 4791;
const UDP: u8 = 17;
const NOW: Instant = Instant::ZERO;
const HEADERS_LEN: usize = 14 + 20 + 8;
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn bind(queue: u32) -> std::io::Result<XskLink> {
    let veth = veth();
    XskLink::bind(&veth.name, queue, veth.mtu, UMEM_FRAMES_MIN, QUEUE_RELEASE_MS_MAX)
}

/// A link that the datagrams to `PORT` are steered to.
struct Steered {
    link: XskLink,
    _steering: Steering,
}

fn steered() -> Steered {
    let link = bind(0).expect("a link");
    let steering = Steering::attach(veth().index, Mode::Auto).expect("the program attaches");
    // SAFETY: the socket is the link's, which lives on.
    let socket = unsafe { BorrowedFd::borrow_raw(link.fd()) };
    steering.own_queue(0, socket).expect("a free slot");
    steering.claim(&ClaimKey::new(UDP, IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT), Opens::All).expect("room for a claim");
    Steered { link, _steering: steering }
}

impl Steered {
    /// Waits for frames, and moves them to `burst`.
    fn receive(&mut self, burst: &mut Vec<Frame>) {
        let mut poll = libc::pollfd { fd: self.link.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        let ready = unsafe { libc::poll(&mut poll, 1, 10_000) };
        assert_eq!(ready, 1, "nothing arrives");
        assert!(self.link.rx_pending());
        self.link.rx_burst(NOW, burst);
    }

    /// Sends all of `burst`, whose frames go out in order.
    fn send(&mut self, burst: &mut Vec<Frame>) {
        self.link.tx_burst(NOW, burst);
        assert!(burst.is_empty());
        self.link.kick();
    }
}

/// The bytes of each packet, its frames joined; the frames go back.
fn packets(link: &mut XskLink, burst: Vec<Frame>) -> Vec<Vec<u8>> {
    let mut packets = vec![Vec::new()];
    for frame in burst {
        packets.last_mut().expect("never empty").extend_from_slice(&frame);
        if !frame.more {
            packets.push(Vec::new());
        }
        link.recycle(frame);
    }
    assert_eq!(packets.pop(), Some(Vec::new()), "a packet without its end");
    packets
}

/// Splits a packet into frames of the link.
fn frames(link: &mut XskLink, packet: &[u8]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut rest = packet;
    while !rest.is_empty() {
        let mut frame = link.tx_frame().expect("a free frame");
        let len = rest.len().min(frame.capacity());
        frame.set_len(len);
        frame.copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        frame.more = !rest.is_empty();
        frames.push(frame);
    }
    frames
}

/// A datagram from the near side to `PORT` of the far side; without a checksum, as IPv4 allows.
fn datagram(payload: &[u8], to_mac: [u8; 6], from_mac: [u8; 6]) -> Vec<u8> {
    let mut packet = [&to_mac[..], &from_mac, &[8, 0]].concat();
    let udp_len = (8 + payload.len()) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, UDP, 0, 0].to_vec();
    ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
    ip.extend(NEAR.octets().iter().chain(&FAR.octets()));
    let sum: u32 = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet.extend(ip);
    packet.extend([PORT.to_be_bytes(), PORT.to_be_bytes(), udp_len.to_be_bytes(), [0, 0]].concat());
    packet.extend(payload);
    packet
}

fn kernel_socket(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, PORT)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid timeout");
    socket
}

fn payload(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + seed) as u8).collect()
}

/// Answers `count` datagrams in the frames that they came in, with their addresses turned round.
fn echo(steered: &mut Steered, count: usize) {
    let mut answered = 0;
    while answered < count {
        let mut burst = Vec::new();
        steered.receive(&mut burst);
        assert!(burst.len() <= BURST_FRAMES_MAX);
        let mut is_first = true;
        for frame in &mut burst {
            if is_first {
                let [to, from, ..] = [0..6, 6..12].map(|range| frame[range].to_vec());
                frame[..12].copy_from_slice(&[from, to].concat());
                let [source, destination] = [26..30, 30..34].map(|range| frame[range].to_vec());
                frame[26..34].copy_from_slice(&[destination, source].concat());
                // The kernel leaves the checksum to hardware, which is not there: none is allowed, too.
                frame[40..42].fill(0);
            }
            is_first = !frame.more;
            answered += usize::from(is_first);
        }
        steered.send(&mut burst);
    }
}

/// A kernel client sends datagrams of `payload_len` bytes in groups, and gets each back.
fn check_echo(mtu: usize, payload_len: usize) {
    const GROUP: usize = 4;
    const GROUPS: usize = 400;
    let rig = Rig::new(mtu, 1);
    let mut far = rig.far(steered);
    std::thread::scope(|scope| {
        scope.spawn(|| echo(&mut far, GROUP * GROUPS));
        rig.near(|| {
            let socket = kernel_socket(NEAR);
            let mut buf = vec![0; payload_len + 1];
            for group in 0..GROUPS {
                for number in 0..GROUP {
                    socket.send_to(&payload(payload_len, group + number), (FAR, PORT)).expect("sent");
                }
                for number in 0..GROUP {
                    let len = socket.recv(&mut buf).expect("an answer");
                    assert!(buf[..len] == payload(payload_len, group + number), "group {group}, number {number}");
                }
            }
        });
    });
    let statistics = far.link.statistics().expect("statistics");
    assert_eq!((statistics.rx_dropped(), statistics.rx_invalid_descs(), statistics.tx_invalid_descs()), (0, 0, 0));
}

// Three times as many packets as there are frames: each frame goes round its circle several times.

#[test]
fn small_packets_are_echoed() {
    check_echo(1500, 64);
}

#[test]
fn packets_of_an_ethernet_mtu_fit_a_frame() {
    check_echo(1500, 1500 - 28);
}

#[test]
fn packets_of_a_jumbo_mtu_take_several_frames() {
    check_echo(9000, 9000 - 28);
}

#[test]
fn a_burst_beyond_the_budget_of_one_system_call_is_sent_whole() {
    let rig = Rig::new(1500, 1);
    let mut near = rig.near(steered);
    let to_mac = rig.far(|| veth().mac);
    rig.far(|| {
        let socket = kernel_socket(FAR);
        let mut burst = Vec::new();
        for number in 0..200 {
            burst.extend(frames(&mut near.link, &datagram(&[number; 32], to_mac, [2; 6])));
        }
        near.send(&mut burst);
        for number in 0..200 {
            let mut buf = [0; 64];
            let len = socket.recv(&mut buf).expect("a datagram");
            assert_eq!(buf[..len], [number; 32]);
        }
    });
}

#[test]
fn a_packet_at_the_end_of_a_burst_is_not_cut() {
    let rig = Rig::new(9000, 1);
    let (mut near, mut far) = (rig.near(steered), rig.far(steered));
    let to_mac = rig.far(|| veth().mac);
    let sent: Vec<_> = (0..20).map(|seed| datagram(&payload(8000, seed), to_mac, [2; 6])).collect();
    for packet in &sent {
        let mut burst = frames(&mut near.link, packet);
        assert_eq!(burst.len(), 5);
        near.send(&mut burst);
    }
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let mut burst = Vec::new();
        far.receive(&mut burst);
        received.extend(packets(&mut far.link, burst));
    }
    assert!(received == sent);
}

#[test]
fn receiving_leaves_the_frames_to_send_from_alone() {
    let rig = Rig::new(1500, 1);
    let mut far = rig.far(steered);
    rig.near(|| {
        let socket = kernel_socket(NEAR);
        for _ in 0..UMEM_FRAMES_MIN {
            socket.send_to(&[0; 32], (FAR, PORT)).expect("sent");
        }
    });
    let mut held = Vec::new();
    while far.link.rx_pending() {
        far.link.rx_burst(NOW, &mut held);
    }
    assert_eq!(held.len() as u32, UMEM_FRAMES_MIN / 2);
    let to_send: Vec<_> = std::iter::from_fn(|| far.link.tx_frame()).collect();
    assert_eq!(to_send.len() as u32, UMEM_FRAMES_MIN / 2);
    held.into_iter().chain(to_send).for_each(|frame| far.link.recycle(frame));
    rig.near(|| kernel_socket(NEAR).send_to(&[0; 32], (FAR, PORT)).expect("sent"));
    far.receive(&mut Vec::new());
}

#[test]
fn a_queue_has_one_owner_and_is_free_after_it() {
    let rig = Rig::new(1500, 2);
    rig.near(|| {
        assert_eq!(veth().rx_queues, 2);
        let first = bind(0).expect("a free queue");
        assert_eq!(bind(0).map(drop).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        bind(1).expect("another queue");
        assert_eq!(bind(2).map(drop).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        drop(first);
        bind(0).expect("a queue that is free again");
    });
}

#[test]
fn a_forked_child_does_not_keep_the_queue() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let link = bind(0).expect("a free queue");
        let fd = link.fd();
        // SAFETY: the child makes nothing but system calls.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: what a child has to do with the socket: close it.
            unsafe { libc::close(fd) };
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        drop(link);
        let bound = bind(0);
        // SAFETY: the child is ours.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        bound.expect("a queue that is free while the child lives");
    });
}

#[test]
fn a_process_that_may_lock_less_memory_has_fewer_frames() {
    let rig = Rig::new(1500, 1);
    rig.near(|| {
        let veth = veth();
        let limit = libc::rlimit { rlim_cur: 3 << 20, rlim_max: 3 << 20 };
        // SAFETY: a live rlimit. The other tests' threads are not bound by it: they keep CAP_IPC_LOCK.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
        keep_only_net_raw();
        let mut link = XskLink::bind(&veth.name, 0, veth.mtu, 4096, QUEUE_RELEASE_MS_MAX).expect("a smaller UMEM");
        let to_send: Vec<_> = std::iter::from_fn(|| link.tx_frame()).collect();
        assert_eq!(to_send.len(), 512, "half of the 2 MiB that fit");
        to_send.into_iter().for_each(|frame| link.recycle(frame));
    });
}

/// Drops all of this thread's capabilities but CAP_NET_RAW. capset(2).
fn keep_only_net_raw() {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    const CAP_NET_RAW: u32 = 1 << 13;
    let this_thread = [LINUX_CAPABILITY_VERSION_3, 0];
    // Effective, permitted and inheritable, the low 32 bits of each and then the high ones.
    let sets = [CAP_NET_RAW, CAP_NET_RAW, 0, 0, 0, 0];
    // SAFETY: both arrays are live, and have the layout that this version takes.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, this_thread.as_ptr(), sets.as_ptr()) }, 0);
}

#[test]
fn frames_outlive_their_link() {
    let rig = Rig::new(1500, 1);
    let mut frame = rig.near(|| bind(0).expect("a free queue").tx_frame().expect("a free frame"));
    frame.set_len(HEADERS_LEN);
    frame.fill(1);
    assert_eq!(&frame[..], [1; HEADERS_LEN]);
}

#[test]
fn a_socket_can_be_opened_beforehand() {
    let socket = open_socket().expect("root");
    assert!(socket.as_raw_fd() > 100);
    // SAFETY: F_GETFD takes numbers only.
    assert_eq!(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
}

#[test]
fn no_such_interface() {
    let name = CString::new(format!("{VETH}-none")).expect("no zero byte");
    let error = XskLink::bind(&name, 0, 1500, UMEM_FRAMES_MIN, QUEUE_RELEASE_MS_MAX).map(drop).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}
