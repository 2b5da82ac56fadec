//! What the environment and the wiring change: modes, MTUs, captures, and settings that make no sense.

use userstack_tests::servers::{LIGHTTPD, PYTHON};
use userstack_tests::{Family, Host, Hosts, INTERFACE, Program, Scratch, Stack, Wiring, attached_mode, www};

fn with_settings(program: Program, settings: &[(&str, &str)]) -> Program {
    settings.iter().fold(program.on(Stack::Preloaded), |program, (name, value)| program.env(name, *value))
}

/// Fetches the largest file from a preloaded server, with a client on the kernel and with a preloaded one, over either
/// version of IP; returns how many packets of it arrived.
fn moves_bytes(wiring: Wiring, settings: &[(&str, &str)], meanwhile: impl Fn(&Host)) -> u64 {
    let files = Scratch::new();
    www::write_files(&files);
    let packets = Family::ALL.map(|family| {
        let hosts = Hosts::wired(wiring);
        let server = with_settings(LIGHTTPD.program(&hosts.ours, family, &files), settings).start(&hosts.ours);
        let server = server.listens(&hosts.ours, LIGHTTPD.port).claims(LIGHTTPD.port);
        meanwhile(&hosts.ours);
        let url = format!("http://{}/large", hosts.ours.authority(family, LIGHTTPD.port));
        for client in
            [Program::new(["curl", "-sSfg", &url]), with_settings(Program::new(["curl", "-sSfg", &url]), settings)]
        {
            www::check_contents(&url, &client.run(&hosts.peer).succeeded().stdout, 20_000_000);
        }
        assert!(hosts.ours.kernel_tcp().is_silent());
        assert_eq!(server.stop(LIGHTTPD.stop_signal).stats.get("flows_accepted"), 2);
        let packets = hosts.peer.run(&["cat", &format!("/sys/class/net/{INTERFACE}/statistics/rx_packets")]);
        packets.trim().parse::<u64>().expect("a count")
    });
    packets.iter().sum()
}

#[test]
fn native_mode() {
    moves_bytes(Wiring::default(), &[("USERSTACK_XDP", "native")], |host| assert_eq!(attached_mode(host), Some("xdp")));
}

#[test]
fn generic_mode() {
    moves_bytes(Wiring::default(), &[("USERSTACK_XDP", "generic")], |host| {
        assert_eq!(attached_mode(host), Some("xdpgeneric"));
    });
}

#[test]
fn jumbo_frames() {
    let wiring = Wiring { mtu: 9000, ..Wiring::default() };
    for mode in ["native", "generic"] {
        let packets = moves_bytes(wiring, &[("USERSTACK_XDP", mode)], |_| ());
        // 20 MB four times: 9,000 segments of 8,960 bytes, and 55,000 of 1,460.
        assert!(packets < 27_000, "{mode}: {packets} packets");
    }
}

#[test]
fn a_small_mtu() {
    moves_bytes(Wiring { mtu: 1280, ..Wiring::default() }, &[], |_| ());
}

#[test]
fn without_spinning() {
    moves_bytes(Wiring::default(), &[("USERSTACK_SPIN_US", "0")], |_| ());
}

#[test]
fn a_capture_holds_the_frames() {
    let capture = Scratch::new();
    let path = capture.join("frames.pcap");
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let _server = PYTHON.start(&hosts.peer, Family::V4, Stack::Kernel, &files);
    let url = format!("http://{}/small", hosts.peer.authority(Family::V4, PYTHON.port));
    let client = Program::new(["curl", "-sSf", &url]).on(Stack::Preloaded).env("USERSTACK_PCAP", &path);
    let stats = client.run(&hosts.ours).succeeded().stats;
    let packets = hosts.ours.run(&["tcpdump", "-nr", &path]);
    assert!(packets.contains("Flags [S],") && packets.contains("Flags [S.],"), "{packets}");
    assert_eq!(packets.lines().count() as u64, stats.get("rx_frames") + stats.get("tx_frames"), "{packets}");
}

/// Runs a preloaded client with settings that keep the library from serving it, and returns what it complained of: the
/// program works, over the kernel.
fn complaint_of(settings: &[(&str, &str)]) -> String {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let _server = PYTHON.start(&hosts.peer, Family::V4, Stack::Kernel, &files);
    let url = format!("http://{}/medium", hosts.peer.authority(Family::V4, PYTHON.port));
    let finished = with_settings(Program::new(["curl", "-sSf", &url]), settings).run(&hosts.ours).succeeded();
    www::check_contents(&url, &finished.stdout, 100_000);
    assert!(!hosts.ours.kernel_tcp().is_silent());
    finished.stderr
}

#[test]
fn no_interface_is_one_warning() {
    let complaint = complaint_of(&[("USERSTACK_IFACE", "")]);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("USERSTACK_IFACE"), "{complaint}");
}

#[test]
fn bad_values_are_named_and_harmless() {
    for (name, value) in [
        ("USERSTACK_IFACE", "nosuch0"),
        ("USERSTACK_IFACE", ","),
        ("USERSTACK_XDP", "fast"),
        ("USERSTACK_LOG", "loud"),
        ("USERSTACK_SPIN_US", "soon"),
        ("USERSTACK_SPIN_US", "-1"),
    ] {
        let complaint = complaint_of(&[(name, value)]);
        assert!(complaint.contains(if value == "nosuch0" { value } else { name }), "{name}={value}: {complaint}");
    }
}

#[test]
fn a_program_that_uses_no_sockets_says_nothing() {
    let hosts = Hosts::new();
    let finished = Program::new(["ls", "/"]).on(Stack::Preloaded).run(&hosts.ours).succeeded();
    assert_eq!(finished.stderr, "");
}
