//! CPython's own tests of what stands on sockets (Debian's libpython3.11-testsuite), which are written for 127.0.0.1: each
//! has the same outcome over the loopback served as on the kernel, and over the interface's own address.

use std::collections::BTreeMap;
use std::time::Duration;
use userstack_tests::{Family, Finished, Hosts, Program, Running, Scratch, Stack};

/// A module has hundreds of tests, some of which wait for a second on purpose.
const HANG_GUARD: Duration = Duration::from_secs(600);

/// How the tests of a module ended, by name.
type Outcomes = BTreeMap<String, String>;

/// What `localhost` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Localhost {
    Loopback,
    OwnAddress,
}

/// A run of one module, with arguments of `test.regrtest`.
fn start(hosts: &Hosts, arguments: &[&str], stack: Stack, localhost: Localhost, scratch: &Scratch) -> Running {
    let file = scratch.join("hosts");
    std::fs::write(&file, format!("{} localhost\n", hosts.ours.address(Family::V4))).expect("a directory of ours");
    // `ip netns exec` has given it a mount namespace of its own.
    let mount = format!("mount --bind {file} /etc/hosts; ");
    let script = format!("{}exec \"$@\"", if localhost == Localhost::OwnAddress { &mount } else { "" });
    let words = ["/bin/sh", "-c", &script, "sh"];
    // No VSOCK: a kernel without its loopback lets that test hang.
    let python = ["/usr/bin/python3.11", "-u", "-m", "test", "-v", "-u", "network", "-i", "*VSOCK*"];
    let outside = ["-i", "*NetworkConnection*", "-i", "*NetworkedTests*", "-i", "*NetworkTest*"];
    let program = Program::new([&words[..], &python, &outside, arguments].concat());
    let program = if stack == Stack::Preloaded { program.on(stack).env("USERSTACK_IFACE", "lo") } else { program };
    program.start(&hosts.ours)
}

/// The outcomes that unittest says: `NAME (PLACE) ... OUTCOME`, where a test may have written something in between.
fn outcomes(run: &Finished) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut name = None;
    for line in run.text().lines().chain(run.stderr.lines()) {
        if let Some((test, rest)) = line.split_once(" (test.")
            && let Some((place, _)) = rest.split_once(')')
            && !test.contains(' ')
        {
            name = Some(format!("{place} {test}"));
        }
        let said = line.rsplit("... ").next().unwrap_or(line);
        let known = ["ok", "FAIL", "ERROR", "skipped", "expected failure"];
        if let Some(outcome) = known.iter().find(|&&known| said == known || said.starts_with(&format!("{known} '")))
            && let Some(name) = name.take()
        {
            outcomes.insert(name, outcome.to_string());
        }
    }
    outcomes
}

/// Runs modules on the kernel and preloaded, over either localhost, all at once, and compares.
fn check(arguments: &[&str]) {
    let runs = [Localhost::Loopback, Localhost::OwnAddress].map(|localhost| {
        let runs = [Stack::Kernel, Stack::Preloaded].map(|stack| {
            let (hosts, scratch) = (Hosts::new(), Scratch::new());
            let run = start(&hosts, arguments, stack, localhost, &scratch);
            (run, hosts, scratch)
        });
        (localhost, runs)
    });
    for (localhost, runs) in runs {
        let [kernel, preloaded] = runs.map(|(run, _hosts, _scratch)| run.wait_for(HANG_GUARD));
        let (expected, got) = (outcomes(&kernel), outcomes(&preloaded));
        assert!(expected.values().any(|outcome| outcome == "ok"), "{}{}", kernel.stderr, kernel.text());
        let differing = expected.iter().filter(|(name, outcome)| got.get(*name) != Some(outcome));
        let differing: Vec<_> =
            differing.map(|(name, outcome)| format!("{name}: {outcome}, now {:?}", got.get(name))).collect();
        let (stderr, text) = (&preloaded.stderr, preloaded.text());
        assert!(differing.is_empty(), "{arguments:?} {localhost:?}: {differing:#?}\n{stderr}{text}");
        assert!(preloaded.stats.flows() > 0, "{arguments:?}: {:?}", preloaded.stats);
    }
}

#[test]
fn sockets() {
    check(&["test_socket"]);
}

#[test]
fn waits() {
    check(&["test_select", "test_selectors", "test_epoll", "test_poll"]);
}

#[test]
fn event_loops() {
    check(&["test_asyncio"]);
}

#[test]
fn servers_and_clients() {
    check(&["test_httpservers", "test_socketserver", "test_ftplib"]);
}

#[test]
fn encrypted() {
    check(&["test_ssl"]);
}
