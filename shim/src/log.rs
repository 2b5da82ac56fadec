//! The log: one fixed buffer and one raw write(2) a line, to a copy of stderr.

use crate::config::Settings;
use crate::limits::LOG_LINE_LEN;
use crate::sys;
use std::fmt::{self, Write};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Where lines go: a copy of stderr that the application does not know of and so cannot close or reuse.
static OUTPUT: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);

/// Starts the log at the level that the settings ask for.
pub fn start(settings: &Settings) {
    if settings.log == LevelFilter::OFF {
        return;
    }
    if let Ok(copy) = sys::duplicate_high(libc::STDERR_FILENO) {
        OUTPUT.store(copy, Ordering::Relaxed);
    }
    // Somebody else's subscriber cannot be in the way: the library has this tracing to itself.
    let _ = tracing::subscriber::set_global_default(Log { level: settings.log });
}

/// Says nothing more: who waits for the end of stderr is not to wait for a process that the application does not know of.
pub fn stop() {
    sys::close(OUTPUT.swap(-1, Ordering::Relaxed));
}

/// Writes a line whatever the level is: what the user has to know at start.
pub fn say(line: fmt::Arguments<'_>) {
    let mut text = Line::new();
    let _ = text.write_fmt(line);
    text.send(OUTPUT.load(Ordering::Relaxed));
}

/// Warns at most once for each place in the code that it is written at.
macro_rules! warn_once {
    ($($message:tt)*) => {{
        static SAID: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        if !SAID.swap(true, std::sync::atomic::Ordering::Relaxed) {
            tracing::warn!($($message)*);
        }
    }};
}
pub(crate) use warn_once;

struct Log {
    level: LevelFilter,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::new();
        let _ = write!(line, "{}:", event.metadata().level());
        event.record(&mut line);
        line.send(OUTPUT.load(Ordering::Relaxed));
    }

    // No spans: a socket call ends where it began.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line under construction; what does not fit is cut off.
struct Line {
    text: [u8; LOG_LINE_LEN],
    len: usize,
}

impl Line {
    fn new() -> Self {
        let mut line = Line { text: [0; LOG_LINE_LEN], len: 0 };
        let _ = line.write_str("userstack: ");
        line
    }

    fn send(mut self, output: RawFd) {
        // `write_str` leaves room for it.
        self.text[self.len] = b'\n';
        let _ = sys::write(output, &self.text[..=self.len]);
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LOG_LINE_LEN - 1 - self.len;
        let taken = text.len().min(room);
        self.text[self.len..self.len + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self, " {value:?}"),
            name => write!(self, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_buffer_ends() {
        let mut line = Line::new();
        for _ in 0..LOG_LINE_LEN {
            write!(line, "word ").expect("it never fails");
        }
        assert_eq!(line.len, LOG_LINE_LEN - 1);
        assert!(line.text.starts_with(b"userstack: word word "));
    }
}
