//! Whose the files in a tenant's directories are, and who may read them. The program makes each with the
//! right owner and mode; a restore, an editor or a `cp` may leave others.
//!
//! | files | owner | nobody may |
//! |---|---|---|
//! | `credentials` and what is named after it, `spool/*` | the service's user | read or write, but the owner |
//! | views and their copies, mails in staging | the service's user | write, but the owner; read, but the group |
//! | `*.lock` | the service's user | (no secret) |
//!
//! A file of another owner is refused by every request that needs it, and a mode that is too open gives
//! secrets away: both are errors. The configuration holds no secret.

use std::ffi::OsStr;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use super::shell;
use crate::config::{TenantConfig, View, Wrong};
use crate::disk::{Disk, RealDisk, Stat};
use crate::premises::stat_directory;

/// For the owner alone.
const PRIVATE: Rule = Rule { open: 0o077, mode: 0o600 };
/// For a group to read.
const SHARED: Rule = Rule { open: 0o027, mode: 0o640 };
/// Without a secret.
const PLAIN: Rule = Rule { open: 0, mode: 0o600 };

/// What the program writes in the state directory; other names are an operator's, who may be at work on
/// a file of his own.
const OURS: [&str; 10] = [
    "credentials",
    "credentials.block",
    "credentials.damaged",
    "credentials.rewritten",
    "credentials.compact",
    "credentials.lock",
    "sweep.lock",
    "htdigest",
    "htdigest.new",
    "htdigest.compact",
];

#[derive(Debug, Clone, Copy)]
struct Rule {
    /// The permission bits that must not be set.
    open: u32,
    /// The mode that is right.
    mode: u32,
}

/// What is wrong with the files of a tenant, each with the key of the directory that it is in.
pub fn wrong(tenant: &TenantConfig) -> Vec<(&'static str, Wrong)> {
    let mut found = Vec::new();
    for name in list(&tenant.state) {
        let Some(text) = name.to_str() else { continue };
        let view = tenant.views.iter().any(|View::Htdigest| text.starts_with("htdigest"));
        let rule = match text {
            _ if view => SHARED,
            "credentials.lock" | "sweep.lock" => PLAIN,
            _ if text.trim_start_matches('.').starts_with("credentials") => PRIVATE,
            _ => continue,
        };
        let is_ours = OURS.contains(&text);
        let group = if view { tenant.view_group } else { Some(getegid().as_raw()) };
        let wrong = of_file(&tenant.state.join(&name), rule, is_ours, group);
        let wrong = wrong.filter(|_| text != "credentials" || !is_lent(tenant));
        found.extend(wrong.map(|wrong| ("state", wrong)));
    }
    let spool = tenant.state.join("spool");
    let own = Some(getegid().as_raw());
    let of_spool = list(&spool).into_iter();
    let of_spool = of_spool.filter_map(|name| of_file(&spool.join(name), PRIVATE, true, own));
    found.extend(of_spool.map(|wrong| ("state", wrong)));
    found.extend(of_mails(tenant).map(|wrong| ("staging", wrong)));
    found
}

/// Whether `credentials` is right but for a group that reads it and is none that only should read
/// views or mails: an operator may let a program of his own read the accounts.
pub fn is_lent(tenant: &TenantConfig) -> bool {
    let Ok(stat) = RealDisk.stat(&tenant.state.join("credentials")) else { return false };
    let of_state = stat_directory(&RealDisk, &tenant.state).ok().map(|stat| stat.gid);
    let others = [of_state, tenant.view_group, tenant.pickup_group];
    let is_own = stat.gid == getegid().as_raw();
    stat.is_file
        && stat.uid == geteuid().as_raw()
        && stat.mode & PRIVATE.open == 0o040
        && (is_own || !others.contains(&Some(stat.gid)))
}

/// What is to be said of a file that [`is_lent`].
pub fn lent(tenant: &TenantConfig) -> Option<Wrong> {
    let path = tenant.state.join("credentials");
    let stat = RealDisk.stat(&path).ok().filter(|_| is_lent(tenant))?;
    let why = format!("holds {path:?}, which group {} may read", group_name(stat.gid));
    let fix = format!("chmod 0600 {}, unless a program of yours has to read it", shell(&path));
    Some(Wrong::new(why, fix))
}

/// The mails in staging, all in one remark.
fn of_mails(tenant: &TenantConfig) -> Option<Wrong> {
    let names = list(&tenant.staging);
    let mails = names.iter().map(|name| tenant.staging.join(name));
    let mut wrong =
        mails.filter(|path| path.extension() == Some(OsStr::new("eml"))).filter_map(|path| {
            let stat = RealDisk.stat(&path).ok().filter(|stat| stat.is_file)?;
            (stat.mode & SHARED.open != 0).then_some((path, stat.mode))
        });
    let (path, mode) = wrong.next()?;
    let count = 1 + wrong.count();
    let why =
        format!("holds {count} mails that others may read or write, {path:?} of mode {mode:04o}");
    Some(Wrong::new(why, format!("chmod 0640 {}/*.eml", shell(&tenant.staging))))
}

fn of_file(path: &Path, rule: Rule, is_ours: bool, group: Option<u32>) -> Option<Wrong> {
    // What was renamed or deleted meanwhile is gone.
    let stat = RealDisk.stat(path).ok()?;
    let shown = shell(path);
    if !stat.is_file {
        let why = format!("holds {path:?}, which is not a regular file");
        return is_ours.then(|| Wrong::new(why, format!("put a file there: mv {shown} elsewhere")));
    }
    let is_foreign = is_ours && stat.uid != geteuid().as_raw();
    let is_open = stat.mode & rule.open != 0;
    let why = match (is_foreign, is_open) {
        (false, false) => return None,
        (true, false) => format!("{}, not to the service's user", belongs(&stat)),
        (false, true) => format!("is open to others, mode {:04o}", stat.mode),
        (true, true) => format!("{}, and is of mode {:04o}", belongs(&stat), stat.mode),
    };
    let group = group.map_or(String::new(), |gid| format!(":{}", group_name(gid)));
    let chown = format!("chown {}{group} {shown}", user_name(geteuid().as_raw()));
    let chmod = format!("chmod {:04o} {shown}", rule.mode);
    let fix = match (is_foreign, is_open) {
        (true, true) => format!("{chown} && {chmod}"),
        (true, false) => chown,
        (false, _) => chmod,
    };
    Some(Wrong::new(format!("holds {path:?}, which {why}"), fix))
}

fn belongs(stat: &Stat) -> String {
    format!("belongs to {}:{}", user_name(stat.uid), group_name(stat.gid))
}

/// The names in a directory that may be missing.
fn list(directory: &Path) -> Vec<std::ffi::OsString> {
    let mut names = RealDisk.list(directory).unwrap_or_default();
    names.sort();
    names
}

/// The name of a user, or its number where it has none.
fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// The name of a group, or its number where it has none.
fn group_name(gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    group.map_or_else(|| gid.to_string(), |group| group.name)
}
