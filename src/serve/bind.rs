//! Own listening sockets. A socket file that a dead process left is replaced; one that somebody
//! listens on, and a file that is no socket, are left alone.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, socket};

use super::{Kind, ServeError};
use crate::config::Listen;
use crate::error::Fault;
use crate::gateway::listener::{Listener, Origin};

/// The mode of a socket file, whatever the umask: the web server gets in by the group.
const SOCKET_MODE: u32 = 0o660;

/// Binds to an address.
pub fn bind(listen: &Listen) -> Result<Listener, ServeError> {
    match listen {
        Listen::Unix(path) => bind_path(path),
        Listen::Tcp(address) => bind_address(*address),
    }
}

fn bind_address(address: SocketAddr) -> Result<Listener, ServeError> {
    let socket = TcpListener::bind(address).map_err(|error| {
        let way_out = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "another program has this port; `ss -ltnp 'sport = :{}'` shows which. Stop it \
                     or choose another port",
                    address.port()
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; use 127.0.0.1 or one that `ip addr` lists".into()
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are the superuser's; choose a higher one".into()
            }
            _ => "choose another address".into(),
        };
        refusal(&error, format!("cannot listen on {address}: {error} ({way_out})"))
    })?;
    // The standard library asks for a backlog of 128. Where more is refused, that is what stays.
    let _ = nix::sys::socket::listen(&socket, Backlog::MAXALLOWABLE);
    Ok(Listener::tcp(socket, Origin::Bound))
}

fn bind_path(path: &Path) -> Result<Listener, ServeError> {
    clear_stale(path)?;
    let fault = |doing, error| Fault::new(doing, path, error);
    let socket = UnixListener::bind(path).map_err(|error| {
        let fault = fault("listen on", io::Error::new(error.kind(), error.to_string()));
        let told = match error.kind() {
            io::ErrorKind::InvalidInput => fault.way_out("choose a path under 100 bytes"),
            io::ErrorKind::NotFound => fault.way_out("create the directory first"),
            io::ErrorKind::AddrInUse => fault.way_out("another process was faster; start again"),
            _ => fault,
        };
        refusal(&error, told.to_string())
    })?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))
        .map_err(|error| fault("set the mode of", error))?;
    let meta = fs::symlink_metadata(path).map_err(|error| fault("look at", error))?;
    let origin = Origin::BoundPath { path: path.to_owned(), file: (meta.dev(), meta.ino()) };
    Ok(Listener::unix(socket, origin))
}

/// Removes a socket file that nobody listens on.
fn clear_stale(path: &Path) -> Result<(), ServeError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !meta.file_type().is_socket() {
        let text = format!(
            "cannot listen on {shown}: the file there is not a socket (remove it, or choose \
             another path)"
        );
        return Err(ServeError::new(Kind::Unavailable, text));
    }
    match try_connect(path) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EACCES) => {
            let text = format!(
                "cannot listen on {shown}: another user's socket is there (remove it if its \
                 program is gone, or choose another path)"
            );
            return Err(ServeError::new(Kind::Permission, text));
        }
        _ => {
            let text = format!(
                "cannot listen on {shown}: another process listens there (stop it first, or \
                 choose another path; `ss -lxp src {shown}` shows which)"
            );
            return Err(ServeError::new(Kind::Unavailable, text));
        }
    }
    fs::remove_file(path).map_err(|error| {
        let kind = kind_of(&error);
        ServeError::new(kind, Fault::new("replace the stale socket", path, error).to_string())
    })
}

/// Connects without waiting: a program that hangs has a full backlog, and is alive all the same.
fn try_connect(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

fn refusal(error: &io::Error, text: String) -> ServeError {
    ServeError::new(kind_of(error), text)
}

fn kind_of(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::Permission,
        io::ErrorKind::InvalidInput => Kind::Config,
        _ => Kind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("codeb-bind-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = scratch("stale");
        let path = dir.join("s");
        drop(UnixListener::bind(&path).unwrap());
        let listener = bind_path(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let refused = bind_path(&path).unwrap_err();
        assert_eq!(refused.exit_code(), 69);
        assert!(refused.to_string().contains("another process listens there"), "{refused}");
        listener.unlink();
        assert!(!path.exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_successor_s_socket_is_not_unlinked() {
        let dir = scratch("successor");
        let path = dir.join("s");
        let old = bind_path(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = bind_path(&path).unwrap();
        old.unlink();
        assert!(path.exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_and_a_taken_port_are_named_with_the_way_out() {
        let dir = scratch("file");
        let path = dir.join("s");
        fs::write(&path, "").unwrap();
        let refused = bind_path(&path).unwrap_err().to_string();
        assert!(refused.contains("not a socket") && refused.contains("remove it"), "{refused}");
        let missing = bind_path(&dir.join("no/s")).unwrap_err().to_string();
        assert!(missing.contains("create the directory"), "{missing}");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _holder = TcpListener::bind(taken).unwrap();
        let refused = bind_address(taken).unwrap_err();
        assert_eq!(refused.exit_code(), 69);
        assert!(refused.to_string().contains("choose another port"), "{refused}");
        fs::remove_dir_all(dir).unwrap();
    }
}
