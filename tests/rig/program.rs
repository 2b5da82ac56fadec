//! A program to be run on a host: its words, its environment, and which TCP it shall use.

use crate::hosts::{Host, INTERFACE};
use crate::machine::library;
use crate::running::{Finished, Running};
use crate::scratch::Scratch;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Whose TCP a program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// The kernel's: the program as it is.
    Kernel,
    /// The library's: the program with libuserstack.so preloaded.
    Preloaded,
}

/// A program that has not been started yet.
#[derive(Debug)]
pub struct Program {
    argv: Vec<String>,
    stack: Stack,
    environment: Vec<(String, String)>,
    stdin: Stdio,
    drops_privileges: bool,
}

/// What processes of one unprivileged user may lock in memory is counted for all of them together (getrlimit(2),
/// RLIMIT_MEMLOCK), and is enough for one UMEM: those programs take turns.
static UNPRIVILEGED: Mutex<()> = Mutex::new(());

impl Program {
    /// A program and its arguments, to be run on the kernel.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Program {
        let argv = argv.into_iter().map(Into::into).collect();
        Program { argv, stack: Stack::Kernel, environment: Vec::new(), stdin: Stdio::null(), drops_privileges: false }
    }

    /// Chooses whose TCP it uses.
    pub fn on(mut self, stack: Stack) -> Program {
        self.stack = stack;
        self
    }

    /// Sets a variable of its environment; an empty value takes one of the rig's own away.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Program {
        self.environment.push((name.to_string(), value.into()));
        self
    }

    /// Says that it becomes an unprivileged user: preloaded, it waits for others that do.
    pub fn dropping_privileges(mut self) -> Program {
        self.drops_privileges = true;
        self
    }

    /// Gives it a standard input other than /dev/null.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Program {
        self.stdin = stdin.into();
        self
    }

    /// Starts it on a host.
    pub fn start(self, host: &Host) -> Running {
        let waits = self.drops_privileges && self.stack == Stack::Preloaded;
        // A test that failed in its turn has had it.
        let turn = waits.then(|| UNPRIVILEGED.lock().unwrap_or_else(PoisonError::into_inner));
        let scratch = Scratch::new();
        let file = |name| File::create(scratch.join(name)).expect("the directory is ours");
        let words = [host.enter(), self.environment_words(&scratch), self.argv.clone()].concat();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(self.stdin)
            .stdout(file(Running::STDOUT))
            .stderr(file(Running::STDERR))
            .current_dir(scratch.path())
            // A group of its own: a server's workers end with it.
            .process_group(0)
            .spawn()
            .expect("ip can be started");
        Running::new(child, self.argv.join(" "), scratch, turn)
    }

    /// Runs it on a host to its end.
    pub fn run(self, host: &Host) -> Finished {
        self.start(host).wait()
    }

    /// `env NAME=VALUE...`: sets the variables for the program and not for `ip netns exec`, which would otherwise
    /// be preloaded itself.
    fn environment_words(&self, scratch: &Scratch) -> Vec<String> {
        let mut words = vec!["env".to_string()];
        if self.stack == Stack::Preloaded {
            words.push(format!("LD_PRELOAD={}", library().display()));
            words.push(format!("USERSTACK_IFACE={INTERFACE}"));
            words.push(format!("USERSTACK_STATS={}", scratch.join(Running::STATS)));
        }
        for (name, value) in &self.environment {
            match value.as_str() {
                "" => words.retain(|word| !word.starts_with(&format!("{name}="))),
                value => words.push(format!("{name}={value}")),
            }
        }
        words
    }
}
