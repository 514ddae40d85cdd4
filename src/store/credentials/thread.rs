//! What becomes of a process whose committer panics: it ends, and its supervisor starts another.
//!
//! Without the thread every request could only be refused, until somebody restarted the process. An
//! account that was being written is whole or gone with the next holder of the lock, as after a kill.

use std::panic::{self, AssertUnwindSafe};

use crate::log;

/// The exit code of a program with a fault of its own (`EX_SOFTWARE`).
const EXIT_PANICKED: i32 = 70;

/// Runs the thread's work; ends the process where that panics.
pub fn run_or_exit(work: impl FnOnce()) {
    if panic::catch_unwind(AssertUnwindSafe(work)).is_ok() {
        return;
    }
    log::event(log::Level::Error, "committer")
        .field("outcome", "panicked")
        .field("note", "the process ends, to be started again; report the line before")
        .emit();
    std::process::exit(EXIT_PANICKED);
}
