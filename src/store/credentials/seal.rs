//! How the holders of the lock tell that another hand than theirs wrote the credentials file.
//!
//! At the end of every hold our writers note in the journal's last bytes in what state they leave
//! the file (inode, length, times of change), as a sum, and an *epoch*. Whoever takes the lock and
//! finds the file in another state begins a new epoch: an index that was read in another one is
//! forgotten, in every process.
//!
//! The kernel's clock for a file's times ticks every few milliseconds, so a writer sets the time of
//! its last change itself, to the nanosecond: what somebody else writes in the same tick bears
//! another time.
//!
//! Nothing of it is synced: a seal that is lost or old makes everybody read once more.
//!
//! Not promised: that a change in place is noticed which is made without the lock while a holder
//! writes, or within the second on a filesystem that keeps times in whole seconds.

use std::hash::{BuildHasher, RandomState};

use sha2::{Digest, Sha256};

use crate::disk::Stat;

/// Bytes that a seal takes at most.
pub const SIZE: usize = 64;

/// See the module's head. On disk: both numbers in 16 hex digits, a blank between, LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Another one since the file was last found changed.
    pub epoch: u64,
    state: u64,
}

impl Seal {
    /// Of a new epoch.
    pub fn new(stat: &Stat) -> Self {
        // Random, not counted on: no process may take one for another after the journal was deleted.
        Self { epoch: RandomState::new().hash_one(stat.mtime), state: state(stat) }
    }

    /// Of the same epoch, for the file as it is now.
    pub fn again(self, stat: &Stat) -> Self {
        Self { state: state(stat), ..self }
    }

    /// Whether the file is as it was left.
    pub fn is_of(&self, stat: &Stat) -> bool {
        self.state == state(stat)
    }

    /// What stands on disk.
    pub fn text(&self) -> String {
        format!("{:016x} {:016x}\n", self.epoch, self.state)
    }

    /// What [`Seal::text`] made.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (epoch, rest) = text.split_once(' ')?;
        let (state, _) = rest.split_once('\n')?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        Some(Self { epoch: number(epoch)?, state: number(state)? })
    }
}

/// A sum of what changes whenever somebody writes.
fn state(stat: &Stat) -> u64 {
    let Stat { ino, len, mtime, ctime, .. } = stat;
    let sum = Sha256::digest(format!("{ino} {len} {mtime} {ctime}"));
    sum.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
