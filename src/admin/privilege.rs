//! Run as root, the program goes on as the owner of the state directories, so that no file is made
//! that the service could not use, and every check sees what the service would see.

use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

use crate::config::{ConfigError, Problem, TenantConfig, Wrong};
use crate::disk::{Disk, RealDisk, Stat};
use crate::premises::stat_directory;

/// Becomes the owner of these tenants' state directories where the process is root; `file` is the
/// configuration that they come from. Where that owner is root
/// too, it stays root and returns a warning. Directories that cannot be looked at are left to the
/// checks that follow. Must run before the first thread.
pub fn become_owner(file: &Path, tenants: &[&TenantConfig]) -> Result<Vec<Problem>, ConfigError> {
    if !geteuid().is_root() {
        return Ok(Vec::new());
    }
    let owners = owners(tenants, &RealDisk);
    let Some((first, stat)) = owners.first() else { return Ok(Vec::new()) };
    let problem = |tenant: &TenantConfig, wrong| {
        let (line, key) = (tenant.lines.at("state"), tenant.key("state"));
        Problem { file: file.to_owned(), line, key, wrong }
    };
    if let Some((other, stat)) = owners.iter().find(|(_, other)| other.uid != stat.uid) {
        let why = format!("belongs to uid {}, that of {:?} does not", stat.uid, first.host);
        let fix = "run it as the service's user, or give all state directories one owner";
        return Err(problem(other, Wrong::new(why, fix)).into());
    }
    if stat.uid == 0 {
        let why = "belongs to root, so this runs as root";
        let fix = "give it to a user of its own: useradd --system, then chown -R";
        return Ok(vec![problem(first, Wrong::new(why, fix))]);
    }
    change_to(Uid::from_raw(stat.uid), Gid::from_raw(stat.gid)).map_err(|error| {
        let why = format!("belongs to uid {}, which root cannot become: {error}", stat.uid);
        ConfigError::from(problem(first, Wrong::new(why, "run it as that user")))
    })?;
    Ok(Vec::new())
}

fn owners<'c>(tenants: &[&'c TenantConfig], disk: &dyn Disk) -> Vec<(&'c TenantConfig, Stat)> {
    let stat = |tenant: &'c TenantConfig| Some((tenant, stat_directory(disk, &tenant.state).ok()?));
    tenants.iter().copied().filter_map(stat).collect()
}

/// Takes on a user for good, with the groups that a login would give; a uid without an account gets
/// the directory's group alone.
fn change_to(uid: Uid, group: Gid) -> Result<(), Errno> {
    let user = User::from_uid(uid)?;
    match user.and_then(|user| Some((CString::new(user.name).ok()?, user.gid))) {
        Some((name, gid)) => {
            initgroups(&name, gid)?;
            setgid(gid)?;
        }
        None => {
            setgroups(&[group])?;
            setgid(group)?;
        }
    }
    setuid(uid)
}
