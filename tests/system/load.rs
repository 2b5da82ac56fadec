//! Many connections, one after the other and all at once: none is lost, and nothing is left of them.

use userstack_tests::servers::{NGINX_WITHOUT_MASTER, PYTHON, REDIS};
use userstack_tests::{Family, Hosts, Program, Running, Scratch, Stack, descriptor_count, resident_bytes, www};

/// A leaked flow costs some kilobytes: 10,000 of them would be far beyond this.
const MEMORY_MARGIN_BYTES: u64 = 8 << 20;

/// Descriptors may be kept for the next connections, but not for each connection that ever was.
const DESCRIPTOR_MARGIN: usize = 64;

fn open_and_close(hosts: &Hosts, count: u32, port: u16) {
    let url = format!("http://{}/small", hosts.ours.authority(Family::V4, port));
    let ab = Program::new(["ab", "-q", "-n", &count.to_string(), "-c", "50", &url]).run(&hosts.peer).succeeded();
    let text = ab.text();
    assert!(text.contains("Failed requests:        0") && !text.contains("Non-2xx"), "{text}");
}

fn holdings(server: &Running) -> (usize, u64) {
    (descriptor_count(server.pid()), resident_bytes(server.pid()))
}

fn assert_nothing_leaked((descriptors, bytes): (usize, u64), (descriptors_after, bytes_after): (usize, u64)) {
    assert!(
        descriptors_after <= descriptors + DESCRIPTOR_MARGIN,
        "descriptors: {descriptors}, then {descriptors_after}"
    );
    assert!(bytes_after <= bytes + MEMORY_MARGIN_BYTES, "resident bytes: {bytes}, then {bytes_after}");
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let server = NGINX_WITHOUT_MASTER.start(&hosts.ours, Family::V4, Stack::Preloaded, &files);
    open_and_close(&hosts, 1000, NGINX_WITHOUT_MASTER.port);
    let before = holdings(&server);
    open_and_close(&hosts, 10_000, NGINX_WITHOUT_MASTER.port);
    assert_nothing_leaked(before, holdings(&server));
    assert!(hosts.ours.kernel_tcp().is_silent());
    // ab has opened some more by the time it has its last answer.
    assert!(server.stop(NGINX_WITHOUT_MASTER.stop_signal).stats.get("flows_accepted") >= 11_000);
}

/// Opens connections one after the other, and prints what it holds after a tenth of them and in the end.
const CLIENT: &str = "
import os, socket, sys
def holdings():
    with open('/proc/self/status') as status:
        sizes = [line.split()[1] for line in status if line.startswith(('RssAnon', 'RssShmem'))]
    return len(os.listdir('/proc/self/fd')), sum(map(int, sizes)) * 1024
for number in range(1, 10001):
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as peer:
        peer.sendall(b'PING\\r\\n')
        assert peer.recv(16) == b'+PONG\\r\\n'
    if number in (1000, 10000):
        print(*holdings())
";

#[test]
fn ten_thousand_connections_of_a_client_leave_nothing_behind() {
    let hosts = Hosts::new();
    let _server = REDIS.start(&hosts.peer, Family::V4, Stack::Kernel, &Scratch::new());
    let (ip, port) = (hosts.peer.address(Family::V4).to_string(), REDIS.port.to_string());
    let client = Program::new(["/usr/bin/python3", "-c", CLIENT, &ip, &port]).on(Stack::Preloaded);
    let finished = client.run(&hosts.ours).succeeded();
    let holdings: Vec<(usize, u64)> = finished.text().lines().map(parse_holdings).collect();
    assert_nothing_leaked(holdings[0], holdings[1]);
    assert_eq!(finished.stats.get("flows_opened"), 10_000);
    assert!(hosts.ours.kernel_tcp().served_nothing());
}

fn parse_holdings(line: &str) -> (usize, u64) {
    let (descriptors, bytes) = line.split_once(' ').expect("two numbers");
    (descriptors.parse().expect("a count"), bytes.parse().expect("a size"))
}

/// Opens many connections, uses each twice, with all of them open, and closes them.
const CROWD: &str = "
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
peers = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(4000)]
for _ in range(2):
    for peer in peers:
        peer.sendall(b'PING\\r\\n')
    for peer in peers:
        assert peer.recv(16) == b'+PONG\\r\\n'
peers[0].sendall(b'INFO clients\\r\\n')
print([line for line in peers[0].recv(65536).split() if line.startswith(b'connected_clients')])
";

#[test]
fn four_thousand_connections_at_once() {
    let hosts = Hosts::new();
    for (server_stack, client_stack) in [(Stack::Preloaded, Stack::Kernel), (Stack::Kernel, Stack::Preloaded)] {
        let server = REDIS.start(&hosts.ours, Family::V6, server_stack, &Scratch::new());
        let (ip, port) = (hosts.ours.address(Family::V6).to_string(), REDIS.port.to_string());
        let crowd = Program::new(["/usr/bin/python3", "-c", CROWD, &ip, &port]).on(client_stack);
        let answer = crowd.run(&hosts.peer).succeeded().text();
        assert_eq!(answer, "[b'connected_clients:4000']\n", "{server_stack:?}");
        server.stop(REDIS.stop_signal);
    }
}

/// Switches of all the threads of a process, from /proc.
fn context_switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process of ours").flatten();
    let switches = tasks.map(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).expect("a thread of ours");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("a line of proc(5)").trim().parse::<u64>().expect("a count")
    });
    switches.sum()
}

#[test]
fn an_idle_server_sleeps() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let server = PYTHON.start(&hosts.ours, Family::V4, Stack::Preloaded, &files);
    let url = format!("http://{}/small", hosts.ours.authority(Family::V4, PYTHON.port));
    Program::new(["curl", "-sSf", &url]).run(&hosts.peer).succeeded();
    // What the connection has left to do (delayed ACKs, a FIN) is over, and the interpreter looks twice a second.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let before = context_switches(server.pid());
    std::thread::sleep(std::time::Duration::from_secs(1));
    let switches = context_switches(server.pid()) - before;
    assert!(switches < 20, "{switches} wake-ups in an idle second");
}
