//! What /proc says of a process.

use std::path::PathBuf;

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// Whether the process exists (a zombie does).
pub fn exists(pid: u32) -> bool {
    directory(pid).exists()
}

/// How many descriptors it has open.
///
/// # Panics
/// If there is no such process.
pub fn descriptor_count(pid: u32) -> usize {
    std::fs::read_dir(directory(pid).join("fd")).expect("a process of ours").count()
}

/// Its resident memory that is not shared with files, in bytes (RssAnon + RssShmem of proc(5)).
///
/// # Panics
/// If there is no such process.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(directory(pid).join("status")).expect("a process of ours");
    let kibibytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of proc(5)");
        line.trim().trim_end_matches(" kB").parse().expect("a size")
    };
    (kibibytes("RssAnon:") + kibibytes("RssShmem:")) * 1024
}

/// A process and its children.
pub fn with_children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(directory(pid).join(format!("task/{pid}/children"))).unwrap_or_default();
    let children = children.split_whitespace().map(|word| word.parse().expect("a process id"));
    std::iter::once(pid).chain(children).collect()
}
