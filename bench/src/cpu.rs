//! CPU time of this process, of another one and of the whole machine, in seconds.
//!
//! On a veth pair each side's receive work runs inside the other side's send, so one process's time says little: compare
//! both sides together, or the machine.

use std::{fs, io, mem::MaybeUninit};

/// User and system time of this process so far. getrusage(2).
///
/// # Errors
/// What getrusage(2) answered.
pub fn own_seconds() -> io::Result<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is writable and as large as the call expects.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above filled it, and all zeroes is a valid rusage too.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// User and system time of process `pid` so far, all its threads together, in steps of one clock tick. proc_pid_stat(5).
///
/// # Errors
/// No such process, or no /proc.
pub fn process_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // utime and stime are fields 14 and 15; this text starts with field 3.
    Ok(after_name.split_whitespace().skip(11).take(2).filter_map(ticks).sum::<f64>() / ticks_per_second())
}

/// Time that the machine's processors were busy so far, interrupts included, in steps of one clock tick. proc_stat(5).
///
/// # Errors
/// No /proc.
pub fn machine_busy_seconds() -> io::Result<f64> {
    Ok(busy_ticks(&fs::read_to_string("/proc/stat")?) / ticks_per_second())
}

/// Sums the first line's fields but for idle, iowait (the fourth and fifth) and those of guests, which user time holds.
fn busy_ticks(stat: &str) -> f64 {
    let first_line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first_line.split_whitespace().skip(1).take(8).filter_map(ticks).collect();
    fields.iter().enumerate().filter(|&(index, _)| index != 3 && index != 4).map(|(_, ticks)| ticks).sum()
}

fn ticks(field: &str) -> Option<f64> {
    field.parse().ok()
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf takes no pointer.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_leaves_out_idle_iowait_and_guests() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 4000 8000\ncpu0 1 1 1 1 1 1 1 1 1 1\n"), 63.0);
    }

    #[test]
    fn a_process_grows_older() {
        let before = own_seconds().unwrap();
        assert!(process_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(own_seconds().unwrap() >= before);
    }
}
