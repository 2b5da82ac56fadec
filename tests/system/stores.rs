//! Stores with threads, children and replicas, under load: each on the kernel and preloaded, with the same contents.

use userstack_tests::{Family, Host, Hosts, Program, Running, Scratch, Stack, until};

const REDIS_PORT: u16 = 6379;
const MEMCACHED_PORT: u16 = 11211;

/// redis-server with threads that read and write, and its database in `directory`.
fn redis(host: &Host, stack: Stack, directory: &Scratch, options: &[&str]) -> Running {
    let (address, directory) = (host.address(Family::V4).to_string(), directory.join(""));
    let always = ["redis-server", "--bind", &address, "--protected-mode", "no", "--save", "", "--dir", &directory];
    let threads = ["--io-threads", "2", "--io-threads-do-reads", "yes", "--enable-debug-command", "yes"];
    let argv = [&always[..], &threads, options].concat();
    let running = Program::new(argv).on(stack).start(host).listens(host, REDIS_PORT);
    if stack == Stack::Preloaded { running.claims(REDIS_PORT) } else { running }
}

/// One command of redis-cli's, run on the peer.
fn ask(hosts: &Hosts, of: &Host, words: &[&str]) -> String {
    let address = of.address(Family::V4).to_string();
    Program::new([&["redis-cli", "-h", &address], words].concat()).run(&hosts.peer).succeeded().text()
}

/// A snapshot is written by a child and a replica filled by another, both while clients write; then both are compared
/// with the original.
#[test]
fn redis_saves_and_replicates_under_load() {
    for (original_on, replica_on) in
        [(Stack::Kernel, Stack::Kernel), (Stack::Preloaded, Stack::Kernel), (Stack::Kernel, Stack::Preloaded)]
    {
        let (hosts, files, copies) = (Hosts::new(), Scratch::new(), Scratch::new());
        let Hosts { ours, peer, .. } = &hosts;
        let original = redis(ours, original_on, &files, &[]);
        let address = ours.address(Family::V4).to_string();
        let options = ["-q", "-n", "20000", "-c", "16", "-P", "8", "-r", "5000", "-d", "300", "-t", "set,lpush,sadd"];
        let load = Program::new(["redis-benchmark", "-h", &address].iter().chain(&options).copied()).start(peer);
        until("the first keys", || (ask(&hosts, ours, &["DBSIZE"]).trim() != "0").then_some(()));
        ask(&hosts, ours, &["BGSAVE"]);
        let replica =
            redis(peer, replica_on, &copies, &["--replicaof", &address, "6379", "--repl-diskless-sync-delay", "0"]);
        let status = load.wait().succeeded().text();
        assert!(status.contains("SADD"), "{status}");
        let digest = || ask(&hosts, ours, &["DEBUG", "DIGEST"]);
        until("the replica to be the same", || (ask(&hosts, peer, &["DEBUG", "DIGEST"]) == digest()).then_some(()));
        until("the snapshot", || ask(&hosts, ours, &["INFO"]).contains("rdb_bgsave_in_progress:0").then_some(()));
        assert!(ask(&hosts, ours, &["INFO"]).contains("rdb_last_bgsave_status:ok"));
        let before = digest();
        ask(&hosts, ours, &["SAVE"]);
        assert!(!before.starts_with("00000000"), "{before}");
        replica.stop(libc::SIGTERM);
        original.stop(libc::SIGTERM);
        let again = redis(ours, original_on, &files, &[]);
        assert_eq!(digest(), before, "{original_on:?}");
        again.stop(libc::SIGTERM);
    }
}

/// memcached with two threads that serve, and twenty clients with values of many segments.
#[test]
fn memcached_with_threads() {
    let script = "
import socket, sys, threading
def talk(number):
    peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    answers, value = peer.makefile('rb'), bytes([65 + number]) * 100000
    for _ in range(20):
        peer.sendall(b'set key%d 0 0 %d\\r\\n' % (number, len(value)) + value + b'\\r\\nget key%d\\r\\n' % number)
        assert answers.readline() == b'STORED\\r\\n'
        assert answers.readline().startswith(b'VALUE')
        assert answers.read(len(value) + 2) == value + b'\\r\\n'
        assert answers.readline() == b'END\\r\\n'
    done.append(number)
done = []
threads = [threading.Thread(target=talk, args=(number,)) for number in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(done))";
    let run = |stack| {
        let hosts = Hosts::new();
        let Hosts { ours, peer, .. } = &hosts;
        let (address, port) = (ours.address(Family::V4).to_string(), MEMCACHED_PORT.to_string());
        let argv = ["memcached", "-t", "2", "-u", "nobody", "-U", "0", "-l", &address, "-p", &port];
        let server = Program::new(argv).on(stack).dropping_privileges().start(ours).listens(ours, MEMCACHED_PORT);
        let server = if stack == Stack::Preloaded { server.claims(MEMCACHED_PORT) } else { server };
        let answers = Program::new(["/usr/bin/python3", "-c", script, &address, &port]).run(peer).succeeded().text();
        assert_eq!(ours.kernel_tcp().is_silent(), stack == Stack::Preloaded);
        server.stop(libc::SIGTERM);
        answers
    };
    assert_eq!(run(Stack::Preloaded), run(Stack::Kernel));
}
