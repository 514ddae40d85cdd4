//! Mails on their way to the pickup directory.
//!
//! An SMTP service takes whatever appears in the pickup directory, so a mail appears there whole or
//! not at all: lettre writes `staging/<uuid>.eml`, we lock, sync and rename it to
//! `staging/<TokenId>.eml`, and once the account's line is durable it is renamed into the pickup
//! directory. Both directories are synced after their rename; whoever waits shares one sync.
//!
//! The lock on a staged file is held for as long as its request runs; the sweep takes only files
//! whose lock is free.

mod group_sync;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lettre::{FileTransport, Message, Transport};

use self::group_sync::GroupSync;
use crate::disk::{Disk, Locked, Open, Stat};
use crate::error::Fault;
use crate::secret::TokenId;

/// Mode of a mail: its group is the SMTP service's.
const MODE: u32 = 0o640;
/// A file that lettre wrote and nobody renamed is a dead request's after this time: longer than
/// any web server waits for an answer.
const DEAD_AFTER: Duration = Duration::from_secs(3600);
/// How a mail's name ends.
const MAIL: &str = "eml";

/// The staging and the pickup directory of one tenant.
#[derive(Debug)]
pub struct Outbox {
    disk: Arc<dyn Disk>,
    staging: PathBuf,
    pickup: PathBuf,
    group: Option<u32>,
    staging_sync: GroupSync,
    pickup_sync: GroupSync,
}

/// A whole, durable mail in the staging directory; dropping it deletes it.
#[derive(Debug)]
pub struct Staged {
    outbox: Arc<Outbox>,
    name: String,
    _locked: Locked,
    done: bool,
}

/// Why something in the staging directory was left there.
#[derive(Debug)]
pub enum NotSwept {
    /// It is no file of ours, and an operator's to move away.
    Foreign(Fault),
    /// It could not be looked at or deleted.
    Failed(Fault),
}

impl Outbox {
    /// Mails are written to `staging` and appear in `pickup`, for `group` to read.
    pub fn new(disk: Arc<dyn Disk>, staging: &Path, pickup: &Path, group: Option<u32>) -> Self {
        Self {
            staging_sync: GroupSync::new(disk.clone(), staging),
            pickup_sync: GroupSync::new(disk.clone(), pickup),
            disk,
            staging: staging.to_owned(),
            pickup: pickup.to_owned(),
            group,
        }
    }

    /// Writes `message` to the staging directory (state S1).
    pub fn stage(self: &Arc<Self>, message: &Message, token: TokenId) -> Result<Staged, Fault> {
        let sent = FileTransport::new(&self.staging).send(message);
        let written = match sent {
            Ok(uuid) => format!("{uuid}.eml"),
            Err(error) => {
                self.clear_fragments_of(&message.formatted());
                let cause = io::Error::other(error);
                return Err(Fault::new("write a mail to", &self.staging, io_cause(cause)));
            }
        };
        let fault = |cause| Fault::new("stage a mail in", &self.staging, cause);
        let staged = self.adopt(written, token).map_err(fault)?;
        self.staging_sync.sync().map_err(fault)?;
        Ok(staged)
    }

    /// Makes the file that lettre wrote ours: lock, mode, group, sync, name.
    fn adopt(self: &Arc<Self>, written: String, token: TokenId) -> io::Result<Staged> {
        let path = self.staging.join(&written);
        let handle = self.disk.open(&path, Open::Write)?;
        // Nobody else knows its name yet.
        let locked = Locked::try_take(&handle)?.ok_or(io::ErrorKind::ResourceBusy)?;
        let mut staged =
            Staged { outbox: self.clone(), name: written, _locked: locked, done: false };
        if handle.stat()?.mode != MODE {
            handle.set_mode(MODE)?;
        }
        if let Some(gid) = self.group {
            handle.set_group(gid)?;
        }
        handle.sync()?;
        let name = format!("{}.eml", token.hex());
        self.disk.rename(&path, &self.staging.join(&name))?;
        staged.name = name;
        Ok(staged)
    }

    /// Deletes what a failed write left: lettre does not tell the name, so it is the files that
    /// hold nothing but the beginning of the message.
    fn clear_fragments_of(&self, message: &[u8]) {
        for name in self.disk.list(&self.staging).unwrap_or_default() {
            let path = self.staging.join(&name);
            let fragment = self.disk.open(&path, Open::Read).is_ok_and(|handle| {
                let mut content = vec![0; message.len() + 1];
                let read = handle.read_at(&mut content, 0).unwrap_or(content.len());
                message.starts_with(content.get(..read).unwrap_or(&content))
            });
            if fragment && token_of(&name).is_none() {
                // What cannot be deleted now, the sweep deletes.
                let _ = self.disk.unlink(&path);
            }
        }
    }

    /// The staged mails that no running request holds, each locked from when it is handed over:
    /// what a sweep has to decide on. On the way files are deleted that lettre wrote for a request
    /// that died long ago. What is named like a mail and is none of ours is left where it is.
    pub fn orphans(
        self: &Arc<Self>,
        now: SystemTime,
    ) -> Result<impl Iterator<Item = Result<(TokenId, Staged), NotSwept>> + use<'_>, Fault> {
        let names = self.disk.list(&self.staging);
        let names = names.map_err(|cause| Fault::new("sweep", &self.staging, cause))?;
        let mails =
            names.into_iter().filter(|name| Path::new(name).extension() == Some(OsStr::new(MAIL)));
        Ok(mails.filter_map(move |name| self.sweep_mail(&name, now).transpose()))
    }

    fn sweep_mail(
        self: &Arc<Self>,
        name: &OsStr,
        now: SystemTime,
    ) -> Result<Option<(TokenId, Staged)>, NotSwept> {
        let path = self.staging.join(name);
        let swept = match self.disk.stat(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(stat) if !stat.is_file => {
                let cause = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
                return Err(NotSwept::Foreign(foreign(&path, cause)));
            }
            stat => stat.and_then(|stat| match token_of(name) {
                Some(token) => {
                    let staged = self.orphan(&path, name.to_string_lossy().into_owned())?;
                    Ok(staged.map(|staged| (token, staged)))
                }
                None => self.delete_if_dead(&path, &stat, now).map(|()| None),
            }),
        };
        swept.map_err(|cause| match cause.kind() {
            io::ErrorKind::PermissionDenied => NotSwept::Foreign(foreign(&path, cause)),
            _ => NotSwept::Failed(Fault::new("sweep", &path, cause)),
        })
    }

    fn orphan(self: &Arc<Self>, path: &Path, name: String) -> io::Result<Option<Staged>> {
        let handle = match self.disk.open(path, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let Some(locked) = Locked::try_take(&handle)? else { return Ok(None) };
        // Whoever held the lock may have renamed the file away before it let go.
        match self.disk.stat(path) {
            Ok(stat) if stat.same_file(&handle.stat()?) => {
                Ok(Some(Staged { outbox: self.clone(), name, _locked: locked, done: false }))
            }
            _ => Ok(None),
        }
    }

    fn delete_if_dead(&self, path: &Path, stat: &Stat, now: SystemTime) -> io::Result<()> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        if now - stat.mtime < DEAD_AFTER.as_nanos() as i128 {
            return Ok(());
        }
        ignore_missing(self.disk.unlink(path))
    }
}

impl Staged {
    /// Moves the mail to the pickup directory, durably (state S3). On an error `self` comes back
    /// with the fault: [`Staged::is_here`] tells whether the mail does too.
    pub fn release(mut self) -> Result<(), Box<(Fault, Self)>> {
        let outbox = self.outbox.clone();
        let (from, to) = (outbox.staging.join(&self.name), outbox.pickup.join(&self.name));
        if let Err(cause) = outbox.disk.rename(&from, &to) {
            return Err(Box::new((Fault::new("move a mail to", &outbox.pickup, cause), self)));
        }
        let Err(cause) = outbox.pickup_sync.sync() else {
            self.done = true;
            return Ok(());
        };
        match outbox.disk.rename(&to, &from) {
            // The SMTP service was faster: the mail is on its way.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.done = true;
                return Ok(());
            }
            // The account goes next, and a power cut must not leave its mail without it.
            Ok(()) => drop(outbox.pickup_sync.sync()),
            Err(_) => self.done = true,
        }
        Err(Box::new((Fault::new("make a mail durable in", &outbox.pickup, cause), self)))
    }

    /// Whether the mail is in the staging directory; otherwise it is in the pickup directory and
    /// could not be taken back, so its account must stay.
    pub fn is_here(&self) -> bool {
        !self.done
    }

    /// Leaves the mail where it is, for the sweep to decide on: what is known of its account is too
    /// little to delete it.
    pub fn leave(mut self) {
        self.done = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let path = self.outbox.staging.join(&self.name);
        if let Err(cause) = ignore_missing(self.outbox.disk.unlink(&path)) {
            let fault = Fault::new("delete a staged mail", &path, cause);
            crate::log::event(crate::log::Level::Error, "mail").field("fault", fault).emit();
        }
    }
}

fn foreign(path: &Path, cause: io::Error) -> Fault {
    Fault::new("take for a mail", path, cause).way_out("move it out of the staging directory")
}

/// The token that a staged mail's name tells, `None` for one that lettre named.
fn token_of(name: &OsStr) -> Option<TokenId> {
    TokenId::parse(name.to_str()?.strip_suffix(".eml")?)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The system's error inside lettre's, so that its kind and way out are not lost.
fn io_cause(error: io::Error) -> io::Error {
    let mut source = error.get_ref().map(|e| e as &(dyn std::error::Error + 'static));
    while let Some(inner) = source {
        if let Some(code) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        source = inner.source();
    }
    error
}
