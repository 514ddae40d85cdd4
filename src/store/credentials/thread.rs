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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_process_with_a_code_that_makes_a_supervisor_start_it_again() {
        const CHILD: &str = "CODEB_SIGNUP_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            return run_or_exit(|| panic!("as the test wants it"));
        }
        let name = std::thread::current().name().map(str::to_owned).unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = command.args([&name, "--exact", "--nocapture"]).env(CHILD, "1").output();
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(EXIT_PANICKED));
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(log.matches("event=committer outcome=panicked").count(), 1, "{log}");
    }
}
