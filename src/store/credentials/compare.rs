//! Whether the views are what the file says, found out without the lock.
//!
//! File and views are read while others change them, so a difference may be one that a batch is just
//! about to close. Lines fall into buckets; for each a sum tells whether those of file and view are
//! the same. A view differs when one bucket does every time that it is looked at. A line that a
//! later one of its name outranks is a difference as well: a batch takes it out, a power cut may
//! bring it back.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::time::Duration;

use super::line::{ENABLED, Line};
use super::{Credentials, dead, scan};
use crate::disk::Open;
use crate::error::Fault;

/// So many that the accounts which change while the files are read fall into few of them.
const BUCKETS: usize = 64 * 1024;
/// How often a bucket has to differ.
const LOOKS: usize = 3;
/// Between two looks: longer than a batch usually takes.
const PAUSE: Duration = Duration::from_millis(50);

impl Credentials {
    /// Whether a view is missing or not what the file says, or a line outranked, as far as can be
    /// told without the lock.
    pub(super) fn views_differ(&self) -> Result<bool, Fault> {
        for view in &self.views {
            let mut differing = self.differing(view)?;
            for _ in 1..LOOKS {
                if differing.is_empty() {
                    break;
                }
                std::thread::sleep(PAUSE);
                let again = self.differing(view)?;
                differing.retain(|bucket| again.contains(bucket));
            }
            if !differing.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The buckets in which the view at `path` is not what the file says.
    fn differing(&self, path: &std::path::Path) -> Result<HashSet<usize>, Fault> {
        let mut sums = vec![0_u64; BUCKETS];
        let mut outranked = false;
        let file = self.lock_core().refresh()?.handle;
        scan::lines(file.as_ref(), 0, |offset, bytes| {
            let Line::Account(account) = Line::parse(bytes) else { return Ok(true) };
            if !self.lock_core().counts(account.user, offset)? {
                outranked = true;
            } else if account.disabled == ENABLED {
                let ha1 = account.ha1.to_ascii_lowercase();
                let line = [account.user, ":", account.realm, ":", &ha1];
                add(&mut sums, line.map(str::as_bytes), u64::wrapping_add);
            }
            Ok(true)
        })
        .map_err(|cause| Fault::new("read the accounts in", &self.credentials, cause))?;
        let read = self.disk.open(path, Open::Read).and_then(|view| {
            scan::lines(view.as_ref(), 0, |_, line| {
                if !dead::is_dead_in_view(line) {
                    add(&mut sums, [line], u64::wrapping_sub);
                }
                Ok(true)
            })
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::from([0])),
            read => read.map_err(|cause| Fault::new("read", path, cause))?,
        };
        let differing = sums.iter().enumerate().filter(|(_, sum)| **sum != 0).map(|(at, _)| at);
        Ok(differing.chain(outranked.then_some(BUCKETS)).collect())
    }
}

/// Adds the hash of a line to the sum of its bucket, or takes it off. The line may come in pieces.
fn add<const N: usize>(sums: &mut [u64], line: [&[u8]; N], combine: fn(u64, u64) -> u64) {
    let mut hasher = DefaultHasher::new();
    line.iter().for_each(|piece| hasher.write(piece));
    let hash = hasher.finish();
    if let Some(sum) = sums.get_mut(hash as usize % BUCKETS) {
        *sum = combine(*sum, hash);
    }
}
