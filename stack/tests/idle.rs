//! What an idle flow costs: in a process of its own, since its memory is looked at.

#[allow(dead_code, reason = "each file of tests uses its part of the simulation")]
mod sim;

use sim::{Conditions, World};
use stack::Duration;
use stack::socket::ListenerId;

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Opens flows, each of which has sent something, and lets them be for a while.
fn idle(world: &mut World, listener: ListenerId, count: usize) {
    let mut buf = [0; 2000];
    for _ in 0..count {
        let (client, server) = world.connected(listener);
        world.client.tcp_send(client, &[1; 1000]).unwrap();
        world.run_until(|world| world.server.tcp_recv(server, &mut buf).is_ok());
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.client.memory_held(), world.server.memory_held()), (0, 0));
}

/// Both ends of each flow are in this process. The pool of free buffers is there already.
#[test]
fn an_idle_flow_takes_two_kilobytes() {
    const FLOWS: usize = 20_000;
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    idle(&mut world, listener, 2000);
    let before = resident();
    idle(&mut world, listener, FLOWS);
    let each = resident().saturating_sub(before) / (2 * FLOWS);
    println!("{each} bytes a flow");
    assert!(each <= 1800, "{each}");
}
