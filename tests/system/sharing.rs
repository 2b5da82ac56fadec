//! One interface, many users: several preloaded processes, the kernel's own services, other interfaces.

use userstack_tests::servers::{LIGHTTPD, NGINX_WITHOUT_MASTER, PYTHON, REDIS, Server};
use userstack_tests::{
    Family, Host, Hosts, Program, Running, Scratch, Stack, Wiring, attached_mode, is_claimed, until, www,
};

/// Fetches a file from a host's address, and compares it.
fn fetch(from: &Host, authority: &str) {
    let url = format!("http://{authority}/medium");
    let fetched = Program::new(["curl", "-sSfg", &url]).run(from).succeeded();
    www::check_contents(&url, &fetched.stdout, 100_000);
}

fn fetch_over_the_wire(hosts: &Hosts, server: &Server) {
    fetch(&hosts.peer, &hosts.ours.authority(Family::V4, server.port));
}

/// Starts a server beside another that may have the interface's queues already: which of them the library serves is
/// open, that it serves is not.
fn start_beside(hosts: &Hosts, server: &Server, files: &Scratch) -> Running {
    let program = server.program(&hosts.ours, Family::V4, files).on(Stack::Preloaded);
    program.start(&hosts.ours).listens(&hosts.ours, server.port)
}

#[test]
fn two_processes_on_one_interface_die_in_any_order() {
    let files = Scratch::new();
    www::write_files(&files);
    for queues in [1, 2] {
        for first_dies_first in [true, false] {
            let hosts = Hosts::wired(Wiring { queues, ..Wiring::default() });
            let first = LIGHTTPD.start(&hosts.ours, Family::V4, Stack::Preloaded, &files);
            let second = start_beside(&hosts, &PYTHON, &files);
            for server in [&LIGHTTPD, &PYTHON, &LIGHTTPD] {
                fetch_over_the_wire(&hosts, server);
            }
            let (dies, stays, served) =
                if first_dies_first { (first, second, &PYTHON) } else { (second, first, &LIGHTTPD) };
            drop(dies);
            // A process that had to leave its connections to the kernel takes the queues when they become free.
            until("the one that stays to be served", || {
                fetch_over_the_wire(&hosts, served);
                is_claimed(stays.pid(), served.port).then_some(())
            });
            fetch_over_the_wire(&hosts, served);
            drop(stays);
            until("the interface to lose its program", || attached_mode(&hosts.ours).is_none().then_some(()));
        }
    }
}

#[test]
fn several_queues_serve_one_process() {
    let files = Scratch::new();
    www::write_files(&files);
    for queues in [2, 4] {
        let hosts = Hosts::wired(Wiring { queues, ..Wiring::default() });
        let server = NGINX_WITHOUT_MASTER.start(&hosts.ours, Family::V6, Stack::Preloaded, &files);
        let url = format!("http://{}/small", hosts.ours.authority(Family::V6, NGINX_WITHOUT_MASTER.port));
        // The peer's kernel spreads the connections over the queues by their hash.
        let ab = Program::new(["ab", "-q", "-n1000", "-c16", &url]).run(&hosts.peer).succeeded();
        assert!(ab.text().contains("Failed requests:        0"), "{}", ab.text());
        let kernel_tcp = hosts.ours.kernel_tcp();
        assert!(kernel_tcp.is_silent(), "{queues} queues: {kernel_tcp:?}");
        // ab has opened some more by the time it has its last answer.
        assert!(server.stop(NGINX_WITHOUT_MASTER.stop_signal).stats.get("flows_accepted") >= 1000);
    }
}

#[test]
fn clients_beside_each_other_all_get_answers() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let _server = PYTHON.start(&hosts.peer, Family::V4, Stack::Kernel, &files);
    let url = format!("http://{}/large", hosts.peer.authority(Family::V4, PYTHON.port));
    let start = || Program::new(["curl", "-sSf", &url]).on(Stack::Preloaded).start(&hosts.ours);
    for client in [start(), start(), start()] {
        www::check_contents(&url, &client.wait().succeeded().stdout, 20_000_000);
    }
}

#[test]
fn ping_and_a_kernel_service_are_undisturbed() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let redis = REDIS.start(&hosts.ours, Family::V4, Stack::Preloaded, &files);
    let _kernel_service = PYTHON.start(&hosts.ours, Family::V4, Stack::Kernel, &files);
    let ip = hosts.ours.address(Family::V4).to_string();
    let load = ["redis-benchmark", "-h", &ip, "-q", "-n", "20000", "-c", "16", "-t", "set,get"];
    let load = Program::new(load).start(&hosts.peer);
    for family in Family::ALL {
        let address = hosts.ours.address(family).to_string();
        let ping = Program::new(["ping", "-c", "20", "-i", "0.01", "-s", "1400", &address]).run(&hosts.peer);
        assert!(ping.text().contains(" 0% packet loss"), "{}", ping.text());
    }
    let before = hosts.ours.kernel_tcp();
    fetch_over_the_wire(&hosts, &PYTHON);
    assert!(!(hosts.ours.kernel_tcp() - before).is_silent());
    load.wait().succeeded();
    // Connections that nobody accepts are still refused, by the kernel.
    let refused = Program::new(["curl", "-sS", &format!("http://{ip}:9")]).run(&hosts.peer);
    const COULD_NOT_CONNECT: i32 = 7; // Not 28: that would be a time-out.
    assert_eq!(refused.status.code(), Some(COULD_NOT_CONNECT), "{}", refused.stderr);
    assert!(redis.stop(REDIS.stop_signal).stats.get("flows_accepted") >= 32);
}

#[test]
fn a_listener_serves_every_interface() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    hosts.ours.ip(&["link", "add", "other0", "type", "veth", "peer", "name", "other0", "netns", hosts.peer.name()]);
    for (host, address) in [(&hosts.ours, "10.8.0.1/24"), (&hosts.peer, "10.8.0.2/24")] {
        host.ip(&["address", "add", address, "dev", "other0"]);
        host.ip(&["link", "set", "other0", "up"]);
    }
    let port = PYTHON.port.to_string();
    let directory = files.path().to_str().expect("temporary names are ASCII");
    let argv = ["/usr/bin/python3", "-m", "http.server", &port, "--bind", "::", "--directory", directory];
    let server = Program::new(argv).on(Stack::Preloaded).start(&hosts.ours);
    let server = server.listens(&hosts.ours, PYTHON.port).claims(PYTHON.port);
    for (from, ip) in [
        (&hosts.peer, "10.7.0.1"),
        (&hosts.ours, "127.0.0.1"),
        (&hosts.ours, "[::1]"),
        (&hosts.peer, "10.8.0.1"),
        (&hosts.ours, "10.7.0.1"),
        (&hosts.peer, "[fd07::1]"),
    ] {
        fetch(from, &format!("{ip}:{port}"));
    }
    // Two of the six came over the library's interface.
    assert_eq!(server.stop(PYTHON.stop_signal).stats.get("flows_accepted"), 2);
}
