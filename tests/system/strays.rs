//! Segments out of nowhere, of every kind, to ports that a program uses: they get the kernel's answers.

use userstack_tests::{Family, Hosts, INTERFACE, Program, Stack};

/// Where the program listens, and from where it has connected.
const LISTENING: u16 = 7000;
const CONNECTED: u16 = 7100;

/// A listener on one port, and a connection from another one.
const HOLDER: &str = "
import select, socket, sys
family, ours, peer = (socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET), *sys.argv[1:]
listener = socket.create_server((ours, 7000), family=family, backlog=1000)
connection = socket.socket(family, socket.SOCK_STREAM)
connection.bind((ours, 7100))
connection.connect((peer, 80))
print('ready', flush=True)
connection.recv(1)
";

/// Sends to both ports a segment of each combination of flags, with bytes and without, from a port of its own; and some
/// that are addressed to nobody or to everybody. Prints what comes back.
const PROBER: &str = "
import socket, struct, sys
interface, ours, peer, mac = sys.argv[1:]
is_v6 = ':' in ours
family = socket.AF_INET6 if is_v6 else socket.AF_INET
SEQ, ACK, LAST = 5000, 9000, 65000
names = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG']

def checksum(data):
    total = sum(struct.unpack('!%dH' % ((len(data) + 1) // 2), data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def frame(source, destination, ports, flags, payload, mac):
    source, destination = [socket.inet_pton(family, address) for address in (source, destination)]
    tcp = struct.pack('!HHIIBBHHH', *ports, SEQ, ACK if flags & 16 else 0, 5 << 4, flags, 1000, 0, 0) + payload
    pseudo_header = source + destination + struct.pack('!II', len(tcp), 6)
    tcp = tcp[:16] + struct.pack('!H', checksum(pseudo_header + tcp)) + tcp[18:]
    if is_v6:
        ip, kind = struct.pack('!IHBB', 6 << 28, len(tcp), 6, 64) + source + destination, 0x86dd
    else:
        ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + source + destination
        ip, kind = ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:], 0x0800
    return bytes.fromhex(mac.replace(':', '')) + bytes([2, 0, 0, 0, 0, 9]) + struct.pack('!H', kind) + ip + tcp

line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd if is_v6 else 0x0800))
line.bind((interface, 0x86dd if is_v6 else 0x0800))
probes = {}
for port in 7000, 7100:
    for flags in range(64):
        for payload in b'', b'12345':
            probes[10000 + len(probes)] = (peer, ours, port, flags, payload, mac)
group, everybody = 'ff:ff:ff:ff:ff:ff', ['ff02::1'] if is_v6 else ['224.0.0.1', '255.255.255.255', '10.7.0.255']
nobody = ['::', 'ff02::1'] if is_v6 else ['0.0.0.0', '224.0.0.1', '255.255.255.255']
for port in 7000, 7100:
    for flags in 2, 16:
        for at in group, mac:
            for destination in everybody:
                probes[10000 + len(probes)] = (peer, destination, port, flags, b'', at)
        probes[10000 + len(probes)] = (peer, ours, port, flags, b'', group)
        for source in nobody:
            probes[10000 + len(probes)] = (source, ours, port, flags, b'', mac)
probes[LAST] = (peer, ours, 7000, 16, b'', mac)
answers = {}
for number, (source, destination, port, flags, payload, at) in probes.items():
    line.send(frame(source, destination, (number, port), flags, payload, at))
    # Answers that nobody reads would not fit.
    line.setblocking(number == LAST)
    while LAST not in answers:
        try:
            packet, address = line.recvfrom(2048)
        except BlockingIOError:
            break
        ip = packet[14:]
        if address[2] == socket.PACKET_OUTGOING or ip[6 if is_v6 else 9] != 6:
            continue
        tcp = ip[40 if is_v6 else 20:]
        _, number, seq, ack, _, flags = struct.unpack('!HHIIBB', tcp[:14])
        if number in probes:
            answers.setdefault(number, []).append((flags, 'ISN' if flags & 2 else seq, ack))
for number, (source, destination, port, flags, payload, at) in probes.items():
    flags = '+'.join(name for bit, name in enumerate(names) if flags >> bit & 1)
    said = [('+'.join(name for bit, name in enumerate(names) if flags >> bit & 1), seq, ack)
            for flags, seq, ack in answers.get(number, [])]
    who = ' '.join(label for label, is_so in [('from ' + source, source != peer), ('to ' + destination, destination != ours),
                                              ('at ' + at, at != mac)] if is_so)
    print(port, who.replace(mac, 'one'), flags or 'nothing', len(payload), said)
";

/// What the prober hears from a program on `stack`.
fn answers(stack: Stack, family: Family) -> String {
    let hosts = Hosts::new();
    let (ours, peer) = (hosts.ours.address(family).to_string(), hosts.peer.address(family).to_string());
    // The peer's kernel has no part in this: it would answer what is answered to the prober.
    let server = "import socket, sys; s = socket.create_server((sys.argv[1], 80), family=int(sys.argv[2])); kept = s.accept(); s.accept()";
    let number = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
    let server = ["/usr/bin/python3", "-c", server, &peer, &number.to_string()];
    let _server = Program::new(server).start(&hosts.peer).listens(&hosts.peer, 80);
    let holder = Program::new(["/usr/bin/python3", "-c", HOLDER, &ours, &peer]).on(stack);
    let holder = holder.start(&hosts.ours).listens(&hosts.ours, LISTENING).says("ready");
    let holder = if stack == Stack::Preloaded { holder.claims(LISTENING) } else { holder };
    let link = hosts.ours.ip(&["-br", "link", "show", INTERFACE]);
    let mac = link.split_whitespace().nth(2).expect("name, state, address");
    let prober = ["/usr/bin/python3", "-c", PROBER, INTERFACE, &ours, &peer, mac];
    let heard = Program::new(prober).run(&hosts.peer).succeeded().text();
    drop(holder);
    heard
}

#[test]
fn every_stray_segment_gets_the_kernel_s_answer() {
    for family in Family::ALL {
        let (expected, got) = (answers(Stack::Kernel, family), answers(Stack::Preloaded, family));
        assert!(expected.contains("RST") && expected.contains(&CONNECTED.to_string()), "{expected}");
        let differing: Vec<String> = expected
            .lines()
            .zip(got.lines())
            .filter(|(expected, got)| expected != got)
            .map(|(expected, got)| format!("- {expected}\n+ {got}"))
            .collect();
        assert!(differing.is_empty(), "{family:?}\n{}", differing.join("\n"));
        assert_eq!(expected.lines().count(), got.lines().count());
    }
}
