//! Whether somebody serves the address of the configuration.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::shell;
use crate::config::{Config, Gateway, Listen, Wrong};

/// How long a service may take to accept and to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// `FCGI_GET_VALUES` without a name: version 1, type 9, request 0, no content. The own gateway answers
/// it from any worker.
const GET_VALUES: [u8; 8] = [1, 9, 0, 0, 0, 0, 0, 0];

/// A file at the socket's path that a start would not replace.
pub fn wrong(config: &Config) -> Option<Wrong> {
    let Some(Listen::Unix(path)) = &config.listen else { return None };
    let metadata = fs::symlink_metadata(path).ok()?;
    (!metadata.file_type().is_socket()).then(|| {
        let why = format!("is {path:?}, where something else than a socket stands");
        Wrong::new(why, format!("move it away: mv {} elsewhere", shell(path)))
    })
}

/// An address that nobody serves: as before the first start, and after a process died.
pub fn unserved(config: &Config) -> Option<Wrong> {
    let listen = config.listen.as_ref()?;
    let asked = match listen {
        Listen::Unix(path) => connect_unix(path).and_then(|stream| ask(config, stream)),
        Listen::Tcp(address) => connect_tcp(*address).and_then(|stream| ask(config, stream)),
    };
    let why = match asked.err()?.kind() {
        // Whoever may connect is the web server.
        io::ErrorKind::PermissionDenied => return None,
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "which nobody serves",
        _ => "where nobody answers",
    };
    let fix = format!(
        "start the service: codeb-signup serve --config {}; or, where systemd or spawn-fcgi hands over a \
         socket, take this key out",
        shell(&config.file)
    );
    Some(Wrong::new(format!("is {listen}, {why}"), fix))
}

/// Connects without waiting: a program that hangs has a full backlog.
fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether it answers, and not only has a backlog. The published crate does not know the question.
fn ask(config: &Config, mut stream: impl Read + Write) -> io::Result<()> {
    if config.gateway != Gateway::Own {
        return Ok(());
    }
    stream.write_all(&GET_VALUES)?;
    match stream.read(&mut [0; 8])? {
        0 => Err(Errno::ECONNRESET.into()),
        _ => Ok(()),
    }
}
