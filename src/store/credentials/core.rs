//! The credentials file as one process knows it: an open handle, and the index of its lines.
//!
//! The index is a hint that is brought up to date at every use: the path still stands for the open
//! file (which keeps its inode number from coming back), the last line that was read still stands
//! where it stood, and from there on new lines are read. What another hand changed before that line
//! shows under the lock (see [`super::seal`]).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::Table;
use super::journal::Journal;
use super::line::{Account, LINE_MAX, Line};
use super::scan;
use super::seal::Seal;
use crate::disk::{Disk, Handle, Open, Stat};
use crate::error::Fault;
use crate::log;
use crate::secret::TokenId;

/// How many of the last lines are remembered, to find back after the file was cut.
const MARKS: usize = 64;

/// See the module's head.
#[derive(Debug)]
pub struct Core {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    opened: Option<(Arc<dyn Handle>, Stat)>,
    names: Table,
    tokens: Table,
    marks: VecDeque<Mark>,
    damaged: Vec<(u64, u64)>,
    is_new: bool,
    journal: Option<Journal>,
    /// The one in which the file's first line was read.
    epoch: Option<u64>,
}

/// A line that was read: where, and what it said (its first [`LINE_MAX`] bytes).
#[derive(Debug)]
struct Mark {
    offset: u64,
    end: u64,
    text: Vec<u8>,
}

/// A line of the file, looked up and read.
#[derive(Debug)]
pub struct Found {
    /// Where it begins.
    pub offset: u64,
    bytes: Vec<u8>,
}

impl Found {
    /// The account in it.
    pub fn account(&self) -> Option<Account<'_>> {
        match Line::parse(&self.bytes) {
            Line::Account(account) => Some(account),
            _ => None,
        }
    }

    /// Its length, LF included.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64 + 1
    }
}

/// The file, as far as it consists of whole lines that are in the index.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The file.
    pub handle: Arc<dyn Handle>,
    /// Its inode number.
    pub inode: u64,
    /// Where its last whole line ends.
    pub end: u64,
    /// Its length.
    pub len: u64,
}

impl Core {
    /// For the file at `path`, which is opened at the first use.
    pub fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self {
            disk,
            path: path.to_owned(),
            opened: None,
            names: Table::new(),
            tokens: Table::new(),
            marks: VecDeque::new(),
            damaged: Vec::new(),
            is_new: false,
            journal: None,
            epoch: None,
        }
    }

    /// Whether no file stands there: the state directory is new.
    pub fn is_missing(&self) -> bool {
        let found = self.disk.stat(&self.path);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Brings the index up to date.
    pub fn refresh(&mut self) -> Result<Whole, Fault> {
        self.try_refresh().map_err(|cause| {
            let fault = Fault::new("read the accounts in", &self.path, cause);
            match fault.cause().kind() {
                io::ErrorKind::NotFound => fault.way_out(
                    "restore it from a backup; for a beginning without accounts create it empty",
                ),
                _ => fault,
            }
        })
    }

    fn try_refresh(&mut self) -> io::Result<Whole> {
        let stat = self.disk.stat(&self.path)?;
        let (handle, Stat { ino: inode, len, .. }) = match &self.opened {
            Some((handle, known)) if known.same_file(&stat) => (handle.clone(), stat),
            _ => {
                let handle = self.disk.open(&self.path, Open::Write)?;
                let stat = handle.stat()?;
                if self.opened.is_some() {
                    log::event(log::Level::Info, "credentials")
                        .field("outcome", "replaced")
                        .field("file", self.path.display())
                        .field("note", "read anew; compaction and careful editors do that")
                        .emit();
                }
                self.forget();
                self.opened = Some((handle.clone(), stat));
                self.is_new = true;
                (handle, stat)
            }
        };
        let from = self.find_back(handle.as_ref(), len)?;
        if from == 0 {
            // Before the first line is read: a later epoch then makes this index an old one.
            self.epoch = self.sealed().map(|seal| seal.epoch);
        }
        let end = if from < len { self.read_on(handle.as_ref(), from, len)? } else { from };
        Ok(Whole { handle, inode, end, len })
    }

    /// Whether the index is of the file that `stat` describes and was read in `epoch`; one of
    /// another epoch is forgotten.
    pub fn is_of(&mut self, stat: &Stat, epoch: u64) -> bool {
        let same_file = self.opened.as_ref().is_some_and(|(_, known)| known.same_file(stat));
        let same_epoch = self.epoch == Some(epoch);
        if !same_epoch {
            self.forget();
        }
        same_file && same_epoch
    }

    /// Whether what was not found is not there, as far as can be told without the lock: the file is
    /// as the last holder left it, and no other hand wrote it since the index was read.
    pub fn is_certain(&mut self) -> bool {
        let Ok(stat) = self.disk.stat(&self.path) else { return false };
        self.sealed().is_some_and(|seal| seal.is_of(&stat) && self.epoch == Some(seal.epoch))
    }

    /// Whether the journal says how a holder left the file, be it still so or not.
    pub fn is_sealed(&mut self) -> bool {
        self.sealed().is_some()
    }

    /// How the last holder left the file. A journal that cannot be read says nothing here; the next
    /// holder complains of it.
    fn sealed(&mut self) -> Option<Seal> {
        if self.journal.is_none() {
            self.journal =
                Journal::find(self.disk.as_ref(), &self.path.with_extension("journal")).ok();
        }
        self.journal.as_ref()?.seal().ok().flatten()
    }

    /// Whether the file was opened and [`Core::is_settled`] not called since: its directory entry
    /// may not be durable yet.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The file's directory entry is durable.
    pub fn is_settled(&mut self) {
        self.is_new = false;
    }

    /// Stretches (offset, length without LF) of bytes that are no lines, found since this was last
    /// asked.
    pub fn take_damaged(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.damaged)
    }

    /// Where the last line stands that is still what it was; forgets everything where none is.
    fn find_back(&mut self, handle: &dyn Handle, len: u64) -> io::Result<u64> {
        let knew = !self.marks.is_empty();
        while let Some(mark) = self.marks.back() {
            if mark.end <= len && mark.stands(handle)? {
                return Ok(mark.end);
            }
            self.marks.pop_back();
        }
        if knew {
            log::event(log::Level::Warn, "credentials")
                .field("outcome", "changed_in_place")
                .field("file", self.path.display())
                .field("note", "read anew; edit it under credentials.lock")
                .emit();
            self.forget();
        }
        Ok(0)
    }

    fn forget(&mut self) {
        self.names = Table::new();
        self.tokens = Table::new();
        self.marks.clear();
        self.damaged.clear();
        self.epoch = None;
    }

    fn read_on(&mut self, handle: &dyn Handle, from: u64, len: u64) -> io::Result<u64> {
        let (mut foreign, mut first_foreign) = (0_u64, 0);
        let end = scan::lines_before(handle, from, len, |offset, bytes| {
            match Line::parse(bytes) {
                Line::Account(account) => self.note(offset, &account),
                Line::Comment => {}
                Line::Damaged => self.damaged.push((offset, bytes.len() as u64)),
                Line::Foreign => {
                    first_foreign = if foreign == 0 { offset } else { first_foreign };
                    foreign += 1;
                }
            }
            let oldest = if self.marks.len() == MARKS { self.marks.pop_front() } else { None };
            let mut text = oldest.map(|mark| mark.text).unwrap_or_default();
            text.clear();
            text.extend_from_slice(&bytes[..bytes.len().min(LINE_MAX)]);
            self.marks.push_back(Mark { offset, end: offset + bytes.len() as u64 + 1, text });
            Ok(true)
        })?;
        if foreign > 0 {
            log::event(log::Level::Warn, "credentials")
                .field("outcome", "foreign_lines")
                .field("file", self.path.display())
                .field("lines", foreign)
                .field("first_at_byte", first_foreign)
                .field("note", "they are ignored; mend them or make them comments")
                .emit();
        }
        Ok(end)
    }

    fn note(&mut self, offset: u64, account: &Account<'_>) {
        self.names.insert(account.user.as_bytes(), offset);
        if account.is_pending() {
            account.tokens().for_each(|token| self.tokens.insert(token.bytes(), offset));
        }
    }

    /// The line that counts for `user`: the last live one. Call [`Core::refresh`] first.
    pub fn find_user(&self, user: &str) -> Result<Option<Found>, Fault> {
        Ok(self.find_all(user, 1)?.pop())
    }

    /// Every live line of `user`, the last in the file first, at most `most`.
    pub fn find_all(&self, user: &str, most: usize) -> Result<Vec<Found>, Fault> {
        let mut all = Vec::new();
        for offset in self.names.candidates(user.as_bytes()) {
            let found = self.line_at(offset)?;
            let is_his = |f: &Found| f.account().is_some_and(|account| account.user == user);
            all.extend(found.filter(is_his));
            if all.len() == most {
                break;
            }
        }
        Ok(all)
    }

    /// The pending line that `token` activates, where it is the one that counts for its name.
    pub fn find_token(&self, token: &TokenId) -> Result<Option<Found>, Fault> {
        for offset in self.tokens.candidates(token.bytes()) {
            let Some(found) = self.line_at(offset)? else { continue };
            let Some(account) = found.account() else { continue };
            if !account.is_pending() || !account.tokens().any(|id| id.same(token)) {
                continue;
            }
            let counts = self.find_user(account.user)?;
            return Ok(counts.filter(|counts| counts.offset == found.offset));
        }
        Ok(None)
    }

    /// Whether the live line at `offset` is the one that counts for `user`.
    pub fn counts(&self, user: &str, offset: u64) -> io::Result<bool> {
        let is_known = self.marks.back().is_some_and(|last| offset < last.end);
        if is_known && self.names.is_unique(user.as_bytes()) {
            return Ok(true);
        }
        let found = self.find_user(user).map_err(io::Error::other)?;
        Ok(found.is_some_and(|found| found.offset == offset))
    }

    fn line_at(&self, offset: u64) -> Result<Option<Found>, Fault> {
        let Some((handle, _)) = &self.opened else { return Ok(None) };
        let line = scan::line_at(handle.as_ref(), offset, LINE_MAX)
            .map_err(|cause| Fault::new("read an account in", &self.path, cause))?;
        Ok(line.map(|bytes| Found { offset, bytes }))
    }
}

impl Mark {
    /// Whether the line is still there: as it was, blanked, or with another `disabled` byte. More
    /// than one byte may not differ: after a failed write that was undone, the same name may stand
    /// in the same place with another token.
    fn stands(&self, handle: &dyn Handle) -> io::Result<bool> {
        // The byte before must end another line.
        let lead = usize::from(self.offset > 0);
        let mut bytes = vec![0; lead + (self.end - self.offset) as usize];
        let read = handle.read_at(&mut bytes, self.offset - lead as u64)?;
        let (before, now) = bytes.split_at(lead);
        let whole =
            read == bytes.len() && now.ends_with(b"\n") && before.iter().all(|&b| b == b'\n');
        let blanked = now.first() == Some(&b'#');
        Ok(whole && (blanked || differing(now, &self.text) <= 1))
    }
}

/// In how many bytes two texts differ, as far as the shorter one goes.
fn differing(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}
