//! A running program, killed on drop, and what it left behind when it ended.

use crate::hosts::Host;
use crate::scratch::Scratch;
use crate::stats::Stats;
use crate::steering::is_claimed;
use crate::wait::{HANG_GUARD, found_in_time, until};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::MutexGuard;
use std::time::Duration;

/// A program that was started on a host.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The command line, for messages.
    line: String,
    scratch: Scratch,
    /// Kept until the program has ended.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Running {
    pub(crate) const STDOUT: &str = "stdout";
    pub(crate) const STDERR: &str = "stderr";
    pub(crate) const STATS: &str = "stats.json";

    pub(crate) fn new(child: Child, line: String, scratch: Scratch, turn: Option<MutexGuard<'static, ()>>) -> Running {
        Running { child, line, scratch, _turn: turn }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a socket of the kernel listens on a TCP port of `host`.
    ///
    /// # Panics
    /// If the program ends instead.
    pub fn listens(mut self, host: &Host, port: u16) -> Running {
        self.until(&format!("to listen on port {port}"), |_| host.is_listening(port));
        self
    }

    /// Waits until it, or a child of it, has claimed a TCP port: from then on the library serves its connections.
    ///
    /// # Panics
    /// If the program ends instead.
    pub fn claims(mut self, port: u16) -> Running {
        self.until(&format!("to claim port {port}"), |running| is_claimed(running.pid(), port));
        self
    }

    /// Waits until it has written `text` to its standard output.
    ///
    /// # Panics
    /// If the program ends instead.
    pub fn says(mut self, text: &str) -> Running {
        self.until(&format!("to say {text}"), |running| running.read_text(Running::STDOUT).contains(text));
        self
    }

    fn until(&mut self, what: &str, is_true: impl Fn(&Running) -> bool) {
        until(&format!("`{}` {what}", self.line), || {
            let ended = self.child.try_wait().expect("a child of ours");
            // Its last words count too, therefore the order.
            match (is_true(self), ended) {
                (true, _) => Some(()),
                (false, None) => None,
                (false, Some(status)) => panic!("`{}`: {status}\n{}", self.line, self.read_text(Running::STDERR)),
            }
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so its id is still its own; no memory is passed.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not end within [`HANG_GUARD`].
    pub fn wait(self) -> Finished {
        self.wait_for(HANG_GUARD)
    }

    /// The same for a program that takes long: it counts as hung after `guard`.
    pub fn wait_for(self, guard: Duration) -> Finished {
        self.end_within(guard).unwrap_or_else(|hung| panic!("{hung}"))
    }

    /// Waits until it ends by itself, or kills it and says that it hung.
    pub fn try_wait(self) -> Result<Finished, String> {
        self.end_within(HANG_GUARD)
    }

    fn end_within(mut self, guard: Duration) -> Result<Finished, String> {
        let Some(status) = found_in_time(guard, || self.child.try_wait().expect("a child of ours")) else {
            let [stdout, stderr] = [Running::STDOUT, Running::STDERR].map(|name| self.read_text(name));
            return Err(format!("`{}` hung\n{stderr}{stdout}", self.line));
        };
        let stdout = std::fs::read(self.scratch.join(Running::STDOUT)).expect("the file was made at its start");
        let stderr = self.read_text(Running::STDERR);
        let stats = Stats::read(&self.scratch.path().join(Running::STATS));
        Ok(Finished { line: self.line.clone(), status, stdout, stderr, stats })
    }

    /// Sends it a signal and waits until it has ended.
    pub fn stop(self, signal: i32) -> Finished {
        self.signal(signal);
        self.wait()
    }

    fn read_text(&self, name: &str) -> String {
        let bytes = std::fs::read(self.scratch.join(name)).expect("the file was made at its start");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the group was made for this child; if it has ended already, the worst is ESRCH.
        unsafe { libc::kill(-(self.pid() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// What the library counted; empty for a program on the kernel.
    pub stats: Stats,
}

impl Finished {
    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Insists on exit status 0.
    ///
    /// # Panics
    /// On any other end; the message carries what it wrote.
    pub fn succeeded(self) -> Finished {
        let Finished { line, status, stderr, .. } = &self;
        assert!(status.success(), "`{line}`: {status}\n{stderr}\n{}", self.text());
        self
    }

    /// Whether that signal ended it.
    pub fn was_killed_by(&self, signal: i32) -> bool {
        self.status.signal() == Some(signal)
    }
}
