//! `credentials.block`: what one holder of the lock tells the next.
//!
//! # On disk
//! One preallocated block of 4 KiB; a line of text at its beginning, overwritten in place and never
//! synced: what a process wrote survives its kill, and a full disk cannot stop it.
//!
//! `2 BOOT EPOCH STATE FLAGS SUM` and LF. BOOT is the kernel's id of this boot (`-` where it tells
//! none); EPOCH 16 hex digits, new whenever lines may stand elsewhere than they did; STATE the sum of
//! the credentials file's inode, length and times of change; FLAGS `d` or `-`, `s` or `-`; SUM the
//! first 8 bytes of SHA-256 over all before it.
//!
//! # What it means
//! - STATE does not fit: somebody else wrote the file since, or a holder was killed. It is synced
//!   before anything is decided, and a new epoch begins: every index is read anew.
//! - `d`, dirty: a holder began to change lines in place or views, and did not get to its end. Another
//!   BOOT says the same: a power cut came between.
//! - `s`, suspect: a sync failed and could not be undone. The kernel tells such an error once and
//!   then calls the pages clean, so the file is written anew before anybody relies on it.
//!
//! The kernel's clock for a file's times ticks every few milliseconds, so a holder sets the time of
//! its last change itself, to the nanosecond: what somebody else writes in the same tick bears
//! another time.
//!
//! # Not promised
//! That a change in place is noticed which is made without the lock while a holder writes, or within
//! the second on a filesystem that keeps times in whole seconds.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::disk::{Disk, Handle, Open, Stat};

/// The size of the file.
const SIZE: usize = 4096;
/// The longest line: 1 + 36 + 16 + 16 + 2 + 16 digits, five blanks and LF, and some room.
const LINE: usize = 128;

/// What the block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    boot: String,
    /// See the module's head.
    pub epoch: u64,
    state: u64,
    /// See the module's head.
    pub dirty: bool,
    /// See the module's head.
    pub suspect: bool,
}

impl Block {
    /// Of a new epoch, for a file of which nothing is known: whatever has to be looked at, will be.
    pub fn unknown(boot: &str) -> Self {
        Self { boot: boot.to_owned(), epoch: new_epoch(), state: 0, dirty: true, suspect: false }
    }

    /// Whether the file is as the last holder left it.
    pub fn fits(&self, stat: &Stat) -> bool {
        self.state == state_of(stat)
    }

    /// Whether it was written since the machine started.
    pub fn is_of_boot(&self, boot: &str) -> bool {
        self.boot == boot
    }

    /// Lines may stand elsewhere from now on.
    pub fn begin_epoch(&mut self) {
        self.epoch = new_epoch();
    }

    /// The file is left like this.
    pub fn seal(&mut self, boot: &str, stat: &Stat) {
        self.boot.replace_range(.., boot);
        self.state = state_of(stat);
    }

    fn text(&self) -> String {
        let Self { boot, epoch, state, dirty, suspect } = self;
        let (dirty, suspect) = (if *dirty { 'd' } else { '-' }, if *suspect { 's' } else { '-' });
        let text = format!("2 {boot} {epoch:016x} {state:016x} {dirty}{suspect}");
        format!("{text} {:016x}\n", sum(text.as_bytes()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let line = bytes.get(..memchr::memchr(b'\n', bytes)?)?;
        let (text, given) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let mut fields = text.split(' ');
        let mut field = || fields.next();
        let (version, boot, epoch, state, flags) =
            (field()?, field()?, field()?, field()?, field()?);
        (version == "2" && number(given)? == sum(text.as_bytes())).then_some(Self {
            boot: boot.to_owned(),
            epoch: number(epoch)?,
            state: number(state)?,
            dirty: flags.starts_with('d'),
            suspect: flags.ends_with('s'),
        })
    }
}

/// Random, not counted on: no process may take one for another after the block was deleted.
fn new_epoch() -> u64 {
    RandomState::new().hash_one(0)
}

/// A sum of what changes whenever somebody writes the file.
fn state_of(stat: &Stat) -> u64 {
    let Stat { ino, len, mtime, ctime, .. } = stat;
    sum(format!("{ino} {len} {mtime} {ctime}").as_bytes())
}

fn sum(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes).iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// The open block.
#[derive(Debug)]
pub struct BlockFile(Arc<dyn Handle>);

impl BlockFile {
    /// Opens it; makes it where it is missing. Call it under the lock.
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let handle = disk.open(path, Open::Create(0o600))?;
        if handle.stat()?.len < SIZE as u64 {
            handle.write_at(&[b' '; SIZE], 0)?;
            handle.sync()?;
        }
        Ok(Self(handle))
    }

    /// Opens one that is there, to read it; without the lock.
    pub fn find(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        Ok(Self(disk.open(path, Open::Read)?))
    }

    /// What it says; `None` where it says nothing that makes sense, as one does that is being
    /// written.
    pub fn read(&self) -> io::Result<Option<Block>> {
        let mut line = [0; LINE];
        let read = self.0.read_at(&mut line, 0)?;
        Ok(line.get(..read).and_then(Block::parse))
    }

    /// Says this from now on.
    pub fn write(&self, block: &Block) -> io::Result<()> {
        self.0.write_at(block.text().as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn what_was_written_reads_back_and_what_was_torn_says_nothing() {
        let dir = std::env::temp_dir().join(format!("codeb-block-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("credentials.block");
        let file = BlockFile::open(&RealDisk, &path).unwrap();
        assert_eq!(file.read().unwrap(), None);
        let boot = "x".repeat(36);
        let stat = RealDisk.stat(&path).unwrap();
        let mut block = Block::unknown(&boot);
        assert!(!block.fits(&stat));
        block.seal(&boot, &stat);
        for (dirty, suspect) in [(false, false), (true, false), (false, true), (true, true)] {
            let block = Block { dirty, suspect, ..block.clone() };
            assert!(block.text().len() <= LINE);
            file.write(&block).unwrap();
            assert_eq!(file.read().unwrap(), Some(block));
        }
        assert!(block.fits(&stat) && block.is_of_boot(&boot) && !block.is_of_boot("y"));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE as u64);
        RealDisk.open(&path, Open::Write).unwrap().write_at(b"?", 40).unwrap();
        assert_eq!(BlockFile::find(&RealDisk, &path).unwrap().read().unwrap(), None);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
