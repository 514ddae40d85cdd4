//! The accounts of one tenant: a flat file that other programs read, changed under a lock that
//! other programs may take.
//!
//! `credentials`: a line for each account, `user:realm:ha1:disabled:role:attributes`. `disabled` is
//! `0` no, `1` until activated, `2` by the operator. Attributes are form-urlencoded: `name`,
//! `email`, `created`, `expires`, `activation` (SHA-256 of the token; of the last two, a comma between,
//! after a resend), `lang` (of the mails), `mailed` (when the mails of the last day were made, after a
//! resend); unknown ones are kept. A line that begins with `#` is a comment or dead space. Of two live lines with one name the last counts.
//!
//! Beside it: `credentials.lock` (empty; flock on it is the lock), `credentials.journal` (what the
//! batch under way changes in place, and a seal that shows whether anybody else wrote the accounts
//! since), `credentials.damaged` (bytes that were no lines), and the views.
//!
//! | change | steps, in this order, all under the lock |
//! |---|---|
//! | append | write the lines at the end; sync |
//! | enable | journal; byte → `0`; sync; append to the views; sync; empty the journal |
//! | disable | journal; view line dies; byte → `2`; sync; empty the journal |
//! | remove | journal; view line dies; first byte → `#`; sync; the rest → `#`; empty the journal |
//! | replace | journal; append the new line; sync; the old one → `#`; empty the journal |
//! | compact | copy without the lock; under it carry over what changed; sync; rename; sync of the directory |
//!
//! A line of a view dies in two steps: a byte of its realm → `#`, sync; the rest → dead (see `dead`),
//! sync. The second write may be torn anywhere: the line is whole or useless to every reader at every
//! instant. What a crash leaves of it, the next start or sweep finds, and makes the view anew.
//!
//! Not promised: that a power cut leaves every view complete. It may lack an account whose
//! activation was never answered; a start or a sweep makes it whole.

mod audit;
mod change;
mod committer;
mod compact;
mod compare;
mod core;
mod dead;
mod hold;
mod index;
mod job;
mod journal;
pub mod line;
mod mailing;
mod recover;
mod scan;
mod seal;
mod thread;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use self::change::Change;
use self::committer::Committer;
use self::compact::Draft;
use self::core::Core;
use self::hold::Writer;
use self::line::Line;
use self::view::View;
use crate::account::Username;
use crate::disk::{self, Disk, Open};
use crate::error::Fault;
use crate::log;
use crate::secret::TokenId;

pub use self::audit::{OtherRealms, other_realms};
pub use self::change::{Outcome, Setting};
pub use self::compact::Compacted;
pub use self::job::Luggage;
pub use self::line::NewAccount;
pub use self::mailing::{AskedBy, Pending};

/// Where the files are.
#[derive(Debug, Clone)]
struct Paths {
    state: PathBuf,
    credentials: PathBuf,
    lock: PathBuf,
    journal: PathBuf,
    damaged: PathBuf,
}

/// The accounts of one tenant.
#[derive(Debug)]
pub struct Credentials {
    disk: Arc<dyn Disk>,
    credentials: PathBuf,
    views: Vec<PathBuf>,
    core: Arc<Mutex<Core>>,
    committer: Committer,
}

/// Accounts that are expired in one batch: little enough to leave the journal room for requests.
const EXPIRED_AT_ONCE: usize = 16;
/// How often a compaction begins anew because somebody edited the file meanwhile.
const COMPACTIONS: usize = 3;
/// How long a compaction waits for the lock and the disk.
const COMPACTION_WAIT: Duration = Duration::from_secs(60);

/// Why no account was made.
#[derive(Debug)]
pub enum NotMade {
    /// The name belongs to somebody.
    Taken,
    /// Something of ours failed.
    Fault(Fault),
}

impl Credentials {
    /// The accounts in the directory `state`. `views` are file names in it, readable for
    /// `view_group`; `lock_wait` is how long a caller waits for the lock and the disk, and at most
    /// `waiters` callers do while the lock does not come.
    pub fn new(
        disk: Arc<dyn Disk>,
        state: &Path,
        views: &[&str],
        view_group: Option<u32>,
        lock_wait: Duration,
        waiters: usize,
    ) -> Self {
        let paths = Paths {
            state: state.to_owned(),
            credentials: state.join("credentials"),
            lock: state.join("credentials.lock"),
            journal: state.join("credentials.journal"),
            damaged: state.join("credentials.damaged"),
        };
        let view_paths: Vec<_> = views.iter().map(|name| state.join(name)).collect();
        let view = |path: &PathBuf| View::new(disk.clone(), path.clone(), view_group);
        let views = view_paths.iter().map(view).collect();
        let credentials = paths.credentials.clone();
        let core = Arc::new(Mutex::new(Core::new(disk.clone(), &paths.credentials)));
        let writer = Writer::new(disk.clone(), paths.clone(), views);
        let (lock, of_core) = (paths.lock, core.clone());
        let committer = Committer::new(disk.clone(), lock, of_core, writer, lock_wait, waiters);
        Self { disk, credentials, views: view_paths, core, committer }
    }

    /// Makes the files that are missing, finishes what a crash left, makes views anew that are not
    /// what the file says, and reads the whole file into the index. `lock_wait` does not bound it;
    /// who sits on the lock for longer is named in the log.
    pub fn open(&self) -> Result<(), Fault> {
        if let Err(fault) = self.settle() {
            if fault.cause().kind() != io::ErrorKind::TimedOut {
                return Err(fault);
            }
            let holder = disk::lock_holder(&self.credentials.with_extension("lock"));
            // Else it is a long file that takes its time.
            if holder.is_some_and(|pid| pid != std::process::id()) {
                log::event(log::Level::Warn, "start_waits").field("fault", fault).emit();
            }
        }
        self.reconcile_within(Duration::MAX).map(drop)
    }

    /// Makes the files of a new state directory, and costs one look at any other: for CGI, which
    /// reads nothing ahead.
    pub fn found(&self) -> Result<(), Fault> {
        let missing = self.lock_core().is_missing();
        if missing { self.open() } else { Ok(()) }
    }

    /// Whether `user` is certainly taken at `now`. A hint that spares work: `false` may turn out
    /// wrong under the lock.
    pub fn is_taken(&self, user: &Username, now: DateTime<Utc>) -> Result<bool, Fault> {
        let Ok(mut core) = self.core.try_lock() else { return Ok(false) };
        core.refresh()?;
        let found = core.find_user(user.as_str())?;
        Ok(found.is_some_and(|f| f.account().is_some_and(|account| !account.is_expired(now))))
    }

    /// Whether `token` activates an account at `now`, and whose.
    pub fn find_pending(
        &self,
        token: &TokenId,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, Fault> {
        let mut core = self.lock_core();
        core.refresh()?;
        if let Some(found) = core.find_token(token)? {
            let account = found.account().filter(|account| !account.is_expired(now));
            return Ok(account.map(|account| account.user.to_owned()));
        }
        if core.is_certain() {
            return Ok(None);
        }
        drop(core);
        // Somebody writes at this moment, or wrote where nobody saw it.
        let change = Change::Confirm { token: *token, now };
        match self.committer.submit(change, ())?.0 {
            Outcome::Done(user) => Ok(Some(user)),
            _ => Ok(None),
        }
    }

    /// Appends a pending account. `luggage` comes back with the account, or is dropped once the
    /// account is known to be gone: at once, or by the committer where it had to take the line back.
    pub fn create<L: Luggage>(&self, account: &NewAccount<'_>, luggage: L) -> Result<L, NotMade> {
        let change = Change::Create {
            user: account.user.clone(),
            line: account.line(),
            token: account.token,
            now: account.created,
        };
        match self.committer.submit(change, luggage).map_err(NotMade::Fault)? {
            (Outcome::Done(_), luggage) => Ok(luggage),
            _ => Err(NotMade::Taken),
        }
    }

    /// Enables the account of `token`; its name, or `None` where the token activates none at `now`.
    pub fn activate(&self, token: TokenId, now: DateTime<Utc>) -> Result<Option<String>, Fault> {
        if self.find_pending(&token, now)?.is_none() {
            return Ok(None);
        }
        match self.committer.submit(Change::Activate { token, now }, ())?.0 {
            Outcome::Done(user) => Ok(Some(user)),
            _ => Ok(None),
        }
    }

    /// Takes back an account that was just made. `luggage` is dropped once it is gone, and left where
    /// it is when that failed.
    pub fn withdraw<L: Luggage>(
        &self,
        user: &Username,
        token: TokenId,
        luggage: L,
    ) -> Result<(), Fault> {
        self.committer.submit(Change::Withdraw { user: user.clone(), token }, luggage).map(drop)
    }

    /// What a further mail to `user` needs, where one may be made at `now`.
    pub fn find_mailable(
        &self,
        user: &Username,
        by: &AskedBy,
        now: DateTime<Utc>,
    ) -> Result<Option<Pending>, Fault> {
        let mut core = self.lock_core();
        core.refresh()?;
        let mut found = core.find_user(user.as_str())?;
        if found.is_none() && !core.is_certain() {
            drop(core);
            self.settle()?;
            core = self.lock_core();
            core.refresh()?;
            found = core.find_user(user.as_str())?;
        }
        let account = found.as_ref().and_then(|found| found.account());
        Ok(account.and_then(|account| Pending::of(&account, by, now)))
    }

    /// Lets `token` activate `user`'s pending account, beside the token of the mail before; the
    /// luggage comes back where that was done. `None` where no mail may be made (any more).
    pub fn remail<L: Luggage>(
        &self,
        user: &Username,
        by: AskedBy,
        token: TokenId,
        now: DateTime<Utc>,
        luggage: L,
    ) -> Result<Option<L>, Fault> {
        let change = Change::Remail { user: user.clone(), by, token, now };
        match self.committer.submit(change, luggage)? {
            (Outcome::Done(_), luggage) => Ok(Some(luggage)),
            _ => Ok(None),
        }
    }

    /// Undoes [`Credentials::remail`], where `before` is what [`Credentials::find_mailable`] found:
    /// the mail could not be sent. `luggage` is dropped once that is done, else left.
    pub fn unmail<L: Luggage>(
        &self,
        user: &Username,
        token: TokenId,
        before: &Pending,
        luggage: L,
    ) -> Result<(), Fault> {
        let before = before.before.clone();
        let change = Change::Unmail { user: user.clone(), token, before };
        self.committer.submit(change, luggage).map(drop)
    }

    /// Removes `user`'s pending account where it expired by `now`.
    pub fn expire(&self, user: &Username, now: DateTime<Utc>) -> Result<Outcome, Fault> {
        Ok(self.committer.submit(Change::Expire { user: user.clone(), now }, ())?.0)
    }

    /// Does what an operator says.
    pub fn set(&self, user: &Username, to: Setting) -> Result<Outcome, Fault> {
        Ok(self.committer.submit(Change::Set { user: user.clone(), to }, ())?.0)
    }

    /// Finishes what a crash left and makes views anew that are not what the file says; whether any
    /// was. Reads everything, but takes the lock for that only where a view seems to differ.
    pub fn reconcile(&self) -> Result<bool, Fault> {
        self.reconcile_within(self.committer.lock_wait())
    }

    fn reconcile_within(&self, wait: Duration) -> Result<bool, Fault> {
        self.committer.submit_within(Change::Settle, wait)?;
        if !self.views_differ()? {
            return Ok(false);
        }
        let outcome = self.committer.submit_within(Change::Reconcile, wait)?;
        Ok(matches!(outcome, Outcome::Done(_)))
    }

    /// Finishes what a crash left: of the last batch, and of files that were being written beside
    /// others.
    pub fn settle(&self) -> Result<(), Fault> {
        self.committer.submit(Change::Settle, ()).map(drop)
    }

    /// Whether `token` activates an account at `now`; the account is durable then, whoever wrote it.
    pub fn confirm(&self, token: TokenId, now: DateTime<Utc>) -> Result<bool, Fault> {
        let (outcome, ()) = self.committer.submit(Change::Confirm { token, now }, ())?;
        Ok(matches!(outcome, Outcome::Done(_)))
    }

    /// Removes every pending account that expired by `now`; how many there were. The file is read
    /// without the lock, a batch at a time.
    pub fn expire_all(&self, now: DateTime<Utc>) -> Result<usize, Fault> {
        let file = self.lock_core().refresh()?.handle;
        let (mut from, mut expired) = (0, 0);
        loop {
            let mut batch = Vec::new();
            from = scan::lines(file.as_ref(), from, |_, bytes| {
                if batch.len() == EXPIRED_AT_ONCE {
                    return Ok(false);
                }
                if let Line::Account(account) = Line::parse(bytes)
                    && account.is_expired(now)
                    && let Ok(user) = Username::parse(account.user)
                {
                    batch.push(Change::Expire { user, now });
                }
                Ok(true)
            })
            .map_err(|cause| Fault::new("read the accounts in", &self.credentials, cause))?;
            let is_last = batch.len() < EXPIRED_AT_ONCE;
            let outcomes = self.committer.submit_all(batch)?;
            expired += outcomes.iter().filter(|o| matches!(o, Outcome::Done(_))).count();
            if is_last {
                return Ok(expired);
            }
        }
    }

    /// Rewrites the file and its views without their dead space while requests go on. Each is left
    /// as it is where it has none.
    pub fn compact(&self) -> Result<Vec<Compacted>, Fault> {
        self.settle()?;
        let files = std::iter::once(&self.credentials).chain(&self.views);
        files.map(|path| self.compact_file(path)).collect()
    }

    fn compact_file(&self, path: &Path) -> Result<Compacted, Fault> {
        let fault = |cause| Fault::new("compact", path, cause);
        for _ in 0..COMPACTIONS {
            let draft = match Draft::copy(&self.disk, path) {
                // It was cut or replaced under our eyes.
                Err(error) if is_shape(&error) => continue,
                draft => Arc::new(draft.map_err(fault)?),
            };
            if draft.is_in_vain() {
                let (path, before) = (path.to_owned(), draft.len());
                return Ok(Compacted { path, before, after: before, pause: Duration::ZERO });
            }
            self.committer.submit_within(Change::Compact(draft.clone()), COMPACTION_WAIT)?;
            if let Some(outcome) = draft.outcome() {
                return Ok(outcome.clone());
            }
        }
        let fault = fault(io::Error::other("somebody edited it meanwhile"));
        Err(fault.way_out("run it again once nobody edits the file"))
    }

    /// Makes the last change of each view plain to readers that look for another whole second, as
    /// Squid does: two changes within one look like the first. Once that second is over, the time of
    /// change becomes `now`, without a fraction, which tells every process that it was done.
    pub fn show_view_changes(&self, now: DateTime<Utc>) -> Result<(), Fault> {
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
    pub fn clear_drafts(&self) -> Result<usize, Fault> {
        let mut cleared = 0;
        for path in std::iter::once(&self.credentials).chain(&self.views) {
            let leftover = compact::clear_leftover(self.disk.as_ref(), path);
            let leftover = leftover
                .map_err(|cause| Fault::new("delete the unfinished copy of", path, cause))?;
            cleared += usize::from(leftover);
        }
        Ok(cleared)
    }

    fn lock_core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that a file is not what it was a moment ago.
fn is_shape(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}
