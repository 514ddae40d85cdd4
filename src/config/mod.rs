//! The configuration: one TOML file, read raw, then checked into the types here. Whoever holds a
//! [`Config`] holds values that are in range; whether its directories exist and can be used is
//! checked by `premises`, when a tenant is opened and by `codeb-signup check`.
//!
//! | module | turns |
//! |---|---|
//! | `raw` | text into tables whose every key knows its line |
//! | `values`, `places` | one value into its checked type, or a [`Wrong`] |
//! | `checked` | tables into [`Config`], with defaults, and what two keys say together |
//! | `show` | a [`Config`] back into TOML, nothing left out |

mod checked;
mod places;
mod problem;
mod raw;
mod show;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::account::{Realm, Role};

pub use checked::{HTML, load, parse};
pub use problem::{ConfigError, Problem, Wrong};

/// The file that is read where neither a flag nor the environment names one.
pub const DEFAULT_FILE: &str = "/etc/codeb-signup/config.toml";

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "CODEB_SIGNUP_CONFIG";

/// Where the configuration stands: the flag, else `CODEB_SIGNUP_CONFIG`, else [`DEFAULT_FILE`].
pub fn default_path(flag: Option<&Path>) -> PathBuf {
    let variable = || std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty());
    match flag {
        Some(path) => path.to_owned(),
        None => variable().map_or_else(|| DEFAULT_FILE.into(), PathBuf::from),
    }
}

/// The lines of a table's keys, so that a later check can name the line at fault.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    header: usize,
    keys: BTreeMap<&'static str, usize>,
}

impl Lines {
    /// The line of `key`, counted from 1; where it was left to its default, the table's header (0
    /// for the top level).
    pub fn at(&self, key: &str) -> usize {
        self.keys.get(key).copied().unwrap_or(self.header)
    }
}

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
    /// Where the top-level keys stand.
    pub lines: Lines,
}

/// A listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `HOST:PORT`
    Tcp(SocketAddr),
}

impl Listen {
    /// Takes `unix:PATH` (an absolute path) or `ADDRESS:PORT` (`localhost` stands for 127.0.0.1).
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        places::listen(text)
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
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

/// Whether new accounts are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signups {
    /// They are.
    Open,
    /// Captcha and sign-up answer 503; activation goes on.
    Closed,
}

/// What an activation link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Following it activates, as the original has it.
    Get,
    /// It shows a button, and the button activates: for users whose mail scanners follow links.
    Click,
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
    /// Whether new accounts are taken.
    pub signups: Signups,
    /// What an activation link does.
    pub activation: Activation,
    /// Whether a lost mail can be asked for again.
    pub resend: bool,
    /// The language of pages and mails where the visitor has named none; one of
    /// [`crate::lang::TAGS`].
    pub language: String,
    /// A directory of templates that outrank the built-in ones.
    pub templates: Option<PathBuf>,
    /// What pages and mails call the site.
    pub site_name: String,
    /// A picture that the pages show, as a path on the web server.
    pub logo: Option<String>,
    /// The directory with the pages, before a name and a logo are in them.
    pub html: PathBuf,
    /// Where the keys stand.
    pub lines: Lines,
}

impl TenantConfig {
    /// The full name of one of this tenant's keys, for a message: `tenant."a.example".realm`.
    pub fn key(&self, key: &str) -> String {
        format!("tenant.{:?}.{key}", self.host)
    }
}
