//! The calls, one by one: C programs that print what each call returns, on the kernel and preloaded, with equal
//! transcripts. The programs lie beside this file, one a group of man pages; case.h is their frame.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use userstack_tests::{Family, Finished, Hosts, Program, Scratch, Stack, run_command};

/// How a case is to be served when it is preloaded: `enum serving` of case.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    Flow,
    Served,
    Datagrams,
    Mixed,
    Passed,
    Anyhow,
}

/// One case in one of its variants.
struct Case<'a> {
    program: &'a str,
    name: &'a str,
    serving: Serving,
    family: Family,
    /// Which side opens the flow: `opened` (ours) or `accepted`.
    direction: &'a str,
    /// For random calls.
    seed: Option<u32>,
}

/// Seeds of the random calls, and how many steps are taken from each.
const SEEDS: std::ops::Range<u32> = 0..8;
const STEPS: u32 = 150;

/// Compiles a program, runs all variants of all its cases, and fails with every one that differs.
fn check(source: &str) {
    let scratch = Scratch::new();
    let program = compile(source, &scratch);
    let mut differing = Vec::new();
    for line in run_command(&[&program, "list"]).lines() {
        let (name, serving) = line.split_once(' ').expect("a name and a word");
        let serving = match serving {
            "flow" => Serving::Flow,
            "served" => Serving::Served,
            "datagrams" => Serving::Datagrams,
            "mixed" => Serving::Mixed,
            "passed" => Serving::Passed,
            "anyhow" => Serving::Anyhow,
            other => panic!("{other} is not in enum serving"),
        };
        let directions: &[&str] = if serving == Serving::Flow { &["opened", "accepted"] } else { &["opened"] };
        for family in Family::ALL {
            for direction in directions {
                differing.extend(Case { program: &program, name, serving, family, direction, seed: None }.difference());
            }
        }
    }
    assert!(differing.is_empty(), "{source}: {} differ\n\n{}", differing.len(), differing.join("\n"));
}

/// Makes random calls from one seed after the other, on both stacks.
fn check_random(source: &str) {
    let scratch = Scratch::new();
    let program = compile(source, &scratch);
    for seed in SEEDS {
        let (name, family) = ("any_calls", Family::ALL[seed as usize % 2]);
        let case =
            Case { program: &program, name, serving: Serving::Anyhow, family, direction: "opened", seed: Some(seed) };
        let difference = case.difference();
        assert!(difference.is_none(), "{source}, seed {seed}: {}", difference.unwrap_or_default());
    }
}

/// Fortified, as Debian's packages are: this is what makes the compiler call `__read_chk` and its like.
fn compile(source: &str, scratch: &Scratch) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let path = |name: &str| directory.join(name).to_str().expect("the work tree's path is UTF-8").to_string();
    let program = scratch.join("program");
    let options = ["-O2", "-D_GNU_SOURCE", "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Werror", "-pthread"];
    let files = [
        path(source),
        path("case.c"),
        path("transfer.c"),
        path("family.c"),
        path("udp.c"),
        path("told.c"),
        path("events.c"),
    ];
    run_command(
        &["cc", "-o", &program].into_iter().chain(options).chain(files.iter().map(|file| &**file)).collect::<Vec<_>>(),
    );
    program
}

impl Case<'_> {
    /// What is wrong with the preloaded run, compared with the kernel's.
    fn difference(&self) -> Option<String> {
        let expected = self.transcript(Stack::Kernel);
        let got = self.transcript(Stack::Preloaded);
        let problem = match (expected, got) {
            (Ok(expected), Ok(got)) if expected == got => return None,
            (Ok(expected), Ok(got)) => first_difference(&expected, &got),
            (Err(problem), _) => format!("on the kernel: {problem}"),
            (_, Err(problem)) => format!("preloaded: {problem}"),
        };
        Some(format!("{} {:?} {}: {problem}", self.name, self.family, self.direction))
    }

    /// Runs both sides and returns what they printed, or what went wrong.
    fn transcript(&self, stack: Stack) -> Result<String, String> {
        let hosts = Hosts::new();
        let (our_end, peer_end) = UnixStream::pair().expect("a socket pair");
        let ours = self.side("ours", &hosts, our_end).on(stack).start(&hosts.ours);
        let peer = self.side("peer", &hosts, peer_end).start(&hosts.peer);
        // The peer of a side that hangs hangs too, but tells less.
        let (ours, peer) = (ours.try_wait()?, peer.try_wait()?);
        let kernel_served_nothing = hosts.ours.kernel_tcp().served_nothing();
        for (side, finished) in [("ours", &ours), ("peer", &peer)] {
            if !finished.status.success() {
                return Err(format!("{side}: {}\n{}{}", finished.status, finished.stderr, finished.text()));
            }
        }
        let mut transcript = format!("ours:\n{}peer:\n{}", ours.text(), peer.text());
        if stack == Stack::Preloaded {
            transcript += &self.misserving(&ours, kernel_served_nothing);
        }
        Ok(transcript)
    }

    fn side(&self, side: &str, hosts: &Hosts, steps: UnixStream) -> Program {
        let family = if self.family == Family::V4 { "4" } else { "6" };
        let addresses = Family::ALL.map(|family| [hosts.ours.address(family), hosts.peer.address(family)]);
        let words = [self.program, self.name, side, family, self.direction].map(String::from);
        let addresses = addresses.concat().into_iter().map(|address: IpAddr| address.to_string());
        let program = Program::new(words.into_iter().chain(addresses)).stdin(OwnedFd::from(steps));
        match self.seed {
            Some(seed) => program.env("RANDOM_SEED", seed.to_string()).env("RANDOM_STEPS", STEPS.to_string()),
            None => program,
        }
    }

    /// What to complain of if the preloaded run was not served by whom the case says; empty otherwise.
    fn misserving(&self, ours: &Finished, kernel_served_nothing: bool) -> String {
        if ours.stats.is_empty() {
            return format!("it left no counters\n{}", ours.stderr);
        }
        let (flows, frames) = (ours.stats.flows(), ours.stats.get("tx_frames"));
        let datagrams = ours.stats.get("datagrams_sent") + ours.stats.get("datagrams_received");
        let as_wanted = match self.serving {
            Serving::Flow => kernel_served_nothing && flows > 0,
            // A connect that fails opens no flow, but sends.
            Serving::Served => kernel_served_nothing && flows + frames > 0,
            Serving::Datagrams => datagrams > 0,
            Serving::Mixed => flows > 0,
            Serving::Passed => flows == 0,
            Serving::Anyhow => true,
        };
        if as_wanted {
            return String::new();
        }
        let served = format!(
            "{flows} flows, {datagrams} datagrams, {frames} frames sent, kernel served nothing: {kernel_served_nothing}"
        );
        format!("not served as {:?}: {served}\n{}", self.serving, ours.stderr)
    }
}

/// The first line that differs, with what led up to it.
fn first_difference(expected: &str, got: &str) -> String {
    let same = expected.lines().zip(got.lines()).take_while(|(a, b)| a == b).count();
    let context: Vec<_> =
        expected.lines().take(same).skip(same.saturating_sub(6)).map(|line| format!("    {line}\n")).collect();
    let line_of = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_string();
    format!("\n{}  - {}\n  + {}", context.concat(), line_of(expected), line_of(got))
}

#[test]
fn random() {
    check_random("random.c");
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(concat!(stringify!($name), ".c"));
        })*
    };
}

programs! {
    accept,
    buffers,
    cancel,
    connect,
    datagram,
    datagram_options,
    datagram_wait,
    descriptors,
    disconnect,
    dual,
    endings,
    epoll,
    every_option,
    fields,
    files,
    handlers,
    input,
    jumps,
    looks,
    lowat,
    names,
    options,
    poll,
    processes,
    programs,
    sendfile,
    sets,
    shutdown,
    signals,
    tcp_options,
    threads,
    transmit,
    urgent,
    zerocopy,
}
