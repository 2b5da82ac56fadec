//! What two ends agree on in their SYNs, as TCP_INFO of either end has it: the same whoever serves which end, and also
//! when a flood of SYNs leaves nothing but cookies.

use userstack_tests::{Family, Hosts, Program, Stack};

/// Talks, and prints how much went either way and what the two ends have agreed on: tcpi_options, the segment sizes, and
/// whether the round trip was measured.
const TALK: &str = "
import socket, struct, sys
def talk(peer):
    for _ in range(3):
        peer.sendall(b'x' * 5000)
        left = 5000
        while left > 0:
            left -= len(peer.recv(left))
    print(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).strip(b'\\0') == b'reno', end=' ')
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 248)
    words = struct.unpack_from('24I', info, 8)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_SYNCNT, socket.TCP_LINGER2):
        print(peer.getsockopt(socket.IPPROTO_TCP, option), end=' ')
    # The FIN counts, and may have come.
    print('received', struct.unpack_from('Q', info, 128)[0] // 10 * 10)
    print('options', info[5], 'mss', words[2], 'advertised', words[19], 'measured', words[15] > 0, flush=True)
";

const SERVER: &str = "
listener = socket.create_server((sys.argv[1], 7100), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, backlog=8)
print('listens', flush=True)
peer, _ = listener.accept()
talk(peer)
";

const CLIENT: &str = "
talk(socket.create_connection((sys.argv[1], 7100)))
";

/// SYNs of nobody, as many as fill any SYN queue of a small backlog.
const FLOOD: &str = "
import socket, struct, sys
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to = socket.inet_aton(sys.argv[1])
for number in range(400):
    source = bytes([10, 7, 0, 100 + number % 100])
    tcp = struct.pack('!HHIIBBHHH', 1024 + number, 7100, number, 0, 0x50, 2, 1000, 0, 0)
    tcp = tcp[:16] + struct.pack('!H', checksum(source + to + struct.pack('!HH', 6, 20) + tcp)) + tcp[18:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 40, number, 0, 64, 6, 0) + source + to
    raw.sendto(ip + tcp, (sys.argv[1], 0))
";

/// What the two ends say of a conversation.
fn agreement(server: Stack, client: Stack, family: Family, flooded: bool) -> [String; 2] {
    agreement_of(&Hosts::new(), server, client, family, flooded)
}

fn agreement_of(hosts: &Hosts, server: Stack, client: Stack, family: Family, flooded: bool) -> [String; 2] {
    let address = hosts.ours.address(family).to_string();
    let python = |script: String| Program::new(["/usr/bin/python3".to_string(), "-c".into(), script, address.clone()]);
    let mut serving = python([TALK, SERVER].concat()).on(server).start(&hosts.ours).says("listens");
    if server == Stack::Preloaded {
        // It takes what comes from its first wait on.
        serving = serving.claims(7100);
    }
    if flooded {
        python(FLOOD.to_string()).run(&hosts.peer).succeeded();
    }
    let client = python([TALK, CLIENT].concat()).on(client).run(&hosts.peer).succeeded();
    let served = serving.wait().succeeded();
    if server == Stack::Preloaded {
        assert_eq!(served.stats.get("flows_accepted"), 1);
        assert_eq!(served.stats.get("syn_cookies_accepted"), u64::from(flooded), "{:?}", served.stats);
    }
    [served.text(), client.text()]
}

#[test]
fn both_ends_agree_on_what_the_kernel_agrees_on() {
    for family in Family::ALL {
        let expected = agreement(Stack::Kernel, Stack::Kernel, family, false);
        assert!(expected[0].contains("options 7 "), "{expected:?}");
        for (server, client) in [(Stack::Preloaded, Stack::Kernel), (Stack::Kernel, Stack::Preloaded)] {
            assert_eq!(agreement(server, client, family, false), expected, "{server:?} serves {client:?}");
        }
    }
}

#[test]
fn a_syn_cookie_loses_nothing() {
    let expected = agreement(Stack::Kernel, Stack::Kernel, Family::V4, true);
    for client in [Stack::Kernel, Stack::Preloaded] {
        assert_eq!(agreement(Stack::Preloaded, client, Family::V4, true), expected);
    }
}

#[test]
fn the_settings_of_the_network_namespace_hold() {
    const SETTINGS: [&str; 7] = [
        "tcp_keepalive_time=77",
        "tcp_keepalive_intvl=7",
        "tcp_keepalive_probes=3",
        "tcp_syn_retries=2",
        "tcp_fin_timeout=33",
        "tcp_timestamps=0",
        "tcp_congestion_control=reno",
    ];
    let run = |server| {
        let hosts = Hosts::new();
        for setting in SETTINGS {
            hosts.ours.run(&["sysctl", "-q", "-w", &format!("net.ipv4.{setting}")]);
        }
        agreement_of(&hosts, server, Stack::Kernel, Family::V4, false)
    };
    let expected = run(Stack::Kernel);
    assert!(expected[0].contains("77 7 3 2 33 ") && expected[0].contains("options 6 mss 1460"), "{expected:?}");
    assert_eq!(run(Stack::Preloaded), expected);
}
