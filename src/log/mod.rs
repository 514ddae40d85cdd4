//! The log: one logfmt line an event, on standard error or in a file.
//!
//! `time=2026-01-31T12:00:00Z level=info event=signup tenant=a.example user=joe client=192.0.2.1 outcome=ok`
//!
//! Values come from clients: whatever is not plain printable ASCII is escaped, so that nobody can
//! write a line of his own, and long ones are cut. Secrets and mail addresses have no type that
//! could be passed here.
//!
//! Nobody who logs waits for the log: see `writer`. Whoever ends the process has to [`flush`].

mod writer;

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use nix::fcntl::OFlag;

use self::writer::Writer;

/// What is for standard error.
static STDERR: Writer = Writer::new(None);
/// Where the lines go; standard error until [`to_file`] was called.
static LOG: OnceLock<Writer> = OnceLock::new();

/// The longest value, in bytes of the escaped text.
const VALUE_MAX: usize = 1000;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something happened as it should.
    Info,
    /// An operator may want to look.
    Warn,
    /// Something failed that an operator must mend.
    Error,
}

/// From now on lines are appended to `path`. Each line is one `write` with `O_APPEND`, so several
/// processes may share the file; a log rotator has to copy and truncate.
pub fn to_file(path: &Path) -> io::Result<()> {
    let file = open(path)?;
    // A second call would come from a second configuration in one process, which does not happen.
    let _ = LOG.set(Writer::new(Some(file)));
    Ok(())
}

/// Opens a log without waiting. A FIFO is opened for reading too: to open it for writing alone waits
/// for a reader, or fails without one, and each line fails when the reader is gone.
fn open(path: &Path) -> io::Result<File> {
    let is_fifo = fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    let mut options = File::options();
    options.read(is_fifo).append(true).create(!is_fifo).mode(0o640);
    options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// Writes `text` to standard error, whatever the log is.
pub fn to_stderr(text: String) {
    STDERR.push(text);
}

/// Waits until everything is written, but not longer than `limit`.
pub fn flush(limit: Duration) {
    let deadline = Instant::now() + limit;
    if let Some(log) = LOG.get() {
        log.flush(deadline);
    }
    STDERR.flush(deadline);
}

/// Flushes when it is dropped, with this limit: at the end of `main`, by a panic too.
#[derive(Debug)]
pub struct FlushAtEnd(pub Duration);

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush(self.0);
    }
}

/// An event under construction.
#[derive(Debug)]
#[must_use = "an event is written by `emit`"]
pub struct Event {
    line: String,
}

/// Begins an event.
pub fn event(level: Level, name: &str) -> Event {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    Event { line: format!("time={time} level={level} event={name}") }
}

impl Event {
    /// Adds a field.
    pub fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.line.push(' ');
        self.line.push_str(name);
        self.line.push('=');
        push_value(&mut self.line, &value.to_string());
        self
    }

    /// Adds a field where there is a value.
    pub fn maybe(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// Hands the line to whoever writes it.
    pub fn emit(self) {
        LOG.get().unwrap_or(&STDERR).push(self.into_line());
    }

    fn into_line(mut self) -> String {
        self.line.push('\n');
        self.line
    }
}

/// Appends a value: bare where it is one plain word, else in quotes with escapes.
fn push_value(line: &mut String, value: &str) {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.len() <= VALUE_MAX && value.chars().all(plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    let start = line.len();
    for c in value.chars() {
        if line.len() - start > VALUE_MAX {
            line.push_str("...");
            break;
        }
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            ' '..='~' => line.push(c),
            // Writing to a string does not fail.
            _ => drop(write!(line, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let mut line = String::new();
        push_value(&mut line, text);
        line
    }

    #[test]
    fn no_value_breaks_out_of_its_field() {
        assert_eq!(value("a.example:80"), "a.example:80");
        assert_eq!(value(""), "\"\"");
        assert_eq!(value("a b"), "\"a b\"");
        assert_eq!(value("x\nlevel=error"), "\"x\\u{a}level=error\"");
        assert_eq!(value("\u{202e}\"\\"), "\"\\u{202e}\\\"\\\\\"");
        assert!(value(&"ü".repeat(5000)).len() < 1100);
    }
}
