//! What an operator wants to know of the accounts' file, read from it without the lock.

use std::io;
use std::path::Path;

use super::line::Line;
use super::scan;
use crate::disk::{Disk, Open};

/// Accounts whose HA1 is of another realm than the one that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRealms {
    /// How many.
    pub count: u64,
    /// Of how many accounts.
    pub of: u64,
    /// The name of the first.
    pub user: String,
    /// Its realm.
    pub realm: String,
}

/// The live lines of the file at `path` that bear another realm than `realm`; `None` where none does.
/// Reads to the end, a part at a time.
pub fn other_realms(disk: &dyn Disk, path: &Path, realm: &str) -> io::Result<Option<OtherRealms>> {
    let file = disk.open(path, Open::Read)?;
    let (mut of, mut found) = (0, None::<OtherRealms>);
    scan::lines(file.as_ref(), 0, |_, bytes| {
        let Line::Record(record) = Line::parse(bytes) else { return Ok(true) };
        of += 1;
        if record.realm != realm {
            let first = || OtherRealms {
                count: 0,
                of: 0,
                user: record.user.to_owned(),
                realm: record.realm.to_owned(),
            };
            found.get_or_insert_with(first).count += 1;
        }
        Ok(true)
    })?;
    Ok(found.map(|found| OtherRealms { of, ..found }))
}
