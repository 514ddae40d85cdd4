//! `credentials.journal`: what the batch under way changes in place, so that the next holder of the
//! lock can finish it.
//!
//! On disk: one preallocated block of 4 KiB, overwritten in place and not synced (what a process
//! wrote survives its kill, and a full disk cannot stop it). `0` as its first byte: nothing to do.
//! Else lines: `1 CHECKSUM`, `file INODE`, `suspect` where a failed sync could not be undone, then
//! `USER OFFSET LENGTH` for each account; offset and length are of the line that goes, 0 0 where
//! none does.
//!
//! The last [`seal::SIZE`] bytes of the block are apart from that: the seal of the credentials file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::seal::{self, Seal};
use crate::disk::{Disk, Handle, Open};
use crate::error::Fault;

/// The size of the block.
const BLOCK: usize = 4096;
/// Where the seal begins.
const TEXT: usize = BLOCK - seal::SIZE;
/// Accounts that fit whatever their names: 64 bytes of name, 40 of digits, three separators; the
/// lines before them and the seal fit into the 128.
pub const MOST: usize = (BLOCK - 128) / (64 + 40 + 3);

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

    /// Opens one that is there, to read it; without the lock.
    pub fn find(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), handle: disk.open(path, Open::Read)? })
    }

    /// How the last holder left the credentials file, where that is known.
    pub fn seal(&self) -> io::Result<Option<Seal>> {
        let mut text = [0; seal::SIZE];
        let read = self.handle.read_at(&mut text, TEXT as u64)?;
        Ok(Seal::parse(&text[..read]))
    }

    /// Says how the credentials file is left.
    pub fn set_seal(&self, seal: &Seal) -> Result<(), Fault> {
        let written = self.handle.write_at(seal.text().as_bytes(), TEXT as u64);
        written.map_err(|cause| Fault::new("write", &self.path, cause))
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
        let mut block = format!("1 {}\n{text}", checksum(text.as_bytes())).into_bytes();
        block.resize(TEXT, b' ');
        self.overwrite(&block)
    }

    /// Says that there is nothing to do any more.
    pub fn clear(&self) -> Result<(), Fault> {
        self.overwrite(b"0")
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

fn checksum(text: &[u8]) -> String {
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
        let seal = Seal::new(&RealDisk.stat(&path).unwrap());
        assert_eq!(journal.seal().unwrap(), None);
        journal.set_seal(&seal).unwrap();
        journal.write(u64::MAX, true, &entries).unwrap();
        assert_eq!(journal.seal().unwrap(), Some(seal));
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
