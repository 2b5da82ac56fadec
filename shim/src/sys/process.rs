//! Starting a program past every hook and handler, and without the application's knowing: as nobody's child.

use super::{close_range, exit, outcome, raw};
use libc::{c_char, c_int, c_long, c_void};
use stack::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::{io, ptr};

/// A stack for what a new process does before it is another program: a few system calls.
type Stack = [MaybeUninit<u128>; 1024];

/// What the new process is to become.
struct Start<'a> {
    path: &'a CStr,
    argv: [*const c_char; 3],
    fds: &'a [RawFd],
    /// For the second of two processes.
    stack: &'a mut Stack,
    /// What the first one has to say.
    result: Result<(), Errno>,
}

/// Starts a program, with `fds` as its 0, 1, 2, ... and no others, an empty environment and every signal blocked. The
/// process that the kernel takes for its parent is gone when this returns.
///
/// The memory is not copied for it (CLONE_VM), nor does this thread go on before it is another program (CLONE_VFORK), and
/// of its end no signal is sent.
///
/// # Errors
/// Those of clone(2) and execve(2). `EMFILE`: one of `fds` is so low that it might be overwritten.
pub fn start_orphan(path: &CStr, argv: &[&CStr; 2], fds: &[RawFd]) -> Result<(), Errno> {
    if fds.iter().any(|&fd| fd < fds.len() as RawFd) {
        return Err(Errno::EMFILE);
    }
    let _held = crate::held_signals::HeldSignals::hold();
    let (mut first, mut second) = ([const { MaybeUninit::uninit() }; 1024], [const { MaybeUninit::uninit() }; 1024]);
    let argv = [argv[0].as_ptr(), argv[1].as_ptr(), ptr::null()];
    let mut start = Start { path, argv, fds, stack: &mut second, result: Ok(()) };
    let child = clone(leave_orphan, &mut first, &raw mut start)?;
    while call!(SYS_wait4, child, 0, libc::__WCLONE, 0) == Err(Errno::EINTR) {}
    start.result
}

/// Makes a process that shares all memory with this one, which waits until it ends or is another program.
fn clone(run: extern "C" fn(*mut c_void) -> c_int, stack: &mut Stack, start: *mut Start<'_>) -> Result<c_int, Errno> {
    let (top, flags) = (stack.as_mut_ptr_range().end, libc::CLONE_VM | libc::CLONE_VFORK);
    // SAFETY: `run` takes `start`; the stack and all that it uses live until this thread goes on.
    match unsafe { libc::clone(run, top.cast(), flags, start.cast()) } {
        -1 => Err(Errno(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN))),
        child => Ok(child),
    }
}

/// The first process: it leaves the second one without a parent.
extern "C" fn leave_orphan(start: *mut c_void) -> c_int {
    // SAFETY: it is what `clone` was given, and the thread that has it waits.
    let Start { stack, result, .. } = unsafe { &mut *start.cast::<Start<'_>>() };
    let started = clone(become_program, stack, start.cast());
    if result.is_ok() {
        *result = started.map(drop);
    }
    0
}

/// The second process.
extern "C" fn become_program(start: *mut c_void) -> c_int {
    // SAFETY: as above.
    let Start { path, argv, fds, result, .. } = unsafe { &mut *start.cast::<Start<'_>>() };
    for (number, &fd) in fds.iter().enumerate() {
        let _ = call!(SYS_dup3, fd, number, 0);
    }
    let _ = close_range(fds.len() as u32, u32::MAX, 0);
    let environment = [ptr::null::<c_char>()];
    if let Err(errno) = call!(SYS_execve, path.as_ptr(), argv.as_ptr(), environment.as_ptr()) {
        *result = Err(errno);
    }
    exit(1)
}

/// Whether this process is given those whose parents have ended: prctl(2), PR_GET_CHILD_SUBREAPER.
pub fn adopts_orphans() -> bool {
    let mut adopts: c_int = 0;
    let _ = call!(SYS_prctl, libc::PR_GET_CHILD_SUBREAPER, &raw mut adopts);
    adopts != 0
}

/// Gives this process a name and a session of its own, and keeps no directory busy.
pub fn settle_apart(name: &CStr) {
    let _ = call!(SYS_prctl, libc::PR_SET_NAME, name.as_ptr());
    let _ = call!(SYS_chdir, c"/".as_ptr());
    super::new_session();
}

/// Opens the file that this library was loaded from.
///
/// # Errors
/// Those of open(2). `ENOENT`: the loader does not know it.
pub fn open_own_library() -> io::Result<OwnedFd> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    let here: fn() -> io::Result<OwnedFd> = open_own_library;
    // SAFETY: any address may be asked for; `info` has room for the answer.
    if unsafe { libc::dladdr(here as *const c_void, info.as_mut_ptr()) } == 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: dladdr(3) has filled it in.
    let path = unsafe { info.assume_init() }.dli_fname;
    // SAFETY: the name of a library that is loaded, which ends in a zero byte.
    let path = unsafe { CStr::from_ptr(path) };
    let fd = super::open(path).and_then(super::move_high);
    let fd = fd.map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
    // SAFETY: the kernel has just made this fd, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
