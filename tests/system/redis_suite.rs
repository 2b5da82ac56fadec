//! redis's own tests (of Debian's source, fetched by run.sh), whose servers are on the kernel or preloaded, over the
//! loopback: each has the same outcome.

use std::time::Duration;
use userstack_tests::{Finished, Hosts, Program, Scratch, Stack, library, run_command};

/// Long, for a machine that does much else.
const HANG_GUARD: Duration = Duration::from_secs(600);

/// The suite's tree, a copy for one run, with Debian's programs where it looks for its own.
fn tree(stack: Stack) -> Scratch {
    let target = library().ancestors().nth(2).expect("TARGET/release/LIBRARY").join("redis-suite");
    assert!(target.join("runtest").exists(), "{} is missing: tests/run.sh fetches it", target.display());
    let tree = Scratch::new();
    let script = "
cd $2 && cp -a $1/runtest $1/tests $1/utils . && mkdir src
for name in server cli benchmark check-aof check-rdb sentinel; do ln -s /usr/bin/redis-$name src/; done
[ -z $3 ] || sed -i \"s,exec /usr/bin/env ,&LD_PRELOAD=$3 ,\" tests/support/server.tcl";
    let library = if stack == Stack::Preloaded { library().display().to_string() } else { String::new() };
    run_command(&["sh", "-ec", script, "sh", &target.display().to_string(), &tree.join(""), &library]);
    tree
}

/// How the tests ended, with their names, without the time that they took.
fn outcomes(run: &Finished) -> Vec<String> {
    let text = run.text();
    let lines = text.lines().filter(|line| line.starts_with('[') && line.contains("]: "));
    let timeless = |line: &str| line.rsplit_once(" (").map_or(line, |(said, _)| said).to_string();
    let mut outcomes: Vec<_> = lines.filter(|line| !line.starts_with("[ready]")).map(timeless).collect();
    outcomes.sort_unstable();
    outcomes
}

/// Runs modules on the kernel and preloaded, at once, and compares.
fn check(modules: &[&str]) {
    let runs = [Stack::Kernel, Stack::Preloaded].map(|stack| {
        let (hosts, tree) = (Hosts::new(), tree(stack));
        let script = "cd $1 && shift && exec ./runtest --clients 1 \"$@\"";
        let always = ["sh", "-c", script, "sh", &tree.join("")].map(String::from);
        let modules = modules.iter().flat_map(|module| ["--single".to_string(), module.to_string()]);
        // The suite itself, which is the client, stays on the kernel.
        let program = Program::new(always.into_iter().chain(modules)).on(stack).env("LD_PRELOAD", "");
        let program = program.env("USERSTACK_IFACE", "lo").env("TERM", "dumb");
        (program.start(&hosts.ours), hosts, tree)
    });
    let [kernel, preloaded] = runs.map(|(run, _hosts, _tree)| run.wait_for(HANG_GUARD).succeeded());
    let (expected, got) = (outcomes(&kernel), outcomes(&preloaded));
    assert!(expected.iter().any(|outcome| outcome.starts_with("[ok]")), "{}", kernel.text());
    assert_eq!(got, expected);
    assert!(preloaded.stats.get("flows_accepted") > modules.len() as u64, "{:?}", preloaded.stats);
}

/// Not `unit/client-eviction`, which counts what the server has read at once after it was written.
#[test]
fn commands() {
    check(&[
        "unit/auth",
        "unit/protocol",
        "unit/keyspace",
        "unit/scan",
        "unit/info",
        "unit/type/incr",
        "unit/type/list",
        "unit/type/hash",
        "unit/multi",
        "unit/quit",
        "unit/acl-v2",
        "unit/pubsub",
        "unit/pubsubshard",
        "unit/slowlog",
        "unit/functions",
        "unit/limits",
        "unit/bitops",
        "unit/pause",
        "unit/querybuf",
        "unit/tracking",
        "unit/networking",
        "unit/violations",
    ]);
}

#[test]
fn replicas_and_clusters() {
    check(&[
        "integration/replication-2",
        "integration/replication-3",
        "integration/failover",
        "integration/logging",
        "integration/redis-cli",
        "integration/redis-benchmark",
        "unit/wait",
        "unit/shutdown",
        "unit/cluster/misc",
        "unit/cluster/links",
        "unit/cluster-scripting",
    ]);
}

/// A million commands whose replies nobody reads, and replicas that are stopped.
#[test]
fn memory() {
    check(&["unit/maxmemory"]);
}
