//! The two ways a request fails: a [`Fault`] is ours (disk, configuration, system), a [`Refusal`]
//! is the client's. Stores return faults only, endpoints alone make refusals, `route` alone turns
//! either into a status.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

/// Something of ours failed: what was being done, to which file, why, and what to do about it.
#[derive(Debug)]
pub struct Fault {
    doing: Cow<'static, str>,
    path: Option<PathBuf>,
    cause: io::Error,
    way_out: Option<Cow<'static, str>>,
}

impl Fault {
    /// `doing` is a verb phrase: "append the account".
    pub fn new(doing: impl Into<Cow<'static, str>>, path: &Path, cause: io::Error) -> Self {
        Self { doing: doing.into(), path: Some(path.to_owned()), cause, way_out: None }
    }

    /// A fault that no file stands behind.
    pub fn pathless(doing: impl Into<Cow<'static, str>>, cause: io::Error) -> Self {
        Self { doing: doing.into(), path: None, cause, way_out: None }
    }

    /// Adds what an operator should do, as a sentence without its full stop.
    #[must_use]
    pub fn way_out(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.way_out = Some(text.into());
        self
    }

    /// The underlying error.
    pub fn cause(&self) -> &io::Error {
        &self.cause
    }

    /// The file or directory that the operation was about.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The same fault for another request of the same batch.
    #[must_use]
    pub fn share(&self) -> Self {
        let cause = match self.cause.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.cause.kind(), self.cause.to_string()),
        };
        Self {
            doing: self.doing.clone(),
            path: self.path.clone(),
            cause,
            way_out: self.way_out.clone(),
        }
    }

    /// What to do, where only the kind of the error tells.
    fn usual_way_out(&self) -> Option<&'static str> {
        match self.cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE) => return Some("raise LimitNOFILE (`ulimit -n`) and restart"),
            Some(Errno::ENFILE) => return Some("raise the machine's limit, sysctl fs.file-max"),
            Some(Errno::EIO) => return Some("look for disk errors in the kernel's log"),
            _ => {}
        }
        match self.cause.kind() {
            io::ErrorKind::StorageFull => Some("free space on this filesystem"),
            io::ErrorKind::QuotaExceeded => Some("raise the quota or free space"),
            io::ErrorKind::ReadOnlyFilesystem => Some("remount the filesystem read-write"),
            io::ErrorKind::PermissionDenied => {
                Some("give the service's user access; `codeb-signup check` lists what it needs")
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Some("put back what stood there; `codeb-signup check` lists what is needed")
            }
            // What is opened and is not what it should be: a symlink, a directory, a pipe.
            io::ErrorKind::InvalidInput if self.path.is_some() => {
                Some("put a regular file there that the service's user owns")
            }
            io::ErrorKind::NotFound => Some("create it; `codeb-signup check` lists what is needed"),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.doing)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        write!(f, ": {}", self.cause)?;
        match self.way_out.as_deref().or(self.usual_way_out()) {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What the client did wrong, or has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request's parameters did not arrive whole, or lack what every web server sends.
    LostParameters,
    /// No endpoint bears this name.
    UnknownPath,
    /// No tenant serves this host.
    UnknownHost,
    /// The endpoint does not take this method; the text is the `Allow` header.
    Method(&'static str),
    /// The body is over 16 KiB.
    TooLarge,
    /// A sentence that names the field at fault.
    Invalid(Cow<'static, str>),
    /// The captcha is unknown, forged, expired, spent, or its answer wrong: one and the same.
    Captcha,
    /// Too many accounts from one client; a place is free after this time.
    RateLimited(Duration),
    /// The user name belongs to somebody.
    Taken,
    /// An activation link that is unknown, expired or used.
    Link,
    /// The tenant takes no new accounts; asking again is of use after this time.
    Closed(Duration),
}

/// Why an endpoint has no good answer.
#[derive(Debug)]
pub enum Error {
    /// The client's doing.
    Refused(Refusal),
    /// Ours.
    Fault(Fault),
    /// Ours, and no captcha can be issued until it is mended.
    CaptchaUnavailable(Fault),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
