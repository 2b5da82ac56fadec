//! Floods a port with SYNs of spoofed sources, until it is killed or for a while.
//!
//! `syn-flood --interface NAME --from MAC --to MAC --target ADDRESS:PORT --rate N [--seconds S]`: N a second. Prints how many
//! it has sent.

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};
use userstack_bench::{
    arguments::Arguments,
    syn_flood::{SynFlood, parse_address},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_env()?;
    let interface: String = arguments.required("interface")?;
    let [from, to] = [arguments.required::<String>("from")?, arguments.required("to")?];
    let target = arguments.required("target")?;
    let rate: f64 = arguments.required("rate")?;
    let seconds = arguments.optional("seconds")?.unwrap_or(f64::INFINITY);
    arguments.finish()?;

    let mut flood = SynFlood::open(&interface, parse_address(&from)?, parse_address(&to)?, target, 1)?;
    let start = Instant::now();
    loop {
        let passed = start.elapsed().as_secs_f64();
        if passed >= seconds {
            println!(r#"{{"sent":{}}}"#, flood.sent());
            return Ok(());
        }
        flood.send((passed * rate - flood.sent() as f64) as u32)?;
        thread::sleep(Duration::from_millis(1));
    }
}
