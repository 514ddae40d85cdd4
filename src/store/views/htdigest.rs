//! A view: a file of the enabled accounts for another program to read.
//!
//! On disk: `user:realm:ha1` and LF for each (what Apache calls `AuthUserFile`). A line that is
//! taken out dies where it stands (see `dead`): a reader that keeps the file open sees no line move.
//! New lines are appended. Whatever follows the last LF is cut off before. Every other line, a comment
//! too, is somebody else's, and the view is made anew without it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::account::Account;
use crate::disk::{self, Disk, Handle, Open};
use crate::error::Fault;
use crate::store::flat::line::Record;
use crate::store::flat::{dead, scan};

/// Mode of a view: its group is the web server's.
const MODE: u32 = 0o640;
/// Bytes gathered for one write when a view is made anew.
const CHUNK: usize = 256 * 1024;

/// One view.
#[derive(Debug)]
pub struct View {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    group: Option<u32>,
    opened: Option<Arc<dyn Handle>>,
}

/// The line of an account, LF included.
pub fn line_of(account: &Account) -> String {
    format!("{}:{}:{}\n", account.user, account.realm, account.ha1.reveal())
}

/// The line of a record of the credentials file, which may have been written by an operator.
pub fn line_of_record(record: &Record<'_>) -> String {
    format!("{}:{}:{}\n", record.user, record.realm, record.ha1.to_ascii_lowercase())
}

/// A sum over lines that does not depend on their order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sum(u64, u64);

impl Sum {
    /// Adds a line, LF not included.
    pub fn add(&mut self, line: &[u8]) {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
        self.1 += 1;
    }
}

/// The sum of a view's lines that are not dead.
pub fn sum_of(view: &dyn Handle) -> io::Result<Sum> {
    let mut sum = Sum::default();
    scan::lines(view, 0, |_, line| {
        if !dead::is_dead_in_view(line) {
            sum.add(line);
        }
        Ok(true)
    })?;
    Ok(sum)
}

impl View {
    /// For the file at `path`, readable for `group`.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf, group: Option<u32>) -> Self {
        Self { disk, path, group, opened: None }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is there.
    pub fn exists(&self) -> Result<bool, Fault> {
        match self.disk.stat(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.fault("look for", error)),
        }
    }

    /// Appends whole lines, durably; on an error the file is as it was.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Fault> {
        self.try_append(lines).map_err(|cause| self.fault("append to", cause))
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let handle = self.open()?;
        let len = handle.stat()?.len;
        let end = scan::whole_lines_end(handle.as_ref(), len)?;
        if end < len {
            handle.set_len(end)?;
        }
        let written = handle.write_at(lines, end).and_then(|()| handle.sync());
        if written.is_err() {
            // A sync that fails here as well leaves a line too many in memory alone; the block
            // stays dirty, and the next holder looks at the view.
            let _ = handle.set_len(end).and_then(|()| handle.sync());
        }
        written
    }

    /// Takes the lines of `users` out, durably; whether there were any.
    pub fn kill(&mut self, users: &HashSet<String>) -> Result<bool, Fault> {
        self.try_kill(users).map_err(|cause| self.fault("take accounts out of", cause))
    }

    fn try_kill(&mut self, users: &HashSet<String>) -> io::Result<bool> {
        let handle = self.open()?;
        let mut gone = Vec::new();
        scan::lines(handle.as_ref(), 0, |offset, line| {
            if name_of(line).is_some_and(|name| users.contains(name)) {
                gone.push((offset, line.to_owned()));
            }
            Ok(true)
        })?;
        if gone.is_empty() {
            return Ok(false);
        }
        for (offset, line) in &gone {
            handle.write_at(b"#", offset + dead::first_blow(line) as u64)?;
        }
        // A power cut may tear the next write, and then each half of it needs this one.
        handle.sync()?;
        for (offset, line) in &gone {
            handle.write_at(&dead::in_view(line), *offset)?;
        }
        handle.sync()?;
        Ok(true)
    }

    /// The sum of its lines that are not dead.
    pub fn sum(&mut self) -> Result<Sum, Fault> {
        let sum = self.open().and_then(|handle| sum_of(handle.as_ref()));
        sum.map_err(|cause| self.fault("read", cause))
    }

    /// The file, and where its last whole line ends.
    pub fn whole(&mut self) -> io::Result<(Arc<dyn Handle>, u64)> {
        let handle = self.open()?;
        let end = scan::whole_lines_end(handle.as_ref(), handle.stat()?.len)?;
        Ok((handle, end))
    }

    /// Gives it to its group, where it was made before that was configured.
    pub fn give_to_group(&self) -> Result<(), Fault> {
        let Some(gid) = self.group else { return Ok(()) };
        let give = || match self.disk.stat(&self.path)?.gid == gid {
            true => Ok(()),
            false => self.disk.open(&self.path, Open::Write)?.set_group(gid),
        };
        give().map_err(|cause| {
            let fault = self.fault("give to view_group", cause);
            fault.way_out("make the service's user a member of that group")
        })
    }

    /// Deletes what a killed process left of a rebuild. Call it under the lock.
    pub fn clear_leftover(&self) -> io::Result<()> {
        disk::unlink_if_there(self.disk.as_ref(), &beside(&self.path))
    }

    /// Begins to make it anew, beside it.
    pub fn rebuild(&self) -> Result<Draft, Fault> {
        let make = || {
            let handle = self.disk.open(&beside(&self.path), Open::Create(MODE))?;
            handle.set_len(0)?;
            handle.set_mode(MODE)?;
            if let Some(gid) = self.group {
                handle.set_group(gid)?;
            }
            Ok(Draft { handle, buffer: Vec::new(), end: 0 })
        };
        make().map_err(|cause| self.fault("rebuild", cause))
    }

    /// Puts what was made anew in its place, durably.
    pub fn put_in_place(&mut self, mut draft: Draft) -> Result<(), Fault> {
        let mut put = || {
            draft.flush()?;
            draft.handle.sync()?;
            self.disk.rename(&beside(&self.path), &self.path)?;
            self.path.parent().map_or(Ok(()), |state| self.disk.sync_dir(state))
        };
        let put = put().map_err(|cause| Fault::new("rebuild", &self.path, cause));
        self.opened = None;
        put
    }

    /// The file, opened anew where the path stands for another one by now.
    fn open(&mut self) -> io::Result<Arc<dyn Handle>> {
        let stat = self.disk.stat(&self.path)?;
        if let Some(handle) = &self.opened
            && handle.stat()?.same_file(&stat)
        {
            return Ok(handle.clone());
        }
        let handle = self.disk.open(&self.path, Open::Write)?;
        self.opened = Some(handle.clone());
        Ok(handle)
    }

    fn fault(&self, doing: &'static str, cause: io::Error) -> Fault {
        Fault::new(doing, &self.path, cause)
    }
}

/// A view on its way.
#[derive(Debug)]
pub struct Draft {
    handle: Arc<dyn Handle>,
    buffer: Vec<u8>,
    end: u64,
}

impl Draft {
    /// Adds a line, LF included.
    pub fn add(&mut self, line: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(line.as_bytes());
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.handle.write_at(&self.buffer, self.end)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Where a view is written before it takes the place of the one at `path`, under the lock.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The user name that a line begins with.
fn name_of(line: &[u8]) -> Option<&str> {
    let end = line.iter().position(|&b| b == b':')?;
    std::str::from_utf8(&line[..end]).ok()
}
