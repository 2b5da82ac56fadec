//! exec(3), posix_spawn(3), popen(3), system(3): what starts another program. It inherits from the kernel only.

use crate::escape;
use libc::{FILE, c_char, c_int, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};

export! {
    /// execve(2).
    fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int = libc::execve {
        escape::before_exec();
        None
    }

    /// execv(3).
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int = libc::execv {
        escape::before_exec();
        None
    }

    /// execvp(3).
    fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int = libc::execvp {
        escape::before_exec();
        None
    }

    /// execvpe(3).
    fn execvpe(file: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int = libc::execvpe {
        escape::before_exec();
        None
    }

    /// fexecve(3).
    fn fexecve(fd: c_int, argv: *const *const c_char, envp: *const *const c_char) -> c_int = libc::fexecve {
        escape::before_exec();
        None
    }

    /// execveat(2).
    fn execveat(
        fd: c_int, path: *const c_char, argv: *const *mut c_char, envp: *const *mut c_char, flags: c_int,
    ) -> c_int = libc::execveat {
        escape::before_exec();
        None
    }

    /// posix_spawn(3).
    fn posix_spawn(
        pid: *mut pid_t, path: *const c_char, actions: *const posix_spawn_file_actions_t,
        attributes: *const posix_spawnattr_t, argv: *const *mut c_char, envp: *const *mut c_char,
    ) -> c_int = libc::posix_spawn {
        escape::before_program();
        None
    }

    /// posix_spawnp(3).
    fn posix_spawnp(
        pid: *mut pid_t, file: *const c_char, actions: *const posix_spawn_file_actions_t,
        attributes: *const posix_spawnattr_t, argv: *const *mut c_char, envp: *const *mut c_char,
    ) -> c_int = libc::posix_spawnp {
        escape::before_program();
        None
    }

    /// posix_spawn_file_actions_adddup2(3): what it is done with later, the C library does itself.
    fn posix_spawn_file_actions_adddup2(
        actions: *mut posix_spawn_file_actions_t, fd: c_int, to: c_int,
    ) -> c_int = libc::posix_spawn_file_actions_adddup2 {
        escape::release(fd);
        None
    }

    /// popen(3).
    fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE = libc::popen {
        escape::before_program();
        None
    }

    /// system(3).
    fn system(command: *const c_char) -> c_int = libc::system {
        escape::before_program();
        None
    }
}

forward! {
    /// execl(3).
    fn execl(_path) = { escape::before_exec() };

    /// execlp(3).
    fn execlp(_file) = { escape::before_exec() };

    /// execle(3).
    fn execle(_path) = { escape::before_exec() };
}
