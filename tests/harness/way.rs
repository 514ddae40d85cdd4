//! The ways to the program.

/// How the web server reaches the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// nginx, and `serve --listen unix:PATH`
    Own,
    /// nginx, and the published crate behind the same
    FastcgiCrate,
    /// nginx, and spawn-fcgi with the socket as descriptor 0
    SpawnFcgi,
    /// nginx, and a socket handed over as systemd does (`LISTEN_FDS`)
    ListenFds,
    /// lighttpd's CGI
    LighttpdCgi,
    /// Apache's CGI (mod_cgid)
    ApacheCgi,
    /// Apache's CGI in its own processes (mod_cgi)
    ApacheModCgi,
}

impl Way {
    /// Whether the program runs as Apache's user.
    pub fn is_apache(self) -> bool {
        matches!(self, Self::ApacheCgi | Self::ApacheModCgi)
    }
}
