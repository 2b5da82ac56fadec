//! The counters of the shim, and the file of all counters at exit.

use crate::config;
use crate::output::Output;
use crate::sys;
use crate::world::World;
use stack::counters::Counters;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Calls on sockets that could have been ours, which the kernel served: a connect elsewhere, an unknown option.
pub static CALLS_PASSED: AtomicU64 = AtomicU64::new(0);

/// Connections to our listeners that came over the kernel.
pub static ACCEPTED_FROM_KERNEL: AtomicU64 = AtomicU64::new(0);

/// UDP datagrams received that came over the kernel, and calls that ended in an error of its socket's.
pub static DATAGRAMS_FROM_KERNEL: AtomicU64 = AtomicU64::new(0);

/// UDP datagrams that the kernel sent for a socket of ours.
pub static DATAGRAMS_BY_KERNEL: AtomicU64 = AtomicU64::new(0);

/// Sleeps in the kernel.
pub static SLEEPS: AtomicU64 = AtomicU64::new(0);

/// Counts one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds a line to `USERSTACK_STATS`, if it is set: this process's counters as one JSON object.
pub fn write_out(world: &World) {
    let network = world.network.as_ref();
    // One that never came to prepare opens the file only now.
    let file = match network {
        Some(network) => network.stats,
        None => config::get().and_then(|settings| Output::open_to_append(settings.stats.as_ref())),
    };
    let Some(mut file) = file else { return };
    let mut json = format!("{{\"pid\": {}", sys::process_id());
    let mut add = |name: &str, value: u64| {
        let _ = write!(json, ", \"{name}\": {value}");
    };
    network.map_or(&Counters::default(), |network| network.stack.counters()).for_each(&mut add);
    add("calls_passed", CALLS_PASSED.load(Ordering::Relaxed));
    add("accepted_from_kernel", ACCEPTED_FROM_KERNEL.load(Ordering::Relaxed));
    add("datagrams_from_kernel", DATAGRAMS_FROM_KERNEL.load(Ordering::Relaxed));
    add("datagrams_by_kernel", DATAGRAMS_BY_KERNEL.load(Ordering::Relaxed));
    add("sleeps", SLEEPS.load(Ordering::Relaxed));
    json.push_str("}\n");
    // In one piece, so that no other process's comes in between.
    if let Err(error) = file.write_all(json.as_bytes()) {
        tracing::error!(%error, "cannot write the counters");
    }
}
