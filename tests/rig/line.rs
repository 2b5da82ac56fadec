//! A line with faults between two hosts: a namespace in the middle, and a thread that moves the packets.

use crate::hosts::{Host, INTERFACE};
use crate::namespace::Namespace;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use userstack_bench::fault_link::{Conditions, FaultLink};

/// The ends in the middle, towards the one host and the other.
const ENDS: [&str; 2] = ["left", "right"];

/// How often the thread looks whether it is to end.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// A line that works until it is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _middle: Namespace,
}

impl Line {
    /// Gives each of the two hosts an interface that leads to the other.
    pub(crate) fn between(hosts: [&Host; 2], conditions: Conditions) -> Line {
        let middle = Namespace::new();
        // The middle's own kernel has nothing to say.
        middle.run(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        for (host, end) in hosts.into_iter().zip(ENDS) {
            let peer = ["type", "veth", "peer", "name", INTERFACE, "netns", host.name()];
            middle.ip(&[&["link", "add", end][..], &peer].concat());
            middle.ip(&["link", "set", end, "mtu", "9000", "up"]);
        }
        println!("a line between {} and {}: {conditions:?}", hosts[0].name(), hosts[1].name());
        let mut link = middle.inside(|| FaultLink::open(ENDS, conditions)).expect("packet sockets need root");
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                link.turn(SLEEP_MAX).expect("its interfaces live as long as the line");
            }
        });
        Line { is_over, thread: Some(thread), _middle: middle }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; a second one here would hide the test's own.
            let _ = thread.join();
        }
    }
}
