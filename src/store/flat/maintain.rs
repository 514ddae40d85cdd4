//! What keeps the files in order while requests go on: recovery at a start, expiry, views, compaction.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::compact::{self, Draft};
use super::dead;
use super::file::read_fault;
use super::lead::Shared;
use super::line::{Line, is_killed_record};
use super::plan::{Plan, Planned};
use super::queue::{Work, lock};
use super::transaction::Transaction;
use super::{FlatAccounts, scan};
use crate::account::Username;
use crate::disk::{self, Open};
use crate::error::Fault;
use crate::log;
use crate::store::accounts::{Compacted, Failed, Key, Maintained, Updated};
use crate::store::rules;
use crate::store::views::htdigest::{Sum, line_of_record, sum_of};

/// Accounts that are expired in one go.
const EXPIRED_AT_ONCE: usize = 64;
/// How often a compaction begins anew because somebody edited the file meanwhile.
const COMPACTIONS: usize = 3;
/// How long a compaction waits for the lock.
const COMPACTION_WAIT: Duration = Duration::from_secs(60);
/// How often views and file are looked at without the lock before they are under it: a difference may
/// be one that a batch is just about to close.
const LOOKS: usize = 3;
/// Between two looks: longer than a batch usually takes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl FlatAccounts {
    /// Does something with the files under the lock.
    fn with_files<T: Send + Sync + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let done = Arc::new(OnceLock::new());
        let result = done.clone();
        let work = Work::Maintain(Box::new(move |transaction| {
            let _ = result.set(work(transaction)?);
            Ok(())
        }));
        self.submit(work, wait).map_err(Failed::fault)?;
        Ok(Arc::into_inner(done).and_then(OnceLock::into_inner))
    }

    /// Makes what is missing, finishes what a crash left, makes views anew that are not what the file
    /// says, and reads the whole file into the index. `lock_wait` does not bound it; who sits on the
    /// lock for longer is named in the log.
    pub(super) fn recover(&self) -> Result<(), Fault> {
        let clear = |transaction: &mut Transaction<'_>| {
            transaction.clear_leftovers()?;
            Ok(transaction.was_put_right)
        };
        match self.with_files(self.lock_wait, clear) {
            // The views were looked at on the way.
            Ok(Some(true)) => return Ok(()),
            Err(fault) if fault.cause().kind() != io::ErrorKind::TimedOut => return Err(fault),
            Err(fault) => {
                let holder = disk::lock_holder(&self.shared.paths.lock);
                // Else it is a long file that takes its time.
                if holder.is_some_and(|pid| pid != std::process::id()) {
                    log::event(log::Level::Warn, "start_waits").field("fault", fault).emit();
                }
            }
            Ok(_) => {}
        }
        self.rebuild_stale_views(Duration::MAX).map(drop)
    }

    /// What a sweep does with the accounts.
    pub(super) fn put_in_order(&self, now: DateTime<Utc>) -> Result<Maintained, Fault> {
        let mut done = Maintained::default();
        self.with_files(self.lock_wait, |transaction| transaction.clear_leftovers())?;
        let mut faults = Vec::new();
        let mut keep = |fault| faults.push(fault);
        done.expired = self.expire_all(now).map_err(&mut keep).unwrap_or(0);
        let rebuilt = self.rebuild_stale_views(self.lock_wait).map_err(&mut keep);
        done.views_rebuilt = rebuilt.unwrap_or(false);
        self.shared.show_view_changes(now).map_err(&mut keep).unwrap_or(());
        done.cleared = self.shared.clear_drafts().map_err(&mut keep).unwrap_or(0);
        done.faults = faults;
        Ok(done)
    }

    /// Removes every pending account that expired by `now`, and resting names; how many there were.
    /// The file is read without the lock.
    fn expire_all(&self, now: DateTime<Utc>) -> Result<usize, Fault> {
        let file = lock(&self.shared.accounts).refresh()?.handle;
        let (mut from, mut expired) = (0, 0);
        loop {
            let mut users = Vec::new();
            from = scan::lines(file.as_ref(), from, |_, bytes| {
                if users.len() == EXPIRED_AT_ONCE {
                    return Ok(false);
                }
                if let Line::Record(record) = Line::parse(bytes)
                    && record.is_expired(now)
                {
                    users.extend(Username::parse(record.user));
                }
                Ok(true)
            })
            .map_err(|cause| read_fault(&self.shared.paths.credentials, cause))?;
            let is_last = users.len() < EXPIRED_AT_ONCE;
            let expire = move |transaction: &mut Transaction<'_>| transaction.expire(users, now);
            expired += self.with_files(self.lock_wait, expire)?.unwrap_or(0);
            if is_last {
                return Ok(expired);
            }
        }
    }

    /// Makes views anew that are not what the file says; whether any was. Reads everything, but takes
    /// the lock for that only where a view seems to differ.
    fn rebuild_stale_views(&self, wait: Duration) -> Result<bool, Fault> {
        self.with_files(wait, |_| Ok(()))?;
        for look in 1..=LOOKS {
            if !self.shared.views_differ()? {
                return Ok(false);
            }
            if look < LOOKS {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        let rebuilt = self.with_files(wait, |transaction| transaction.rebuild_stale_views())?;
        Ok(rebuilt.is_some_and(|rebuilt| rebuilt > 0))
    }

    /// Rewrites the file and its views without their dead space. Each is left as it is where it has
    /// none.
    pub(super) fn compact_files(&self) -> Result<Vec<Compacted>, Fault> {
        let files = std::iter::once(&self.shared.paths.credentials).chain(&self.shared.views);
        files.map(|path| self.compact_file(path)).collect()
    }

    fn compact_file(&self, path: &Path) -> Result<Compacted, Fault> {
        let fault = |cause| Fault::new("compact", path, cause);
        for _ in 0..COMPACTIONS {
            let is_dead = match path == self.shared.paths.credentials {
                true => |line: &[u8]| dead::is_dead(line) || is_killed_record(line),
                false => dead::is_dead,
            };
            let draft = match Draft::copy(&self.shared.disk, path, is_dead) {
                // It was cut or replaced under our eyes.
                Err(error) if is_shape(&error) => continue,
                draft => draft.map_err(fault)?,
            };
            if draft.drops_nothing() {
                let (path, before) = (path.to_owned(), draft.len());
                return Ok(Compacted { path, before, after: before, pause: Duration::ZERO });
            }
            let put = move |transaction: &mut Transaction<'_>| transaction.put_in_place(draft);
            if let Some(Some(compacted)) = self.with_files(COMPACTION_WAIT, put)? {
                return Ok(compacted);
            }
        }
        let fault = fault(io::Error::other("somebody edited it meanwhile"));
        Err(fault.way_out("run it again once nobody edits the file"))
    }
}

impl Shared {
    /// Whether a view is missing or not what the file says, or a line overridden, as far as can be
    /// told without the lock.
    fn views_differ(&self) -> Result<bool, Fault> {
        let file = lock(&self.accounts).refresh()?.handle;
        let mut wanted = Sum::default();
        let mut overridden = false;
        scan::lines(file.as_ref(), 0, |offset, bytes| {
            let Line::Record(record) = Line::parse(bytes) else { return Ok(true) };
            if !lock(&self.accounts).counts(record.user, offset)? {
                overridden = true;
            } else if record.is_enabled() {
                wanted.add(line_of_record(&record).trim_end().as_bytes());
            }
            Ok(true)
        })
        .map_err(|cause| read_fault(&self.paths.credentials, cause))?;
        for path in &self.views {
            let sum = self.disk.open(path, Open::Read).and_then(|view| sum_of(view.as_ref()));
            match sum {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Ok(sum) if sum == wanted => {}
                sum => {
                    sum.map_err(|cause| Fault::new("read", path, cause))?;
                    return Ok(true);
                }
            }
        }
        Ok(overridden)
    }

    /// Makes the last change of each view plain to readers that look for another whole second, as
    /// Squid does: two changes within one look like the first. Once that second is over, the time of
    /// change becomes `now`, without a fraction, which tells every process that it was done.
    pub(super) fn show_view_changes(&self, now: DateTime<Utc>) -> Result<(), Fault> {
        const NANOS: i128 = 1_000_000_000;
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        for path in &self.views {
            let show = || match self.disk.stat(path)?.mtime {
                mtime if mtime % NANOS == 0 || mtime / NANOS >= i128::from(seconds) => Ok(()),
                _ => self.disk.open(path, Open::Write)?.set_mtime(Duration::from_secs(seconds)),
            };
            show().map_err(|cause| Fault::new("set the time of change of", path, cause))?;
        }
        Ok(())
    }

    /// Deletes what killed compactions left; how many files.
    fn clear_drafts(&self) -> Result<usize, Fault> {
        let mut cleared = 0;
        for path in std::iter::once(&self.paths.credentials).chain(&self.views) {
            let leftover = compact::clear_leftover(self.disk.as_ref(), path);
            let leftover = leftover
                .map_err(|cause| Fault::new("delete the unfinished copy of", path, cause))?;
            cleared += usize::from(leftover);
        }
        Ok(cleared)
    }
}

impl Transaction<'_> {
    /// Removes those of these accounts that expired by `now`; how many there were.
    fn expire(&mut self, users: Vec<Username>, now: DateTime<Utc>) -> Result<usize, Fault> {
        let (mut plan, mut removed) = (Plan::default(), 0);
        let accounts = lock(self.accounts);
        for user in users {
            let planned = plan.add(&accounts, &Key::User(user), &mut rules::expire(now))?;
            removed += usize::from(matches!(planned, Planned::Now(Updated::Removed(_))));
        }
        drop(accounts);
        self.write(&plan).map_err(Failed::fault)?;
        Ok(removed)
    }

    /// Puts a copy without dead space in the place of its file; `None` where that is another file by
    /// now, or one of another shape.
    fn put_in_place(&mut self, draft: Draft) -> Result<Option<Compacted>, Fault> {
        let path = draft.path().to_owned();
        let fault = |cause| Fault::new("compact", &path, cause);
        if let Some(view) = self.files.views.iter_mut().find(|view| view.path() == path) {
            let (file, end) = view.whole().map_err(fault)?;
            let placed = draft.put_in_place(&file, end).map_err(fault)?;
            return Ok(placed.map(|(compacted, _)| compacted));
        }
        let placed = draft.put_in_place(&self.snapshot.handle, self.snapshot.end);
        let Some((compacted, copy)) = placed.map_err(fault)? else { return Ok(None) };
        // The index is of the old file: everybody reads the new one before the next change.
        self.block.begin_epoch();
        self.snapshot.handle = copy;
        Ok(Some(compacted))
    }
}

/// Whether an error says that a file is not what it was a moment ago.
fn is_shape(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}
