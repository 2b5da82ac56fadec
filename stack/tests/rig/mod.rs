//! Two network namespaces joined by a veth pair, for tests that need the real kernel; removed on drop.

use stack::kernel::interface::Interface;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// The interface's name, on both sides.
pub const VETH: &str = "veth";

/// Namespaces `near` and `far`. The test's thread enters one, and runs parts of the test in the other.
pub struct Rig {
    near: String,
    far: String,
}

#[allow(dead_code, reason = "each test program uses some of it")]
impl Rig {
    /// Makes the namespaces and the pair, with an MTU and a number of queues on both sides. The near side is
    /// 10.0.0.1/24 and fd00::1/64, the far side has the 2 in place of the 1.
    pub fn new(mtu: usize, queues: u32) -> Rig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("us-stack-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let rig = Rig { near: format!("{tag}-near"), far: format!("{tag}-far") };
        run(&format!("ip netns add {}", rig.near));
        run(&format!("ip netns add {}", rig.far));
        let side = format!("mtu {mtu} numrxqueues {queues} numtxqueues {queues}");
        run(&format!("ip -n {} link add {VETH} {side} type veth peer name {VETH} {side} netns {}", rig.near, rig.far));
        for (name, number) in [(&rig.near, 1), (&rig.far, 2)] {
            run(&format!("ip -n {name} address add 10.0.0.{number}/24 dev {VETH}"));
            run(&format!("ip -n {name} address add fd00::{number}/64 dev {VETH} nodad"));
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} link set {VETH} up"));
        }
        rig
    }

    /// Runs `ip` with words that follow its `-n near`.
    pub fn near_ip(&self, words: &str) {
        run(&format!("ip -n {} {words}", self.near));
    }

    /// What `ip` prints, with words that follow its `-n near`.
    pub fn near_output(&self, words: &str) -> String {
        run(&format!("ip -n {} {words}", self.near))
    }

    /// Runs a part of the test in the near namespace.
    pub fn near<T: Send>(&self, part: impl FnOnce() -> T + Send) -> T {
        inside(&self.near, part)
    }

    /// Runs a part of the test in the far namespace.
    pub fn far<T: Send>(&self, part: impl FnOnce() -> T + Send) -> T {
        inside(&self.far, part)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// The veth of the namespace that this thread is in.
#[allow(dead_code, reason = "each test program uses some of it")]
pub fn veth() -> Interface {
    Interface::query(&CString::new(VETH).expect("no zero byte")).expect("the rig's interface")
}

/// Runs `part` in a thread of a namespace's own, and hands on its result or its panic.
fn inside<T: Send>(name: &str, part: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).expect("the namespace");
    thread::scope(|scope| {
        let part = scope.spawn(move || {
            // SAFETY: setns takes an fd and a number, and changes this thread alone.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0, "setns needs root");
            part()
        });
        part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command that must succeed, and returns what it prints.
fn run(command: &str) -> String {
    let mut words = command.split_ascii_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
