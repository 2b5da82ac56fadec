//! libuserstack.so: the socket calls of an unmodified program, served by the stack inside its own process.
//!
//! Where to look:
//! - [`hooks`]: the C functions that are exported, grouped as the man pages are. Each looks its fd up in [`fd_table`]
//!   and passes through when it is not there.
//! - [`calls`]: what those calls do, in terms of [`description`] (what dup(2) shares) and the stack.
//! - [`world`]: everything behind the one lock, and a turn of the stack.
//! - [`wait`], [`poll`], [`epoll`]: waiting, each the same way: a turn, a look, a short spin, a sleep in the kernel.
//! - [`attach`], [`fork`], [`exit`], [`keeper`]: the life of a process that is preloaded.

mod admission;
mod adopt;
mod args;
mod attach;
mod calls;
mod cancel;
mod channel;
mod children;
mod clock;
mod config;
mod datagram;
mod description;
mod epoll;
mod epoll_set;
mod escape;
mod exit;
#[macro_use]
mod export;
mod fd_table;
#[macro_use]
mod forward;
mod fork;
mod guardian;
mod handoff;
mod heap;
mod held_signals;
mod hooks;
mod inherited;
mod interruption;
mod keeper;
mod limits;
mod log;
mod memory;
mod message;
mod old_sets;
mod output;
mod pieces;
mod placeholder;
mod poll;
mod relay;
mod ret;
mod rights;
mod signals;
mod stats;
mod successor;
mod sys;
mod sysctl;
mod thread;
mod turns;
mod wait;
mod waits;
mod waker;
mod world;

/// Runs when the library is loaded, before the program's own code.
///
/// Until then no fd is in the table and no socket enters it, so that a hook that is called earlier passes through.
extern "C" fn load() {
    hooks::resolve();
    let settings = config::Settings::from_environment();
    log::start(&settings);
    settings.report();
    if settings.interfaces.is_empty() {
        return;
    }
    config::install(settings);
    fork::install();
    adopt::at_start();
}

/// Where the library begins as a program: it is the guardian. The kernel has left the stack as a call would not.
///
/// # Safety
/// Only the dynamic loader comes here.
// SAFETY: the name is ours alone.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn userstack_guardian() {
    #[cfg(target_arch = "x86_64")]
    std::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "call {guard}", guard = sym guard);
    #[cfg(target_arch = "aarch64")]
    std::arch::naked_asm!("mov x29, xzr", "bl {guard}", guard = sym guard);
}

extern "C" fn guard() -> ! {
    guardian::guard()
}

// SAFETY: the section holds pointers to functions without arguments of interest (System V ABI, "Initialization and
// Termination Functions"); the linker keeps them in it.
#[unsafe(link_section = ".init_array")]
#[used]
static LOAD: extern "C" fn() = load;

// SAFETY: as above.
#[unsafe(link_section = ".fini_array")]
#[used]
static UNLOAD: extern "C" fn() = exit::leave;
