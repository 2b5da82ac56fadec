//! A bottleneck shared with the kernel: neither takes it all.

use std::time::Duration;
use userstack_tests::{Conditions, Family, Host, Hosts, Program, Running, Stack};

const OUR_PORT: u16 = 5201;
const KERNELS_PORT: u16 = 5202;

/// A server for one client, after which it ends.
fn serve(on: &Host, stack: Stack, port: u16) -> Running {
    Program::new(["iperf3", "-s", "-1", "-p", &port.to_string()]).on(stack).start(on).listens(on, port)
}

/// A client that receives for nine seconds, counted after three, from a sender whose congestion control is CUBIC.
fn receive(from: &Host, by: &Host, port: u16) -> Running {
    let (ip, port) = (from.address(Family::V4).to_string(), port.to_string());
    Program::new(["iperf3", "-R", "-C", "cubic", "-t", "9", "-O", "3", "-f", "k", "-c", &ip, "-p", &port]).start(by)
}

/// What a client has received, in kbit/s.
fn rate(client: Running) -> f64 {
    let text = client.wait().succeeded().text();
    let line = text.lines().find(|line| line.trim_end().ends_with("receiver")).expect("iperf3's last line");
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Kbits/sec").expect("the unit that was asked for");
    words[unit - 1].parse().expect("a number")
}

#[test]
fn a_flow_of_ours_and_one_of_the_kernels_share_a_bottleneck() {
    // Far below what any machine that runs tests forwards, and a queue of a round trip.
    let (delay, rate_bps, queue_packets_max) = (Duration::from_millis(5), Some(50_000_000), 40);
    let hosts = Hosts::over(Conditions { delay, rate_bps, queue_packets_max, ..Conditions::default() });
    let ours = serve(&hosts.ours, Stack::Preloaded, OUR_PORT).claims(OUR_PORT);
    let _kernels = serve(&hosts.ours, Stack::Kernel, KERNELS_PORT);
    let (of_ours, of_kernels) =
        (receive(&hosts.ours, &hosts.peer, OUR_PORT), receive(&hosts.ours, &hosts.peer, KERNELS_PORT));
    let (of_ours, of_kernels) = (rate(of_ours), rate(of_kernels));
    let share = of_ours / (of_ours + of_kernels);
    println!("{of_ours} beside {of_kernels} kbit/s: {share:.2}");
    assert!((1.0 / 3.0..2.0 / 3.0).contains(&share), "{of_ours} beside {of_kernels} kbit/s");
    // The control connection and the one that was measured.
    assert_eq!(ours.wait().succeeded().stats.get("flows_accepted"), 2);
}
