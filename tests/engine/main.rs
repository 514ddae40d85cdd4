//! What becomes of the files: crashes, kills, faults of the disk, edits by others, races, restarts;
//! and the parsers and stores by themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it cannot go on")]

#[path = "../fuzz/cases/mod.rs"]
mod cases;
mod crash;
mod crash_matrix;
mod disk_faults;
mod edits;
mod faults;
mod kills;
mod memory;
mod one_sick_tenant;
mod out;
mod port;
mod properties;
mod races;
mod regressions;
mod restart;
mod stores;
mod upkeep;
