//! `credentials.journal`: what the batch under way changes in place, so that the next holder of the
//! lock can finish it.
//!
//! On disk: one preallocated block of 4 KiB, overwritten in place and not synced (what a process
//! wrote survives its kill, and a full disk cannot stop it). Its last bytes are the stamp's (see
//! `stamp`). `0` as its first byte: nothing to do.
//! Else lines: `1 CHECKSUM`, `file INODE`, `suspect` where a failed sync could not be undone, then
//! `USER OFFSET LENGTH` for each account; offset and length are of the line that goes, 0 0 where
//! none does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::stamp::{self, Stamp};
use crate::disk::{Disk, Handle, Open};
use crate::error::Fault;

/// The size of the block, and of what is the journal's of it.
const BLOCK: usize = 4096;
const TEXT: usize = BLOCK - stamp::SIZE;
/// Accounts that fit whatever their names: 64 bytes of name, 40 of digits, three separators.
pub const MOST: usize = (TEXT - 128) / (64 + 40 + 3);

/// An account that a batch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub user: String,
    /// Where the line begins that goes.
    pub offset: u64,
    /// The length of that line, LF included; 0 where none goes.
    pub length: u64,
}

/// What the journal says.
#[derive(Debug, PartialEq, Eq)]
pub enum Pending {
    /// The last batch was finished.
    Nothing,
    /// These accounts have to be made whole.
    Accounts {
        /// The inode of the credentials file that the offsets belong to.
        inode: u64,
        /// Whether a failed sync could not be undone.
        suspect: bool,
        /// The accounts.
        entries: Vec<Entry>,
    },
    /// It does not say anything sensible: all views have to be made anew.
    Unreadable,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    handle: Arc<dyn Handle>,
}

impl Journal {
    /// Opens it; makes it where it is missing. Call it under the lock.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, Fault> {
        let open = || {
            let handle = disk.open(path, Open::Create(0o600))?;
            if handle.stat()?.len < BLOCK as u64 {
                let mut block = [b' '; BLOCK];
                block[0] = b'0';
                handle.write_at(&block, 0)?;
                handle.sync()?;
            }
            Ok(handle)
        };
        let handle = open().map_err(|cause| Fault::new("open", path, cause))?;
        Ok(Self { path: path.to_owned(), handle })
    }

    /// What the last holder left to do.
    pub fn read(&self) -> Result<Pending, Fault> {
        let fault = |cause| Fault::new("read", &self.path, cause);
        let mut first = [0];
        self.handle.read_at(&mut first, 0).map_err(fault)?;
        if first == *b"0" {
            return Ok(Pending::Nothing);
        }
        let mut block = [0; TEXT];
        let read = self.handle.read_at(&mut block, 0).map_err(fault)?;
        Ok(parse(&block[..read]).unwrap_or(Pending::Unreadable))
    }

    /// Says what is about to change; at most [`MOST`] entries.
    pub fn write(&self, inode: u64, suspect: bool, entries: &[Entry]) -> Result<(), Fault> {
        let mut text = format!("file {inode}\n");
        if suspect {
            text.push_str("suspect\n");
        }
        for Entry { user, offset, length } in entries {
            text.push_str(&format!("{user} {offset} {length}\n"));
        }
        let text = format!("1 {}\n{text}", checksum(text.as_bytes()));
        self.overwrite(&padded::<TEXT>(&text))
    }

    /// Says that there is nothing to do any more.
    pub fn clear(&self) -> Result<(), Fault> {
        self.overwrite(b"0")
    }

    /// How the last holder left the accounts; `None` where that cannot be told.
    pub fn stamp(&self) -> Result<Option<Stamp>, Fault> {
        let mut bytes = [0; stamp::SIZE];
        let read = self.handle.read_at(&mut bytes, stamp::OFFSET);
        read.map_err(|cause| Fault::new("read", &self.path, cause))?;
        Ok(Stamp::decode(&bytes))
    }

    /// Says how the accounts are left.
    pub fn put_stamp(&self, stamp: &Stamp) -> io::Result<()> {
        self.handle.write_at(&stamp.encode(), stamp::OFFSET)
    }

    /// Makes what it says durable, so that no power cut brings an older text back.
    pub fn sync(&self) -> Result<(), Fault> {
        self.handle.sync().map_err(|cause| Fault::new("sync", &self.path, cause))
    }

    fn overwrite(&self, bytes: &[u8]) -> Result<(), Fault> {
        let written = self.handle.write_at(bytes, 0);
        written.map_err(|cause| Fault::new("write", &self.path, cause))
    }
}

fn parse(block: &[u8]) -> Option<Pending> {
    let text = std::str::from_utf8(block).ok()?.trim_end_matches(' ');
    let (head, rest) = text.split_once('\n')?;
    if head.strip_prefix("1 ")? != checksum(rest.as_bytes()) {
        return None;
    }
    let mut lines = rest.lines().peekable();
    let inode = lines.next()?.strip_prefix("file ")?.parse().ok()?;
    let suspect = lines.next_if(|&line| line == "suspect").is_some();
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let user = fields.next()?.to_owned();
        let mut number = || fields.next()?.parse().ok();
        Some(Entry { user, offset: number()?, length: number()? })
    };
    let entries = lines.map(entry).collect::<Option<Vec<_>>>()?;
    Some(Pending::Accounts { inode, suspect, entries })
}

/// A text and the spaces that fill its place up; what is too long for it is cut off, and its checksum
/// with it.
pub(super) fn padded<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    let mut bytes = [b' '; SIZE];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

pub(super) fn checksum(text: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(text)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn what_was_written_reads_back_and_what_was_torn_is_unreadable() {
        let dir = std::env::temp_dir().join(format!("codeb-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("credentials.journal");
        let journal = Journal::open(&RealDisk, &path).unwrap();
        assert_eq!(journal.read().unwrap(), Pending::Nothing);
        let entry = |n: u64| Entry { user: "x".repeat(64), offset: u64::MAX - n, length: u64::MAX };
        let entries: Vec<_> = (0..MOST as u64).map(entry).collect();
        let stamp = Stamp::of(7, &RealDisk.stat(&path).unwrap());
        journal.put_stamp(&stamp).unwrap();
        journal.write(u64::MAX, true, &entries).unwrap();
        assert_eq!(journal.stamp().unwrap(), Some(stamp), "both have room");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), BLOCK as u64);
        let written = Pending::Accounts { inode: u64::MAX, suspect: true, entries };
        assert_eq!(journal.read().unwrap(), written);
        RealDisk.open(&path, Open::Write).unwrap().write_at(b"?", 100).unwrap();
        assert_eq!(journal.read().unwrap(), Pending::Unreadable);
        journal.clear().unwrap();
        assert_eq!(journal.read().unwrap(), Pending::Nothing);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
