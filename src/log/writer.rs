//! Writes lines in a thread of its own, so that whoever logs never waits for the log.
//!
//! A pipe that nobody reads, a hung journal or a hung disk holds up that thread alone. Lines wait for
//! it in a queue of [`QUEUE_MAX`] bytes. What finds no room there, or what the log refuses, is
//! counted, and reported where it is missing once the log takes lines again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use super::{Level, event};

/// The most bytes that wait.
const QUEUE_MAX: usize = 1024 * 1024;
/// After a line found no room, none is taken until so few bytes wait: else a log that is too slow
/// would get a report for each line.
const QUEUE_LOW: usize = QUEUE_MAX / 2;
/// The thread's stack, in bytes.
const STACK: usize = 128 * 1024;

/// One place that lines go to.
#[derive(Debug)]
pub struct Writer {
    /// Standard error where there is no file.
    file: Option<File>,
    state: Mutex<State>,
    /// Tells the thread that there are lines.
    filled: Condvar,
    /// Tells [`Writer::flush`] that there are none.
    emptied: Condvar,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that found no room after the last one in the queue.
    dropped: u64,
    has_thread: bool,
    /// Whether the thread has written everything and waits for more.
    is_idle: bool,
}

#[derive(Debug, Default)]
struct Line {
    /// Empty where only `missing` is to be reported.
    text: String,
    /// Lines before it that found no room.
    missing: u64,
}

/// How the log stands.
#[derive(Debug, Default)]
struct Progress {
    /// Lines that it has neither got nor been told to be missing.
    missing: u64,
    /// Whether it ends in the middle of a line, which the next one has to end.
    is_torn: bool,
}

impl Writer {
    /// A writer to `file`, or to standard error.
    pub const fn new(file: Option<File>) -> Self {
        let lines = VecDeque::new();
        let state = State { lines, bytes: 0, dropped: 0, has_thread: false, is_idle: false };
        let (filled, emptied) = (Condvar::new(), Condvar::new());
        Self { file, state: Mutex::new(state), filled, emptied }
    }

    /// Queues a line, or counts it as dropped.
    pub fn push(&'static self, text: String) {
        let mut state = self.state();
        let room = if state.dropped > 0 { QUEUE_LOW } else { QUEUE_MAX };
        if state.bytes + text.len() > room {
            state.dropped += 1;
            return;
        }
        state.bytes += text.len();
        let missing = mem::take(&mut state.dropped);
        state.lines.push_back(Line { text, missing });
        self.start(&mut state);
        if mem::take(&mut state.is_idle) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits until everything is written, but not longer than until `deadline`; where the system gives
    /// no thread, as long as it takes.
    pub fn flush(&'static self, deadline: Instant) {
        let mut state = self.state();
        if !state.has_thread {
            let mut progress = Progress::default();
            mem::take(&mut state.lines).iter().for_each(|line| self.write(line, &mut progress));
        }
        while state.has_thread && !state.is_idle {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.emptied.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts the thread where there is none. Where the system gives none, lines wait in the queue
    /// and the next one tries again.
    fn start(&'static self, state: &mut State) {
        if !state.has_thread {
            let thread = thread::Builder::new().name("log".into()).stack_size(STACK);
            state.has_thread = thread.spawn(|| self.run()).is_ok();
        }
    }

    /// What the thread does until the process ends.
    fn run(&self) {
        let mut progress = Progress::default();
        loop {
            let line = self.next();
            self.write(&line, &mut progress);
            self.state().bytes -= line.text.len();
        }
    }

    /// Writes a line, and before it the report of those that are missing there.
    fn write(&self, line: &Line, progress: &mut Progress) {
        progress.missing += line.missing;
        let is_torn = &mut progress.is_torn;
        if progress.missing > 0 && self.write_text(&report(progress.missing), is_torn).is_ok() {
            progress.missing = 0;
        }
        if !line.text.is_empty() && self.write_text(&line.text, is_torn).is_err() {
            progress.missing += 1;
        }
    }

    /// Waits for the next line, or for lines that found no room.
    fn next(&self) -> Line {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                return line;
            }
            if state.dropped > 0 {
                return Line { missing: mem::take(&mut state.dropped), ..Line::default() };
            }
            state.is_idle = true;
            self.emptied.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a line with one call, where the log takes it whole.
    fn write_text(&self, line: &str, is_torn: &mut bool) -> nix::Result<()> {
        let line: Cow<'_, str> = if *is_torn { format!("\n{line}").into() } else { line.into() };
        let mut rest = line.as_bytes();
        // Not through the standard library's handle: its lock would be held for as long as it hangs.
        let stderr = io::stderr();
        let log = self.file.as_ref().map_or(stderr.as_fd(), File::as_fd);
        while !rest.is_empty() {
            match write(log, rest) {
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => await_room(log)?,
                Err(error) => return Err(error),
            }
            *is_torn = !rest.is_empty() && (*is_torn || rest.len() < line.len());
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a log that does not block takes more.
fn await_room(log: BorrowedFd<'_>) -> nix::Result<()> {
    match poll(&mut [PollFd::new(log, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

fn report(missing: u64) -> String {
    event(Level::Warn, "log").field("outcome", "dropped").field("lines", missing).into_line()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Duration;

    use nix::fcntl::OFlag;
    use nix::sys::stat::Mode;

    use super::*;

    /// Longer than anything that works takes.
    const PATIENCE: Duration = Duration::from_secs(60);
    const LENGTH: usize = 200;

    fn writer(log: impl Into<OwnedFd>) -> &'static Writer {
        Box::leak(Box::new(Writer::new(Some(File::from(log.into())))))
    }

    fn line(number: usize) -> String {
        format!("{number:0width$}\n", width = LENGTH - 1)
    }

    fn flush(writer: &'static Writer) {
        writer.flush(Instant::now() + PATIENCE);
        assert!(writer.state().is_idle, "everything is written");
    }

    #[test]
    fn lines_that_found_no_room_are_counted_where_they_are_missing() {
        let (reader, log) = pipe().unwrap();
        let writer = writer(log);
        let count = 2 * QUEUE_MAX / LENGTH;
        (0..count).for_each(|number| writer.push(line(number)));
        let dropped = usize::try_from(writer.state().dropped).unwrap();
        assert!(dropped > 0 && writer.state().bytes <= QUEUE_MAX);
        let read = thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map(Result::unwrap);
            lines.take_while(|line| line != "the end").collect::<Vec<String>>()
        });
        flush(writer);
        writer.push("the end\n".into());
        let mut lines = read.join().unwrap();
        let report = lines.pop().unwrap();
        assert!(
            report.ends_with(&format!(" event=log outcome=dropped lines={dropped}")),
            "{report}"
        );
        let expected: Vec<String> =
            (0..count - dropped).map(|number| line(number).trim_end().to_owned()).collect();
        assert_eq!(lines, expected, "in order");
    }

    #[test]
    fn lines_that_the_log_refused_are_counted_once_it_takes_lines_again() {
        let path = std::env::temp_dir().join(format!("codeb-log-{}", std::process::id()));
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let reader = || {
            let mut options = File::options();
            options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap()
        };
        // Without a reader it refuses what is written.
        let first_reader = reader();
        let writer = writer(File::options().write(true).open(&path).unwrap());
        drop(first_reader);
        (0..3).for_each(|number| writer.push(line(number)));
        flush(writer);
        let second_reader = reader();
        writer.push(line(3));
        flush(writer);
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<String> =
            BufReader::new(second_reader).lines().take(2).map(Result::unwrap).collect();
        assert!(lines[0].ends_with(" event=log outcome=dropped lines=3"), "{lines:?}");
        assert_eq!(lines[1], line(3).trim_end());
    }
}
