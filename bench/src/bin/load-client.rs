//! A load generator: an ordinary epoll client, over the kernel or preloaded, that keeps N requests under way.
//!
//! `load-client --mode crr|rr|idle --target ADDRESS:PORT --clients N [--idle M] [--seconds S] [--server-pid PID]`
//! - `crr`: each client connects, sends 64 bytes, receives 64 bytes, closes, and begins again (connect, request, response);
//! - `rr`: each client stays connected and sends its next request when it has the reply (ping-pong);
//! - `idle`: `rr` beside M connections that stay open and silent.
//!
//! Prints one JSON line about the time after a short warm-up: transactions, rate, latencies and CPU seconds; with
//! `--server-pid` those of a server on this machine, too.

use std::{
    error::Error,
    io,
    net::{SocketAddrV4, TcpStream},
    os::fd::{AsFd, OwnedFd},
    str::FromStr,
    time::{Duration, Instant},
};
use userstack_bench::{
    MESSAGE_LEN,
    arguments::Arguments,
    cpu,
    epoll::{EDGE_TRIGGERED, Epoll, READABLE, WRITABLE},
    histogram::Histogram,
    net,
};

const WARM_UP: Duration = Duration::from_millis(300);

/// Failed connections after which a run is given up: it measures something else.
const FAILURES_MAX: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_env()?;
    let mode: Mode = arguments.required("mode")?;
    let target = arguments.required("target")?;
    let clients = arguments.required("clients")?;
    let idle = arguments.optional("idle")?.unwrap_or(0);
    let duration = Duration::from_secs_f64(arguments.optional("seconds")?.unwrap_or(3.0));
    let server_pid = arguments.optional("server-pid")?;
    arguments.finish()?;

    net::raise_descriptor_limit()?;
    let _idle = (0..idle).map(|_| TcpStream::connect(target)).collect::<io::Result<Vec<_>>>()?;
    let mut load = Load::start(target, mode, clients)?;
    load.run_until(Instant::now() + WARM_UP)?;
    load.latencies = Histogram::default();

    let (cpu_before, start) = (CpuTimes::now(server_pid)?, Instant::now());
    load.run_until(start + duration)?;
    let (cpu_after, seconds) = (CpuTimes::now(server_pid)?, start.elapsed().as_secs_f64());

    let (count, p50, p99) = (load.latencies.count(), load.latencies.quantile_us(0.5), load.latencies.quantile_us(0.99));
    println!(
        r#"{{"count":{count},"failures":{},"seconds":{seconds:.3},"rate":{:.0},"p50_us":{p50:.1},"p99_us":{p99:.1},"cpu_s":{:.3},"server_cpu_s":{:.3},"machine_busy_s":{:.3}}}"#,
        load.failures,
        count as f64 / seconds,
        cpu_after.own_s - cpu_before.own_s,
        cpu_after.server_s - cpu_before.server_s,
        cpu_after.machine_s - cpu_before.machine_s,
    );
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// A connection for each transaction.
    ConnectRequestResponse,
    /// One connection for all transactions of a client.
    RequestResponse,
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(name: &str) -> Result<Mode, ()> {
        match name {
            "crr" => Ok(Mode::ConnectRequestResponse),
            "rr" | "idle" => Ok(Mode::RequestResponse),
            _ => Err(()),
        }
    }
}

/// CPU seconds at one moment; the server's are 0 when its process is not known.
struct CpuTimes {
    own_s: f64,
    server_s: f64,
    machine_s: f64,
}

impl CpuTimes {
    fn now(server_pid: Option<u32>) -> io::Result<CpuTimes> {
        let server_s = server_pid.map_or(Ok(0.0), cpu::process_seconds)?;
        Ok(CpuTimes { own_s: cpu::own_seconds()?, server_s, machine_s: cpu::machine_busy_seconds()? })
    }
}

/// One client: its connection and how far its transaction has come.
struct Client {
    socket: OwnedFd,
    started: Instant,
    requested: bool,
    received: usize,
}

struct Load {
    target: SocketAddrV4,
    mode: Mode,
    epoll: Epoll,
    clients: Vec<Client>,
    latencies: Histogram,
    failures: u64,
}

impl Load {
    fn start(target: SocketAddrV4, mode: Mode, clients: u64) -> io::Result<Load> {
        let epoll = Epoll::new()?;
        let clients = (0..clients).map(|token| connect(&epoll, target, token)).collect::<io::Result<_>>()?;
        Ok(Load { target, mode, epoll, clients, latencies: Histogram::default(), failures: 0 })
    }

    fn run_until(&mut self, deadline: Instant) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            ready.extend(self.epoll.wait(left.as_millis() as i32 + 1)?);
            for (token, readiness) in ready.drain(..) {
                self.advance(token, readiness)?;
            }
        }
    }

    /// Takes a client's transaction one step on; a client whose connection failed begins again on a new one.
    fn advance(&mut self, token: u64, readiness: u32) -> io::Result<()> {
        let Err(error) = self.transact(token, readiness) else { return Ok(()) };
        self.failures += 1;
        if self.failures > FAILURES_MAX {
            return Err(error);
        }
        self.clients[token as usize] = connect(&self.epoll, self.target, token)?;
        Ok(())
    }

    fn transact(&mut self, token: u64, readiness: u32) -> io::Result<()> {
        let client = &mut self.clients[token as usize];
        if !client.advance(readiness)? {
            return Ok(());
        }
        self.latencies.record(client.started.elapsed());
        match self.mode {
            Mode::ConnectRequestResponse => *client = connect(&self.epoll, self.target, token)?,
            Mode::RequestResponse => client.request_again()?,
        }
        Ok(())
    }
}

fn connect(epoll: &Epoll, target: SocketAddrV4, token: u64) -> io::Result<Client> {
    let started = Instant::now();
    let socket = net::connect(target)?;
    epoll.add(socket.as_fd(), READABLE | WRITABLE | EDGE_TRIGGERED, token)?;
    Ok(Client { socket, started, requested: false, received: 0 })
}

impl Client {
    /// Sends the request once connected and collects the reply; true when the reply is whole.
    fn advance(&mut self, readiness: u32) -> io::Result<bool> {
        if !self.requested && readiness & WRITABLE != 0 {
            self.request()?;
        }
        if readiness & READABLE == 0 {
            return Ok(false);
        }
        let mut reply = [0; MESSAGE_LEN];
        match net::recv(self.socket.as_fd(), &mut reply)? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(len) => self.received += len,
            None => {}
        }
        Ok(self.received == MESSAGE_LEN)
    }

    fn request(&mut self) -> io::Result<()> {
        self.requested = true;
        net::send(self.socket.as_fd(), &[b'x'; MESSAGE_LEN])
    }

    fn request_again(&mut self) -> io::Result<()> {
        (self.started, self.received) = (Instant::now(), 0);
        self.request()
    }
}
