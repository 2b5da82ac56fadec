//! Two stacks, faults, a virtual clock: whatever bytes are sent arrive once, in order, whole, or an error is reported.

mod sim;

use proptest::prelude::*;
use sim::party::Party;
use sim::{CLIENT, Conditions, PORT, SERVER, UNREACHABLE, World};
use stack::link::fault::Faults;
use stack::link::wire::WireConfig;
use stack::outside::{Opens, Protocol};
use stack::socket::tcp::{How, TcpOptions, TcpState};
use stack::socket::{FlowId, Socket};
use stack::{Duration, Errno, Readiness};
use std::net::SocketAddr;

/// Both ends send at once; returns what each received and how it ended.
fn transfer(conditions: Conditions, up_len: usize, down_len: usize) -> (World, [Party; 2]) {
    let mut world = World::new(conditions);
    let listener = world.listen(16);
    let mut client = Party::new(world.connect(), up_len);
    let mut server: Option<Party> = None;
    world.run_until(|world| {
        if server.is_none() {
            server = world.server.tcp_accept(listener).ok().map(|flow| Party::new(flow, down_len));
        }
        client.act(&mut world.client);
        server.iter_mut().for_each(|server| server.act(&mut world.server));
        client.end.is_some() && server.as_ref().is_some_and(|server| server.end.is_some())
    });
    let server = server.unwrap();
    world.client.tcp_close(client.flow, false);
    world.server.tcp_close(server.flow, false);
    world.server.tcp_unlisten(listener);
    (world, [client, server])
}

/// After everything is closed nothing is left: no flow, no claim.
fn check_nothing_is_left(mut world: World) {
    world.run_for(Duration::from_secs(200));
    assert_eq!((world.client.flow_count(), world.server.flow_count()), (0, 0));
    assert!(world.client.is_idle() && world.server.is_idle());
    assert!(world.client_claims.0.lock().unwrap().is_empty());
    assert!(world.server_claims.0.lock().unwrap().is_empty());
}

fn check_transfer(conditions: Conditions, up_len: usize, down_len: usize) {
    let (world, [client, server]) = transfer(conditions, up_len, down_len);
    assert_eq!((client.end, server.end), (Some(Ok(())), Some(Ok(()))));
    assert_eq!((client.received, server.received), (down_len, up_len));
    check_nothing_is_left(world);
}

#[test]
fn bytes_arrive_over_a_calm_wire() {
    for (up_len, down_len) in [(1, 1), (64, 64), (100_000, 1), (1, 3_000_000), (500_000, 500_000)] {
        check_transfer(Conditions::calm(), up_len, down_len);
    }
}

#[test]
fn packets_larger_than_a_frame_are_spread_and_joined() {
    let wire = WireConfig { mtu: 9000, frame_len: 2048, ..Conditions::calm().wire };
    check_transfer(Conditions { wire, ..Conditions::calm() }, 400_000, 400_000);
}

#[test]
fn few_frames_delay_but_lose_nothing() {
    let wire = WireConfig { frames: 8, ..Conditions::calm().wire };
    check_transfer(Conditions { wire, ..Conditions::calm() }, 300_000, 300_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A retransmission takes a second at least, so the transfers are short and the clock is virtual.
    #[test]
    fn bytes_arrive_over_a_faulty_wire(
        seed: u64,
        loss_permille in 0u32..60,
        duplicate_permille in 0u32..60,
        corrupt_permille in 0u32..30,
        reorder_permille in 0u32..100,
        reorder_us in 1u64..5_000,
        up_len in 1usize..60_000,
        down_len in 1usize..60_000,
    ) {
        let faults = Faults {
            loss_permille,
            duplicate_permille,
            corrupt_permille,
            reorder_permille,
            reorder_delay_max: Duration::from_micros(reorder_us),
            delay: Duration::ZERO,
        };
        let conditions = Conditions { faults, seed, ..Conditions::calm() };
        let (world, [client, server]) = transfer(conditions, up_len, down_len);
        // Either whole, or an error was reported to whom bytes are missing.
        for (party, expected) in [(&client, down_len), (&server, up_len)] {
            if party.end == Some(Ok(())) {
                prop_assert_eq!(party.received, expected);
            }
        }
        check_nothing_is_left(world);
    }
}

#[test]
fn a_port_without_listener_refuses() {
    let mut world = World::new(Conditions::calm());
    let flow = world.connect();
    world.run_until(|world| world.client.tcp_connected(flow) != Err(Errno::EINPROGRESS));
    let readiness = world.client.readiness(Socket::Flow(flow));
    assert!(readiness.contains(Readiness::ERROR | Readiness::HANGUP | Readiness::READABLE | Readiness::WRITABLE));
    assert_eq!(world.client.tcp_take_error(flow), Some(Errno::ECONNREFUSED));
    assert_eq!(world.client.tcp_take_error(flow), None);
    assert_eq!(world.server.counters().resets_sent, 1);
}

#[test]
fn connect_without_a_route_or_with_a_taken_tuple_fails_at_once() {
    let mut world = World::new(Conditions::calm());
    let (local, now) = (SocketAddr::new(CLIENT, 5000), world.now);
    let mut connect =
        |to| world.client.tcp_connect(local, SocketAddr::new(to, PORT), TcpOptions::default(), 1, now).map(|_| ());
    assert_eq!(connect(UNREACHABLE), Err(Errno::ENETUNREACH));
    assert_eq!(connect(SERVER), Ok(()));
    assert_eq!(connect(SERVER), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn a_flow_waits_for_its_next_hop_and_gives_up_after_a_while() {
    let mut world = World::new(Conditions { resolve: Duration::from_millis(20), ..Conditions::calm() });
    let listener = world.listen(1);
    world.connected(listener);

    let mut world = World::new(Conditions { resolve: Duration::from_secs(1000), ..Conditions::calm() });
    let flow = world.connect();
    world.run_until(|world| world.client.tcp_connected(flow) != Err(Errno::EINPROGRESS));
    assert_eq!(world.client.tcp_take_error(flow), Some(Errno::EHOSTUNREACH));
}

#[test]
fn a_syn_that_nobody_answers_times_out() {
    let faults = Faults { loss_permille: 1000, ..Faults::default() };
    let mut world = World::new(Conditions { faults, ..Conditions::calm() });
    let flow = world.connect();
    let start = world.now;
    world.run_until(|world| world.client.tcp_connected(flow) != Err(Errno::EINPROGRESS));
    assert_eq!(world.client.tcp_take_error(flow), Some(Errno::ETIMEDOUT));
    assert!(world.now - start >= Duration::from_secs(127));
}

#[test]
fn a_full_accept_queue_holds_back_and_loses_no_connection() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(2);
    let clients: Vec<FlowId> = (0..8).map(|_| world.connect()).collect();
    world.run_for(Duration::from_millis(500));
    // One more than the backlog, as on Linux.
    let mut accepted = 0;
    while world.server.tcp_accept(listener).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 3);
    world.run_until(|world| {
        accepted += usize::from(world.server.tcp_accept(listener).is_ok());
        accepted == clients.len()
    });
    assert!(world.server.counters().drop_backlog > 0);
}

#[test]
fn close_with_unread_bytes_resets() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    world.client.tcp_send(client, b"unread").unwrap();
    world.run_until(|world| world.server.tcp_queued(server).0 == 6);
    world.server.tcp_close(server, false);
    world.run_until(|world| world.client.tcp_state(client) == TcpState::Closed);
    let mut buf = [0; 8];
    assert_eq!(world.client.tcp_recv(client, &mut buf), Err(Errno::ECONNRESET));
    assert_eq!(world.client.tcp_recv(client, &mut buf), Ok(0));
    assert_eq!(world.client.tcp_send(client, b"x"), Err(Errno::EPIPE));
}

#[test]
fn bytes_before_a_reset_stay_readable() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    world.server.tcp_send(server, b"last").unwrap();
    world.run_until(|world| world.client.tcp_queued(client).0 == 4);
    // Acknowledged, so that Nagle's algorithm lets the rest go. Of that nothing has gone out yet when the close comes.
    world.run_until(|world| world.server.tcp_queued(server).1 == 0);
    world.server.tcp_send(server, b" words").unwrap();
    world.server.tcp_close(server, true);
    world.run_until(|world| world.client.tcp_state(client) == TcpState::Closed);
    let mut buf = [0; 16];
    assert_eq!(world.client.tcp_recv(client, &mut buf), Ok(10));
    assert_eq!(world.client.tcp_recv(client, &mut buf), Err(Errno::ECONNRESET));
}

#[test]
fn half_close_leaves_the_other_direction_open() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    world.client.tcp_shutdown(client, How::Write).unwrap();
    assert_eq!(world.client.tcp_send(client, b"x"), Err(Errno::EPIPE));
    world.run_until(|world| world.server.tcp_state(server) == TcpState::CloseWait);
    assert_eq!(
        world.server.readiness(Socket::Flow(server)),
        Readiness::READABLE | Readiness::WRITABLE | Readiness::PEER_CLOSED
    );
    world.server.tcp_send(server, b"still here").unwrap();
    world.run_until(|world| world.client.tcp_queued(client).0 == 10);
}

#[test]
fn bytes_stay_readable_after_time_wait() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    world.client.tcp_shutdown(client, How::Write).unwrap();
    world.server.tcp_send(server, b"read me later").unwrap();
    world.server.tcp_close(server, false);
    world.run_for(Duration::from_secs(120));
    let mut buf = [0; 16];
    assert_eq!(world.client.tcp_recv(client, &mut buf), Ok(13));
    assert_eq!(world.client.tcp_recv(client, &mut buf), Ok(0));
}

#[test]
fn the_last_close_sends_one_segment_with_data_and_fin() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    world.run_for(Duration::from_millis(100));
    let before = world.server.counters().tx_frames;
    world.server.tcp_send(server, b"reply").unwrap();
    world.server.tcp_close(server, false);
    world.server.flush(world.now);
    assert_eq!(world.server.counters().tx_frames - before, 1);
    world.run_until(|world| world.client.tcp_state(client) == TcpState::CloseWait);
}

#[test]
fn the_answer_to_a_fin_carries_its_ack() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    world.server.set_token(Socket::Flow(server), 33);
    world.client.tcp_close(client, false);
    let before = world.server.counters().tx_frames;
    world.run_until(|world| world.server.tcp_state(server) == TcpState::CloseWait);
    world.server.tcp_close(server, false);
    world.run_until(|world| world.server.flow_count() == 0);
    assert_eq!(world.server.counters().tx_frames - before, 1);
}

#[test]
fn readiness_is_an_edge_for_every_arrival() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    while world.server.next_ready().is_some() {}
    world.server.set_token(Socket::Flow(server), 33);
    for round in 1..=3 {
        world.client.tcp_send(client, b"more").unwrap();
        world.run_until(|world| world.server.tcp_queued(server).0 == 4 * round);
        let ready = world.server.next_ready().unwrap();
        assert_eq!((ready.socket, ready.token), (Socket::Flow(server), 33));
        assert_eq!(ready.rose, Readiness::READABLE);
        assert_eq!(world.server.next_ready(), None);
    }
}

#[test]
fn a_port_in_time_wait_takes_a_new_connection() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(4);
    // The server closes first, so that it is the one to wait; the client comes back from the same port.
    for _ in 0..20 {
        let client = world.connect_from(40_000);
        let mut accepted = None;
        world.run_until(|world| {
            accepted = accepted.or_else(|| world.server.tcp_accept(listener).ok());
            accepted.is_some() && world.client.tcp_connected(client).is_ok()
        });
        world.server.tcp_close(accepted.unwrap(), false);
        world.run_until(|world| world.client.tcp_state(client) == TcpState::CloseWait);
        world.client.tcp_close(client, false);
        world.run_until(|world| world.client.flow_count() == 0 && world.server.flow_count() == 0);
    }
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(128);
    for _ in 0..100 {
        let clients: Vec<FlowId> = (0..100).map(|_| world.connect()).collect();
        let mut servers = Vec::new();
        world.run_until(|world| {
            while let Ok(flow) = world.server.tcp_accept(listener) {
                servers.push(flow);
            }
            servers.len() == clients.len() && clients.iter().all(|&flow| world.client.tcp_connected(flow).is_ok())
        });
        for flow in clients {
            world.client.tcp_close(flow, false);
        }
        for flow in servers {
            world.server.tcp_close(flow, false);
        }
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.client.flow_count(), world.server.flow_count()), (0, 0));
    world.server.tcp_unlisten(listener);
    check_nothing_is_left(world);
}

#[test]
fn claims_follow_listeners_and_flows() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    let opens = |world: &World| world.server_claims.0.lock().unwrap().values().copied().collect::<Vec<Opens>>();
    assert_eq!(opens(&world), [Opens::All]);
    assert!(world.client.is_port_held(CLIENT, 32_768));
    assert!(world.client_claims.0.lock().unwrap().keys().all(|claim| claim.protocol == Protocol::Tcp));
    world.server.tcp_unlisten(listener);
    assert_eq!(opens(&world), [Opens::None]);
    world.server.tcp_close(server, true);
    world.client.tcp_close(client, false);
    check_nothing_is_left(world);
}

#[test]
fn unlisten_resets_who_was_not_accepted() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(4);
    let client = world.connect();
    world.run_until(|world| world.client.tcp_connected(client).is_ok());
    world.run_for(Duration::from_millis(10));
    world.server.tcp_unlisten(listener);
    world.run_until(|world| world.client.tcp_state(client) == TcpState::Closed);
    assert_eq!(world.client.tcp_take_error(client), Some(Errno::ECONNRESET));
}

/// What a writer is told while the peer reads nothing: no room when there is none, and room again when there is some. What
/// was corked before the end arrives before the FIN.
#[test]
fn a_writer_is_told_of_room_that_there_is() {
    let mut world = World::new(Conditions::calm());
    let listener = world.listen(1);
    let (client, server) = world.connected(listener);
    let (chunk, mut sent) = ([7; 3000], 0);
    loop {
        match world.client.tcp_send(client, &chunk) {
            Ok(len) => sent += len,
            Err(errno) => {
                assert_eq!(errno, Errno::EAGAIN);
                let readiness = world.client.readiness(Socket::Flow(client));
                assert!(!readiness.contains(Readiness::WRITABLE), "after {sent} bytes");
                break;
            }
        }
        // The window closes before the buffer is full.
        world.run_for(Duration::from_millis(20));
    }
    while world.client.next_ready().is_some() {}
    world.client.set_token(Socket::Flow(client), 5);
    let (mut buf, mut received) = (vec![0; 1 << 20], 0);
    let mut read = |world: &mut World| {
        received += world.server.tcp_recv(server, &mut buf).unwrap_or(0);
        received
    };
    world.run_until(|world| {
        read(world);
        std::iter::from_fn(|| world.client.next_ready()).any(|ready| ready.rose.contains(Readiness::WRITABLE))
    });
    while let Ok(len) = world.client.tcp_send_part(client, &[7; 100], true) {
        sent += len;
        if sent % 7 == 0 {
            break;
        }
    }
    world.client.tcp_close(client, false);
    world.run_until(|world| read(world) == sent);
}
