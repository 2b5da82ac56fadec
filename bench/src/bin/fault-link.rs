//! Joins two interfaces of a namespace by a link with faults, until it is killed.
//!
//! `fault-link --left NAME --right NAME [--delay-us N] [--rate-mbps N] [--queue N] [--seed N] [--loss-permille N]
//! [--duplicate-permille N] [--corrupt-permille N] [--reorder-permille N] [--reorder-us N]`; prints `ready` when it works.

use stack::link::fault::Faults;
use std::{error::Error, time::Duration};
use userstack_bench::{
    arguments::Arguments,
    fault_link::{Conditions, FaultLink},
};

/// There is nothing else that it would have to look at.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_env()?;
    let (left, right): (String, String) = (arguments.required("left")?, arguments.required("right")?);
    let conditions = conditions(&mut arguments)?;
    arguments.finish()?;

    let mut link = FaultLink::open([&left, &right], conditions)?;
    println!("ready, {conditions:?}");
    loop {
        link.turn(SLEEP_MAX)?;
    }
}

fn conditions(arguments: &mut Arguments) -> Result<Conditions, String> {
    let mut number = |name| arguments.optional::<u64>(name);
    Ok(Conditions {
        delay: Duration::from_micros(number("delay-us")?.unwrap_or(0)),
        rate_bps: number("rate-mbps")?.map(|rate| rate * 1_000_000),
        queue_packets_max: number("queue")?.map_or(usize::MAX, |queue| queue as usize),
        seed: number("seed")?.unwrap_or(1),
        faults: Faults {
            loss_permille: number("loss-permille")?.unwrap_or(0) as u32,
            duplicate_permille: number("duplicate-permille")?.unwrap_or(0) as u32,
            corrupt_permille: number("corrupt-permille")?.unwrap_or(0) as u32,
            reorder_permille: number("reorder-permille")?.unwrap_or(0) as u32,
            reorder_delay_max: stack::Duration::from_micros(number("reorder-us")?.unwrap_or(0)),
            delay: stack::Duration::ZERO,
        },
    })
}
