//! What the kernel's TCP of a namespace has counted: the proof of who served a connection.

use crate::namespace::Namespace;
use std::ops::Sub;

/// Counters of RFC 4022 as /proc/net/snmp shows them, since the namespace was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelTcp {
    /// Segments received (InSegs).
    pub segments_in: u64,
    /// Segments sent (OutSegs), RSTs included.
    pub segments_out: u64,
    /// RSTs sent (OutRsts).
    pub resets_out: u64,
}

impl KernelTcp {
    /// Reads the counters of a namespace.
    pub(crate) fn read(namespace: &Namespace) -> KernelTcp {
        let text = namespace.run(&["cat", "/proc/net/snmp"]);
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let names = rows.next().expect("a line of names").split_whitespace();
        let values = rows.next().expect("a line of values").split_whitespace();
        let table: Vec<_> = names.zip(values).collect();
        let counter = |wanted| {
            let (_, value) = table.iter().find(|(name, _)| *name == wanted).expect("a counter of RFC 4022");
            value.parse().expect("a count")
        };
        KernelTcp { segments_in: counter("InSegs"), segments_out: counter("OutSegs"), resets_out: counter("OutRsts") }
    }

    /// Whether no segment passed through the kernel's TCP.
    pub fn is_silent(&self) -> bool {
        self.segments_in == 0 && self.segments_out == 0
    }

    /// Whether it served no connection: all that it did was to answer with RSTs what it has no socket for, as segments of a
    /// peer that closes its half after the preloaded program has ended; RSTs themselves have no answer.
    pub fn served_nothing(&self) -> bool {
        self.segments_out == self.resets_out
    }
}

impl Sub for KernelTcp {
    type Output = KernelTcp;

    fn sub(self, earlier: KernelTcp) -> KernelTcp {
        KernelTcp {
            segments_in: self.segments_in - earlier.segments_in,
            segments_out: self.segments_out - earlier.segments_out,
            resets_out: self.resets_out - earlier.resets_out,
        }
    }
}
