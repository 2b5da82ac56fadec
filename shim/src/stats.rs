//! The counters of the shim, and the file of all counters at exit.

use crate::world::World;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Calls on sockets that could have been ours, which the kernel served: a connect elsewhere, an unknown option.
pub static CALLS_PASSED: AtomicU64 = AtomicU64::new(0);

/// Connections to our listeners that came over the kernel.
pub static ACCEPTED_FROM_KERNEL: AtomicU64 = AtomicU64::new(0);

/// Sleeps in the kernel.
pub static SLEEPS: AtomicU64 = AtomicU64::new(0);

/// Counts one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Writes `USERSTACK_STATS`, if it is set: one JSON object. A process that has served nothing (the master of a worker)
/// leaves what those that did have written.
pub fn write_out(world: &World) {
    let Some((network, file)) = world.network.as_ref().and_then(|network| Some((network, network.stats?))) else {
        return;
    };
    if !network.is_attached() && !file.is_empty() {
        return;
    }
    let mut json = String::from("{");
    let mut add = |name: &str, value: u64| {
        let comma = if json.len() > 1 { ", " } else { "" };
        let _ = write!(json, "{comma}\"{name}\": {value}");
    };
    network.stack.counters().for_each(&mut add);
    add("calls_passed", CALLS_PASSED.load(Ordering::Relaxed));
    add("accepted_from_kernel", ACCEPTED_FROM_KERNEL.load(Ordering::Relaxed));
    add("sleeps", SLEEPS.load(Ordering::Relaxed));
    json.push_str("}\n");
    if let Err(error) = file.begin(json.as_bytes()) {
        tracing::error!(%error, "cannot write the counters");
    }
}
