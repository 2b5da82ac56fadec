//! Programs over a line that loses, reorders, doubles and corrupts packets: every byte arrives, once and in order.

use std::time::Duration;
use userstack_tests::{Conditions, Family, Faults, Finished, Hosts, Program, Stack};

const PORT: u16 = 7000;

/// Bytes each way, at the same time.
const LEN: usize = 3_000_000;

/// Sends numbered blocks from a thread of its own, receives to the end meanwhile, and prints the digests of both.
const EXCHANGE: &str = "
import hashlib, socket, sys, threading
role, address, port, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if role == 'server':
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    print('listening', flush=True)
    peer, _ = listener.accept()
else:
    peer = socket.create_connection((address, port))
block = bytes(range(251))
stream = b''.join(number.to_bytes(4, 'big') + block for number in range(length // 255))
def send():
    peer.sendall(stream)
    peer.shutdown(socket.SHUT_WR)
sender = threading.Thread(target=send)
sender.start()
received = b''.join(iter(lambda: peer.recv(65536), b''))
sender.join()
for name, what in ('sent', stream), ('received', received):
    print(name, len(what), hashlib.sha256(what).hexdigest())
";

fn role(role: &str, hosts: &Hosts, family: Family, stack: Stack) -> Program {
    let (address, port, len) = (hosts.ours.address(family).to_string(), PORT.to_string(), LEN.to_string());
    Program::new(["/usr/bin/python3", "-c", EXCHANGE, role, &address, &port, &len]).on(stack)
}

/// What follows `name` in what one end printed.
fn digest(end: &Finished, name: &str) -> String {
    let text = end.text();
    text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the script").to_string()
}

/// Both ends send and receive over `line`; whole or not at all.
fn check(line: Conditions) {
    for family in Family::ALL {
        for (server_on, client_on) in [(Stack::Preloaded, Stack::Kernel), (Stack::Kernel, Stack::Preloaded)] {
            let hosts = Hosts::over(line);
            let mut server = role("server", &hosts, family, server_on).start(&hosts.ours).says("listening");
            if server_on == Stack::Preloaded {
                // It takes what comes from its first wait on.
                server = server.claims(PORT);
            }
            let client = role("client", &hosts, family, client_on).run(&hosts.peer).succeeded();
            let server = server.wait().succeeded();
            assert_eq!(digest(&client, "received"), digest(&server, "sent"));
            assert_eq!(digest(&server, "received"), digest(&client, "sent"));
            let (of_ours, kernel) = match server_on {
                Stack::Preloaded => (&server, hosts.ours.kernel_tcp()),
                Stack::Kernel => (&client, hosts.peer.kernel_tcp()),
            };
            assert_eq!(of_ours.stats.flows(), 1);
            assert!(of_ours.stats.get("retransmissions") > 0, "{:?}", of_ours.stats);
            // A segment whose port was corrupted is the kernel's, to be dropped.
            assert_eq!(kernel.segments_out, kernel.resets_out);
        }
    }
}

#[test]
fn packets_are_lost() {
    let faults = Faults { loss_permille: 30, ..Faults::default() };
    check(Conditions { delay: Duration::from_millis(1), faults, seed: 11, ..Conditions::default() });
}

#[test]
fn packets_are_lost_reordered_doubled_and_corrupted_in_a_slow_line_with_a_short_queue() {
    let faults = Faults {
        loss_permille: 5,
        duplicate_permille: 20,
        corrupt_permille: 10,
        reorder_permille: 30,
        reorder_delay_max: stack::Duration::from_micros(2_000),
        ..Faults::default()
    };
    let (rate_bps, queue_packets_max) = (Some(50_000_000), 30);
    check(Conditions { delay: Duration::from_millis(2), rate_bps, queue_packets_max, faults, seed: 12 });
}
