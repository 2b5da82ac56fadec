//! What the application has set for each signal: sigaction(2), and the functions before it.
//!
//! From when the process first uses a socket of ours, a function of ours is installed in the place of each handler, with
//! the handler's own flags and mask. It puts the signal off while the thread is in the middle of one of our calls, notes
//! for a wait that a handler runs, and calls the handler. The application is told of its own handlers only.

use crate::export::__sigaction;
use crate::held_signals::HeldSignals;
use crate::{exit, fork, interruption, sys};
use libc::{
    SA_RESETHAND, SA_RESTART, SA_SIGINFO, SIG_DFL, SIG_IGN, c_int, c_uint, c_ulong, c_void, sigaction, sighandler_t,
    siginfo_t,
};
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// One more than the highest signal's number.
const SIGNALS_END: usize = 65;

/// What the application has set for a signal of which our function is installed; the mask and the other flags are with
/// the kernel. It is written only while our function is not installed, but for SA_RESTART.
struct Set {
    handler: AtomicUsize,
    flags: AtomicI32,
}

impl Set {
    fn get(&self) -> Before {
        Before { handler: self.handler.load(Ordering::Relaxed), flags: self.flags.load(Ordering::Relaxed) }
    }
}

/// What the application had set for a signal, before a change.
pub struct Before {
    handler: sighandler_t,
    flags: c_int,
}

static SETS: [Set; SIGNALS_END] =
    [const { Set { handler: AtomicUsize::new(SIG_DFL), flags: AtomicI32::new(0) } }; SIGNALS_END];

/// Our function is to be installed in the place of handlers.
static IS_WRAPPING: AtomicBool = AtomicBool::new(false);

/// It is to be installed, too, where a signal ends the process by default: there may be something to deliver.
static IS_TRAPPING: AtomicBool = AtomicBool::new(false);

/// A thread changes what is set for a signal: what it finds is what it replaces.
static IS_CHANGING: AtomicBool = AtomicBool::new(false);

/// The C library's own signals, which it lets nobody set (nptl(7)).
const INTERNAL: [c_int; 2] = [32, 33];

/// Signals that are left alone: those that say at once what an instruction has done, which handlers of Java, Go and crash
/// reporters need to see there; and those that nobody can set.
const LEFT_ALONE: [c_int; 9] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGKILL,
    libc::SIGSTOP,
];

/// Signals that by default do not end the process (signal(7)).
const HARMLESS: [c_int; 7] =
    [libc::SIGCHLD, libc::SIGCONT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGURG, libc::SIGWINCH];

fn set_of(signal: c_int) -> Option<&'static Set> {
    let is_left_alone = LEFT_ALONE.contains(&signal) || INTERNAL.contains(&signal);
    SETS.get(usize::try_from(signal).ok()?).filter(|_| signal > 0 && !is_left_alone)
}

/// What the kernel has for a signal.
fn installed(signal: c_int) -> Option<sigaction> {
    // SAFETY: all zeroes is a sigaction.
    let mut action: sigaction = unsafe { zeroed() };
    // SAFETY: it only reads the present action into `action` (sigaction(2)).
    let failed = unsafe { __sigaction(signal, ptr::null(), &mut action) } != 0;
    (!failed).then_some(action)
}

fn install(signal: c_int, action: &sigaction) {
    // SAFETY: the action is whole; of the present one nothing is asked.
    unsafe { __sigaction(signal, action, ptr::null_mut()) };
}

/// What stands for our function in a sigaction.
fn ours() -> sighandler_t {
    userstack_handle as *const () as sighandler_t
}

/// Whether the application has a handler for a signal.
pub fn is_handled(signal: c_int) -> bool {
    installed(signal).is_some_and(|action| action.sa_sigaction != SIG_DFL && action.sa_sigaction != SIG_IGN)
}

/// From now on our function stands in the place of handlers: this process uses a socket of ours.
#[inline]
pub fn wrap_all() {
    if !IS_WRAPPING.load(Ordering::Relaxed) {
        begin_to_wrap();
    }
}

#[cold]
fn begin_to_wrap() {
    IS_WRAPPING.store(true, Ordering::SeqCst);
    let _changing = Changing::begin();
    (1..SIGNALS_END as c_int).for_each(wrap);
}

/// From now on a signal that ends the process by default has it deliver what is queued before, as exit(3) does.
pub fn trap_defaults() {
    // The kernel spares the first process of a namespace those signals, unless it has handlers (pid_namespaces(7)).
    if IS_WRAPPING.load(Ordering::Relaxed) && sys::process_id() != 1 && !IS_TRAPPING.swap(true, Ordering::SeqCst) {
        let _changing = Changing::begin();
        (1..SIGNALS_END as c_int).for_each(wrap);
    }
}

/// The turn of this thread to change something; no handler runs in it meanwhile.
struct Changing {
    _held: HeldSignals,
}

impl Changing {
    fn begin() -> Self {
        let held = HeldSignals::hold();
        while IS_CHANGING.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Changing { _held: held }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        IS_CHANGING.store(false, Ordering::Release);
    }
}

/// In a child of fork(2), the thread whose turn it was may be missing.
pub fn forget() {
    IS_CHANGING.store(false, Ordering::Release);
}

fn is_trapped(signal: c_int) -> bool {
    IS_TRAPPING.load(Ordering::Relaxed) && !HARMLESS.contains(&signal)
}

/// Puts our function in the place of a handler of the application's, when it is this thread's turn.
fn wrap(signal: c_int) {
    let (Some(set), Some(mut action)) = (set_of(signal), installed(signal)) else { return };
    match action.sa_sigaction {
        SIG_IGN => {}
        SIG_DFL if !is_trapped(signal) => {}
        handler if handler == ours() => {
            // siginterrupt(3) has changed that alone.
            let others = set.flags.load(Ordering::Relaxed) & !SA_RESTART;
            set.flags.store(others | action.sa_flags & SA_RESTART, Ordering::Relaxed);
        }
        handler => {
            set.handler.store(handler, Ordering::Relaxed);
            set.flags.store(action.sa_flags, Ordering::Relaxed);
            action.sa_sigaction = ours();
            action.sa_flags = action.sa_flags & !SA_RESETHAND | SA_SIGINFO;
            install(signal, &action);
        }
    }
}

/// Has the next definition change what is set for a signal; `None`: it is none that we have to do with.
pub fn change<T>(signal: c_int, next: impl FnOnce() -> T) -> Option<(T, Before)> {
    let set = set_of(signal).filter(|_| IS_WRAPPING.load(Ordering::Relaxed))?;
    // A child of vfork(2) has handlers of its own, and its parent's memory.
    if !fork::is_served() {
        let before = set.get();
        return Some((next(), before));
    }
    let _changing = Changing::begin();
    let before = set.get();
    let answer = next();
    wrap(signal);
    Some((answer, before))
}

/// The same for a definition that looks at the mask and changes it, and so cannot wait for its turn.
pub fn change_with_mask<T>(signal: c_int, next: impl FnOnce() -> T) -> Option<(T, Before)> {
    let before = set_of(signal).filter(|_| IS_WRAPPING.load(Ordering::Relaxed))?.get();
    let answer = next();
    if fork::is_served() {
        let _changing = Changing::begin();
        wrap(signal);
    }
    Some((answer, before))
}

/// What rt_sigaction(2) has where sigaction(2) has more (linux/signal_types.h): no mask is read here.
#[repr(C)]
pub struct KernelAction {
    handler: sighandler_t,
    flags: c_ulong,
}

impl Before {
    /// The same for the system call.
    pub fn reveal_kernels(&self, action: &mut KernelAction) {
        if action.handler == ours() {
            (action.handler, action.flags) = (self.handler, self.flags as c_uint as c_ulong);
        }
    }

    /// The handler that the application knows, where `handler` was found.
    pub fn handler(&self, handler: sighandler_t) -> sighandler_t {
        if handler == ours() { self.handler } else { handler }
    }

    /// The action that the application knows, where `action` was found.
    pub fn reveal(&self, action: &mut sigaction) {
        if action.sa_sigaction == ours() {
            action.sa_sigaction = self.handler;
            action.sa_flags = self.flags;
        }
    }
}

unsafe extern "C" {
    /// What is installed in the place of handlers: it asks [`handler_to_run`] and jumps there, so that a handler that
    /// ends its thread, or jumps away, has no frame of ours below it.
    fn userstack_handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void);
    /// A handler that does nothing.
    fn userstack_do_not_handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void);
}

/// The address of the handler that is to run now; one that wants no more than the signal ignores the other arguments.
extern "C" fn handler_to_run(signal: c_int, info: *mut siginfo_t, context: *mut c_void) -> sighandler_t {
    // SAFETY: these are the arguments of a handler of SA_SIGINFO.
    let is_put_off = unsafe { interruption::put_off(signal, info, context.cast()) };
    let Some(set) = set_of(signal).filter(|_| !is_put_off) else {
        return userstack_do_not_handle as *const () as sighandler_t;
    };
    let (handler, flags) = (set.handler.load(Ordering::Relaxed), set.flags.load(Ordering::Relaxed));
    if handler == SIG_DFL {
        exit::end_by(signal);
    }
    if flags & SA_RESETHAND != 0 {
        reset(signal, flags);
    }
    // SAFETY: as above.
    unsafe { interruption::note(flags & SA_RESTART != 0, context.cast()) };
    handler
}

/// SA_RESETHAND: one that is put off, the kernel must not reset.
fn reset(signal: c_int, flags: c_int) {
    let _changing = Changing::begin();
    let Some(mut action) = installed(signal).filter(|action| action.sa_sigaction == ours()) else { return };
    Before { handler: SIG_DFL, flags }.reveal(&mut action);
    install(signal, &action);
    wrap(signal);
}

/// Has a signal do what it does by default.
pub fn set_default(signal: c_int) {
    // SAFETY: all zeroes is SIG_DFL, without flags and mask.
    install(signal, &unsafe { zeroed() });
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".hidden userstack_handle",
    ".hidden userstack_do_not_handle",
    ".globl userstack_handle, userstack_do_not_handle",
    ".type userstack_handle, @function",
    "userstack_handle:",
    ".cfi_startproc",
    "push rdi",
    ".cfi_adjust_cfa_offset 8",
    "push rsi",
    ".cfi_adjust_cfa_offset 8",
    "push rdx",
    ".cfi_adjust_cfa_offset 8",
    "call {handler_to_run}",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    "pop rsi",
    ".cfi_adjust_cfa_offset -8",
    "pop rdi",
    ".cfi_adjust_cfa_offset -8",
    "jmp rax",
    "userstack_do_not_handle:",
    "ret",
    ".cfi_endproc",
    ".size userstack_handle, . - userstack_handle",
    handler_to_run = sym handler_to_run,
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".hidden userstack_handle",
    ".hidden userstack_do_not_handle",
    ".globl userstack_handle, userstack_do_not_handle",
    ".type userstack_handle, @function",
    "userstack_handle:",
    ".cfi_startproc",
    "stp x0, x1, [sp, #-32]!",
    ".cfi_def_cfa_offset 32",
    "stp x2, x30, [sp, #16]",
    ".cfi_offset 30, -8",
    "bl {handler_to_run}",
    "mov x16, x0",
    "ldp x2, x30, [sp, #16]",
    ".cfi_restore 30",
    "ldp x0, x1, [sp], #32",
    ".cfi_def_cfa_offset 0",
    "br x16",
    "userstack_do_not_handle:",
    "ret",
    ".cfi_endproc",
    ".size userstack_handle, . - userstack_handle",
    handler_to_run = sym handler_to_run,
);
