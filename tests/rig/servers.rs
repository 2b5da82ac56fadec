//! The servers that the tests run, from Debian's packages, each configured for one address and port.

use crate::hosts::{Family, Host};
use crate::program::{Program, Stack};
use crate::running::Running;
use crate::scratch::Scratch;
use std::net::{IpAddr, SocketAddr};

/// A server program.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Its name in messages.
    pub name: &'static str,
    /// The TCP port that it listens on.
    pub port: u16,
    /// The signal on which it ends in good order.
    pub stop_signal: i32,
    /// Whether the processes that serve run as an unprivileged user.
    drops_privileges: bool,
    /// Its command line, for an address and a directory of files to serve and to configure it in.
    argv: fn(SocketAddr, &Scratch) -> Vec<String>,
}

impl Server {
    /// Starts it on a host and waits until it serves; HTTP servers serve the files in `directory`.
    pub fn start(&self, host: &Host, family: Family, stack: Stack, directory: &Scratch) -> Running {
        let running = self.program(host, family, directory).on(stack).start(host).listens(host, self.port);
        if stack == Stack::Preloaded { running.claims(self.port) } else { running }
    }

    /// The program, not started yet.
    pub fn program(&self, host: &Host, family: Family, directory: &Scratch) -> Program {
        let program = Program::new((self.argv)(SocketAddr::new(host.address(family), self.port), directory));
        if self.drops_privileges { program.dropping_privileges() } else { program }
    }
}

/// nginx with a master and one worker that drops its privileges; listens on the wildcard of either family.
pub const NGINX: Server = Server {
    name: "nginx",
    port: 8080,
    stop_signal: libc::SIGTERM,
    drops_privileges: true,
    argv: |address, directory| {
        let port = address.port();
        nginx(directory, "user www-data; worker_processes 1;", &format!("listen {port}; listen [::]:{port};"))
    },
};

/// nginx in one process.
pub const NGINX_WITHOUT_MASTER: Server = Server {
    name: "nginx without a master",
    port: 8080,
    stop_signal: libc::SIGTERM,
    drops_privileges: false,
    argv: |address, directory| nginx(directory, "master_process off;", &format!("listen {address};")),
};

/// lighttpd, which drops its privileges.
pub const LIGHTTPD: Server = Server {
    name: "lighttpd",
    port: 8081,
    stop_signal: libc::SIGTERM,
    drops_privileges: true,
    argv: |address, directory| {
        let text = format!(
            "server.document-root = \"{}\"\nserver.bind = \"{}\"\nserver.port = {}\n\
             server.username = \"www-data\"\nserver.groupname = \"www-data\"\n",
            directory.path().display(),
            bracketed(address.ip()),
            address.port()
        );
        words(&["lighttpd", "-D", "-f", &directory.write("lighttpd.conf", text)])
    },
};

/// Python's http.server: a thread for each connection.
pub const PYTHON: Server = Server {
    name: "python3 -m http.server",
    port: 8082,
    stop_signal: libc::SIGINT,
    drops_privileges: false,
    argv: |address, directory| {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let directory = directory.path().to_str().expect("temporary names are ASCII");
        words(&["/usr/bin/python3", "-m", "http.server", &port, "--bind", &ip, "--directory", directory])
    },
};

/// redis-server without persistence.
pub const REDIS: Server = Server {
    name: "redis-server",
    port: 6379,
    stop_signal: libc::SIGTERM,
    drops_privileges: false,
    argv: |address, _| {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        words(&["redis-server", "--bind", &ip, "--port", &port, "--protected-mode", "no", "--save", ""])
    },
};

/// memcached: one thread accepts, another serves.
pub const MEMCACHED: Server = Server {
    name: "memcached",
    port: 11211,
    stop_signal: libc::SIGTERM,
    drops_privileges: true,
    argv: |address, _| {
        let (ip, port) = (bracketed(address.ip()), address.port().to_string());
        words(&["memcached", "-t", "1", "-u", "nobody", "-U", "0", "-l", &ip, "-p", &port])
    },
};

/// iperf3 as a server: one dual-stack wildcard listener.
pub const IPERF3: Server = Server {
    name: "iperf3 -s",
    port: 5201,
    stop_signal: libc::SIGTERM,
    drops_privileges: false,
    argv: |address, _| words(&["iperf3", "-s", "-p", &address.port().to_string()]),
};

fn nginx(directory: &Scratch, main: &str, server: &str) -> Vec<String> {
    let root = directory.path().display();
    let text = format!(
        "daemon off; pid {root}/nginx.pid; {main}\nevents {{}}\n\
         http {{ access_log off; sendfile on; server {{ {server} root {root}; }} }}\n"
    );
    words(&["nginx", "-e", "stderr", "-c", &directory.write("nginx.conf", text)])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// An address in the notation that also takes a port.
fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
