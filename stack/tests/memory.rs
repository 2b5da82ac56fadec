//! Buffers on a virtual clock: they grow to what a path holds, stay within the bound, and an idle flow has none.

#[allow(dead_code, reason = "each file of tests uses its part of the simulation")]
mod sim;

use sim::{Conditions, World, pattern};
use stack::link::wire::WireConfig;
use stack::socket::{FlowId, ListenerId};
use stack::{Duration, Errno};

const MB: usize = 1 << 20;

/// Turns the world for a while, sending from each client as much as can be and having each server read at most `read`
/// bytes at a time; returns how many bytes were read.
fn bulk(world: &mut World, flows: &[(FlowId, FlowId)], len: Duration, read: usize) -> u64 {
    let (end, data, mut buf) = (world.now + len, [7; 65_536], vec![0; read]);
    let mut received = 0;
    while world.now < end {
        for &(client, server) in flows {
            while world.client.tcp_send(client, &data).is_ok() {}
            while let Ok(len @ 1..) = world.server.tcp_recv(server, &mut buf) {
                received += len as u64;
            }
        }
        assert!(world.step());
    }
    received
}

#[test]
fn a_gigabit_over_fifty_milliseconds_is_filled() {
    let wire = WireConfig {
        delay: Duration::from_millis(25),
        rate_bps: Some(1_000_000_000),
        queue_packets_max: 4096,
        frames: 1 << 14,
        ..WireConfig::default()
    };
    let mut world = World::new(Conditions { wire, ..Conditions::calm() });
    let listener = world.listen(1);
    let flow = world.connected(listener);
    bulk(&mut world, &[flow], Duration::from_millis(800), 1 << 17);
    let received = bulk(&mut world, &[flow], Duration::from_millis(500), 1 << 17);
    let gbps = received as f64 * 8.0 / 5e8;
    println!("{gbps:.3} Gbit/s, {} MB of buffers", world.server.memory_held() / MB);
    assert!(gbps > 0.9, "{gbps}");
}

#[test]
fn a_request_in_a_while_needs_no_large_buffer() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    let mut buf = [0; 2000];
    for _ in 0..2000 {
        world.client.tcp_send(client, &[1; 1000]).unwrap();
        world.run_until(|world| world.server.tcp_recv(server, &mut buf).is_ok());
    }
    assert!(world.server.memory_held() <= (64 + 16) << 10, "{}", world.server.memory_held());
}

/// Opens flows until the server has no memory for another one.
fn open_until_refused(world: &mut World, listener: ListenerId) -> Vec<(FlowId, FlowId)> {
    let mut flows = Vec::new();
    loop {
        let (client, refused) = (world.connect(), world.server.counters().drop_no_memory);
        let mut accepted = None;
        world.run_until(|world| {
            accepted = accepted.or_else(|| world.server.tcp_accept(listener).ok());
            let is_open = accepted.is_some() && world.client.tcp_connected(client).is_ok();
            is_open || world.server.counters().drop_no_memory > refused
        });
        match accepted {
            Some(server) => flows.push((client, server)),
            None => {
                assert!(world.client.tcp_connected(client).is_err(), "a SYN was answered");
                world.client.tcp_close(client, true);
                return flows;
            }
        }
        // What lies in it keeps its buffers.
        let (client, server) = flows[flows.len() - 1];
        world.client.tcp_send(client, &[7; 1000]).unwrap();
        world.run_until(|world| world.server.tcp_queued(server).0 == 1000);
    }
}

#[test]
fn at_the_bound_flows_are_refused_and_open_ones_go_on() {
    const BOUND: usize = 8 * MB;
    let mut world = World::new(Conditions::calm());
    world.server.set_memory_bound(BOUND);
    let listener = world.listen(1000);
    let flows = open_until_refused(&mut world, listener);
    assert!((50..200).contains(&flows.len()), "{}", flows.len());
    // All fill their windows; nobody reads.
    let data = [7; 65_536];
    for _ in 0..200 {
        flows.iter().for_each(|&(client, _)| while world.client.tcp_send(client, &data).is_ok() {});
        world.step();
    }
    assert!(world.server.memory_held() <= BOUND, "{}", world.server.memory_held());
    let queued: usize = flows.iter().map(|&(_, server)| world.server.tcp_queued(server).0).sum();
    assert!(queued > 2 * MB, "{queued}");
    // And the other way round: the server writes to peers that do not read.
    for _ in 0..200 {
        flows.iter().for_each(|&(_, server)| while world.server.tcp_send(server, &data).is_ok() {});
        world.step();
    }
    assert!(world.server.memory_held() <= BOUND, "{}", world.server.memory_held());
    // The server's own connects are refused, too.
    let (local, remote) = ((sim::SERVER, 5000).into(), (sim::CLIENT, 5001).into());
    let refused = world.server.tcp_connect(local, remote, Default::default(), 1, world.now);
    assert_eq!(refused, Err(Errno::ENOBUFS));
    // Who reads goes on, and whoever is done makes room for others.
    assert!(bulk(&mut world, &flows[..1], Duration::from_secs(2), 4096) > MB as u64);
    flows[1..].iter().for_each(|&(client, server)| {
        world.client.tcp_close(client, true);
        world.server.tcp_close(server, true);
    });
    world.run_for(Duration::from_secs(1));
    assert!(world.server.memory_held() < BOUND / 2, "{}", world.server.memory_held());
    world.connected(listener);
}

#[test]
fn those_that_are_quiet_make_room() {
    let mut world = World::new(Conditions::calm());
    world.server.set_memory_bound(2 * MB);
    let listener = world.listen(1000);
    // Far more than the bound has buffers for at once.
    let flows: Vec<_> = (0..300).map(|_| world.connected(listener)).collect();
    let mut buf = [0; 100];
    for round in 0..3 {
        for &(client, server) in &flows {
            world.client.tcp_send(client, &[round; 100]).unwrap();
            world.run_until(|world| world.server.tcp_recv(server, &mut buf).is_ok());
            assert_eq!(buf, [round; 100]);
        }
    }
    assert!(world.server.memory_held() <= 2 * MB);
    assert_eq!(world.server.counters().drop_no_memory, 0);
}

#[test]
fn a_flow_that_was_asleep_goes_on_where_it_was() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    let mut at = 0;
    for pause_s in [0, 2, 5, 10_000] {
        world.run_for(Duration::from_secs(pause_s));
        assert_eq!(world.server.memory_held() == 0, pause_s > 0);
        let bytes: Vec<u8> = (at..at + 100_000).map(pattern).collect();
        let (mut sent, mut received) = (0, Vec::new());
        world.run_until(|world| {
            sent += world.client.tcp_send(client, &bytes[sent..]).unwrap_or(0);
            let mut buf = [0; 5000];
            while let Ok(len @ 1..) = world.server.tcp_recv(server, &mut buf) {
                received.extend_from_slice(&buf[..len]);
            }
            received.len() == bytes.len()
        });
        assert!(received == bytes);
        at += bytes.len();
    }
    assert_eq!(world.client.counters().retransmissions, 0);
}
