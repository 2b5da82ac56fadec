//! Every bound of the shim, with its reason.

use std::os::fd::RawFd;
use std::time::Duration;

/// fds that can be ours. Linux's default for the hard limit (fs.nr_open); higher ones stay the kernel's.
pub const FDS_MAX: usize = 1 << 20;

/// Descriptions: at most one an fd.
pub const DESCRIPTIONS_MAX: usize = FDS_MAX;

/// The flows' buffers have three of so many parts of the machine's memory, as Linux's default for the last of tcp_mem.
pub const MEMORY_PARTS: usize = 32;

/// The least that they have: a process on a small machine still serves some hundred flows.
pub const MEMORY_LEN_MIN: usize = 32 << 20;

/// Epoll sets that hold sockets of ours: event loops have one a thread.
pub const SETS_MAX: usize = 1 << 12;

/// Calls that wait at once: no more threads than Linux has (PID_MAX_LIMIT).
pub const WAITS_MAX: usize = 1 << 22;

/// Registrations in one epoll set: at most one an fd.
pub const ITEMS_MAX: usize = FDS_MAX;

/// Numbers that are looked at for inherited sockets at the start of a program: what RLIMIT_NOFILE is by default, at 70 ns
/// each.
pub const ADOPTED_FDS_MAX: RawFd = 1024;

/// Processes before this one that have flows which it inherited: one for each fork(2) between them.
pub const UPSTREAMS_MAX: usize = 1 << 8;

/// How long a child of fork(2) waits for a connection of its parent's, which answers in some 50 us: a parent that does not
/// run (SIGSTOP) must not stop the child for ever.
pub const OBTAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long who holds a relay waits for an answer about an option: the owner answers in some 50 us, but not while the
/// flow takes no more bytes.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// Bytes of an option's value that go to or from a relay: struct tcp_info is the longest.
pub const OPTION_LEN_MAX: usize = 256;

/// Bytes that a relay moves at once: some segments, and what a processor's first cache holds.
pub const RELAY_PIECE_LEN: usize = 16 << 10;

/// Relays and children that are looked at in one turn of the keeper.
pub const RELAY_EVENTS_MAX: usize = 64;

/// Options of one socket that only the kernel's socket knows, and how long a value may be, for an accepted connection to
/// have its listener's. There are fewer, and shorter ones.
pub const PASSED_MAX: usize = 128;

/// As said.
pub const PASSED_LEN_MAX: usize = 256;

/// How often the kernel picks a port for a connect: with nine tenths of the ports taken by connections of closed sockets to
/// the same peer, one connect in 1,000 finds none.
pub const PORT_PICKS_MAX: usize = 64;

/// How long connections may wait at an inherited listener while this process accepts none: then others get them. A
/// process that only has much to do comes sooner.
pub const NEGLECT_MAX: Duration = Duration::from_millis(200);

/// How often that must have been seen: on a busy machine the process, too, may not have run.
pub const NEGLECT_LOOKS_MIN: u32 = 10;

/// How long connections that were given away at the close of their listener wait for another process to accept them: a
/// server that is renewed starts meanwhile. Then they are reset, as by the close.
pub const LEFT_MAX: Duration = Duration::from_secs(5);

/// How often it is looked at.
pub const NEGLECT_LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Ports kept reserved in the kernel for flows that the application has closed and the stack has not finished: each is an
/// fd of the process, which may have 1,024. Beyond that the kernel may give a port away early, and has its packets.
pub const LINGERING_MAX: usize = 128;

/// How many of those are looked at in one turn.
pub const LINGERING_LOOKS: usize = 4;

/// How long a spin may last by default: about what a sleep costs.
pub const SPIN_US: u32 = 50;

/// The largest value for `USERSTACK_SPIN_US`: a second.
pub const SPIN_US_MAX: u32 = 1_000_000;

/// What waking up from a sleep costs, about: a sleep that was no longer than this and a spin was not worth it.
pub const WAKE_COST: Duration = Duration::from_micros(20);

/// How long a thread whose waits always find sockets of ours ready goes without asking the kernel for its own: a
/// fraction of what a kernel's event takes to arrive, and many waits of a busy server.
pub const KERNEL_ASK_PERIOD: Duration = Duration::from_micros(50);

/// How often a spinning thread looks at the kernel's fds: 0.3 us of system call each time.
pub const SPIN_LOOK_PERIOD: Duration = Duration::from_micros(10);

/// How long a thread sleeps at a time, if the process is out of descriptors and it has none to be woken by: a hundred
/// looks a second.
pub const BLIND_SLEEP_MAX: Duration = Duration::from_millis(10);

/// How often the keeper looks whether an active process still attends to its stack: so long may a reply wait that was to
/// go out with others, when the thread that has them to make is slow. Some 0.1 % of a processor.
pub const KEEPER_PERIOD: Duration = Duration::from_millis(2);

/// The keeper's stack: it only turns the stack.
pub const KEEPER_STACK_LEN: usize = 256 << 10;

/// How long a process at exit waits for its peers to take what is queued.
pub const EXIT_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long it waits for them to close as well: what they send later is answered with a RST by the kernel.
pub const EXIT_GRACE: Duration = Duration::from_millis(50);

/// How long a guardian waits before it asks the peers: a queue may stay busy for 45 ms after its owner's end. Then it asks
/// again, for what was lost: Linux answers such a question twice a second.
pub const GUARDIAN_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(600)];

/// After how many questions it pauses for a millisecond: the kernel takes 1,000 packets (net.core.netdev_max_backlog).
pub const GUARDIAN_BURST: usize = 64;

/// When a process tries again for queues that another one holds; then after twice as long, and so on.
pub const ATTACH_RETRY: Duration = Duration::from_millis(100);

/// AF_XDP sockets opened ahead for each queue, for a process that drops its privileges: one for each attempt.
pub const SPARE_SOCKETS: usize = 8;

/// Frames of a queue's UMEM, half of them to receive: 4 MiB, of which an unprivileged worker may lock 8 by default, and
/// all workers of its user together. Few enough to stay in a processor's cache.
pub const UMEM_FRAMES: u32 = 2048;

/// The largest packet that we send on the loopback, whose own MTU of 65,536 is as large as a flow's buffers: several
/// have to fit these, or each would wait for the ACK of the one before.
pub const LOOPBACK_MTU: usize = 9000;

/// Turns in a row that what comes back over the loopback may take: a handshake takes three, and bulk as many as it gets.
pub const LOOPBACK_TURNS: usize = 8;

/// Bytes that sendfile(2) reads at once.
pub const SENDFILE_PIECE_LEN: usize = 32 << 10;

/// Bytes that recv(2) with MSG_TRUNC discards at most: what a receive buffer holds.
pub const DISCARD_LEN_MAX: usize = 64 << 10;

/// iovecs of one call: Linux's UIO_MAXIOV.
pub const IOVECS_MAX: usize = 1024;

/// Bytes of one call: Linux's MAX_RW_COUNT.
pub const TRANSFER_LEN_MAX: usize = 0x7fff_f000;

/// Pages of the application's memory that are known to be there: 256 MiB of them in half a megabyte of ours, which is
/// backed as it is used. A page more costs a system call for each call that names it.
pub const PAGES_NOTED: usize = 1 << 16;

/// Bytes of a line of log.
pub const LOG_LINE_LEN: usize = 512;

/// Calls that find nothing after a wait, before they turn the stack: an event loop reads each of its sockets until
/// there is no more, and what a turn in between brought would be acknowledged before it is answered.
pub const TRIES_AFTER_WAIT: u32 = 256;

/// A thread that sends more, or waits, so soon after it has sent something goes on promptly: an event loop.
pub const PROMPT_RETURN: stack::Duration = stack::Duration::from_micros(100);

/// How often in a row a thread has to come to wait promptly before what it sends is held back until it waits.
pub const PROMPT_RETURNS_MIN: u32 = 16;

/// How long that is held back while the thread has more to send: some replies for one kick, without letting the peers
/// stand idle.
pub const HOLD_BACK_MAX: stack::Duration = stack::Duration::from_micros(50);

/// The same for a file that fits it: an icon, a page of text.
pub const SENDFILE_SMALL_LEN: usize = 4096;

/// How often in a row a UDP socket receives, or finds nothing, without asking the kernel for what came there: a system
/// call of some 0.3 us then costs little, and what came there does not wait long.
pub const SHADOW_PATIENCE: u32 = 64;

/// How often a connected UDP socket that sends asks the kernel for ICMP errors: a system call of some 0.3 us.
pub const ERROR_LOOK_PERIOD: stack::Duration = stack::Duration::from_millis(1);
