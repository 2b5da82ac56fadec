//! Programs that die without a word: their peers hear of it from the kernel, and the interface is left clean.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use userstack_tests::servers::{LIGHTTPD, NGINX, PYTHON, REDIS, Server};
use userstack_tests::{
    Family, Host, Hosts, Program, Running, Scratch, Stack, attached_mode, is_claimed, until, with_children, www,
};

/// Opens a connection, says so, and reads until it ends; then it says how.
const READER: &str = "
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print('reading', flush=True)
try:
    print(peer.recv(1))
except OSError as error:
    print(type(error).__name__)
";

/// Opens a connection (or waits for one, given `listen`), says so, and after a line on its standard input sends until
/// that fails, and says how.
const TALKER: &str = "
import socket, sys, time
role, ip, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in ip else socket.AF_INET
if role == 'listen':
    listener = socket.create_server((ip, port), family=family)
    print('listening', flush=True)
    peer = listener.accept()[0]
else:
    peer = socket.create_connection((ip, port))
peer.sendall(b'x')
print('talking', flush=True)
sys.stdin.readline()
try:
    while True:
        peer.sendall(b'x')
        time.sleep(0.01)
except OSError as error:
    print(type(error).__name__)
";

fn talker(role: &str, ip: impl ToString, port: u16) -> (Program, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let argv = ["/usr/bin/python3", "-c", TALKER, role, &ip.to_string(), &port.to_string()];
    (Program::new(argv).stdin(OwnedFd::from(theirs)), ours)
}

/// Lets the talker go on after its peer has died, and insists that it hears of that from the kernel's RST: before, there were
/// `resets`.
fn hears_of_the_death(talker: Running, mut steps: UnixStream, dead: &Host, resets: u64) {
    steps.write_all(b"\n").expect("the talker reads");
    let answer = talker.wait().succeeded().text();
    assert!(answer.contains("ConnectionResetError") || answer.contains("BrokenPipeError"), "{answer}");
    assert!(dead.kernel_tcp().resets_out > resets, "the kernel sent no RST");
}

fn is_left_clean(host: &Host) {
    until("the interface to lose its program", || attached_mode(host).is_none().then_some(()));
}

#[test]
fn a_killed_server_resets_its_connections() {
    let files = Scratch::new();
    for (server, family) in [(REDIS, Family::V4), (REDIS, Family::V6), (NGINX, Family::V4), (PYTHON, Family::V6)] {
        let hosts = Hosts::new();
        let running = server.start(&hosts.ours, family, Stack::Preloaded, &files);
        let (program, steps) = talker("connect", hosts.ours.address(family), server.port);
        let talker = program.start(&hosts.peer).says("talking");
        assert!(hosts.ours.kernel_tcp().is_silent());
        // Dropping it kills the whole group, nginx's worker included.
        let resets = hosts.ours.kernel_tcp().resets_out;
        drop(running);
        hears_of_the_death(talker, steps, &hosts.ours, resets);
        is_left_clean(&hosts.ours);
    }
}

#[test]
fn who_only_reads_from_a_killed_server_hears_of_it() {
    let files = Scratch::new();
    for family in Family::ALL {
        let hosts = Hosts::new();
        let running = REDIS.start(&hosts.ours, family, Stack::Preloaded, &files);
        let (ip, port) = (hosts.ours.address(family).to_string(), REDIS.port.to_string());
        let reader = || Program::new(["/usr/bin/python3", "-c", READER, &ip, &port]).start(&hosts.peer).says("reading");
        let readers = [reader(), reader(), reader()];
        assert!(hosts.ours.kernel_tcp().is_silent());
        drop(running);
        for reader in readers {
            assert_eq!(reader.wait().succeeded().text(), "reading\nConnectionResetError\n");
        }
        is_left_clean(&hosts.ours);
    }
}

#[test]
fn a_killed_client_resets_its_connection() {
    for family in Family::ALL {
        let hosts = Hosts::new();
        let (program, steps) = talker("listen", hosts.peer.address(family), 7000);
        let listening = program.start(&hosts.peer).says("listening");
        let (program, _never) = talker("connect", hosts.peer.address(family), 7000);
        let client = program.on(Stack::Preloaded).start(&hosts.ours).says("talking");
        let listening = listening.says("talking");
        assert!(hosts.ours.kernel_tcp().is_silent());
        let resets = hosts.ours.kernel_tcp().resets_out;
        drop(client);
        hears_of_the_death(listening, steps, &hosts.ours, resets);
        is_left_clean(&hosts.ours);
    }
}

#[test]
fn a_server_is_served_again_after_it_was_killed() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    for _ in 0..3 {
        let running = LIGHTTPD.start(&hosts.ours, Family::V4, Stack::Preloaded, &files);
        fetches(&hosts, &LIGHTTPD);
        drop(running);
    }
    assert!(hosts.ours.kernel_tcp().served_nothing());
    is_left_clean(&hosts.ours);
}

#[test]
fn the_worker_that_replaces_a_killed_one_is_served() {
    let hosts = Hosts::new();
    let files = Scratch::new();
    www::write_files(&files);
    let master = NGINX.start(&hosts.ours, Family::V4, Stack::Preloaded, &files);
    fetches(&hosts, &NGINX);
    let [_, worker] = with_children(master.pid())[..] else { panic!("nginx has one worker") };
    // SAFETY: the worker is a child of a child of ours that is alive, so the id is its own; no memory is passed.
    unsafe { libc::kill(worker as i32, libc::SIGKILL) };
    until("a new worker to claim the port", || {
        // It tries again when a connection has come through the kernel.
        fetches(&hosts, &NGINX);
        let new = with_children(master.pid()).into_iter().find(|&pid| pid != master.pid() && pid != worker)?;
        is_claimed(new, NGINX.port).then_some(())
    });
    fetches(&hosts, &NGINX);
    drop(master);
    is_left_clean(&hosts.ours);
}

fn fetches(hosts: &Hosts, server: &Server) {
    let url = format!("http://{}/medium", hosts.ours.authority(Family::V4, server.port));
    let fetched = Program::new(["curl", "-sSf", &url]).run(&hosts.peer).succeeded();
    www::check_contents(&url, &fetched.stdout, 100_000);
}
