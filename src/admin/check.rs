//! `check`: whether the configuration, its directories and the files in them will do, and what is in
//! effect. What makes requests fail or gives secrets away is an error, also where a service that runs
//! lives with it; what works but may not be meant is a warning.

mod files;
mod socket;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::sys::statfs::{self, FsType};
use nix::unistd::{Gid, getegid, getgroups};

use super::pages::unfinished;
use super::{Failure, become_owner, exit, warn};
use crate::config::{self, Config, ConfigError, Listen, LogTarget, Problem, TenantConfig, Wrong};
use crate::disk::{Disk, RealDisk};
use crate::premises;
use crate::store::flat::{OtherRealms, other_realms};

/// Filesystems that other machines may have mounted too, by the magic numbers of statfs(2) and of
/// the kernel's sources: neither flock nor the boot id crosses from one machine to the other.
const NETWORK_FILESYSTEMS: [(u32, &str); 14] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "kAFS"),
    (0x7375_7245, "Coda"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x786f_4256, "a VirtualBox shared folder"),
];

/// Of space and of files there should be more left than this: a sign-up takes a file until its mail is
/// taken, a compaction a copy of the accounts.
const LEAST_BYTES: u64 = 64 * 1024 * 1024;
const LEAST_FILES: u64 = 1000;

/// Checks the configuration at `path` and prints it, defaults filled in, on standard output;
/// warnings go to standard error.
pub fn check(path: &Path) -> Result<(), Failure> {
    let config = config::load(path)?;
    let mut warnings = become_owner(&config.file, &config.tenants.iter().collect::<Vec<_>>())?;
    premises::check(&config, &RealDisk)?;
    warnings.extend(self::warnings(&config));
    warnings.sort_by_key(|warning| warning.line);
    warn(&warnings);
    ConfigError::of(problems(&config))?;
    write!(io::stdout(), "# in effect, from {}\n{config}", path.display())
        .map_err(|error| Failure::new(exit::IO, format!("cannot print: {error}")))
}

/// What makes requests fail, or shows secrets to others.
fn problems(config: &Config) -> Vec<Problem> {
    let listen = socket::wrong(config).map(|wrong| of_listen(config, wrong));
    let tenants = config.tenants.iter().flat_map(|tenant| {
        files::wrong(tenant).into_iter().map(move |(key, wrong)| of_key(config, tenant, key, wrong))
    });
    listen.into_iter().chain(tenants).collect()
}

fn of_listen(config: &Config, wrong: Wrong) -> Problem {
    let line = config.lines.at("listen");
    Problem { file: config.file.clone(), line, key: "listen".into(), wrong }
}

fn of_key(config: &Config, tenant: &TenantConfig, key: &str, wrong: Wrong) -> Problem {
    let (line, key) = (tenant.lines.at(key), tenant.key(key));
    Problem { file: config.file.clone(), line, key, wrong }
}

/// What works, but perhaps not as it is meant to.
fn warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    if socket::wrong(config).is_none() {
        warnings.extend(socket::unserved(config).map(|wrong| of_listen(config, wrong)));
    }
    if let Some(Listen::Tcp(address)) = config.listen
        && !address.ip().is_loopback()
    {
        let why = format!("is {address}: whoever reaches it can claim to be any client");
        let wrong = Wrong::new(why, "listen on unix:PATH or 127.0.0.1, or let a firewall guard it");
        warnings.push(of_listen(config, wrong));
    }
    if let LogTarget::File(path) = &config.log
        && fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
    {
        let why = format!("is {path:?}, a FIFO: lines that nobody reads in time are dropped");
        let wrong = Wrong::new(why, "keep a reader at it; the log counts what it dropped");
        let line = config.lines.at("log");
        warnings.push(Problem { file: config.file.clone(), line, key: "log".into(), wrong });
    }
    for tenant in &config.tenants {
        let of_tenant = of_tenant(tenant).into_iter();
        warnings.extend(of_tenant.map(|(key, wrong)| of_key(config, tenant, key, wrong)));
    }
    warnings
}

fn of_tenant(tenant: &TenantConfig) -> Vec<(&'static str, Wrong)> {
    let mut warnings = Vec::new();
    warnings.extend(plain_http(&tenant.base_url).map(|wrong| ("base_url", wrong)));
    warnings.extend(open_to(&tenant.state, OTHERS, 0o710).map(|wrong| ("state", wrong)));
    let spool = tenant.state.join("spool");
    for (key, path) in [("state", &spool), ("staging", &tenant.staging)] {
        warnings.extend(open_to(path, ALL_BUT_OWNER, 0o700).map(|wrong| (key, wrong)));
    }
    warnings.extend(files::lent(tenant).map(|wrong| ("state", wrong)));
    warnings.extend(world_writable(&tenant.pickup).map(|wrong| ("pickup", wrong)));
    warnings.extend(other_realm(tenant).map(|wrong| ("realm", wrong)));
    for (key, path) in [("state", &tenant.state), ("staging", &tenant.staging)] {
        let below = key == "staging" && path.starts_with(&tenant.state);
        warnings.extend((!below).then(|| network(path)).flatten().map(|wrong| (key, wrong)));
    }
    // The staging directory is on the pickup directory's filesystem (see `premises`).
    let mut filesystems = HashSet::new();
    for (key, path) in [("state", &tenant.state), ("pickup", &tenant.pickup)] {
        let is_another = RealDisk.stat(path).is_ok_and(|stat| filesystems.insert(stat.dev));
        warnings.extend(is_another.then(|| full(path)).flatten().map(|wrong| (key, wrong)));
    }
    warnings.extend(unfinished(&tenant.html).into_iter().map(|wrong| ("html", wrong)));
    for (key, group) in [("view_group", tenant.view_group), ("pickup_group", tenant.pickup_group)] {
        warnings.extend(group.and_then(foreign_group).map(|wrong| (key, wrong)));
    }
    warnings
}

fn plain_http(base_url: &str) -> Option<Wrong> {
    let url = url::Url::parse(base_url).ok().filter(|url| url.scheme() == "http")?;
    let host = url.host_str()?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if loopback || host == "localhost" || host.ends_with(".localhost") {
        return None;
    }
    let why = format!("is {base_url:?}: links and credentials cross the network in the clear");
    Some(Wrong::new(why, "set up TLS in the web server and write https://"))
}

/// Nobody else may list the state directory or write to it; its group may search it, for the views.
const OTHERS: u32 = 0o067;
/// What lies in spool and staging is the service's alone.
const ALL_BUT_OWNER: u32 = 0o077;

/// A directory whose mode has one of the bits that are `wrong`.
fn open_to(path: &Path, wrong: u32, right: u32) -> Option<Wrong> {
    let mode = premises::stat_directory(&RealDisk, path).ok()?.mode;
    (mode & wrong != 0).then(|| {
        let fix = format!("chmod {right:04o} {}", shell(path));
        let why = format!("has mode {mode:04o} at {path:?}: others than its owner get into it");
        Wrong::new(why, fix)
    })
}

/// A pickup directory into which every local user can put mails, as if they were ours.
fn world_writable(pickup: &Path) -> Option<Wrong> {
    let mode = premises::stat_directory(&RealDisk, pickup).ok()?.mode;
    (mode & 0o002 != 0).then(|| {
        let why = format!("has mode {mode:04o} at {pickup:?}: everybody can send mails from it");
        Wrong::new(why, format!("chmod o-w {}", shell(pickup)))
    })
}

/// Accounts that nobody can sign in to any more: their HA1 is of another realm. They may be meant to
/// stay, where the realm was changed because the file had leaked.
fn other_realm(tenant: &TenantConfig) -> Option<Wrong> {
    let path = tenant.state.join("credentials");
    let other = other_realms(&RealDisk, &path, tenant.realm.as_str()).ok().flatten()?;
    let OtherRealms { count, of, user, realm } = other;
    let own = tenant.realm.as_str();
    let why = format!(
        "is {own:?}, but {count} of {of} accounts have another, the first of them, {user}, {realm:?}: \
         they cannot sign in"
    );
    let fix = format!("write realm = {realm:?}; or, if the change is meant, let them sign up anew");
    Some(Wrong::new(why, fix))
}

/// A path as a shell takes it for one word.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(&b);
    match text.bytes().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn network(path: &Path) -> Option<Wrong> {
    let FsType(magic) = statfs::statfs(path).ok()?.filesystem_type();
    let magic = magic as u32;
    let (_, name) = NETWORK_FILESYSTEMS.iter().find(|(number, _)| *number == magic)?;
    let why = format!("is {path:?}, on {name}: locks may not hold between machines");
    Some(Wrong::new(why, "write a directory on a disk of this machine"))
}

/// A filesystem that is full, or about to be.
fn full(path: &Path) -> Option<Wrong> {
    let stat = statfs::statfs(path).ok()?;
    let bytes = u64::try_from(stat.block_size()).ok()?.saturating_mul(stat.blocks_available());
    // Some filesystems make inodes as they need them, and count none.
    let counts_inodes = stat.files() > 0;
    let why = match (bytes < LEAST_BYTES, counts_inodes && stat.files_free() < LEAST_FILES) {
        (true, _) => format!("is {path:?}: {} KiB are free on its filesystem", bytes / 1024),
        (_, true) => format!("is {path:?}: its filesystem takes {} more files", stat.files_free()),
        _ => return None,
    };
    Some(Wrong::new(why, "free some, or write a directory on another filesystem"))
}

/// A group that a file can be given to only by its members.
fn foreign_group(gid: u32) -> Option<Wrong> {
    let group = Gid::from_raw(gid);
    let member = getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    let fix = "add it: usermod -aG GROUP USER, or SupplementaryGroups= in the systemd unit";
    let root = nix::unistd::geteuid().is_root();
    (!member && !root).then(|| {
        Wrong::new(format!("is gid {gid}, to which the user that runs does not belong"), fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_fine_on_this_machine_only() {
        for fine in
            ["https://a.example", "http://localhost:8080", "http://127.0.0.2", "http://[::1]"]
        {
            assert_eq!(plain_http(fine), None, "{fine}");
        }
        assert!(plain_http("http://a.example").is_some());
        assert!(plain_http("http://10.0.0.1").is_some());
    }

    #[test]
    fn a_state_directory_is_open_when_others_can_list_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("codeb-check-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (mode, open) in [(0o700, false), (0o710, false), (0o750, true), (0o711, true)] {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open_to(&dir, OTHERS, 0o710).is_some(), open, "{mode:o}");
            assert_eq!(open_to(&dir, ALL_BUT_OWNER, 0o700).is_some(), mode != 0o700, "{mode:o}");
        }
        std::fs::remove_dir(dir).unwrap();
    }
}
