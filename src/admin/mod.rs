//! The operator's verbs, and what `main` needs around them: the command line, exit codes, the
//! change of user, and the answer of a CGI program that is not configured.

mod check;
mod cli;
mod ha1;
mod pages;
mod preview;
mod privilege;
mod unconfigured;
mod upkeep;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{ConfigError, Problem};
use crate::error::Fault;
use crate::log;
use crate::service::Out;

pub use check::check;
pub use cli::{Cli, UserVerb, Verb};
pub use ha1::ha1;
pub use pages::pages;
pub use preview::preview;
pub use privilege::become_owner;
pub use unconfigured::Unconfigured;
pub use upkeep::{choose, compact, resend, set_user, sweep};

/// Exit codes, as `sysexits.h` names them.
pub mod exit {
    /// The command line cannot be understood.
    pub const USAGE: u8 = 64;
    /// What was read (a password) cannot be used.
    pub const DATA: u8 = 65;
    /// There is no such user.
    pub const NO_USER: u8 = 67;
    /// A file cannot be made.
    pub const CANNOT_CREATE: u8 = 73;
    /// Reading or writing failed.
    pub const IO: u8 = 74;
    /// Something that may work later.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}

/// Why a verb did not do its work.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// `code` is one of [`exit`]; `error` says what was done, why it failed and what to do.
    pub fn new(code: u8, error: impl fmt::Display) -> Self {
        Self { code, text: error.to_string() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(exit::CONFIG, error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let code = match fault.cause().kind() {
            io::ErrorKind::TimedOut => exit::TRY_AGAIN,
            _ => exit::IO,
        };
        Self::new(code, fault)
    }
}

impl From<Out> for Failure {
    fn from(out: Out) -> Self {
        match out {
            Out::Premises(error) | Out::Shared(error) => error.into(),
            Out::Fault(fault) => fault.into(),
        }
    }
}

impl From<Vec<Out>> for Failure {
    /// All of them, with the code of the first.
    fn from(all: Vec<Out>) -> Self {
        let failures: Vec<Self> = all.into_iter().map(Self::from).collect();
        let texts: Vec<&str> = failures.iter().map(|failure| failure.text.as_str()).collect();
        let code = failures.first().map_or(exit::CONFIG, |failure| failure.code);
        Self { code, text: texts.join("\n") }
    }
}

/// Ends a run: the reason on standard error, the code for the shell.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell("", &failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Shows warnings on standard error.
pub fn warn(warnings: &[Problem]) {
    warnings.iter().for_each(|warning| tell("warning: ", &warning.to_string()));
}

/// How long a message waits for standard error to take it.
const MESSAGE_WAIT: Duration = Duration::from_secs(1);

/// Nobody may be reading standard error; that is no reason to fail, or to wait for ever.
fn tell(kind: &str, text: &str) {
    log::to_stderr(text.lines().map(|line| format!("codeb-signup: {kind}{line}\n")).collect());
    log::flush(MESSAGE_WAIT);
}
