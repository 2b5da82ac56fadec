//! Unmodified programs that talk UDP: what their clients get is what they get on the kernel, whichever side is preloaded.

use userstack_tests::{Family, Host, Hosts, Program, Scratch, Stack, until};

/// A server program and its clients.
struct Talk {
    /// The server's command line, for its address and a directory to configure it in.
    server: fn(String, &Scratch) -> Vec<String>,
    /// Its socket's port; TCP's of a server that makes its UDP sockets later.
    port: u16,
    /// The clients' command lines, for the server's address.
    clients: fn(String) -> Vec<Vec<String>>,
    /// What of a client's output does not depend on time.
    answer: fn(&str) -> String,
}

impl Talk {
    /// Runs it on the kernel, then with the server preloaded against clients on either stack.
    fn check(&self) {
        for family in Family::ALL {
            let expected = self.run(family, Stack::Kernel, Stack::Kernel);
            for client in [Stack::Kernel, Stack::Preloaded] {
                assert_eq!(self.run(family, Stack::Preloaded, client), expected, "{family:?}, client on {client:?}");
            }
        }
    }

    fn run(&self, family: Family, server: Stack, client: Stack) -> String {
        let hosts = Hosts::new();
        let directory = Scratch::new();
        let address = hosts.ours.address(family).to_string();
        let running = Program::new((self.server)(address.clone(), &directory)).on(server).start(&hosts.ours);
        until("the server to be bound", || is_bound(&hosts.ours, self.port).then_some(()));
        let (mut answers, mut received) = (String::new(), 0);
        for argv in (self.clients)(address) {
            let finished = Program::new(argv).on(client).run(&hosts.peer).succeeded();
            answers += &(self.answer)(&finished.text());
            if client == Stack::Preloaded {
                received += finished.stats.get("datagrams_received");
            }
        }
        assert_eq!(received > 0, client == Stack::Preloaded);
        let finished = running.stop(libc::SIGTERM);
        if server == Stack::Preloaded {
            for counter in ["datagrams_received", "datagrams_sent"] {
                assert!(finished.stats.get(counter) > 0, "the server: {:?}\n{}", finished.stats, finished.stderr);
            }
        }
        answers
    }
}

/// Whether a socket of the kernel's has a port.
fn is_bound(host: &Host, port: u16) -> bool {
    !host.run(&["ss", "-Hltun", &format!("sport = :{port}")]).is_empty()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn whole(text: &str) -> String {
    text.to_string()
}

/// Answers of one frame, of several fragments, and too long for UDP, which sends the client to TCP.
#[test]
fn dnsmasq_and_dig() {
    Talk {
        server: |address, directory| {
            let text = format!("txt-record=large.example,{}\n", "x".repeat(200)).repeat(12);
            let config = format!("address=/small.example/10.9.8.7\n{text}");
            std::fs::write(directory.join("dnsmasq.conf"), config).expect("the directory is ours");
            let config = format!("--conf-file={}", directory.join("dnsmasq.conf"));
            let listen = format!("--listen-address={address}");
            let words = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="];
            [&words[..], &["--bind-interfaces", "--edns-packet-max=4096", &config, &listen]]
                .concat()
                .into_iter()
                .map(String::from)
                .collect()
        },
        port: 53,
        clients: |address| {
            let ask = |more: &[&str]| {
                let server = format!("@{address}");
                words(&[&["dig", &server, "+short", "+tries=3", "+timeout=20"], more].concat())
            };
            vec![
                ask(&["small.example"]),
                ask(&["large.example", "TXT", "+bufsize=4096"]),
                ask(&["large.example", "TXT", "+bufsize=1200"]),
                // Many, so that some are sent when the neighbour is known.
                ask(&["small.example", "small.example", "small.example", "other.example"]),
            ]
        },
        answer: whole,
    }
    .check();
}

/// Many questions at once, from several sockets.
#[test]
fn dnsmasq_and_dnsperf() {
    Talk {
        server: |address, _| {
            let listen = format!("--listen-address={address}");
            let always = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="];
            words(
                &[&always[..], &["--conf-file=/dev/null", "--bind-interfaces", "--address=/example/10.9.8.7", &listen]]
                    .concat(),
            )
        },
        port: 53,
        clients: |address| {
            let ask =
                "seq 5000 | sed 's/.*/name&.example A/' | dnsperf -s $1 -c 4 -T 2 -q 50 -t 20 -O suppress=timeout";
            vec![words(&["sh", "-c", ask, "sh", &address])]
        },
        answer: |text| {
            let wanted = ["Queries sent:", "Response codes:"];
            text.lines().filter(|line| wanted.iter().any(|name| line.contains(name))).collect::<Vec<_>>().join("\n")
        },
    }
    .check();
}

/// Threads, each with an event loop and sockets of its own; the client asks over UDP and over TCP.
#[test]
fn unbound_and_dig() {
    Talk {
        server: |address, directory| {
            let access = if address.contains(':') { "::/0" } else { "0.0.0.0/0" };
            let config = format!(
                "server:\n interface: {address}\n access-control: {access} allow\n num-threads: 2\n username: \"\"\n\
                 chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n module-config: iterator\n\
                 local-zone: example static\n local-data: \"small.example A 10.9.8.7\"\n"
            );
            words(&["unbound", "-d", "-c", &directory.write("unbound.conf", config)])
        },
        port: 53,
        clients: |address| {
            let server = format!("@{address}");
            let names = ["small.example"; 50];
            let ask =
                |more: &[&str]| words(&[&["dig", &server, "+short", "+tries=3", "+timeout=20"], more, &names].concat());
            vec![ask(&[]), ask(&["+tcp"])]
        },
        answer: whole,
    }
    .check();
}

/// The binary frame of doc/protocol.txt in front of the text protocol.
#[test]
fn memcached() {
    Talk {
        server: |address, _| words(&["memcached", "-t", "2", "-u", "root", "-l", &address, "-p", "0", "-U", "11211"]),
        port: 11211,
        clients: |address| {
            let script = "
import socket, struct, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
peer = socket.socket(family, socket.SOCK_DGRAM)
peer.settimeout(60)
def ask(number, request):
    peer.sendto(struct.pack('>HHHH', number, 0, 1, 0) + request, (sys.argv[1], 11211))
    parts, total = {}, 1
    while len(parts) < total:
        datagram = peer.recv(65536)
        its, sequence, total, _ = struct.unpack('>HHHH', datagram[:8])
        assert its == number
        parts[sequence] = datagram[8:]
    return b''.join(parts[at] for at in sorted(parts))
print(ask(1, b'set name 0 0 5\\r\\nvalue\\r\\n'), ask(2, b'get name\\r\\n'), ask(3, b'get missing\\r\\n'))
large = b'0123456789' * 120
print(ask(4, b'set large 0 0 1200\\r\\n' + large + b'\\r\\n'), ask(5, b'get large\\r\\n'))
for number in range(6, 500):
    assert ask(number, b'get name\\r\\n') == b'VALUE name 0 5\\r\\nvalue\\r\\nEND\\r\\n'
";
            vec![words(&["/usr/bin/python3", "-c", script, &address])]
        },
        answer: whole,
    }
    .check();
}

/// Both directions; datagrams may be lost, as on the kernel, so only that there was an end counts.
#[test]
fn iperf3() {
    Talk {
        server: |address, _| words(&["iperf3", "-s", "-B", &address]),
        port: 5201,
        clients: |address| {
            let run = |more: &[&str]| {
                let words = ["iperf3", "-u", "-c", &address, "-b", "20M", "-n", "2M", "--connect-timeout", "60000"];
                self::words(&[&words[..], more].concat())
            };
            vec![run(&[]), run(&["-R"]), run(&["-P", "4"]), run(&["-P", "4", "-R"])]
        },
        answer: |text| format!("done: {}", text.contains("iperf Done.")),
    }
    .check();
}

/// An event loop over epoll, with a socket that is bound and one that is connected, to its end: then nobody is there.
#[test]
fn asyncio() {
    Talk {
        server: |address, _| {
            let script = "
import asyncio, signal, sys
class Server(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, datagram, peer):
        self.transport.sendto(datagram[::-1], peer)
async def main():
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=(sys.argv[1], 7100))
    await over.wait()
asyncio.run(main())
";
            words(&["/usr/bin/python3", "-c", script, &address])
        },
        port: 7100,
        clients: |address| {
            let script = "
import asyncio, sys
class Client(asyncio.DatagramProtocol):
    def __init__(self):
        self.heard = asyncio.Queue()
    def datagram_received(self, datagram, peer):
        self.heard.put_nowait(datagram)
    def error_received(self, error):
        self.heard.put_nowait(error)
async def open_to(port):
    return await asyncio.get_running_loop().create_datagram_endpoint(Client, remote_addr=(sys.argv[1], port))
async def main():
    transport, protocol = await open_to(7100)
    for number in range(500):
        transport.sendto(b'%d' % number)
        assert await asyncio.wait_for(protocol.heard.get(), 60) == (b'%d' % number)[::-1]
    transport, protocol = await open_to(7101)
    transport.sendto(b'nobody')
    print(repr(await asyncio.wait_for(protocol.heard.get(), 60)))
asyncio.run(main())
";
            vec![words(&["/usr/bin/python3", "-c", script, &address])]
        },
        answer: whole,
    }
    .check();
}
