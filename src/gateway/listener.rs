//! A listening socket and the connections it gives, over a Unix path or TCP.

use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt};
use nix::sys::socket::{sockopt, sockopt::AcceptConn};

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    origin: Origin,
    /// The TCP peers that may connect (`FCGI_WEB_SERVER_ADDRS`, FastCGI 1.0 §3.2); any where unset.
    web_servers: Option<Vec<IpAddr>>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Whose socket it is, which decides how it is given up.
#[derive(Debug)]
pub enum Origin {
    /// Handed over by a manager; other processes may accept from it too.
    Inherited,
    /// Bound here to an address.
    Bound,
    /// Bound here to a path: device and inode of the socket file.
    BoundPath {
        /// The path.
        path: PathBuf,
        /// Device and inode of the file that was made there.
        file: (u64, u64),
    },
}

/// One connection.
#[derive(Debug)]
pub enum Stream {
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Listener {
    /// A socket bound to a path.
    pub fn unix(socket: UnixListener, origin: Origin) -> Self {
        Self { socket: Socket::Unix(socket), origin, web_servers: None }
    }

    /// A socket bound to an address.
    pub fn tcp(socket: TcpListener, origin: Origin) -> Self {
        Self { socket: Socket::Tcp(socket), origin, web_servers: web_servers() }
    }

    /// A descriptor that came from outside; an error where it is no listening stream socket.
    pub fn inherited(descriptor: OwnedFd) -> io::Result<Self> {
        if !is_listening(&descriptor) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket"));
        }
        let address = getsockname::<SockaddrStorage>(descriptor.as_raw_fd())?;
        Ok(match address.family() {
            Some(AddressFamily::Unix) => Self::unix(descriptor.into(), Origin::Inherited),
            _ => Self::tcp(descriptor.into(), Origin::Inherited),
        })
    }

    /// Whether it came from outside.
    pub fn is_inherited(&self) -> bool {
        matches!(self.origin, Origin::Inherited)
    }

    /// Whether an accept waits for a connection. The flag belongs to the socket and not to the
    /// descriptor: every process that inherited it is affected.
    pub fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        match &self.socket {
            Socket::Unix(socket) => socket.set_nonblocking(!blocking),
            Socket::Tcp(socket) => socket.set_nonblocking(!blocking),
        }
    }

    /// The next connection; `Ok(None)` for one from a peer that may not connect.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        match &self.socket {
            Socket::Unix(socket) => socket.accept().map(|(stream, _)| Some(Stream::Unix(stream))),
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                let peer = peer.ip().to_canonical();
                let welcome = self.web_servers.as_ref().is_none_or(|list| list.contains(&peer));
                Ok(welcome.then_some(Stream::Tcp(stream)))
            }
        }
    }

    /// Where it listens, as the configuration would say it.
    pub fn address(&self) -> String {
        match &self.socket {
            Socket::Unix(socket) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix:".to_owned(), |path| format!("unix:{}", path.display()))
            }
            Socket::Tcp(socket) => {
                socket.local_addr().map_or_else(|_| "tcp".to_owned(), |address| address.to_string())
            }
        }
    }

    /// Removes the socket file, if it is still the one that was made here: a successor may have
    /// put its own in its place.
    pub fn unlink(&self) {
        let Origin::BoundPath { path, file } = &self.origin else { return };
        let same = fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == *file);
        if same {
            // Where it cannot be removed, the next start finds it stale and replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

impl Stream {
    /// Ends the connection in both directions; whoever waits on it wakes up.
    pub fn shut_down(&self) {
        // It fails only where the peer was faster.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Both),
        };
    }

    /// The descriptor's number.
    pub fn raw(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// Whether a descriptor is a listening stream socket.
pub fn is_listening(descriptor: &impl AsFd) -> bool {
    getsockopt(descriptor, AcceptConn).unwrap_or(false)
        && getsockopt(descriptor, sockopt::SockType)
            .is_ok_and(|kind| kind == nix::sys::socket::SockType::Stream)
}

/// The addresses that a manager allows; a text that is no address allows nobody.
fn web_servers() -> Option<Vec<IpAddr>> {
    let list = std::env::var("FCGI_WEB_SERVER_ADDRS").ok()?;
    Some(list.split(',').filter_map(|text| text.trim().parse().ok()).collect())
}
