//! Listening sockets that a manager hands over: on descriptor 0 (FastCGI 1.0 §2.2, as spawn-fcgi
//! does), or from descriptor 3 on with `LISTEN_FDS` (systemd).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use listenfd::ListenFd;

use super::{Kind, ServeError};
use crate::error::Fault;
use crate::gateway::listener::{Listener, is_listening};

/// Whether standard input is a listening socket.
pub fn is_listener_on_stdin() -> bool {
    is_listening(&io::stdin())
}

/// Whether a manager handed over a socket in one of the two ways. It only looks: taking them
/// (`ListenFd::from_env`) removes the variables from the environment.
pub fn has_listener() -> bool {
    let is_for_us = || {
        let pid = std::env::var("LISTEN_PID").ok()?.parse::<u32>().ok()?;
        let count = std::env::var("LISTEN_FDS").ok()?.parse::<u32>().ok()?;
        Some(pid == std::process::id() && count > 0)
    };
    is_listener_on_stdin() || is_for_us().unwrap_or(false)
}

/// All sockets that were handed over.
pub fn listeners() -> Result<Vec<Listener>, ServeError> {
    if is_listener_on_stdin() {
        let taken = io::stdin().as_fd().try_clone_to_owned().and_then(Listener::inherited);
        let taken = taken.map_err(|error| Fault::pathless("take over standard input", error))?;
        return Ok(vec![taken]);
    }
    let mut handed = ListenFd::from_env();
    (0..handed.len()).map(|at| take(&mut handed, at)).collect()
}

/// The socket at one place of `LISTEN_FDS`.
fn take(handed: &mut ListenFd, at: usize) -> Result<Listener, ServeError> {
    let descriptor: Option<OwnedFd> = match handed.take_unix_listener(at) {
        Ok(socket) => socket.map(OwnedFd::from),
        Err(_) => handed.take_tcp_listener(at).ok().flatten().map(OwnedFd::from),
    };
    descriptor.and_then(|descriptor| Listener::inherited(descriptor).ok()).ok_or_else(|| {
        ServeError::new(
            Kind::Config,
            format!(
                "socket {at} of LISTEN_FDS is not a listening Unix or TCP stream socket (in the \
                 socket unit use ListenStream= and Accept=no)"
            ),
        )
    })
}
