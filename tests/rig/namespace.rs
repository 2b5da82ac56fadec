//! A network namespace of a test's own: made with a name that no other test has, removed on drop.

use crate::Output;
use crate::command::run_command;
use crate::machine::require_root;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names are PREFIX-PID-COUNTER, so that what a killed test run left behind can be told from what is in use.
const PREFIX: &str = "userstack";

/// A network namespace under a name of ip-netns(8).
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose loopback interface is up.
    pub fn new() -> Namespace {
        static SWEEP: Once = Once::new();
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        require_root();
        SWEEP.call_once(remove_leftovers);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace { name: format!("{PREFIX}-{}-{count}", std::process::id()) };
        run_command(&["ip", "netns", "add", &namespace.name]);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The words in front of a command that make it run inside.
    pub fn enter(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(String::from).to_vec()
    }

    /// Runs a short command inside and returns its standard output.
    pub fn run(&self, argv: &[&str]) -> Output {
        let mut words = self.enter();
        words.extend(argv.iter().map(|word| word.to_string()));
        run_command(&words)
    }

    /// Does something in a thread that is inside: what it opens there stays there.
    ///
    /// # Panics
    /// If the thread cannot enter, or panics itself.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(&self.name)).expect("ip made it");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: the call takes no pointer, and changes the namespace of this thread alone.
                let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(entered, 0, "setns: {}", std::io::Error::last_os_error());
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` on the namespace.
    pub fn ip(&self, arguments: &[&str]) -> Output {
        let mut argv = vec!["ip", "-n", &self.name];
        argv.extend(arguments);
        run_command(&argv)
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A failure here would hide the test's own.
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Removes the namespaces of test runs that were killed.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::process::Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}
