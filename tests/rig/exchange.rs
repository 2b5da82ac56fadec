//! A client program talks to a server program, each on the stack that it is given, and the proof of which stack
//! that was.

use crate::hosts::{Family, Hosts};
use crate::program::{Program, Stack};
use crate::running::Finished;
use crate::scratch::Scratch;
use crate::servers::Server;

/// One server on the one host, and clients that are run against it on the other.
#[derive(Debug)]
pub struct Exchange<'a> {
    hosts: &'a Hosts,
    family: Family,
    port: u16,
    client_stack: Stack,
}

impl Exchange<'_> {
    /// Starts the server, lets `clients` talk to it, and stops it. Returns what `clients` made of the answers.
    ///
    /// # Panics
    /// If a segment of a preloaded program went through the kernel's TCP, or the library served none of its flows.
    pub fn run(
        (server, server_stack): (&Server, Stack),
        client_stack: Stack,
        family: Family,
        files: &Scratch,
        clients: impl FnOnce(&Exchange) -> String,
    ) -> String {
        let hosts = Hosts::new();
        let running = server.start(&hosts.ours, family, server_stack, files);
        let exchange = Exchange { hosts: &hosts, family, port: server.port, client_stack };
        let answers = clients(&exchange);
        // The server is alive, so that its host's kernel has not even had to answer for it.
        let (of_server, of_client) = (hosts.ours.kernel_tcp(), hosts.peer.kernel_tcp());
        assert_eq!(of_server.is_silent(), server_stack == Stack::Preloaded, "the server's host: {of_server:?}");
        assert_eq!(of_client.served_nothing(), client_stack == Stack::Preloaded, "the client's host: {of_client:?}");
        let stats = running.stop(server.stop_signal).stats;
        if server_stack == Stack::Preloaded {
            assert!(stats.get("flows_accepted") > 0, "{}: {stats:?}", server.name);
        }
        answers
    }

    /// Runs a client to its end, which must be a success.
    pub fn client<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Finished {
        let finished = Program::new(argv).on(self.client_stack).run(&self.hosts.peer).succeeded();
        if self.client_stack == Stack::Preloaded {
            assert!(finished.stats.get("flows_opened") > 0, "{:?}", finished.stats);
        }
        finished
    }

    /// The server's address in the notation of clients' arguments.
    pub fn ip(&self) -> String {
        self.hosts.ours.address(self.family).to_string()
    }

    /// The server's port.
    pub fn port(&self) -> String {
        self.port.to_string()
    }

    /// The address of a file on the server.
    pub fn url(&self, file: &str) -> String {
        format!("http://{}/{file}", self.hosts.ours.authority(self.family, self.port))
    }
}
