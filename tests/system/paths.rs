//! A router between the hosts: paths that are narrower than their ends, and what the network says of packets that it
//! cannot deliver.

use userstack_tests::servers::NGINX_WITHOUT_MASTER;
use userstack_tests::{Family, Program, Routed, Scratch, Stack, Stats, www};

/// Fetches a large file from a preloaded server through the router, and returns what the library counted.
fn fetch_through(routed: &Routed, family: Family) -> Stats {
    let files = Scratch::new();
    www::write_files(&files);
    let server = NGINX_WITHOUT_MASTER.start(&routed.ours, family, Stack::Preloaded, &files);
    let url = format!("http://{}/large", routed.ours.authority(family, NGINX_WITHOUT_MASTER.port));
    let fetched = Program::new(["curl", "-sSfg", &url]).run(&routed.far).succeeded();
    www::check_contents(&url, &fetched.stdout, 20_000_000);
    assert!(routed.ours.kernel_tcp().is_silent());
    server.stop(NGINX_WITHOUT_MASTER.stop_signal).stats
}

#[test]
fn a_narrow_path_is_found_out_by_what_its_router_says() {
    for family in Family::ALL {
        let stats = fetch_through(&Routed::new().narrowed(1280), family);
        assert!(stats.get("icmp_errors") > 0 && stats.get("path_mtus_lowered") > 0, "{family:?}: {stats:?}");
    }
}

#[test]
fn a_black_hole_is_found_out_although_nobody_says_so() {
    for family in Family::ALL {
        let stats = fetch_through(&Routed::new().narrowed(1280).without_icmp(), family);
        assert!(stats.get("icmp_errors") == 0 && stats.get("black_holes") > 0, "{family:?}: {stats:?}");
    }
}

/// What a path does not let through is lost until the kernel, which sends it, hears of that and cuts it up.
#[test]
fn datagrams_go_through_a_narrow_path_in_fragments() {
    const SCRIPT: &str = "
import socket, sys
far = sys.argv[1]
family = socket.AF_INET6 if ':' in far else socket.AF_INET
peer = socket.socket(family, socket.SOCK_DGRAM)
peer.connect((far, 7))
peer.settimeout(0.2)
for size in 100, 100, 100, 1400:
    answer = b''
    while len(answer) != size:
        # The first one is lost, and said to be too long.
        try:
            peer.send(b'x' * size)
            answer = peer.recv(2000)
        except OSError:
            pass
print('through')
";
    const ECHO: &str = "
import socket
echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
echo.bind(('::', 7))
print('ready', flush=True)
while True:
    datagram, peer = echo.recvfrom(2000)
    echo.sendto(datagram, peer)
";
    for family in Family::ALL {
        let routed = Routed::new().narrowed(1280);
        let _echo = Program::new(["/usr/bin/python3", "-c", ECHO]).start(&routed.far).says("ready");
        let argv = ["/usr/bin/python3", "-c", SCRIPT, &routed.far.address(family).to_string()].map(String::from);
        let finished = Program::new(argv).on(Stack::Preloaded).run(&routed.ours).succeeded();
        assert!(finished.stats.get("datagrams_sent") > 0, "{family:?}: {:?}", finished.stats);
    }
}

/// Runs a Python script on our host on either stack, and fails if it does not say the same. Its arguments are the far
/// host's address, the port of a server on it that echoes, the name of the router's namespace, and a file whose
/// existence has the router say that the far host is unreachable.
fn compare(routed: impl Fn() -> Routed, family: Family, script: &str) {
    let said = |stack| {
        let routed = routed();
        let echo = ["/usr/bin/python3", "-c", ECHO].map(String::from);
        let _echo = Program::new(echo).start(&routed.far).listens(&routed.far, ECHO_PORT);
        let directory = Scratch::new();
        let (far, switch) = (routed.far.address(family).to_string(), directory.join("unreachable"));
        let teller = ["/usr/bin/python3", "-c", TELLER, &far, &switch];
        let _teller = Program::new(teller).start(&routed.router).says("ready");
        let argv = ["/usr/bin/python3", "-c", script, &far, &ECHO_PORT.to_string(), routed.router.name(), &switch];
        let finished = Program::new(argv.map(String::from)).on(stack).run(&routed.ours).succeeded();
        if stack == Stack::Preloaded {
            assert!(finished.stats.get("icmp_errors") > 0, "{:?}", finished.stats);
            assert!(routed.ours.kernel_tcp().served_nothing());
        }
        finished.text()
    };
    let expected = said(Stack::Kernel);
    println!("{family:?}:\n{expected}");
    assert_eq!(said(Stack::Preloaded), expected, "{family:?}");
}

const ECHO_PORT: u16 = 7;

/// Returns what it is sent, connection after connection.
const ECHO: &str = "
import socket
listener = socket.create_server(('::', 7), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection = listener.accept()[0]
    while some := connection.recv(1 << 16):
        connection.sendall(some)
";

/// Answers each TCP segment to an address of which there is no host with an ICMP error, whose type and code the address
/// says: 192.0.2.(16 * type + code), 2001:db8::type:code. The same for the far host, while the switch is there. (The
/// kernel's own errors are few in a second.)
const TELLER: &str = "
import os, socket, struct, subprocess, sys
far, switch = sys.argv[1:]
far = socket.inet_pton(socket.AF_INET6 if ':' in far else socket.AF_INET, far)
for words in '-4 route add blackhole 192.0.2.0/24', '-6 route add blackhole 2001:db8::/64':
    subprocess.run(['ip', *words.split()], check=True)
frames = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
frames.bind(('us0', 3))
icmp4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
icmp6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
print('ready', flush=True)
while True:
    packet, address = frames.recvfrom(2048)
    if address[2] == socket.PACKET_OUTGOING:
        continue
    is_v4 = packet[0] >> 4 == 4
    destination = packet[16:20] if is_v4 else packet[24:40]
    if packet[9 if is_v4 else 6] != socket.IPPROTO_TCP:
        continue
    if destination == far and os.path.exists(switch):
        fate = (3, 1) if is_v4 else (1, 3)
    elif destination.startswith(bytes([192, 0, 2])):
        fate = divmod(destination[3], 16)
    elif destination.startswith(bytes([0x20, 0x01, 0x0d, 0xb8])):
        fate = destination[13], destination[15]
    else:
        continue
    error = bytes([*fate, 0, 0, 0, 0, 0, 0]) + packet[:28 if is_v4 else 48]
    if is_v4:
        total = sum(struct.unpack('!18H', error))
        checksum = ~(total + (total >> 16)) & 0xffff
        error = error[:2] + struct.pack('!H', checksum) + error[4:]
        icmp4.sendto(error, (socket.inet_ntoa(packet[12:16]), 0))
    else:
        icmp6.sendto(error, (socket.inet_ntop(socket.AF_INET6, packet[8:24]), 0))
";

/// Every error that there is ends a connect, whether it blocks or not.
const CONNECTS: &str = "
import errno, select, socket, sys
if ':' in sys.argv[1]:
    family = socket.AF_INET6
    kinds = [(1, code) for code in (*range(8), 200)] + [(3, 0), (3, 1), (4, 0), (4, 2)]
    addresses = ['2001:db8::%x:%x' % kind for kind in kinds]
else:
    family = socket.AF_INET
    kinds = [(3, code) for code in range(16) if code != 4] + [(11, 0), (12, 0), (12, 2)]
    addresses = ['192.0.2.%d' % (16 * kind + code) for kind, code in kinds]
for address in addresses:
    blocks, does_not = [socket.socket(family, socket.SOCK_STREAM) for _ in range(2)]
    print(address, errno.errorcode[blocks.connect_ex((address, 80))], end=' ')
    does_not.setblocking(False)
    print(errno.errorcode[does_not.connect_ex((address, 80))], end=' ')
    poll = select.poll()
    poll.register(does_not, select.POLLIN | select.POLLOUT)
    print(poll.poll()[0][1], errno.errorcode[does_not.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
";

#[test]
fn what_the_network_says_ends_a_connect() {
    for family in Family::ALL {
        compare(Routed::new, family, CONNECTS);
    }
}

/// What the network says to an open connection counts when it ends, or for who asks.
const OPEN: &str = "
import errno, os, socket, subprocess, sys, time
far, port, router, switch = sys.argv[1:]
family, level, recverr = (socket.AF_INET6, 41, 25) if ':' in far else (socket.AF_INET, 0, 11)
environment = {name: value for name, value in os.environ.items() if name != 'LD_PRELOAD'}
def route(verb):
    subprocess.run(['ip', '-n', router, 'route', verb, 'blackhole', far], check=True, env=environment)
    open(switch, 'w').close() if verb == 'add' else os.remove(switch)
def receive(flags=0):
    try:
        return connection.recv(1, flags)
    except OSError as error:
        return errno.errorcode[error.errno]
def connect():
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.connect((far, int(port)))
    return connection
connection = connect()
connection.sendall(b'a')
print(receive())
route('add')
connection.sendall(b'b')
while not (soft := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
    time.sleep(0.01)
print(errno.errorcode[soft], receive(socket.MSG_DONTWAIT))
route('del')
print(receive(), connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
connection.setsockopt(level, recverr, 1)
route('add')
connection.sendall(b'c')
print(receive())
route('del')
while (received := receive()) == 'EHOSTUNREACH':
    pass
print(received)
# Another one, whose peer has nothing to say any more.
connection.close()
connection = connect()
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
route('add')
connection.sendall(b'd')
print(receive(), receive())
";

#[test]
fn what_the_network_says_to_an_open_connection_is_remembered() {
    for family in Family::ALL {
        compare(Routed::new, family, OPEN);
    }
}

/// Sends so much that its segments have to be cut smaller on the way, and says what it has found out.
const UPLOAD: &str = "
import socket, sys, threading
far, port = sys.argv[1:3]
family, level, mtu = (socket.AF_INET6, 41, 24) if ':' in far else (socket.AF_INET, 0, 14)
for _ in range(2):
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.connect((far, int(port)))
    print(connection.getsockopt(level, mtu), connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    threading.Thread(target=connection.sendall, args=(bytes(1 << 20),)).start()
    left = 1 << 20
    while left:
        left -= len(connection.recv(left))
    print(connection.getsockopt(level, mtu), connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    connection.close()
";

#[test]
fn a_narrow_path_is_found_out_and_remembered() {
    for (family, mtu) in [(Family::V4, 1400), (Family::V4, 600), (Family::V6, 1280)] {
        compare(|| Routed::new().narrowed(mtu), family, UPLOAD);
    }
}
