//! The loopback, where it is served: both ends of a connection on the library, in one process and in two, or one of
//! them on the kernel.

use userstack_tests::{Family, Host, Hosts, Program, Scratch, Stack, www};

const PORT: u16 = 8000;

/// All the ways to this host's own addresses.
fn local_addresses(host: &Host) -> [String; 4] {
    let own = Family::ALL.map(|family| host.authority(family, PORT));
    let [own_v4, own_v6] = own;
    [format!("127.0.0.1:{PORT}"), format!("[::1]:{PORT}"), own_v4, own_v6]
}

fn on_loopback(program: Program, stack: Stack) -> Program {
    match stack {
        Stack::Kernel => program,
        Stack::Preloaded => program.on(stack).env("USERSTACK_IFACE", "lo"),
    }
}

#[test]
fn two_processes_of_which_one_is_served() {
    let files = Scratch::new();
    www::write_files(&files);
    let (port, directory) = (PORT.to_string(), files.path().to_str().expect("temporary names are ASCII"));
    for (server_stack, client_stack) in [
        (Stack::Preloaded, Stack::Kernel),
        (Stack::Kernel, Stack::Preloaded),
        // The loopback has one queue: the server has it.
        (Stack::Preloaded, Stack::Preloaded),
    ] {
        let hosts = Hosts::new();
        let argv = ["/usr/bin/python3", "-m", "http.server", &port, "--bind", "::", "--directory", directory];
        let server = on_loopback(Program::new(argv), server_stack).start(&hosts.ours).listens(&hosts.ours, PORT);
        let server = if server_stack == Stack::Preloaded { server.claims(PORT) } else { server };
        for authority in local_addresses(&hosts.ours) {
            let url = format!("http://{authority}/large");
            let client = on_loopback(Program::new(["curl", "-sSfg", &url]), client_stack);
            let fetched = client.run(&hosts.ours).succeeded();
            www::check_contents(&url, &fetched.stdout, 20_000_000);
            if server_stack == Stack::Kernel {
                assert_eq!(fetched.stats.get("flows_opened"), 1, "{:?}", fetched.stats);
            }
        }
        let refused = on_loopback(Program::new(["curl", "-sS", "http://127.0.0.1:9"]), client_stack).run(&hosts.ours);
        assert_eq!(refused.status.code(), Some(7), "{}", refused.stderr);
        let stats = server.stop(libc::SIGINT).stats;
        if server_stack == Stack::Preloaded {
            assert_eq!(stats.get("flows_accepted"), 4, "{stats:?}");
        }
    }
}

/// Both ends in one thread and in two, over each address; blocking, and found by select(2) at once.
const BOTH_ENDS: &str = r#"
import hashlib, select, socket, sys, threading
for host in sys.argv[1:]:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind((host, 0))
        listener.listen()
        client.connect(listener.getsockname())
        server, peer = listener.accept()
        assert peer == client.getsockname(), peer
        client.send(b'now')
        assert select.select([server], [], [], 0)[0] == [server]
        assert server.recv(10) == b'now'
        sent = bytes(range(256)) * 40000
        sender = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
        sender.start()
        received = b''.join(iter(lambda: server.recv(100000), b''))
        sender.join()
        assert received == sent
        server.close()
        assert client.recv(1) == b''
    with socket.socket(family) as client:
        assert client.connect_ex((host, 9)) == 111
"#;

#[test]
fn both_ends_in_one_process() {
    let hosts = Hosts::new();
    let [v4, v6] = Family::ALL.map(|family| hosts.ours.address(family).to_string());
    let argv = ["/usr/bin/python3", "-c", BOTH_ENDS, "127.0.0.1", "127.1.2.3", "::1", &v4, &v6];
    let stats = on_loopback(Program::new(argv), Stack::Preloaded).run(&hosts.ours).succeeded().stats;
    let kernel_tcp = hosts.ours.kernel_tcp();
    assert!(kernel_tcp.served_nothing(), "{kernel_tcp:?}");
    assert_eq!((stats.get("flows_accepted"), stats.get("flows_opened")), (5, 10), "{stats:?}");
}

/// From sockets that are bound and from new ones, to each address and to none, which means this host.
const DATAGRAMS: &str = r#"
import socket, sys
for host in sys.argv[1:]:
    family, any = (socket.AF_INET6, '::') if ':' in host else (socket.AF_INET, '0.0.0.0')
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind((any, 0))
        receiver.settimeout(5)
        for bound in None, any, host:
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                if bound:
                    sender.bind((bound, 0))
                for to in host, any, host:
                    sender.sendto(to.encode(), (to, receiver.getsockname()[1]))
                    print(bound, *receiver.recvfrom(100)[0:1], receiver.getsockname()[0])
                sender.connect((any, receiver.getsockname()[1]))
                sender.send(b'connected')
                received, source = receiver.recvfrom(100)
                print(received, source[0], sender.getpeername()[0])
"#;

#[test]
fn datagrams_to_every_address() {
    let hosts = Hosts::new();
    let [v4, v6] = Family::ALL.map(|family| hosts.ours.address(family).to_string());
    let [kernel, preloaded] = [Stack::Kernel, Stack::Preloaded].map(|stack| {
        let argv = ["/usr/bin/python3", "-c", DATAGRAMS, "127.0.0.1", "127.1.2.3", "::1", &v4, &v6];
        on_loopback(Program::new(argv), stack).run(&hosts.ours).succeeded().stdout
    });
    assert_eq!(String::from_utf8_lossy(&kernel), String::from_utf8_lossy(&preloaded));
}
