//! Loss, reordering and sharing on a line of 1 Gbit/s with a round trip of 1 ms, on a virtual clock. The floors are what
//! Linux reaches with CUBIC on such a line.

#[allow(dead_code)]
mod sim;

use sim::{Conditions, World};
use stack::Duration;
use stack::link::fault::Faults;
use stack::link::wire::WireConfig;
use stack::socket::FlowId;

/// 256 packets fit its queue.
fn line(faults: Faults, seed: u64) -> Conditions {
    let wire = WireConfig {
        delay: Duration::from_micros(500),
        rate_bps: Some(1_000_000_000),
        queue_packets_max: 256,
        frames: 4096,
        ..WireConfig::default()
    };
    Conditions { wire, faults, seed, resolve: Duration::ZERO }
}

/// Sends as fast as `flows` allow for a while; what each has received by then.
fn bulk(world: &mut World, flows: &[(FlowId, FlowId)], len: Duration) -> Vec<u64> {
    let end = world.now + len;
    let (data, mut buf) = ([7; 16_384], vec![0; 1 << 17]);
    let mut received = vec![0; flows.len()];
    while world.now < end {
        for (&(client, server), received) in flows.iter().zip(&mut received) {
            while world.client.tcp_send(client, &data).is_ok() {}
            while let Ok(len) = world.server.tcp_recv(server, &mut buf) {
                *received += len as u64;
            }
        }
        assert!(world.step());
    }
    received
}

/// Gbit/s of one flow, over several seeds.
fn rate(faults: Faults, len: Duration) -> f64 {
    const SEEDS: u64 = 1;
    let bytes: u64 = (1..=SEEDS)
        .map(|seed| {
            let mut world = World::new(line(faults, seed));
            let listener = world.listen(1);
            let flow = world.connected(listener);
            bulk(&mut world, &[flow], len)[0]
        })
        .sum();
    bytes as f64 * 8.0 / (SEEDS * len.total_micros()) as f64 / 1e3
}

#[test]
fn throughput_at_loss() {
    for (loss_permille, secs, floor) in [(0, 1, 0.939), (1, 1, 0.421), (10, 2, 0.074), (50, 4, 0.012)] {
        let gbps = rate(Faults { loss_permille, ..Faults::default() }, Duration::from_secs(secs));
        println!("{loss_permille} permille lost: {gbps:.4} Gbit/s");
        assert!(gbps > floor, "{loss_permille} permille: {gbps}");
    }
}

#[test]
fn throughput_at_reordering() {
    let reorder_delay_max = Duration::from_micros(200);
    let gbps = rate(Faults { reorder_permille: 10, reorder_delay_max, ..Faults::default() }, Duration::from_secs(1));
    println!("10 permille reordered: {gbps:.4} Gbit/s");
    assert!(gbps > 0.939, "{gbps}");
}

/// On a slower line with a queue that half of their windows fill.
#[test]
fn two_flows_share_the_line_within_a_fifth() {
    let mut conditions = line(Faults::default(), 1);
    (conditions.wire.rate_bps, conditions.wire.queue_packets_max) = (Some(100_000_000), 40);
    let mut world = World::new(conditions);
    let listener = world.listen(2);
    let first = world.connected(listener);
    bulk(&mut world, &[first], Duration::from_secs(1));
    let second = world.connected(listener);
    bulk(&mut world, &[first, second], Duration::from_secs(2));
    let received = bulk(&mut world, &[first, second], Duration::from_secs(8));
    println!("{received:?}, {} sent again", world.client.counters().retransmissions);
    let (least, most) = (received[0].min(received[1]) as f64, received[0].max(received[1]) as f64);
    assert!(least / most > 0.8, "{received:?}");
}
