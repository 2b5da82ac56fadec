//! Exporting a C function in front of the next definition of the same name: redhook, and a proof of the signature.

use libc::{
    c_char, c_int, c_void, clockid_t, epoll_event, nfds_t, pollfd, pthread_t, sigaction, sighandler_t, sigset_t,
    size_t, sockaddr, socklen_t, ssize_t, timespec,
};

/// Exports C functions. The body says what the function returns when it is ours, or `None` to pass through: then the
/// next definition (the C library's) is called with the untouched arguments.
///
/// The signature is proved against the declaration after `=`, at compile time. A variadic function is proved as such
/// and exported with one word-sized argument in place of `...`: on Linux's x86-64 and AArch64 a caller passes a
/// variadic integer or pointer exactly as a named one, and the kernel, too, takes a word.
macro_rules! export {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $ret:ty = $declared:path $(as $variadic:ty)? $body:block
    )*) => {
        /// One module a function, in a module of their own: here their names are free for what serves them.
        mod exports {
            $(
                $(#[$doc])*
                #[allow(non_snake_case)]
                pub mod $name {
                    use super::super::*;

                    export!(@prove [$($type),*] [$ret] $declared $(as $variadic)?);

                    mod exported {
                        use super::*;

                        redhook::hook! {
                            unsafe fn $name($($arg: $type),*) -> $ret => hook {
                                let was_asynchronous = crate::cancel::begin();
                                let answer = loop {
                                    // SAFETY: these are the arguments of the application's own call.
                                    let answer = unsafe { serve($($arg),*) };
                                    if !crate::cancel::act() || answer.is_some() {
                                        break answer;
                                    }
                                };
                                crate::cancel::end(was_asynchronous);
                                match answer {
                                    Some(answer) => answer,
                                    // SAFETY: as above, untouched.
                                    None => unsafe { next($($arg),*) },
                                }
                            }
                        }

                        /// The next definition.
                        ///
                        /// # Safety
                        /// The arguments are as the function's man page wants them.
                        pub unsafe fn next($($arg: $type),*) -> $ret {
                            // SAFETY: the caller's promise.
                            unsafe { redhook::real!($name)($($arg),*) }
                        }

                        /// Looks the next definition up now, so that no dlsym(3) runs in a signal handler later.
                        pub fn resolve() {
                            redhook::real!($name);
                        }
                    }

                    /// Answers the call, if it is ours; it need not look at every argument for that.
                    ///
                    /// # Safety
                    /// The arguments are as the function's man page wants them.
                    #[allow(unused_variables)]
                    unsafe fn serve($($arg: $type),*) -> Option<$ret> $body

                    pub use exported::resolve;
                }
            )*
        }

        /// Looks up the next definitions of this file's functions.
        pub fn resolve() {
            $(exports::$name::resolve();)*
        }
    };
    (@prove [$($type:ty),*] [$ret:ty] $declared:path) => {
        const _: unsafe extern "C" fn($($type),*) -> $ret = $declared;
    };
    (@prove [$($type:ty),*] [$ret:ty] $declared:path as $variadic:ty) => {
        const _: $variadic = $declared;
    };
}

/// The socket of ours at an fd, in a function that [`export`] exports. Any other fd ends that function: one of the
/// kernel's passes through, and one that the application does not know of is `EBADF`, whatever the other arguments are.
macro_rules! socket {
    ($fd:expr) => {
        match crate::fd_table::serve($fd)? {
            Ok(socket) => socket,
            Err(errno) => return crate::ret::failure(errno),
        }
    };
}

// What the libc crate lacks, as glibc's headers (bits/socket2.h, bits/unistd.h, bits/poll2.h, sys/epoll.h,
// unistd.h, signal.h, pthread.h) declare it. Those of pthread.h that end the thread unwind past us, as the C library's own calls do.
#[allow(missing_docs, clashing_extern_declarations)]
unsafe extern "C" {
    pub fn __read_chk(fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t) -> ssize_t;
    pub fn __recv_chk(fd: c_int, buf: *mut c_void, len: size_t, buf_len: size_t, flags: c_int) -> ssize_t;
    pub fn __recvfrom_chk(
        fd: c_int,
        buf: *mut c_void,
        len: size_t,
        buf_len: size_t,
        flags: c_int,
        address: *mut sockaddr,
        address_len: *mut socklen_t,
    ) -> ssize_t;
    pub fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int, fds_len: size_t) -> c_int;
    pub fn __ppoll_chk(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
        fds_len: size_t,
    ) -> c_int;
    pub fn epoll_pwait2(
        epfd: c_int,
        events: *mut epoll_event,
        max: c_int,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int;
    pub fn closefrom(first: c_int);
    pub fn _Exit(status: c_int) -> !;
    pub fn quick_exit(status: c_int) -> !;
    pub fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int;
    pub fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int;
    pub fn fcntl64(fd: c_int, command: c_int, ...) -> c_int;
    pub fn pthread_cancel(thread: pthread_t) -> c_int;
    pub fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    pub fn pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int;
    pub fn pthread_testcancel();
    pub fn pthread_getcpuclockid(thread: pthread_t, clock: *mut clockid_t) -> c_int;
    pub fn __sigaction(signal: c_int, action: *const sigaction, old: *mut sigaction) -> c_int;
    pub fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    pub fn ssignal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    pub fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    pub fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    pub fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t;
    pub fn sigignore(signal: c_int) -> c_int;
    pub fn siginterrupt(signal: c_int, interrupts: c_int) -> c_int;
}
