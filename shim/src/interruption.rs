//! Signal handlers and the calls of ours that they interrupt.
//!
//! A handler of the application's never runs while its thread is in the middle of one of our calls: it is put off until
//! that is over, or until the call sleeps in the kernel. So a handler may call whatever signal-safety(7) names, and a wait
//! knows of every handler that ran during it, whether it slept, spun or looked.

use crate::sys::{self, SignalMask};
use libc::{c_int, c_long, siginfo_t, ucontext_t};
use stack::Errno;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, compiler_fence};

/// What one thread and the handlers that interrupt it tell each other.
struct State {
    /// Nested reasons to put handlers off.
    depth: AtomicU32,
    /// Signals that were put off, a bit each: they are pending, and blocked.
    pending: AtomicU64,
    /// What the first handler since the beginning of a wait means for it.
    handled: AtomicU8,
}

thread_local! {
    static STATE: State =
        const { State { depth: AtomicU32::new(0), pending: AtomicU64::new(0), handled: AtomicU8::new(NOTHING) } };
}

/// No handler ran.
const NOTHING: u8 = 0;
/// One that was installed with SA_RESTART.
const RESTART: u8 = 1;
/// One that was not.
const END: u8 = 2;

/// What a handler means for the call that it has interrupted: signal(7), "Interruption of system calls".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It begins again, if it is of the kind that does.
    Restart,
    /// It ends with EINTR.
    End,
}

/// Handlers are put off for as long as this lives.
pub struct Deferral;

impl Deferral {
    /// Puts them off.
    #[inline]
    pub fn begin() -> Self {
        STATE.with(|state| state.depth.store(state.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed));
        compiler_fence(Ordering::SeqCst);
        Deferral
    }
}

impl Drop for Deferral {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        STATE.with(|state| {
            let depth = state.depth.load(Ordering::Relaxed) - 1;
            state.depth.store(depth, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            if depth == 0 && state.pending.load(Ordering::Relaxed) != 0 {
                state.let_run();
            }
        });
    }
}

impl State {
    /// Lets the signals come that were put off.
    #[cold]
    fn let_run(&self) {
        sys::unblock(self.pending.swap(0, Ordering::Relaxed));
    }
}

/// Whether a signal waits for this thread's call to be over, or to sleep.
#[inline]
pub fn is_signal_pending() -> bool {
    STATE.with(|state| state.pending.load(Ordering::Relaxed) != 0)
}

/// Puts a signal off, in its handler, if it has come in the middle of a call of ours: it becomes pending again, as it was,
/// and is blocked until that is over. True if so; then the handler has to return.
///
/// # Safety
/// The arguments are those of a signal handler of SA_SIGINFO (sigaction(2)).
pub unsafe fn put_off(signal: c_int, info: *mut siginfo_t, context: *mut ucontext_t) -> bool {
    STATE.with(|state| {
        if state.depth.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let bit = 1 << (signal - 1);
        // First, lest it comes at once: with SA_NODEFER it is not blocked in here.
        sys::block_more(bit);
        state.pending.fetch_or(bit, Ordering::Relaxed);
        // SAFETY: the caller's promise: it is what the handler's return sets.
        let mask = unsafe { &raw mut (*context).uc_sigmask };
        // SAFETY: as above.
        unsafe { libc::sigaddset(mask, signal) };
        sys::queue_signal(signal, info);
        true
    })
}

/// Notes in a handler that it is going to run.
///
/// # Safety
/// `context` is the handler's third argument (sigaction(2)).
pub unsafe fn note(restarts: bool, context: *mut ucontext_t) {
    STATE.with(|state| {
        if state.handled.load(Ordering::Relaxed) == NOTHING {
            state.handled.store(if restarts { RESTART } else { END }, Ordering::Relaxed);
        }
    });
    // SAFETY: the caller's promise.
    let at = unsafe { program_counter(context) };
    // SAFETY: as above: nothing else has it.
    let at = unsafe { &mut *at };
    let sleep = (&raw const userstack_sleep_look).addr()..(&raw const userstack_sleep_end).addr();
    if sleep.contains(&(*at as usize)) {
        *at = (&raw const userstack_sleep_not).addr() as _;
    }
}

/// A time in which a call waits: from its beginning on the handlers that run are noticed, and they run only where it
/// [`sleep`](Self::sleep)s.
pub struct Waiting {
    _deferral: Deferral,
    /// What a call has noticed that a handler interrupted, in which this one is.
    outer: u8,
}

impl Waiting {
    /// Begins it.
    pub fn begin() -> Self {
        let deferral = Deferral::begin();
        let outer = STATE.with(|state| state.handled.swap(NOTHING, Ordering::Relaxed));
        Waiting { _deferral: deferral, outer }
    }

    /// Makes a system call that sleeps; one that a handler ends with `EINTR`. A handler that ran since the beginning, or
    /// since [`take`](Self::take), ends it at once. `mask` is the one that the call itself sets.
    ///
    /// # Errors
    /// What the system call says: `EINTR`.
    ///
    /// # Safety
    /// The arguments are as the system call wants them.
    pub unsafe fn sleep(&self, mask: SignalMask, number: c_long, arguments: [c_long; 6]) -> Result<usize, Errno> {
        STATE.with(|state| {
            let depth = state.depth.swap(0, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            // With a mask of its own the system call itself says what may come.
            if mask.0.is_null() && state.pending.load(Ordering::Relaxed) != 0 {
                state.let_run();
            }
            // SAFETY: the caller's promise; `handled` outlives the call.
            let answer = unsafe { userstack_sleep(state.handled.as_ptr(), number, &arguments) };
            compiler_fence(Ordering::SeqCst);
            state.depth.store(depth, Ordering::Relaxed);
            sys::outcome(answer)
        })
    }

    /// What has become of the handlers that ran since the beginning, or since the last time that this was asked.
    pub fn take(&self) -> Option<Handled> {
        match STATE.with(|state| state.handled.swap(NOTHING, Ordering::Relaxed)) {
            NOTHING => None,
            RESTART => Some(Handled::Restart),
            _ => Some(Handled::End),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        STATE.with(|state| state.handled.store(self.outer, Ordering::Relaxed));
    }
}

unsafe extern "C" {
    /// Makes a system call, unless `handled` is something: then it is interrupted already.
    fn userstack_sleep(handled: *const u8, number: c_long, arguments: &[c_long; 6]) -> c_long;
    /// From here on it counts on nothing to be noted before [`userstack_sleep_end`]. A handler that runs in between has it
    /// go on at [`userstack_sleep_not`].
    static userstack_sleep_look: u8;
    static userstack_sleep_end: u8;
    static userstack_sleep_not: u8;
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".hidden userstack_sleep",
    ".hidden userstack_sleep_look",
    ".hidden userstack_sleep_end",
    ".hidden userstack_sleep_not",
    ".globl userstack_sleep, userstack_sleep_look, userstack_sleep_end, userstack_sleep_not",
    ".type userstack_sleep, @function",
    "userstack_sleep:",
    ".cfi_startproc",
    "mov rcx, rdi",
    "mov rax, rsi",
    "mov r11, rdx",
    "mov rdi, [r11]",
    "mov rsi, [r11 + 8]",
    "mov rdx, [r11 + 16]",
    "mov r10, [r11 + 24]",
    "mov r8, [r11 + 32]",
    "mov r9, [r11 + 40]",
    "userstack_sleep_look:",
    "cmp byte ptr [rcx], 0",
    "jne userstack_sleep_not",
    "syscall",
    "userstack_sleep_end:",
    "ret",
    "userstack_sleep_not:",
    "mov rax, -{interrupted}",
    "ret",
    ".cfi_endproc",
    ".size userstack_sleep, . - userstack_sleep",
    interrupted = const libc::EINTR,
);

/// Where a thread goes on after its handler.
///
/// # Safety
/// `context` is a handler's third argument (sigaction(2)).
#[cfg(target_arch = "x86_64")]
unsafe fn program_counter(context: *mut ucontext_t) -> *mut i64 {
    // SAFETY: the caller's promise.
    unsafe { &raw mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] }
}

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".hidden userstack_sleep",
    ".hidden userstack_sleep_look",
    ".hidden userstack_sleep_end",
    ".hidden userstack_sleep_not",
    ".globl userstack_sleep, userstack_sleep_look, userstack_sleep_end, userstack_sleep_not",
    ".type userstack_sleep, @function",
    "userstack_sleep:",
    ".cfi_startproc",
    "mov x9, x0",
    "mov x8, x1",
    "mov x10, x2",
    "ldp x0, x1, [x10]",
    "ldp x2, x3, [x10, #16]",
    "ldp x4, x5, [x10, #32]",
    "userstack_sleep_look:",
    "ldrb w11, [x9]",
    "cbnz w11, userstack_sleep_not",
    "svc 0",
    "userstack_sleep_end:",
    "ret",
    "userstack_sleep_not:",
    "mov x0, -{interrupted}",
    "ret",
    ".cfi_endproc",
    ".size userstack_sleep, . - userstack_sleep",
    interrupted = const libc::EINTR,
);

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn program_counter(context: *mut ucontext_t) -> *mut u64 {
    // SAFETY: the caller's promise.
    unsafe { &raw mut (*context).uc_mcontext.pc }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals;
    use std::cell::Cell;

    thread_local! {
        static SEEN: Cell<u32> = const { Cell::new(0) };
    }

    extern "C" fn see(_signal: c_int) {
        SEEN.set(SEEN.get() + 1);
    }

    /// Has a handler for each of two signals, the first one's with SA_RESTART.
    fn handle() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(set_handlers);
    }

    fn set_handlers() {
        for (signal, flags) in [(libc::SIGUSR1, libc::SA_RESTART), (libc::SIGUSR2, 0)] {
            // SAFETY: all zeroes is a sigaction.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            (action.sa_sigaction, action.sa_flags) = (see as *const () as usize, flags);
            // SAFETY: the action is whole, and only counts.
            assert_eq!(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) }, 0);
        }
        signals::wrap_all();
    }

    /// A sleep of a millisecond.
    fn sleep(waiting: &Waiting) -> Result<usize, Errno> {
        sys::sleep_in_poll(waiting, &mut [], Some(std::time::Duration::from_millis(1)), SignalMask::NONE)
    }

    #[test]
    fn a_handler_is_put_off_to_the_end() {
        handle();
        sys::raise(libc::SIGUSR1);
        assert_eq!(SEEN.get(), 1);
        let (outer, inner) = (Deferral::begin(), Deferral::begin());
        sys::raise(libc::SIGUSR1);
        sys::raise(libc::SIGUSR2);
        assert!(is_signal_pending());
        drop(inner);
        assert_eq!(SEEN.get(), 1);
        drop(outer);
        assert_eq!(SEEN.get(), 3);
        assert!(!is_signal_pending());
    }

    #[test]
    fn a_wait_learns_of_the_first_handler_where_it_sleeps() {
        handle();
        let waiting = Waiting::begin();
        assert_eq!((sleep(&waiting), waiting.take()), (Ok(0), None));
        for (signal, handled) in [(libc::SIGUSR1, Handled::Restart), (libc::SIGUSR2, Handled::End)] {
            let seen = SEEN.get();
            sys::raise(signal);
            assert_eq!(SEEN.get(), seen);
            assert_eq!((sleep(&waiting), SEEN.get()), (Err(Errno::EINTR), seen + 1));
            // Until it has taken note it does not sleep.
            assert_eq!(sleep(&waiting), Err(Errno::EINTR));
            assert_eq!(waiting.take(), Some(handled));
        }
    }

    #[test]
    fn a_wait_in_a_handler_leaves_the_interrupted_one_its_own() {
        handle();
        let waiting = Waiting::begin();
        sys::raise(libc::SIGUSR2);
        assert_eq!(sleep(&waiting), Err(Errno::EINTR));
        let inner = Waiting::begin();
        assert_eq!((sleep(&inner), inner.take()), (Ok(0), None));
        drop(inner);
        assert_eq!(waiting.take(), Some(Handled::End));
    }
}
