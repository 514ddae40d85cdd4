//! Whether the directories that a configuration names can be used by this process: what opening a
//! tenant needs to find, and what `check` says before anybody is served.
//!
//! | directory | must |
//! |---|---|
//! | state | exist, belong to the user that runs, be readable, writable and searchable for him |
//! | staging | the same, or be missing: then it is made, and its parent must be writable |
//! | pickup | exist, be readable, writable and searchable; whose it is does not matter |
//! | templates | exist and be readable, and so must every template in it, which must render |
//!
//! Staging and pickup must be one mount, since mails appear by rename. Promised for the moment of
//! the check only: who removes a directory later gets a fault at the request that needs it.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess, geteuid};

use crate::config::{Config, ConfigError, LogTarget, Problem, TenantConfig, Wrong};
use crate::disk::{Disk, Stat};
use crate::lang::Languages;
use crate::template::Templates;

/// Checks the directories of every tenant, that no two of them share one under different names,
/// and the log file. The error names everything that is wrong.
pub fn check(config: &Config, disk: &dyn Disk) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    problems.extend(check_log(config).err());
    let mut seen: Vec<(Stat, &TenantConfig)> = Vec::new();
    for tenant in &config.tenants {
        Premises { file: &config.file, tenant, disk }.check(&mut problems);
        let Ok(stat) = stat_directory(disk, &tenant.state) else { continue };
        if let Some((_, owner)) = seen.iter().find(|(other, _)| stat.same_file(other)) {
            problems.push(shared(&config.file, tenant, &owner.host));
        }
        seen.push((stat, tenant));
    }
    ConfigError::of(problems)
}

/// Checks the log file: that it can be appended to, or made.
pub fn check_log(config: &Config) -> Result<(), Problem> {
    let LogTarget::File(path) = &config.log else { return Ok(()) };
    appendable(path).map_err(|wrong| {
        let (file, line) = (config.file.clone(), config.lines.at("log"));
        Problem { file, line, key: "log".into(), wrong }
    })
}

/// What is wrong with a tenant whose state directory is that of the tenant `owner`.
pub fn shared(file: &Path, tenant: &TenantConfig, owner: &str) -> Problem {
    let why = format!("is the directory of tenant.{owner:?} under another name");
    let (line, key) = (tenant.lines.at("state"), tenant.key("state"));
    Problem { file: file.to_owned(), line, key, wrong: Wrong::new(why, "give each tenant its own") }
}

/// Checks the directories of one tenant of the configuration at `file`.
pub fn check_directories(
    file: &Path,
    tenant: &TenantConfig,
    disk: &dyn Disk,
) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    Premises { file, tenant, disk }.check(&mut problems);
    ConfigError::of(problems)
}

/// What stands at a directory's path, symlinks followed; anything but a directory is an error.
pub fn stat_directory(disk: &dyn Disk, path: &Path) -> io::Result<Stat> {
    // `stat` does not follow a symlink, but the entry `.` is behind it.
    disk.stat(&path.join("."))
}

/// One tenant under inspection.
struct Premises<'a> {
    file: &'a Path,
    tenant: &'a TenantConfig,
    disk: &'a dyn Disk,
}

impl Premises<'_> {
    fn check(&self, problems: &mut Vec<Problem>) {
        let tenant = self.tenant;
        let state = self.own(&tenant.state);
        let pickup = self.usable(&tenant.pickup).map(drop);
        let staging = if state.is_err() && tenant.staging.starts_with(&tenant.state) {
            // What is wrong with the state directory explains its subdirectory.
            Ok(())
        } else {
            self.staging()
        };
        let usable = state.is_ok() && staging.is_ok() && pickup.is_ok();
        let mut note = |key, result: Result<(), Wrong>| {
            problems.extend(result.err().map(|wrong| self.problem(key, wrong)));
        };
        note("state", state);
        note("staging", staging);
        note("pickup", pickup);
        if usable {
            note("staging", self.one_mount());
        }
        if let Some(templates) = &tenant.templates {
            note("templates", self.readable(templates).and_then(|()| self.renderable(templates)));
        }
    }

    fn problem(&self, key: &str, wrong: Wrong) -> Problem {
        let (line, key) = (self.tenant.lines.at(key), self.tenant.key(key));
        Problem { file: self.file.to_owned(), line, key, wrong }
    }

    /// A directory that this process can use and that belongs to its user.
    fn own(&self, path: &Path) -> Result<(), Wrong> {
        let (owner, user) = (self.existing(path)?.uid, geteuid().as_raw());
        if owner != user {
            return Err(Wrong::new(
                format!("is {path:?}, which belongs to uid {owner}; this process is uid {user}"),
                format!("run as its owner, or chown {} to the service's user", path.display()),
            ));
        }
        self.usable(path).map(drop)
    }

    /// A directory that this process can list, search and write.
    fn usable(&self, path: &Path) -> Result<Stat, Wrong> {
        let stat = self.existing(path)?;
        eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).map_err(
            |error| {
                let user = geteuid();
                Wrong::new(
                    format!(
                        "is {path:?}, which uid {user} may not read and write: {}",
                        error.desc()
                    ),
                    match error {
                        Errno::EROFS => "remount the filesystem read-write".to_owned(),
                        _ => format!("give the service's user access: chown {}", path.display()),
                    },
                )
            },
        )?;
        Ok(stat)
    }

    fn readable(&self, path: &Path) -> Result<(), Wrong> {
        self.existing(path)?;
        eaccess(path, AccessFlags::R_OK | AccessFlags::X_OK).map_err(|error| {
            let why = format!("is {path:?}, which cannot be read: {}", error.desc());
            Wrong::new(why, "let the service's user read it")
        })
    }

    /// Templates that can be filled in, in every language.
    fn renderable(&self, templates: &Path) -> Result<(), Wrong> {
        let fix = "mend that template, or remove it: then the built-in one is used";
        let languages = Languages::built_in().map_err(|error| {
            Wrong::new(format!("needs the languages: {error}"), "build it anew")
        })?;
        let read = Templates::new(Arc::new(languages), Some(templates));
        read.and_then(|read| read.try_out()).map_err(|fault| {
            let path = fault.path().unwrap_or(templates);
            let why = format!("has a broken template: {}: {}", path.display(), fault.cause());
            Wrong::new(why, fix)
        })
    }

    fn existing(&self, path: &Path) -> Result<Stat, Wrong> {
        let stat = stat_directory(self.disk, path).or_else(|error| match error.kind() {
            // It may be that only looking into it is forbidden; what is missing is told later.
            io::ErrorKind::PermissionDenied => self.disk.stat(path),
            _ => Err(error),
        });
        stat.map_err(|error| {
            let shown = path.display();
            match error.kind() {
                io::ErrorKind::NotFound => Wrong::new(
                    format!("is {path:?}, which does not exist"),
                    format!("make it: install -d -m 0710 -o USER {shown}"),
                ),
                io::ErrorKind::NotADirectory => {
                    Wrong::new(format!("is {path:?}, no directory"), "write a directory's path")
                }
                _ => Wrong::new(
                    format!("is {path:?}, which cannot be looked at: {error}"),
                    "let the service's user search every directory above it",
                ),
            }
        })
    }

    fn staging(&self) -> Result<(), Wrong> {
        let staging = &self.tenant.staging;
        match stat_directory(self.disk, staging) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.usable(staging.parent().unwrap_or(staging)).map(drop)
            }
            _ => self.own(staging),
        }
    }

    /// Asks the kernel for the rename that mails appear by, with a name that does not exist.
    fn one_mount(&self) -> Result<(), Wrong> {
        let (staging, pickup) = (&self.tenant.staging, &self.tenant.pickup);
        let made = stat_directory(self.disk, staging).is_ok();
        let from = if made { Some(staging.as_path()) } else { staging.parent() };
        let name = format!(".codeb-signup-probe-{}", std::process::id());
        let from = from.unwrap_or(staging).join(&name);
        match self.disk.rename(&from, &pickup.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Err(Wrong::new(
                format!("is {staging:?}, on another mount than the pickup {pickup:?}"),
                "write staging = a directory beside the pickup, on the same filesystem",
            )),
            result => Err(Wrong::new(
                format!("is {staging:?}, and no rename leads to {pickup:?}: {result:?}"),
                "write a directory from which the service's user can rename into the pickup",
            )),
        }
    }
}

/// Whether it can be appended to, or made; or is a FIFO, which is opened for both directions, so that
/// the service does not wait for its reader.
fn appendable(path: &Path) -> Result<(), Wrong> {
    let kind = fs::metadata(path).map(|meta| meta.file_type());
    let is = |what: fn(&FileType) -> bool| kind.as_ref().is_ok_and(what);
    if is(FileType::is_dir) || is(FileType::is_socket) || is(FileType::is_block_device) {
        let why = format!("is {path:?}, which is a directory, a socket or a disk");
        return Err(Wrong::new(why, "write the path of a file or of a FIFO, or log = \"stderr\""));
    }
    if is(FileType::is_fifo) {
        return eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK).map_err(|error| {
            let why =
                format!("is {path:?}, a FIFO that cannot be read and written: {}", error.desc());
            Wrong::new(why, "let the service's user do both: it does not wait for a reader then")
        });
    }
    let result = match eaccess(path, AccessFlags::W_OK) {
        Err(Errno::ENOENT) => {
            eaccess(path.parent().unwrap_or(path), AccessFlags::W_OK | AccessFlags::X_OK)
        }
        result => result,
    };
    result.map_err(|error| {
        let why = format!("is {path:?}, which cannot be written: {}", error.desc());
        Wrong::new(why, "let the service's user write it, or write log = \"stderr\"")
    })
}
