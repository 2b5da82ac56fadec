//! Signals: which of them may come, sending them, and the sleeps that they end.

use super::{outcome, process_id, raw, timespec};
use crate::args::Room;
use crate::interruption::Waiting;
use crate::limits::ITEMS_MAX;
use libc::{c_int, c_long, epoll_event, pollfd, sigset_t};
use stack::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The length of the kernel's sigset_t, which is not that of the C library's.
const KERNEL_SIGSET_LEN: usize = 8;

/// A signal mask for the time of a wait, as the application gave it; null: none.
#[derive(Debug, Clone, Copy)]
pub struct SignalMask(pub *const sigset_t);

impl SignalMask {
    /// No mask.
    pub const NONE: Self = SignalMask(ptr::null());
}

/// A sleep in epoll_pwait2(2): fills `events` and returns how many; without `timeout` it is for ever.
pub fn sleep_in_epoll(
    waiting: &Waiting,
    epfd: RawFd,
    events: &mut Room<epoll_event>,
    timeout: Option<Duration>,
    mask: SignalMask,
) -> Result<usize, Errno> {
    let time = timeout.map(timespec);
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let len = events.len().min(ITEMS_MAX);
    let arguments = words![epfd, events.address(), len, time, mask.0, KERNEL_SIGSET_LEN];
    // SAFETY: all of these live until the call returns, and are as long as they say.
    unsafe { waiting.sleep(mask, libc::SYS_epoll_pwait2, arguments) }
}

/// A sleep in ppoll(2): returns how many of `fds` have something to say; without `timeout` it is for ever.
pub fn sleep_in_poll(
    waiting: &Waiting,
    fds: &mut [pollfd],
    timeout: Option<Duration>,
    mask: SignalMask,
) -> Result<usize, Errno> {
    let mut time = timeout.map(timespec);
    let time = time.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let arguments = words![fds.as_mut_ptr(), fds.len(), time, mask.0, KERNEL_SIGSET_LEN];
    // SAFETY: all of these live until the call returns, and are as long as they say.
    unsafe { waiting.sleep(mask, libc::SYS_ppoll, arguments) }
}

/// Blocks signals in this thread, or lets them come: a bit for each.
fn change_mask(how: c_int, signals: u64) {
    let _ = call!(SYS_rt_sigprocmask, how, &raw const signals, 0, KERNEL_SIGSET_LEN);
}

/// Blocks more signals in this thread.
pub fn block_more(signals: u64) {
    change_mask(libc::SIG_BLOCK, signals);
}

/// Lets signals come that were blocked in this thread.
pub fn unblock(signals: u64) {
    change_mask(libc::SIG_UNBLOCK, signals);
}

/// Sends this thread a signal with what is told of it.
pub fn queue_signal(signal: c_int, info: *const libc::siginfo_t) {
    let thread = thread_id();
    // At RLIMIT_SIGPENDING the signal alone still fits.
    if call!(SYS_rt_tgsigqueueinfo, process_id(), thread, signal, info).is_err() {
        send_signal(thread, signal);
    }
}

fn thread_id() -> usize {
    call!(SYS_gettid).unwrap_or(0)
}

fn send_signal(thread: usize, signal: c_int) {
    let _ = call!(SYS_tgkill, process_id(), thread, signal);
}

/// Sends this thread a signal.
pub fn raise(signal: c_int) {
    send_signal(thread_id(), signal);
}

/// Sends SIGPIPE to this thread, as the kernel does.
pub fn raise_sigpipe() {
    raise(libc::SIGPIPE);
}

/// Blocks every signal in this thread, for good.
pub fn block_signals() {
    // SAFETY: all zeroes is a sigset_t.
    let mut all: sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is a sigset_t.
    unsafe { libc::sigfillset(&mut all) };
    // SAFETY: as above; the mask of before is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, ptr::null_mut()) };
}

/// Waits until `word` is not `value` any more, for at most `limit`: futex(2).
pub fn wait_for_change(word: &AtomicU32, value: u32, limit: Duration) {
    let time = timespec(limit);
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let _ = call!(SYS_futex, word.as_ptr(), wait, value, &raw const time);
}

/// Wakes who waits for that.
pub fn wake_for_change(word: &AtomicU32) {
    let _ = call!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, c_int::MAX);
}
