//! The long-running service: finds its listening sockets, starts the configured gateway on them,
//! and stops it on SIGTERM or SIGINT. It knows no tenants, only a [`Handler`].

mod bind;
mod inherit;

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use self::inherit::{has_listener, is_listener_on_stdin};
use crate::config::{Config, Gateway, Listen};
use crate::error::Fault;
use crate::gateway::listener::Listener;
use crate::gateway::{Handler, fastcgi, fastcgi_crate, report_panics};
use crate::log::{self, Level};

/// Why the service did not start, or ended by itself.
#[derive(Debug)]
pub struct ServeError {
    kind: Kind,
    text: String,
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No address, or one that cannot be used as it is written.
    Config,
    /// The address is somebody else's, or does not exist here.
    Unavailable,
    /// The address may not be used by this user.
    Permission,
    /// The system did not give what the service needs.
    System,
}

impl ServeError {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code after sysexits.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Config => 78,
            Kind::Unavailable => 69,
            Kind::Permission => 77,
            Kind::System => 71,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ServeError {}

impl From<Fault> for ServeError {
    fn from(fault: Fault) -> Self {
        Self::new(Kind::System, fault.to_string())
    }
}

/// Serves until SIGTERM or SIGINT. An inherited socket outranks `listen`, which is the flag, and
/// that the configuration's key.
pub fn run(
    config: &Config,
    listen: Option<Listen>,
    handler: Arc<dyn Handler>,
) -> Result<(), ServeError> {
    let signals = signals().map_err(|error| Fault::pathless("watch for signals", error))?;
    let descriptors = raise_descriptor_limit();
    report_panics();
    let listeners = listeners(config, listen)?;
    log_start(config, &listeners);
    match (config.gateway, listeners.as_slice()) {
        (Gateway::Own, _) => {
            let Config { workers, lock_wait, .. } = *config;
            let options = fastcgi::Options { workers, lock_wait, descriptors };
            fastcgi::serve(listeners, handler, options, &signals)?;
        }
        (Gateway::FastcgiCrate, [listener]) => {
            fastcgi_crate::serve(listener, handler, (config.workers, config.lock_wait), &signals)?;
        }
        (Gateway::FastcgiCrate, _) => {
            return Err(ServeError::new(
                Kind::Config,
                "gateway = \"fastcgi-crate\" serves one socket and was handed several \
                 (hand over one, or set gateway = \"own\")",
            ));
        }
    }
    log::event(Level::Info, "stop").field("pid", std::process::id()).emit();
    Ok(())
}

/// The sockets to serve, in the order of rank.
fn listeners(config: &Config, listen: Option<Listen>) -> Result<Vec<Listener>, ServeError> {
    let inherited = inherit::listeners()?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    match listen.or_else(|| config.listen.clone()) {
        Some(listen) => bind::bind(&listen).map(|listener| vec![listener]),
        None => Err(ServeError::new(
            Kind::Config,
            format!(
                "no address to listen on (set `listen` in {}, give --listen ADDRESS, or hand over \
                 a listening socket)",
                config.file.display()
            ),
        )),
    }
}

fn log_start(config: &Config, listeners: &[Listener]) {
    let addresses: Vec<String> = listeners.iter().map(Listener::address).collect();
    let inherited = listeners.iter().any(Listener::is_inherited);
    let (gateway, workers) = match config.gateway {
        Gateway::Own => ("own", Some(config.workers)),
        Gateway::FastcgiCrate => ("fastcgi-crate", None),
    };
    log::event(Level::Info, "start")
        .field("address", addresses.join(","))
        .field("socket", if inherited { "inherited" } else { "own" })
        .field("gateway", gateway)
        .maybe("workers", workers)
        .field("pid", std::process::id())
        .emit();
}

/// A stream on which each SIGTERM and SIGINT is a byte. SIGHUP is ignored: there is nothing to read
/// anew, and a log rotator that sends it by habit must not end the service.
fn signals() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, write)?;
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    Ok(read)
}

/// Raises the soft limit on descriptors to the hard one, and gives what holds now.
fn raise_descriptor_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let now = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    usize::try_from(now).unwrap_or(usize::MAX)
}
