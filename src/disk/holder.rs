//! Who holds a lock, as far as Linux tells.

use std::path::Path;

use super::{Disk, RealDisk};

/// How often the table is read at most.
const TRIES: usize = 5;

/// The process that holds the flock on `path`, where `/proc/locks` names it. For a log line only:
/// the answer may be out of date when it arrives. The table is read in pieces, and a lock that is
/// given back meanwhile can hide another one: hence a few tries.
pub fn lock_holder(path: &Path) -> Option<u32> {
    let stat = RealDisk.stat(path).ok()?;
    let wanted = format!("{:02x}:{:02x}:{}", major(stat.dev), minor(stat.dev), stat.ino);
    (0..TRIES).find_map(|_| holder_of(&wanted))
}

fn holder_of(file: &str) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF"; a waiter's line has "->" behind "1:".
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, id, ..] if *id == file => pid.parse().ok(),
            _ => None,
        }
    })
}

fn major(dev: u64) -> u64 {
    nix::sys::stat::major(dev)
}

fn minor(dev: u64) -> u64 {
    nix::sys::stat::minor(dev)
}
