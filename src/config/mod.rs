//! The configuration: one TOML file, read raw, then checked into the types here. Whoever holds a
//! [`Config`] holds values that are in range; whether its directories exist and can be used is
//! checked when a tenant is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::account::{Realm, Role};

/// Everything the program is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Where to listen, unless a socket is inherited or a flag says otherwise.
    pub listen: Option<Listen>,
    /// Which FastCGI responder serves.
    pub gateway: Gateway,
    /// Worker threads of the own responder.
    pub workers: usize,
    /// Where log lines go.
    pub log: LogTarget,
    /// How long a request waits for the credentials file's lock.
    pub lock_wait: Duration,
    /// The tenant (its host) that serves unknown hosts.
    pub default_tenant: Option<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The tenants, in the order of their hosts.
    pub tenants: Vec<TenantConfig>,
}

/// A listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `HOST:PORT`
    Tcp(SocketAddr),
}

/// A FastCGI responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// Ours.
    Own,
    /// The published crate `fastcgi`.
    FastcgiCrate,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// A file of enabled accounts for another program to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// `STATE/htdigest`: `user:realm:ha1`, as Apache, lighttpd and Squid read it.
    Htdigest,
}

/// One tenant: a host, its accounts and how they are made.
#[derive(Debug, Clone)]
pub struct TenantConfig {
    /// The host that it is named by, lower case, without port.
    pub host: String,
    /// Further hosts.
    pub aliases: Vec<String>,
    /// The realm that every HA1 is computed for.
    pub realm: Realm,
    /// What links in mails begin with; no trailing slash.
    pub base_url: String,
    /// The state directory.
    pub state: PathBuf,
    /// The directory that an SMTP service takes mails from.
    pub pickup: PathBuf,
    /// Where mails are written before they appear in `pickup`; on the same filesystem.
    pub staging: PathBuf,
    /// The sender of mails, `local@domain` or `Name <local@domain>`.
    pub mail_from: String,
    /// Origins that other sites' pages may call from.
    pub allowed_origins: Vec<String>,
    /// The role of a new account.
    pub role: Role,
    /// Where the activation page leads on to.
    pub login_page: String,
    /// How long a captcha may be answered.
    pub captcha_ttl: Duration,
    /// How long an activation link works.
    pub activation_ttl: Duration,
    /// Accounts for each client and hour.
    pub signups_per_hour: u32,
    /// More reserved user names.
    pub reserved: Vec<String>,
    /// Files of enabled accounts.
    pub views: Vec<View>,
    /// The group that may read the views.
    pub view_group: Option<u32>,
    /// The group that may take the mails.
    pub pickup_group: Option<u32>,
}
