//! How the holder of the lock tells that another hand changed the accounts.
//!
//! At the end of a hold the file's inode, length and time of change are written into the last bytes
//! of the journal's block. A holder that finds the file otherwise knows that somebody wrote who is
//! none of us (or that a holder died): it draws a new generation, and every index that was read
//! under another one is read anew. An append would be seen without it; a line that was changed in
//! place, at equal length and in the middle of the file, would not.
//!
//! Kernels before 6.13 take the time of change from a clock that ticks every few milliseconds. A
//! holder therefore sets it, to the nanosecond, before it writes the stamp: whoever writes within
//! the same tick still leaves another time.

use std::path::Path;

use super::journal::{checksum, padded};
use crate::disk::{Disk, Open, Stat};

/// The part of the journal's block that is the stamp's.
pub const SIZE: usize = 128;
/// Where it begins.
pub const OFFSET: u64 = 4096 - SIZE as u64;

/// What the last holder left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Changes, to a random number, whenever a foreign change was noticed.
    pub generation: u64,
    inode: u64,
    len: u64,
    mtime: i128,
}

impl Stamp {
    /// The file as `stat` has it.
    pub fn of(generation: u64, stat: &Stat) -> Self {
        Self { generation, inode: stat.ino, len: stat.len, mtime: stat.mtime }
    }

    /// Whether `stat` is of the file as it was left.
    pub fn is_of(&self, stat: &Stat) -> bool {
        *self == Self::of(self.generation, stat)
    }

    /// The bytes on disk: `GENERATION INODE LENGTH MTIME CHECKSUM`, LF, spaces.
    pub fn encode(&self) -> [u8; SIZE] {
        let Self { generation, inode, len, mtime } = self;
        let text = format!("{generation:016x} {inode} {len} {mtime}");
        padded(&format!("{text} {}\n", checksum(text.as_bytes())))
    }

    /// What `encode` wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(bytes).ok()?.split_once('\n')?.0;
        let (text, sum) = line.rsplit_once(' ')?;
        let mut fields = text.split(' ');
        let stamp = Self {
            generation: u64::from_str_radix(fields.next()?, 16).ok()?,
            inode: fields.next()?.parse().ok()?,
            len: fields.next()?.parse().ok()?,
            mtime: fields.next()?.parse().ok()?,
        };
        (sum == checksum(text.as_bytes()) && fields.next().is_none()).then_some(stamp)
    }
}

/// The generation by the journal at `path`, for whoever begins to read the accounts without the
/// lock. `None` where there is none that can be read, and then the holder has the last word.
pub fn generation(disk: &dyn Disk, path: &Path) -> Option<u64> {
    let mut bytes = [0; SIZE];
    disk.open(path, Open::Read).ok()?.read_at(&mut bytes, OFFSET).ok()?;
    Stamp::decode(&bytes).map(|stamp| stamp.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_a_damaged_one_is_none() {
        let (inode, len) = (u64::MAX, u64::MAX);
        let stamp = Stamp { generation: u64::MAX, inode, len, mtime: i128::from(i64::MAX) };
        let mut bytes = stamp.encode();
        assert_eq!(Stamp::decode(&bytes), Some(stamp));
        bytes[3] ^= 1;
        assert_eq!(Stamp::decode(&bytes), None);
        assert_eq!(Stamp::decode(&[b' '; SIZE]), None);
    }
}
