//! CPython's own tests of what stands on sockets (Debian's libpython3.11-testsuite), which are written for 127.0.0.1: each
//! has the same outcome over the loopback served as on the kernel, and over the interface's own address.

use std::collections::BTreeMap;
use userstack_tests::{Family, Finished, Hosts, Program, Running, Scratch, Stack};

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

/// Runs a module on the kernel and preloaded, and compares.
fn check(arguments: &[&str], localhosts: &[Localhost]) {
    for &localhost in localhosts {
        let runs = [Stack::Kernel, Stack::Preloaded].map(|stack| {
            let (hosts, scratch) = (Hosts::new(), Scratch::new());
            let run = start(&hosts, arguments, stack, localhost, &scratch);
            (run, hosts, scratch)
        });
        let [kernel, preloaded] = runs.map(|(run, _hosts, _scratch)| run.wait());
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

const BOTH: [Localhost; 2] = [Localhost::Loopback, Localhost::OwnAddress];

#[test]
fn sockets() {
    check(&["test_socket"], &BOTH);
}

#[test]
fn event_loops() {
    let without_sockets = ["-i", "*test_tasks*", "-i", "*test_taskgroups*", "-i", "*test_futures*"];
    let and = ["-i", "*test_subprocess*", "-i", "*test_asyncio.test_ssl.*", "test_asyncio"];
    check(&[&without_sockets[..], &and].concat(), &[Localhost::Loopback]);
}

#[test]
fn servers_and_clients() {
    for module in ["test_httpservers", "test_socketserver", "test_ftplib"] {
        check(&[module], &BOTH);
    }
}

#[test]
fn encrypted() {
    check(&["-i", "*ThreadedTests*", "test_ssl"], &[Localhost::Loopback]);
    check(&["-m", "*ThreadedTests*", "test_ssl"], &[Localhost::Loopback]);
}
