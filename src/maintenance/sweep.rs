//! The sweep, which decides on what killed requests left, and compaction.
//!
//! | the sweep finds | and |
//! |---|---|
//! | a staged mail that no request holds, its account pending | makes the account durable, then releases the mail (S2 → S3) |
//! | such a mail without a pending account | deletes it (S1 → S0) |
//! | a pending account past its time | removes it: the name is free |
//! | a spool file whose claims all ran out | empties it |
//! | a view that is not what the file says | makes it anew |
//! | what a killed compaction or rewrite left | deletes it |
//! | a directory, link, pipe or foreign file named like a mail | leaves it and says so |
//!
//! On disk: `sweep.lock` in the state directory; flock on it is held for a sweep or a compaction, so
//! that one process at a time is at it, and its time of change is when the last sweep ended. Either
//! can be killed at any moment and run again.

use std::io;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use crate::account::Purpose;
use crate::disk::{self, Locked, Open};
use crate::error::Fault;
use crate::secret::TokenId;
use crate::store::accounts::{Compacted, Failed, Key, Standing, Updated};
use crate::store::outbox::NotSwept;
use crate::store::rules;
use crate::tenant::Tenant;

/// How long a compaction waits for a sweep to end.
const TURN_WAIT: Duration = Duration::from_secs(30);

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Report {
    /// Mails that were moved to the pickup directory.
    pub released: usize,
    /// Staged mails without an account that were deleted.
    pub deleted: usize,
    /// Pending accounts whose time was over.
    pub expired: usize,
    /// Spool files that were emptied.
    pub emptied: usize,
    /// Unfinished copies that were deleted.
    pub cleared: usize,
    /// Whether a view was made anew.
    pub views_rebuilt: bool,
    /// What is named like a staged mail and is none of ours: left where it is.
    pub foreign: Vec<Fault>,
    /// What could not be done.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether there was anything to do.
    pub fn is_empty(&self) -> bool {
        let counts = [self.released, self.deleted, self.expired, self.emptied, self.cleared];
        let is_quiet = self.foreign.is_empty() && self.faults.is_empty();
        counts == [0; 5] && !self.views_rebuilt && is_quiet
    }

    fn keep<T: Default>(&mut self, result: Result<T, Fault>) -> T {
        result.unwrap_or_else(|fault| {
            self.faults.push(fault);
            T::default()
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { released, deleted, expired, emptied, cleared, views_rebuilt, .. } = self;
        write!(
            f,
            "mails released {released}, mails deleted {deleted}, accounts expired {expired}, \
             spool files emptied {emptied}, unfinished copies deleted {cleared}, views {}",
            if *views_rebuilt { "made anew" } else { "as they should be" }
        )
    }
}

/// Sweeps a tenant's files; `None` where another process is at it. An error where the accounts cannot
/// be had at all; what one step cannot do is in the report and keeps no other step from its work.
pub fn sweep(tenant: &Tenant, now: DateTime<Utc>) -> Result<Option<Report>, Fault> {
    sweep_if_due(tenant, now, Duration::ZERO)
}

/// Sweeps, unless another process does or did within the time `within`.
pub fn sweep_if_due(
    tenant: &Tenant,
    now: DateTime<Utc>,
    within: Duration,
) -> Result<Option<Report>, Fault> {
    let Some(turn) = take_turn(tenant, Duration::ZERO)? else { return Ok(None) };
    if !within.is_zero() && swept_within(&turn, now, within) {
        return Ok(None);
    }
    let mut report = Report::default();
    let maintained = tenant.accounts.maintain(now)?;
    report.expired = maintained.expired;
    report.cleared = maintained.cleared;
    report.views_rebuilt = maintained.views_rebuilt;
    report.faults.extend(maintained.faults);
    decide_on_mails(tenant, now, &mut report);
    let now_ms = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    report.emptied = report.keep(tenant.claims.prune(now_ms));
    // Only how often sweeps run depends on it.
    let _ = turn.handle().write_at(b"\n", 0);
    Ok(Some(report))
}

/// Decides on every staged mail that no request holds.
fn decide_on_mails(tenant: &Tenant, now: DateTime<Utc>, report: &mut Report) {
    let orphans = match tenant.outbox.orphans(SystemTime::from(now)) {
        Ok(orphans) => orphans,
        Err(fault) => return report.faults.push(fault),
    };
    for orphan in orphans {
        let (token, staged) = match orphan {
            Ok(orphan) => orphan,
            Err(NotSwept::Foreign(fault)) => {
                report.foreign.push(fault);
                continue;
            }
            Err(NotSwept::Failed(fault)) => {
                report.faults.push(fault);
                continue;
            }
        };
        match is_promised(tenant, token, now) {
            Ok(true) => match staged.release() {
                Ok(()) => report.released += 1,
                Err(failed) => {
                    let (fault, staged) = *failed;
                    staged.leave();
                    report.faults.push(fault);
                }
            },
            Ok(false) => {
                drop(staged);
                report.deleted += 1;
            }
            Err(fault) => {
                staged.leave();
                // The next mail would wait for the same lock or disk.
                return report.faults.push(fault);
            }
        }
    }
}

/// Whether `token` activates an account, which is durable then, whoever wrote it.
fn is_promised(tenant: &Tenant, token: TokenId, now: DateTime<Utc>) -> Result<bool, Fault> {
    let key = Key::Token(Purpose::Activation, token);
    match tenant.accounts.update(key, rules::confirm()).map_err(Failed::fault)? {
        Updated::Left(Standing::Is(account)) => Ok(rules::is_activated_by(&account, &token, now)),
        _ => Ok(false),
    }
}

/// Rewrites the accounts' file and the views without their dead space; what became of each.
pub fn compact(tenant: &Tenant) -> Result<Vec<Compacted>, Fault> {
    let Some(_turn) = take_turn(tenant, TURN_WAIT)? else {
        let path = lock_path(tenant);
        let fault = Fault::new("wait for the lock on", &path, io::ErrorKind::TimedOut.into());
        let holder = disk::lock_holder(&path).map(|pid| format!(", process {pid},"));
        let holder = holder.unwrap_or_default();
        return Err(
            fault.way_out(format!("a sweep or compaction{holder} is under way: wait for it"))
        );
    };
    tenant.accounts.compact()
}

/// The right to sweep or compact, within `wait`; `None` where somebody else has it.
fn take_turn(tenant: &Tenant, wait: Duration) -> Result<Option<Locked>, Fault> {
    let path = lock_path(tenant);
    let fault = |cause| Fault::new("lock", &path, cause);
    let handle = tenant.disk.open(&path, Open::Create(0o600)).map_err(fault)?;
    match disk::lock_within(&handle, wait) {
        Ok(locked) => Ok(Some(locked)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

fn lock_path(tenant: &Tenant) -> std::path::PathBuf {
    tenant.config.state.join("sweep.lock")
}

/// Whether a sweep ended within the time `within` before `now`. An end that lies in the future was
/// written before the clock was stepped back, and does not count.
fn swept_within(turn: &Locked, now: DateTime<Utc>, within: Duration) -> bool {
    let Ok(stat) = turn.handle().stat() else { return false };
    let now = i128::from(now.timestamp_millis()) * 1_000_000;
    stat.len > 0 && (0..within.as_nanos() as i128).contains(&(now - stat.mtime))
}
