//! This process's log, which has its events in a file: it must not have learnt a secret when a test
//! ends.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::world::HA1;

/// Sends the events to the file, once.
pub fn begin() -> PathBuf {
    static LOG: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine.log");
        let _ = std::fs::remove_file(&path);
        codeb_signup::log::to_file(&path).unwrap();
        path
    };
    LOG.get_or_init(make).clone()
}

pub fn assert_that_it_keeps_secrets() {
    codeb_signup::log::flush(std::time::Duration::from_secs(60));
    let text = std::fs::read_to_string(begin()).unwrap();
    for secret in [HA1, "people.example", "token="] {
        assert!(!text.contains(secret), "a log line has a secret like {secret}");
    }
}
