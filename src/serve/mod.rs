//! Stand-in until the FastCGI responder is merged: it says what `main` asks for.

use std::fmt;
use std::sync::Arc;

use crate::config::{Config, Listen};
use crate::gateway::Handler;

/// Why nothing is served.
#[derive(Debug)]
pub struct ServeError;

impl ServeError {
    /// The exit code, after sysexits.
    pub fn exit_code(&self) -> u8 {
        75
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no responder")
    }
}

/// Whether a listening socket was handed over.
pub fn inherited() -> bool {
    false
}

/// Serves until told to stop.
pub fn run(_: &Config, _: Option<Listen>, _: Arc<dyn Handler>) -> Result<(), ServeError> {
    Err(ServeError)
}
