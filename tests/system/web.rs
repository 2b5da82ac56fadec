//! Web servers and proxies as they are deployed: workers, reload, upgrade, upstreams, TLS, HTTP/2; each on the kernel and
//! preloaded, with the same answers.

use userstack_tests::{
    Family, Finished, Hosts, Program, Running, Scratch, Stack, exists, run_command, until, with_children, www,
};

/// The hosts of one run: the server under test runs on `ours`, its clients on `peer`.
struct Stage {
    hosts: Hosts,
    files: Scratch,
    stack: Stack,
}

/// The port of the upstreams, which run on the kernel: one at 127.0.0.1 of the server's host, one at the peer's address.
const UPSTREAM_PORT: u16 = 8090;

impl Stage {
    fn new(stack: Stack) -> Stage {
        let stage = Stage { hosts: Hosts::new(), files: Scratch::new(), stack };
        www::write_files(&stage.files);
        stage
    }

    /// The server's address and a port.
    fn at(&self, port: u16) -> String {
        self.hosts.ours.authority(Family::V4, port)
    }

    /// The address and port of the upstream on the peer.
    fn peers_upstream(&self) -> String {
        self.hosts.peer.authority(Family::V4, UPSTREAM_PORT)
    }

    fn upstreams(&self) -> [Running; 2] {
        let Hosts { ours, peer, .. } = &self.hosts;
        let peers = peer.address(Family::V4).to_string();
        [(ours, "127.0.0.1"), (peer, &peers)].map(|(host, address)| {
            let (port, files) = (UPSTREAM_PORT.to_string(), self.files.join(""));
            let argv = ["/usr/bin/python3", "-m", "http.server", &port, "--bind", address, "--directory", &files];
            Program::new(argv).start(host).listens(host, UPSTREAM_PORT)
        })
    }

    /// A certificate of the server's own, and its key.
    fn certificate(&self) -> (String, String) {
        let (certificate, key) = (self.files.join("certificate.pem"), self.files.join("key.pem"));
        let subject = ["-subj", "/CN=server", "-days", "2", "-newkey", "rsa:2048", "-nodes"];
        let request = ["openssl", "req", "-x509", "-keyout", &key, "-out", &certificate];
        run_command(&[&request[..], &subject].concat());
        run_command(&["chmod", "a+r", &key]);
        (certificate, key)
    }

    /// Starts the server under test, and waits until it listens, and is served, at `port`.
    fn serve<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>, port: u16) -> Running {
        let program = Program::new(argv).on(self.stack).dropping_privileges();
        let running = program.start(&self.hosts.ours).listens(&self.hosts.ours, port);
        if self.stack == Stack::Preloaded { running.claims(port) } else { running }
    }

    fn client<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Finished {
        Program::new(argv).run(&self.hosts.peer).succeeded()
    }

    /// Fetches every file from below `url`, compares the bytes, and returns what curl says of each exchange.
    fn fetch(&self, url: &str, options: &[&str]) -> String {
        let target = Scratch::new();
        let mut argv = vec!["curl", "-sSfgk", "-w", "%{http_code} %{size_download} %{http_version}\n"];
        argv.extend(options);
        let names = www::FILES.map(|(name, _)| (target.join(name), format!("{url}/{name}")));
        names.iter().for_each(|(file, url)| argv.extend(["-o", file, url]));
        let answers = self.client(argv).text();
        www::check_files(&target);
        let mut answers: Vec<&str> = answers.lines().collect();
        // In parallel they may come in any order.
        answers.sort_unstable();
        answers.join("\n")
    }

    /// Sends much to a server that sends it back, twice at once.
    fn echo(&self, port: u16) {
        let large = self.files.join("large");
        let one = format!("socat -t30 - TCP:{} < {large} | cmp - {large}", self.at(port));
        self.client(["sh", "-ec", &format!("({one}) & other=$!; {one}; wait $other")]);
    }

    /// Many small requests; returns how many were answered well.
    fn load(&self, url: &str, options: &[&str]) -> String {
        let url = format!("{url}/small");
        let text = self.client([&["ab", "-q", "-n2000", "-c8"], options, &[&url]].concat()).text();
        let wanted = ["Complete requests:", "Failed requests:", "Non-2xx responses:"];
        text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))).collect::<Vec<_>>().join("\n")
    }
}

/// Runs the scenario with the server on the kernel and preloaded, and compares what it returns.
fn check(scenario: fn(&Stage) -> (String, Running, i32)) {
    let run = |stack| {
        let stage = Stage::new(stack);
        let (answers, server, stop_signal) = scenario(&stage);
        (answers, server.stop(stop_signal).stats)
    };
    let (expected, _) = run(Stack::Kernel);
    let (answers, stats) = run(Stack::Preloaded);
    assert_eq!(answers, expected);
    assert!(stats.get("flows_accepted") > 0, "{stats:?}");
}

/// nginx with two workers: files, upstreams on either side, TLS with HTTP/1.1 and HTTP/2, and a reload.
#[test]
fn nginx() {
    check(|stage| {
        let (certificate, key) = stage.certificate();
        let (root, plain, tls) = (stage.files.join(""), stage.at(8080), stage.at(8443));
        let peers = stage.peers_upstream();
        let config = format!(
            "daemon off; pid {root}/nginx.pid; user www-data; worker_processes 2; events {{}}
            http {{ access_log off; sendfile on;
                server {{ listen {plain}; root {root};
                    location /local/ {{ proxy_pass http://127.0.0.1:{UPSTREAM_PORT}/; }}
                    location /peer/ {{ proxy_pass http://{peers}/; }} }}
                server {{ listen {tls} ssl http2; root {root};
                    ssl_certificate {certificate}; ssl_certificate_key {key}; }} }}"
        );
        let _upstreams = stage.upstreams();
        let file = stage.files.write("nginx.conf", config);
        let server = stage.serve(["nginx", "-e", "stderr", "-c", &file], 8080);
        let (plain, tls) = (format!("http://{plain}"), format!("https://{tls}"));
        let mut answers = stage.fetch(&plain, &[]);
        answers += &stage.fetch(&format!("{plain}/local"), &[]);
        answers += &stage.fetch(&format!("{plain}/peer"), &[]);
        answers += &stage.fetch(&tls, &["--http1.1"]);
        answers += &stage.fetch(&tls, &["--http2", "--parallel"]);
        let workers = with_children(server.pid());
        server.signal(libc::SIGHUP);
        let are_new = || with_children(server.pid()).iter().all(|pid| *pid == server.pid() || !workers.contains(pid));
        until("the old workers to end", || are_new().then_some(()));
        answers += &stage.load(&plain, &["-k"]);
        answers += &stage.fetch(&plain, &[]);
        (answers, server, libc::SIGQUIT)
    });
}

/// Apache in both of its common models. The processes of prefork serve one connection at a time.
#[test]
fn apache() {
    for model in ["event", "prefork"] {
        check(match model {
            "event" => |stage: &Stage| apache_as(stage, "event"),
            _ => |stage: &Stage| apache_as(stage, "prefork"),
        });
    }
}

fn apache_as(stage: &Stage, model: &str) -> (String, Running, i32) {
    let (root, address, modules) = (stage.files.join(""), stage.at(8080), "/usr/lib/apache2/modules");
    let config = format!(
        "ServerRoot {root}\nServerName server\nPidFile {root}/apache.pid\nListen {address}\nDocumentRoot {root}
        LoadModule mpm_{model}_module {modules}/mod_mpm_{model}.so
        LoadModule authz_core_module {modules}/mod_authz_core.so
        ErrorLog /dev/stderr\nUser www-data\nGroup www-data\n"
    );
    let file = stage.files.write("apache.conf", config);
    let server = stage.serve(["apache2", "-f", &file, "-DFOREGROUND"], 8080);
    let url = format!("http://{address}");
    let mut answers = stage.fetch(&url, &[]) + &stage.load(&url, &[]) + &stage.load(&url, &["-k", "-c4"]);
    // More connections at once than any one process serves.
    answers += &stage.fetch(&url, &["--parallel", "--parallel-immediate"]);
    (answers, server, libc::SIGTERM)
}

/// haproxy with two threads, in HTTP and TCP mode, in front of upstreams over loopback and over the wire.
#[test]
fn haproxy() {
    check(|stage| {
        let (http, tcp, peers) = (stage.at(8080), stage.at(8081), stage.peers_upstream());
        let config = format!(
            "global\n nbthread 2\ndefaults\n timeout client 30s\n timeout server 30s\n timeout connect 30s
frontend web\n mode http\n bind {http}\n default_backend both
backend both\n mode http\n server near 127.0.0.1:{UPSTREAM_PORT}\n server far {peers}
listen relay\n mode tcp\n bind {tcp}\n server far {peers}\n"
        );
        let _upstreams = stage.upstreams();
        let file = stage.files.write("haproxy.cfg", config);
        let server = stage.serve(["haproxy", "-f", &file], 8080);
        let mut answers = stage.fetch(&format!("http://{http}"), &[]) + &stage.fetch(&format!("http://{tcp}"), &[]);
        answers += &stage.load(&format!("http://{http}"), &["-k"]);
        (answers, server, libc::SIGUSR1)
    });
}

/// node's http server, whose libuv reads files in other threads and closes by system call, and its client.
#[test]
fn node() {
    check(|stage| {
        let script = "
const http = require('http'), fs = require('fs'), [root, address] = process.argv.slice(1);
http.createServer((request, response) => {
    if (request.method == 'GET') return fs.createReadStream(root + request.url).pipe(response);
    let length = 0;
    request.on('data', data => length += data.length);
    request.on('end', () => response.end(`${length}`));
}).listen(8080, address);
process.on('SIGTERM', () => process.exit(0));";
        let address = stage.hosts.ours.address(Family::V4).to_string();
        let server = stage.serve(["node", "-e", script, &stage.files.join(""), &address], 8080);
        let url = format!("http://{}", stage.at(8080));
        let mut answers = stage.fetch(&url, &[]) + &stage.load(&url, &["-k"]) + &stage.load(&url, &[]);
        let large = format!("@{}", stage.files.join("large"));
        answers += &stage.client(["curl", "-sSf", "--data-binary", &large, &url]).text();
        (answers, server, libc::SIGTERM)
    });
}

/// node's http client and Java's HttpClient, with several requests at once, against a server on the kernel.
#[test]
fn clients() {
    let node = "
const http = require('http'), crypto = require('crypto');
for (let i = 0; i < 8; i++)
    http.get(process.argv[1], {agent: i % 2 ? undefined : new http.Agent({keepAlive: true})}, response => {
        const hash = crypto.createHash('sha256');
        response.on('data', data => hash.update(data));
        response.on('end', () => { console.log(response.statusCode, hash.digest('hex')); response.socket.destroy(); });
    });";
    let java = "
import java.net.*; import java.net.http.*; import java.util.stream.*;
public class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        var answers = IntStream.range(0, 4)
            .mapToObj(i -> client.sendAsync(request, HttpResponse.BodyHandlers.ofByteArray())).toList();
        for (var answer : answers)
            System.out.println(answer.get().statusCode() + \" \" + java.util.Arrays.hashCode(answer.get().body()));
        System.exit(0);
    }
}";
    let run = |stack| {
        let stage = Stage::new(stack);
        let [_local, _peers] = stage.upstreams();
        let url = format!("http://{}/large", stage.peers_upstream());
        let file = stage.files.write("Client.java", java);
        [vec!["node", "-e", node, &url], vec!["java", &file, &url]].map(|argv| {
            let client = Program::new(argv).on(stack).run(&stage.hosts.ours).succeeded();
            if stack == Stack::Preloaded {
                assert!(client.stats.get("flows_opened") > 0, "{:?}", client.stats);
            }
            client.text()
        })
    };
    assert_eq!(run(Stack::Preloaded), run(Stack::Kernel));
}

/// Clients that speak TLS and HTTP/2, with several requests at once on one connection or more, against nginx on the kernel.
#[test]
fn encrypted_clients() {
    let asyncio = "
import asyncio, hashlib, ssl, sys
async def get():
    context = ssl.create_default_context(cafile=sys.argv[2])
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(sys.argv[1], 8443, ssl=context)
    writer.write(b'GET /large HTTP/1.0\\r\\n\\r\\n')
    body = (await reader.read()).split(b'\\r\\n\\r\\n', 1)[1]
    writer.close()
    return hashlib.sha256(body).hexdigest()
async def main():
    print(await asyncio.gather(*[get() for _ in range(4)]))
asyncio.run(main())";
    let run = |stack| {
        let stage = Stage::new(stack);
        let (certificate, key) = stage.certificate();
        let (root, Hosts { ours, peer, .. }) = (stage.files.join(""), &stage.hosts);
        let config = format!(
            "daemon off; pid {root}/nginx.pid; user www-data; events {{}}
            http {{ access_log off; server {{ listen 8443 ssl http2; root {root};
                ssl_certificate {certificate}; ssl_certificate_key {key}; }} }}"
        );
        let file = stage.files.write("nginx.conf", config);
        let _nginx = Program::new(["nginx", "-e", "stderr", "-c", &file]).start(peer).listens(peer, 8443);
        let at = peer.address(Family::V4).to_string();
        let url = format!("https://{at}:8443");
        let curl = format!(
            "curl -sSfk --http2 --parallel --parallel-max 4 -o {root}/got#1 '{url}/large?[1-4]' && cat {root}/got* | sha256sum"
        );
        let s_client = format!(
            "printf 'GET /large HTTP/1.0\r\n\r\n' | openssl s_client -connect {at}:8443 -quiet -CAfile {certificate} \
             2>/dev/null | sed '1,/^\r$/d' | sha256sum"
        );
        let python = ["/usr/bin/python3", "-c", asyncio, &at, &certificate];
        [&["sh", "-c", &curl][..], &["sh", "-c", &s_client], &python].map(|argv| {
            let client = Program::new(argv.iter().copied()).on(stack).run(ours).succeeded();
            if stack == Stack::Preloaded {
                assert!(client.stats.get("flows_opened") > 0, "{:?}", client.stats);
            }
            client.text()
        })
    };
    assert_eq!(run(Stack::Preloaded), run(Stack::Kernel));
}

/// Java's NIO: a server with one selector.
#[test]
fn java_selector() {
    check(|stage| {
        let server = "
import java.net.*; import java.nio.*; import java.nio.channels.*;
public class Server {
    public static void main(String[] arguments) throws Exception {
        var selector = Selector.open();
        var listener = ServerSocketChannel.open().bind(new InetSocketAddress(arguments[0], 8080));
        listener.configureBlocking(false).register(selector, SelectionKey.OP_ACCEPT);
        while (true) {
            selector.select();
            for (var keys = selector.selectedKeys().iterator(); keys.hasNext(); ) {
                var key = keys.next();
                keys.remove();
                if (key.isAcceptable()) {
                    var peer = listener.accept();
                    peer.configureBlocking(false).register(selector, SelectionKey.OP_READ, ByteBuffer.allocate(65536));
                    continue;
                }
                var peer = (SocketChannel) key.channel();
                var buffer = (ByteBuffer) key.attachment();
                if (key.isReadable() && peer.read(buffer) < 0) {
                    buffer.flip();
                    while (buffer.hasRemaining()) peer.write(buffer);
                    peer.close();
                    continue;
                }
                buffer.flip();
                peer.write(buffer);
                buffer.compact();
                key.interestOps((buffer.hasRemaining() ? SelectionKey.OP_READ : 0)
                    | (buffer.position() > 0 ? SelectionKey.OP_WRITE : 0));
            }
        }
    }
}";
        let file = stage.files.write("Server.java", server);
        let address = stage.hosts.ours.address(Family::V4).to_string();
        let server = stage.serve(["java", &file, &address], 8080);
        stage.echo(8080);
        ("everything came back".to_string(), server, libc::SIGTERM)
    });
}

/// Python's servers that send back what they get: with an event loop, and with a thread for each connection.
#[test]
fn python_echo() {
    check(|stage| {
        let script = "
import asyncio, signal, socketserver, sys, threading
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await asyncio.start_server(serve, sys.argv[1], 8080)
    await over.wait()
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
threaded = socketserver.ThreadingTCPServer((sys.argv[1], 8081), Handler)
threading.Thread(target=threaded.serve_forever, daemon=True).start()
asyncio.run(main())";
        let address = stage.hosts.ours.address(Family::V4).to_string();
        let server = stage.serve(["/usr/bin/python3", "-c", script, &address], 8080).listens(&stage.hosts.ours, 8081);
        stage.echo(8080);
        stage.echo(8081);
        ("everything came back".to_string(), server, libc::SIGTERM)
    });
}

/// openssl's own server and client, which use neither epoll nor threads.
#[test]
fn openssl() {
    check(|stage| {
        let (certificate, key) = stage.certificate();
        let argv =
            ["openssl", "s_server", "-accept", &stage.at(8443), "-cert", &certificate, "-key", &key, "-WWW", "-quiet"];
        // It ends by itself after a connection for each file, and then leaves its counters.
        let argv = format!("cd {} && exec {} -naccept 4", stage.files.join(""), argv.join(" "));
        let server = stage.serve(["sh", "-c", &argv], 8443);
        let answers = stage.fetch(&format!("https://{}", stage.at(8443)), &["--http1.0", "-H", "Connection: close"]);
        (answers, server, libc::SIGTERM)
    });
}

/// Go makes its system calls itself: its connections stay the kernel's, and work.
#[test]
fn go() {
    let program = "
package main

import (\"fmt\"; \"io\"; \"net/http\"; \"os\")

func main() {
    answer, err := http.Get(os.Args[1])
    if err != nil { fmt.Println(err); os.Exit(1) }
    body, err := io.ReadAll(answer.Body)
    fmt.Println(answer.StatusCode, len(body), err)
}";
    let stage = Stage::new(Stack::Preloaded);
    let _upstreams = stage.upstreams();
    let (source, binary) = (stage.files.write("get.go", program), stage.files.join("get"));
    run_command(&["env", "HOME=/root", "GOCACHE=/tmp/userstack-go-cache", "go", "build", "-o", &binary, &source]);
    let url = format!("http://{}/large", stage.peers_upstream());
    let got = Program::new([binary, url]).on(Stack::Preloaded).run(&stage.hosts.ours).succeeded();
    assert_eq!(got.text(), "200 20000000 <nil>\n");
}

/// A daemon by the file of its process id; killed on drop, with all that it has started.
struct Daemon(String);

impl Daemon {
    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for pid in self.pid().map(with_children).unwrap_or_default() {
            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

/// nginx is replaced by another binary while it serves, which takes its listeners over across exec(3).
#[test]
fn nginx_upgrade() {
    let run = |stack| {
        let stage = Stage::new(stack);
        let (root, address) = (stage.files.join(""), stage.at(8080));
        let config = format!(
            "daemon on; pid {root}/nginx.pid; user www-data; worker_processes 1; events {{}}
            env LD_PRELOAD; env USERSTACK_IFACE;
            http {{ access_log off; server {{ listen {address}; root {root}; }} }}"
        );
        let file = stage.files.write("nginx.conf", config);
        // In a session of its own, which does not end with the process that is started here.
        let argv =
            ["setsid", "--wait", "/usr/sbin/nginx", "-e", &stage.files.join("errors"), "-c", &file].map(String::from);
        Program::new(argv).on(stack).run(&stage.hosts.ours).succeeded();
        let daemon = Daemon(stage.files.join("nginx.pid"));
        let old = until("nginx", || daemon.pid());
        until("nginx to listen", || stage.hosts.ours.is_listening(8080).then_some(()));
        let served = || stage.fetch(&format!("http://{address}"), &[]);
        let mut answers = served();
        run_command(&["kill", "-USR2", &old.to_string()]);
        until("the new binary", || daemon.pid().filter(|new| *new != old));
        answers += &served();
        run_command(&["kill", "-QUIT", &old.to_string()]);
        until("the old binary to end", || (!exists(old)).then_some(()));
        answers += &served();
        let url = format!("http://{address}");
        answers += &stage.load(&url, &[]);
        answers += &stage.load(&url, &["-k"]);
        run_command(&["kill", "-QUIT", &daemon.pid().expect("the new one").to_string()]);
        until("the new binary to end", || daemon.pid().is_none().then_some(()));
        let kernel_tcp = stage.hosts.ours.kernel_tcp();
        (answers, kernel_tcp.segments_in)
    };
    let ((expected, by_kernel), (answers, beside)) = (run(Stack::Kernel), run(Stack::Preloaded));
    assert_eq!(answers, expected);
    assert!(beside < by_kernel / 2, "{beside} segments through the kernel's TCP, {by_kernel} on the kernel");
}
