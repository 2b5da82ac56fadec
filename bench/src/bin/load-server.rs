//! A minimal epoll echo server: the server side of the comparisons, over the kernel or preloaded.
//!
//! `load-server --listen ADDRESS:PORT`. On SIGTERM or SIGINT it prints one JSON line: flows accepted, requests answered and
//! its own CPU seconds.

use std::{
    error::Error,
    io,
    net::SocketAddrV4,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};
use userstack_bench::{
    arguments::Arguments,
    cpu,
    epoll::{Epoll, READABLE},
    net, termination,
};

/// Tokens beside those of flows, which are their descriptors.
const LISTENER: u64 = u64::MAX;
const TERMINATION: u64 = u64::MAX - 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_env()?;
    let address = arguments.required("listen")?;
    arguments.finish()?;

    net::raise_descriptor_limit()?;
    let mut server = Server::new(address)?;
    server.run()?;
    let cpu_s = cpu::own_seconds()?;
    println!(r#"{{"accepted":{},"count":{},"cpu_s":{cpu_s:.3}}}"#, server.accepted, server.answered);
    Ok(())
}

struct Server {
    epoll: Epoll,
    listener: OwnedFd,
    /// Each flow at the index of its descriptor.
    flows: Vec<Option<OwnedFd>>,
    accepted: u64,
    answered: u64,
}

impl Server {
    fn new(address: SocketAddrV4) -> io::Result<Server> {
        let epoll = Epoll::new()?;
        let listener = net::listen(address)?;
        epoll.add(listener.as_fd(), READABLE, LISTENER)?;
        Ok(Server { epoll, listener, flows: Vec::new(), accepted: 0, answered: 0 })
    }

    /// Serves until a signal to end arrives.
    fn run(&mut self) -> io::Result<()> {
        let termination = termination::descriptor()?;
        self.epoll.add(termination.as_fd(), READABLE, TERMINATION)?;
        let mut ready = Vec::new();
        loop {
            ready.extend(self.epoll.wait(-1)?);
            for (token, _) in ready.drain(..) {
                match token {
                    LISTENER => self.accept_all()?,
                    TERMINATION => return Ok(()),
                    flow => self.echo(flow as usize),
                }
            }
        }
    }

    fn accept_all(&mut self) -> io::Result<()> {
        while let Some(flow) = net::accept(self.listener.as_fd())? {
            let slot = flow.as_raw_fd() as usize;
            self.epoll.add(flow.as_fd(), READABLE, slot as u64)?;
            if self.flows.len() <= slot {
                self.flows.resize_with(slot + 1, || None);
            }
            self.flows[slot] = Some(flow);
            self.accepted += 1;
        }
        Ok(())
    }

    /// Sends back what a flow received, and closes it at the end of its stream or on an error.
    fn echo(&mut self, slot: usize) {
        let Some(flow) = &self.flows[slot] else { return };
        let mut buffer = [0; 4096];
        let echoed = match net::recv(flow.as_fd(), &mut buffer) {
            Ok(None) => return,
            Ok(Some(len @ 1..)) => net::send(flow.as_fd(), &buffer[..len]).is_ok(),
            Ok(Some(0)) | Err(_) => false,
        };
        if echoed {
            self.answered += 1;
        } else {
            self.flows[slot] = None;
        }
    }
}
