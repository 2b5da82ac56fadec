//! Every bound of the stack, with its reason.

use crate::Duration;

/// Frames taken from or given to a ring at once: enough to spread a kick's cost, few enough to stay in the L1 cache.
pub const BURST_FRAMES_MAX: usize = 64;

/// Room in front of an IP packet for the Ethernet header and one VLAN tag.
pub const LINK_HEADER_LEN_MAX: usize = 18;

/// Packets under way in one direction of a wire in memory: more than any simulation means to have, so that an end
/// that nobody reads does not fill the memory.
pub const WIRE_PACKETS_MAX: usize = 1 << 16;

/// Bytes of a flow's receive buffer in the beginning: its window is what Linux begins with, but for a segment or two.
pub const RECEIVE_BUFFER_LEN: usize = 65_536;

/// Bytes of a flow's send buffer in the beginning: Linux's default for tcp_wmem. It grows with the first write that is
/// longer.
pub const SEND_BUFFER_LEN: usize = 16_384;

/// Flows of a stack: a process has fewer fds than that.
pub const FLOWS_MAX: usize = 1 << 20;

/// Listeners of a stack: a server with a port for each of its services has tens.
pub const LISTENERS_MAX: usize = 1 << 14;

/// Claimed ports: every port for every local address that is in use.
pub const CLAIMS_MAX: usize = 1 << 20;

/// Flows in TIME-WAIT: Linux's default for tcp_max_tw_buckets.
pub const TIME_WAIT_MAX: usize = 1 << 18;

/// Places in the queue by which they leave: those of flows that left early are swept out now and then.
pub const TIME_WAIT_PLACES_MAX: usize = 2 * TIME_WAIT_MAX;

/// How long a closed flow is remembered: Linux's TCP_TIMEWAIT_LEN.
pub const TIME_WAIT_LEN: Duration = Duration::from_secs(60);

/// How long a peer's clock may stand still and still be compared with (RFC 7323, 5.5).
pub const TIMESTAMP_IDLE_MAX: Duration = Duration::from_secs(24 * 24 * 3600);

/// How long a half-open flow is waited for by who could accept another one meanwhile: some round trips.
pub const OPENING_LEN: Duration = Duration::from_millis(100);

/// Half-open flows that a listener may have whatever its backlog, which Linux takes for the bound. From there on SYNs
/// are answered with cookies, which round the segment size down; 256 entries of the SYN queue take 41 KB.
pub const HALF_OPEN_MIN: usize = 256;

/// Half-open flows of a stack: 11 MB. From there on SYNs are answered with cookies.
pub const SYN_QUEUE_MAX: usize = 1 << 16;

/// How long after it had to send a SYN cookie a listener accepts one: Linux's TCP_SYNCOOKIE_VALID.
pub const SYN_COOKIE_LEN: Duration = Duration::from_secs(120);

/// How long a flow may stay in SYN-RECEIVED: what tcp_synack_retries of 5 come to.
pub const SYN_RECEIVED_LEN: Duration = Duration::from_secs(63);

/// Challenge ACKs of a stack in a second (RFC 5961, 7), on average: too few to be of use to an attacker.
pub const CHALLENGE_ACKS_PER_SECOND: u32 = 100;

/// The time between two challenge ACKs of a flow: Linux's tcp_invalid_ratelimit.
pub const CHALLENGE_ACK_GAP: Duration = Duration::from_millis(500);

/// Segments that a flow acknowledges at once in its beginning: Linux's TCP_MAX_QUICKACKS.
pub const QUICK_ACKS: u8 = 16;

/// How long after a turn could not empty a ring receive windows do not grow: some round trips of a short path.
pub const CROWDED_LEN: Duration = Duration::from_millis(10);

/// Bursts taken from one link in one turn, before the others and the timers have theirs.
pub const BURSTS_PER_TURN: usize = 4;

/// Segments that a flow may send before the next one has its turn.
pub const SEGMENTS_PER_EGRESS: usize = 64;

/// How often the kernel's route changes are read: a system call.
pub const ROUTES_REFRESH: Duration = Duration::from_millis(10);

/// How often a next hop that is being resolved is asked for again.
pub const RESOLVE_RETRY: Duration = Duration::from_millis(1);

/// How long a next hop may stay unresolved before connect(2) fails with EHOSTUNREACH: about what ARP takes to give up.
pub const RESOLVE_LEN: Duration = Duration::from_secs(3);

/// The largest IP packet that is put together from several frames.
pub const PACKET_LEN_MAX: usize = 65_535;

/// The smallest MTU that a route or a path may have: Linux's min_pmtu, which leaves 512 bytes of payload.
pub const MTU_MIN: usize = 552;

/// The smallest MTU of IPv6's links (RFC 8200, 5), and so of its paths.
pub const MTU_MIN_V6: usize = 1280;

/// Destinations whose path is known to be narrower than its route: 2 MB. The oldest one makes room.
pub const PATH_MTUS_MAX: usize = 1 << 14;

/// How long a path is taken to be as narrow as a router said (RFC 1191, 6.3; Linux's mtu_expires).
pub const PATH_MTU_LEN: Duration = Duration::from_secs(600);

/// Path MTUs from here on are rounded down to multiples of `PATH_MTU_STEP`, so that routers, or who pretends to be one,
/// cannot have more than 1,750 interfaces of smoltcp made: half a megabyte.
pub const PATH_MTU_STEP_FROM: usize = 2048;

/// See `PATH_MTU_STEP_FROM`: 12 % at most.
pub const PATH_MTU_STEP: usize = 256;

/// After so many retransmissions by the clock, all unanswered, the path may be a black hole: Linux's tcp_retries1.
pub const BLACK_HOLE_RETRIES: u32 = 3;

/// Bytes of the segments that are tried first in a black hole of IPv4: Linux's tcp_base_mss (RFC 4821, 7.2).
pub const BLACK_HOLE_MSS: usize = 1024;

/// Frames of a UMEM, half to receive and half to send: a few bursts, and a window's worth of segments to send.
pub const UMEM_FRAMES_MIN: u32 = 512;

/// 128 MiB of frames: more than any burst of a fast NIC's queue needs.
pub const UMEM_FRAMES_MAX: u32 = 1 << 16;

/// How long a receive queue may stay busy after its owner has closed it, in milliseconds: measured at 45 at most, and some
/// times that on a busy machine.
pub const QUEUE_RELEASE_MS_MAX: u32 = 250;

/// Cached answers to "how do I reach this address?": the remote addresses of a busy server.
pub const NEXT_HOPS_MAX: usize = 1 << 16;

/// Neighbours that are followed: more than the kernel keeps by default (gc_thresh3 of 1,024).
pub const NEIGHBOURS_MAX: usize = 4096;

/// How often the kernel is prompted for a neighbour that it is looking for: as often as ARP asks (retrans_time_ms).
pub const NEIGHBOUR_PROMPT: Duration = Duration::from_secs(1);

/// How long a neighbour that did not answer counts as unreachable before it is looked for again.
pub const NEIGHBOUR_FAILED_LEN: Duration = Duration::from_secs(1);

/// How often a stale neighbour is confirmed: about the kernel's base_reachable_time.
pub const NEIGHBOUR_REVALIDATE: Duration = Duration::from_secs(30);

/// How long after the last question a neighbour is still confirmed: flows ask when they open, and may live on.
pub const NEIGHBOUR_USE_LEN: Duration = Duration::from_secs(600);

/// Datagrams of notices that are read at once; what is left waits for the next time.
pub const NOTICES_PER_REFRESH: usize = 256;

/// How long an ACK waits for bytes to go with it. Linux's is 40 ms; RFC 9293, 3.8.6.3 allows 500 ms.
pub const ACK_DELAY: Duration = Duration::from_millis(10);

/// Segments that a flow may send before it has heard of its path (RFC 6928).
pub const INITIAL_WINDOW: f64 = 10.0;

/// The largest congestion window, in segments: 1.5 GB under way.
pub const CWND_MAX: f64 = 1e6;

/// The retransmission timeout before the round-trip time is known (RFC 6298, 2.1).
pub const RTO_INITIAL: Duration = Duration::from_secs(1);

/// What the retransmission timeout is at least beyond the round-trip time: Linux's TCP_RTO_MIN.
pub const RTO_MIN: Duration = Duration::from_millis(200);

/// The largest retransmission timeout: Linux's TCP_RTO_MAX.
pub const RTO_MAX: Duration = Duration::from_secs(120);

/// How much later than two round trips a tail-loss probe is sent at least: the clock's coarseness, as in Linux.
pub const PROBE_DELAY: Duration = Duration::from_millis(2);

/// How long the ACK of a flow's first bytes waits: a server has yet to accept it, and then mostly answers at once.
pub const FIRST_ACK_DELAY: Duration = Duration::from_millis(1);

/// How often an open flow whose route is gone looks for another: routes come and go within a second.
pub const UNREACHABLE_RETRY: Duration = Duration::from_millis(200);

/// UDP sockets of a stack: a process has fewer fds than that.
pub const UDP_SOCKETS_MAX: usize = 1 << 20;

/// What a datagram in a receive queue takes of SO_RCVBUF beside its bytes: about what Linux's own bookkeeping does.
pub const DATAGRAM_COST: usize = 512;

/// The least buffer, in bytes: a page, as tcp_rmem[0] and tcp_wmem[0].
pub const BUFFER_LEN_MIN: usize = 4096;

/// The largest: its window of 7.5 MiB fills 1 Gbit/s at a round trip of 60 ms. Linux's defaults (tcp_rmem, tcp_wmem) count
/// what the kernel spends on a segment beside its bytes, too.
pub const BUFFER_LEN_MAX: usize = 8 << 20;

/// The scale of our windows, as of Linux with its default for tcp_rmem: 65,535 times 128 is the largest buffer.
pub const WINDOW_SHIFT: u8 = 7;

/// Bytes of buffers that flows have, if nobody says otherwise.
pub const MEMORY_LEN_DEFAULT: usize = 1 << 30;

/// Bytes of free buffers that keep their pages: those of some hundred flows, for the next ones.
pub const WARM_LEN_MAX: usize = 32 << 20;

/// Segments of the window of a half full buffer while memory is scarce: tcp_adjust_rcv_ssthresh() of Linux.
pub const SCARCE_WINDOW_SEGMENTS: usize = 4;

/// Congestion windows that a send buffer has room for: one under way, one to follow, and what ACKs take to bring the
/// application back. Linux's two count up to three times the bytes.
pub const SEND_WINDOWS: usize = 4;

/// How long a flow is quiet before its buffers are taken: longer than the pauses of a conversation, so that what it costs
/// to give them back (some microseconds) does not matter.
pub const QUIET_LEN: Duration = Duration::from_secs(1);

/// Flows that are looked at in one turn for that.
pub const QUIET_LOOKS: usize = 64;

/// The largest IP packet with a datagram that we send through a router: IPv6's minimum MTU (RFC 8200, 5), which IPv4's
/// paths have, too. The kernel sends larger ones, and finds out what the path lets through.
pub const FORWARDED_LEN_MAX: u16 = 1280;
