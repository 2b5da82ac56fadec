//! longjmp(3), pthread_exit(3) and their variants: a signal handler may leave a call of ours by them.

use crate::waits;

forward! {
    /// longjmp(3).
    fn longjmp(_environment) = { waits::leave() };

    /// As `longjmp`: BSD's name.
    fn _longjmp(_environment) = { waits::leave() };

    /// siglongjmp(3).
    fn siglongjmp(_environment) = { waits::leave() };

    /// All of these, with _FORTIFY_SOURCE.
    fn __longjmp_chk(_environment) = { waits::leave() };

    /// pthread_exit(3).
    fn pthread_exit(_value) = { waits::leave() };

    /// thrd_exit(3).
    fn thrd_exit(_value) = { waits::leave() };
}
