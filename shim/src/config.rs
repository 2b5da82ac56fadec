//! The settings, from the environment: read once, when the library is loaded.

use crate::limits::{SPIN_US, SPIN_US_MAX};
use crate::log;
use stack::kernel::Mode;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;

/// What the environment asks for.
#[derive(Debug)]
pub struct Settings {
    /// `USERSTACK_IFACE`: the interfaces that are served, in this order; none: everything is the kernel's.
    pub interfaces: Vec<CString>,
    /// `USERSTACK_LOG`.
    pub log: LevelFilter,
    /// `USERSTACK_SPIN_US`: how long a waiting thread may spin before it sleeps, in microseconds.
    pub spin_us_max: u32,
    /// `USERSTACK_PCAP`: the capture file.
    pub pcap: Option<CString>,
    /// `USERSTACK_STATS`: the file for the counters.
    pub stats: Option<CString>,
    /// `USERSTACK_XDP`.
    pub xdp: Mode,
    /// What is wrong with the values, a sentence each.
    problems: Vec<String>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Keeps the settings of a process that serves an interface.
pub fn install(settings: Settings) {
    // The constructor runs once.
    let _ = SETTINGS.set(settings);
}

/// The settings, or `None` when everything is the kernel's.
pub fn get() -> Option<&'static Settings> {
    SETTINGS.get()
}

impl Settings {
    /// Reads the environment.
    pub fn from_environment() -> Self {
        Self::read(|name| std::env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut problems = Vec::new();
        let parse = |name: &str| variable(name).map(|value| (name.to_owned(), value));
        let interfaces = parse("USERSTACK_IFACE").map(|v| interfaces(v, &mut problems)).unwrap_or_default();
        let log = parse("USERSTACK_LOG").and_then(|v| choice(v, &LOG_LEVELS, &mut problems));
        let spin_us_max = parse("USERSTACK_SPIN_US").and_then(|v| spin(v, &mut problems));
        let xdp = parse("USERSTACK_XDP").and_then(|v| choice(v, &XDP_MODES, &mut problems));
        Settings {
            // A process with a value that it cannot follow runs over the kernel, rather than not as it was told to.
            interfaces: if problems.is_empty() { interfaces } else { Vec::new() },
            log: log.unwrap_or(LevelFilter::OFF),
            spin_us_max: spin_us_max.unwrap_or(SPIN_US),
            pcap: variable("USERSTACK_PCAP").and_then(path),
            stats: variable("USERSTACK_STATS").and_then(path),
            xdp: xdp.unwrap_or(Mode::Auto),
            problems,
        }
    }

    /// Says what is wrong, whatever the level of the log is.
    pub fn report(&self) {
        for problem in &self.problems {
            log::say(format_args!("error: {problem}; the kernel serves this program"));
        }
        if self.interfaces.is_empty() && self.problems.is_empty() {
            log::say(format_args!("warning: USERSTACK_IFACE is not set; the kernel serves this program"));
        }
    }
}

type Variable = (String, OsString);

const LOG_LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const XDP_MODES: [(&str, Mode); 3] = [("auto", Mode::Auto), ("native", Mode::Native), ("generic", Mode::Generic)];

fn path(value: OsString) -> Option<CString> {
    CString::new(value.into_vec()).ok().filter(|path| !path.is_empty())
}

fn choice<T: Copy>((name, value): Variable, choices: &[(&str, T)], problems: &mut Vec<String>) -> Option<T> {
    let chosen = choices.iter().find(|(word, _)| *word == value);
    if chosen.is_none() {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        problems.push(format!("{name}={} is none of {}", value.display(), words.join(", ")));
    }
    chosen.map(|&(_, choice)| choice)
}

fn spin((name, value): Variable, problems: &mut Vec<String>) -> Option<u32> {
    let micros = value.to_str().and_then(|text| text.parse().ok()).filter(|&micros| micros <= SPIN_US_MAX);
    if micros.is_none() {
        problems.push(format!("{name}={} is not a number from 0 to {SPIN_US_MAX}", value.display()));
    }
    micros
}

fn interfaces((name, value): Variable, problems: &mut Vec<String>) -> Vec<CString> {
    let names = value.as_bytes().split(|&byte| byte == b',').filter(|name| !name.is_empty());
    let names: Vec<CString> = names.filter_map(|name| CString::new(name).ok()).collect();
    for interface in &names {
        if !exists(interface) {
            problems.push(format!("{name}={}: there is no interface {}", value.display(), interface.to_string_lossy()));
        }
    }
    names
}

fn exists(interface: &CStr) -> bool {
    // SAFETY: a C string, as if_nametoindex(3) wants it.
    unsafe { libc::if_nametoindex(interface.as_ptr()) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Settings {
        Settings::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn nothing_set_is_the_kernels() {
        let settings = read(&[]);
        assert!(settings.interfaces.is_empty() && settings.problems.is_empty());
        assert_eq!((settings.log, settings.spin_us_max), (LevelFilter::OFF, SPIN_US));
    }

    #[test]
    fn values_are_taken() {
        let settings = read(&[
            ("USERSTACK_IFACE", "lo,lo"),
            ("USERSTACK_LOG", "info"),
            ("USERSTACK_SPIN_US", "0"),
            ("USERSTACK_XDP", "generic"),
            ("USERSTACK_STATS", "counters.json"),
        ]);
        assert_eq!(settings.interfaces, [c"lo".to_owned(), c"lo".to_owned()]);
        assert_eq!((settings.log, settings.spin_us_max, settings.xdp), (LevelFilter::INFO, 0, Mode::Generic));
        assert_eq!(settings.stats.as_deref(), Some(c"counters.json"));
    }

    #[test]
    fn a_bad_value_is_said_and_leaves_the_program_to_the_kernel() {
        for (name, value) in [
            ("USERSTACK_IFACE", "no-such-one"),
            ("USERSTACK_LOG", "loud"),
            ("USERSTACK_SPIN_US", "-1"),
            ("USERSTACK_SPIN_US", "1000001"),
            ("USERSTACK_SPIN_US", ""),
            ("USERSTACK_XDP", "Native"),
        ] {
            let settings = read(&[("USERSTACK_IFACE", "lo"), (name, value)].into_iter().rev().collect::<Vec<_>>()[..]);
            assert!(settings.interfaces.is_empty(), "{name}={value}");
            assert!(settings.problems[0].starts_with(name), "{:?}", settings.problems);
        }
    }
}
