//! Unmodified servers, preloaded: their clients get what they get from the same server on the kernel.

use userstack_tests::servers::{IPERF3, LIGHTTPD, MEMCACHED, NGINX, NGINX_WITHOUT_MASTER, PYTHON, REDIS, Server};
use userstack_tests::{Exchange, Family, Scratch, Stack, www};

/// Runs the exchange with the server on the kernel, then preloaded against a client on either stack.
fn check(server: &Server, clients: fn(&Exchange) -> String) {
    let files = Scratch::new();
    www::write_files(&files);
    for family in Family::ALL {
        let run = |on, client| Exchange::run((server, on), client, family, &files, clients);
        let expected = run(Stack::Kernel, Stack::Kernel);
        for client in [Stack::Kernel, Stack::Preloaded] {
            assert_eq!(run(Stack::Preloaded, client), expected, "{family:?}, client on {client:?}");
        }
    }
}

/// Fetches every file, over one connection and over one each, and compares the bytes.
fn fetch(exchange: &Exchange) -> String {
    let target = Scratch::new();
    for connection in ["keep-alive", "close"] {
        let mut argv = vec!["curl".to_string(), "-sSfg".into(), "-H".into(), format!("Connection: {connection}")];
        for (name, _) in www::FILES {
            argv.extend(["-o".to_string(), target.join(name), exchange.url(name)]);
        }
        exchange.client(argv);
        www::check_files(&target);
    }
    exchange.client(["curl", "-sSg", "-o", "/dev/null", "-w", "%{http_code}", &exchange.url("missing")]).text()
}

/// Small and large values, several kinds, and an error.
fn talk_to_redis(exchange: &Exchange) -> String {
    let script = "redis.call('SET', KEYS[1], string.rep('0123456789', 100000)); return redis.call('GET', KEYS[1])";
    let commands: [&[&str]; 7] = [
        &["SET", "name", "value"],
        &["GET", "name"],
        &["GET", "missing"],
        &["RPUSH", "list", "1", "2", "3"],
        &["LRANGE", "list", "0", "-1"],
        &["INCR", "name"],
        &["EVAL", script, "1", "large"],
    ];
    let (ip, port) = (exchange.ip(), exchange.port());
    let cli = ["redis-cli", "-h", &ip, "-p", &port];
    commands.into_iter().map(|command| exchange.client(cli.iter().chain(command).copied()).text()).collect()
}

/// The text protocol (doc/protocol.txt of memcached), with a value of several segments.
fn talk_to_memcached(exchange: &Exchange) -> String {
    let script = "
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
answers = peer.makefile('rb')
large = b'0123456789' * 50000
def ask(request, lines):
    peer.sendall(request)
    for _ in range(lines):
        print(answers.readline())
ask(b'set name 0 0 5\\r\\nvalue\\r\\n', 1)
ask(b'get name\\r\\n', 3)
ask(b'get missing\\r\\n', 1)
ask(b'set large 7 0 %d\\r\\n%s\\r\\n' % (len(large), large), 1)
ask(b'get large\\r\\n', 3)
ask(b'set number 0 0 1\\r\\n8\\r\\nincr number 34\\r\\n', 2)
ask(b'nonsense\\r\\n', 1)
ask(b'delete name\\r\\nget name\\r\\n', 2)
";
    exchange.client(["/usr/bin/python3", "-c", script, &exchange.ip(), &exchange.port()]).text()
}

/// Both directions; iperf3 itself compares what the two ends counted.
fn measure(exchange: &Exchange) -> String {
    for direction in [&[][..], &["-R"]] {
        let (ip, port) = (exchange.ip(), exchange.port());
        let argv = [&["iperf3", "-c", &ip, "-p", &port, "-n", "20M"], direction].concat();
        exchange.client(argv);
    }
    "both directions".to_string()
}

#[test]
fn nginx_with_a_master_and_a_worker() {
    check(&NGINX, fetch);
}

#[test]
fn nginx_in_one_process() {
    check(&NGINX_WITHOUT_MASTER, fetch);
}

#[test]
fn lighttpd() {
    check(&LIGHTTPD, fetch);
}

#[test]
fn python_http_server() {
    check(&PYTHON, fetch);
}

#[test]
fn redis() {
    check(&REDIS, talk_to_redis);
}

#[test]
fn memcached() {
    check(&MEMCACHED, talk_to_memcached);
}

#[test]
fn iperf3() {
    check(&IPERF3, measure);
}
