//! The credentials file as one process knows it: an open handle, and the index of its lines.
//!
//! The index is a hint. Every answer from it is read again in the file; it is brought up to date at
//! every use, by reading the lines that were appended since. That is enough within one epoch (see
//! [`super::block`]), in which lines are only appended, flipped or killed where they stand; in
//! another one, or another file, everything is read anew.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Block, BlockFile};
use super::index::Table;
use super::line::{LINE_MAX, Line, Record};
use super::scan;
use crate::disk::{Disk, Handle, Open, Stat};
use crate::error::Fault;
use crate::log;
use crate::secret::TokenId;
use crate::store::accounts::Standing;

/// See the module's head.
#[derive(Debug)]
pub struct AccountsFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    opened: Option<(Arc<dyn Handle>, Stat)>,
    block: Option<BlockFile>,
    names: Table,
    tokens: Table,
    /// Where the last line ends that was read, and the epoch in which the first one was.
    end: u64,
    epoch: Option<u64>,
    damaged: VecDeque<Span>,
}

/// Bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

/// A line, looked up and read.
#[derive(Debug)]
pub struct LineRef {
    /// Where it begins.
    pub offset: u64,
    bytes: Vec<u8>,
}

impl LineRef {
    /// What is in it.
    pub fn record(&self) -> Option<Record<'_>> {
        match Line::parse(&self.bytes) {
            Line::Record(record) => Some(record),
            _ => None,
        }
    }

    /// Where it stands, LF included.
    pub fn span(&self) -> Span {
        Span { offset: self.offset, length: self.bytes.len() as u64 + 1 }
    }

    /// Its first byte.
    pub fn first(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(b'#')
    }

    /// What it says.
    pub fn standing(&self) -> Standing {
        self.record().and_then(|record| record.standing()).unwrap_or(Standing::Free)
    }
}

/// The file, as far as it consists of whole lines that are in the index.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The file.
    pub handle: Arc<dyn Handle>,
    /// What it is.
    pub stat: Stat,
    /// Where its last whole line ends.
    pub end: u64,
}

/// The fault of accounts that cannot be read.
pub fn read_fault(path: &Path, cause: io::Error) -> Fault {
    let is_missing = cause.kind() == io::ErrorKind::NotFound;
    let fault = Fault::new("read the accounts in", path, cause);
    match is_missing {
        true => fault
            .way_out("restore it from a backup; for a beginning without accounts create it empty"),
        false => fault,
    }
}

impl AccountsFile {
    /// For the file at `path`, which is opened at the first use.
    pub fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        let (names, tokens) = (Table::new(), Table::new());
        let path = path.to_owned();
        let (opened, block, epoch) = (None, None, None);
        Self { disk, path, opened, block, names, tokens, end: 0, epoch, damaged: VecDeque::new() }
    }

    /// Brings the index up to date.
    pub fn refresh(&mut self) -> Result<Snapshot, Fault> {
        self.try_refresh().map_err(|cause| read_fault(&self.path, cause))
    }

    fn try_refresh(&mut self) -> io::Result<Snapshot> {
        let stat = self.disk.stat(&self.path)?;
        let is_open = self.opened.as_ref().is_some_and(|(_, known)| known.same_file(&stat));
        let (handle, stat) = match &self.opened {
            Some((handle, _)) if is_open => (handle.clone(), stat),
            opened => {
                let handle = self.disk.open(&self.path, Open::Write)?;
                if opened.is_some() {
                    log::event(log::Level::Info, "credentials")
                        .field("outcome", "replaced")
                        .field("file", self.path.display())
                        .field("note", "read anew; compaction and careful editors do that")
                        .emit();
                }
                let stat = handle.stat()?;
                self.forget();
                self.opened = Some((handle.clone(), stat));
                (handle, stat)
            }
        };
        // What cannot be read is being written, or missing; whoever takes the lock finds out.
        let epoch = self.read_block().map(|block| block.epoch);
        if stat.len < self.end || epoch.is_some_and(|epoch| self.epoch.is_some_and(|e| e != epoch))
        {
            self.forget();
        }
        self.epoch = self.epoch.or(epoch);
        if self.end < stat.len {
            self.end = self.read_on(handle.as_ref(), stat.len)?;
        }
        Ok(Snapshot { handle, stat, end: self.end })
    }

    /// Whether the index is of the file that `stat` describes and was read in `epoch`; one of another
    /// epoch is forgotten. Call it under the lock.
    pub fn catch_up(&mut self, stat: &Stat, epoch: u64) -> bool {
        let same_file = self.opened.as_ref().is_some_and(|(_, known)| known.same_file(stat));
        let same_epoch = self.epoch == Some(epoch);
        if !same_epoch {
            self.forget();
        }
        same_file && same_epoch
    }

    /// Whether what is not in the index is not in the file, as far as can be told without the lock:
    /// the file is as the last holder left it, and the index as he left the file.
    pub fn is_certain(&mut self, snapshot: &Snapshot) -> bool {
        let epoch = self.epoch;
        self.read_block()
            .is_some_and(|block| block.fits(&snapshot.stat) && epoch == Some(block.epoch))
    }

    /// Whether the block tells in which epoch the file is: else whoever takes the lock begins one, and
    /// what was read before is read for nothing.
    pub fn is_sealed(&mut self) -> bool {
        self.read_block().is_some()
    }

    fn read_block(&mut self) -> Option<Block> {
        if self.block.is_none() {
            let path = self.path.with_extension("block");
            self.block = BlockFile::find(self.disk.as_ref(), &path).ok();
        }
        self.block.as_ref()?.read().ok().flatten()
    }

    /// Bytes that are no lines, found since this was last asked.
    pub fn take_damaged(&mut self) -> VecDeque<Span> {
        std::mem::take(&mut self.damaged)
    }

    fn forget(&mut self) {
        self.names = Table::new();
        self.tokens = Table::new();
        self.damaged.clear();
        self.end = 0;
        self.epoch = None;
    }

    fn read_on(&mut self, handle: &dyn Handle, len: u64) -> io::Result<u64> {
        let (mut foreign, mut first_foreign) = (0_u64, 0);
        let Self { names, tokens, damaged, .. } = self;
        let end = scan::lines_before(handle, self.end, len, |offset, bytes| {
            match Line::parse(bytes) {
                Line::Record(record) => {
                    names.insert(record.user.as_bytes(), offset);
                    record.tokens().for_each(|token| tokens.insert(token.bytes(), offset));
                }
                Line::Comment => {}
                Line::Damaged => damaged.push_back(Span { offset, length: bytes.len() as u64 }),
                Line::Foreign => {
                    first_foreign = if foreign == 0 { offset } else { first_foreign };
                    foreign += 1;
                }
            }
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

    /// The line that counts for `user`: the last live one. Call [`AccountsFile::refresh`] first.
    pub fn find_user(&self, user: &str) -> Result<Option<LineRef>, Fault> {
        Ok(self.live_lines(user, 1)?.pop())
    }

    /// The live lines of `user`, the last in the file first, at most `most`.
    pub fn live_lines(&self, user: &str, most: usize) -> Result<Vec<LineRef>, Fault> {
        let mut all = Vec::new();
        for offset in self.names.candidates(user.as_bytes()) {
            let line = self.line_at(offset)?;
            all.extend(line.filter(|line| line.record().is_some_and(|r| r.user == user)));
            if all.len() == most {
                break;
            }
        }
        Ok(all)
    }

    /// The line that `token` is about, where it is the one that counts for its name.
    pub fn find_token(&self, token: &TokenId) -> Result<Option<LineRef>, Fault> {
        for offset in self.tokens.candidates(token.bytes()) {
            let Some(line) = self.line_at(offset)? else { continue };
            let Some(record) = line.record() else { continue };
            if record.tokens().any(|id| id.same(token)) {
                let counts = self.find_user(record.user)?;
                return Ok(counts.filter(|counts| counts.offset == line.offset));
            }
        }
        Ok(None)
    }

    /// Whether the live line at `offset` is the one that counts for `user`.
    pub fn counts(&self, user: &str, offset: u64) -> io::Result<bool> {
        if offset < self.end && self.names.is_unique(user.as_bytes()) {
            return Ok(true);
        }
        let found = self.find_user(user).map_err(io::Error::other)?;
        Ok(found.is_some_and(|found| found.offset == offset))
    }

    fn line_at(&self, offset: u64) -> Result<Option<LineRef>, Fault> {
        let Some((handle, _)) = &self.opened else { return Ok(None) };
        let line = scan::line_at(handle.as_ref(), offset, LINE_MAX)
            .map_err(|cause| Fault::new("read an account in", &self.path, cause))?;
        Ok(line.map(|bytes| LineRef { offset, bytes }))
    }
}
