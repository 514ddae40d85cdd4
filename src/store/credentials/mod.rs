//! The accounts of one tenant: a flat file that other programs read, changed under a lock that
//! other programs may take.
//!
//! `credentials`: a line for each account, `user:realm:ha1:disabled:role:attributes`. `disabled` is
//! `0` no, `1` until activated, `2` by the operator. Attributes are form-urlencoded: `name`,
//! `email`, `created`, `expires`, `activation` (SHA-256 of the token); unknown ones are kept. A line
//! that begins with `#` is a comment or dead space. Of two live lines with one name the last counts.
//!
//! Beside it: `credentials.lock` (empty; flock on it is the lock), `credentials.journal` (what the
//! batch under way changes in place), `credentials.damaged` (bytes that were no lines), and the
//! views.
//!
//! | change | steps, in this order, all under the lock |
//! |---|---|
//! | append | write the lines at the end; sync |
//! | enable | journal; byte → `0`; sync; append to the views; sync; empty the journal |
//! | disable | journal; view line → `#`; sync; byte → `2`; sync; empty the journal |
//! | remove | journal; view line → `#`; sync; first byte → `#`; sync; the rest → `#`; empty the journal |
//! | replace | journal; append the new line; sync; the old one → `#`; empty the journal |
//!
//! Not promised: that a power cut leaves every view complete. It may lack an account whose
//! activation was never answered; a start or a sweep makes it whole.

mod change;
mod committer;
mod core;
mod hold;
mod index;
mod journal;
pub mod line;
mod scan;
mod view;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use self::change::Change;
use self::committer::Committer;
use self::core::Core;
use self::hold::Writer;
use self::view::View;
use crate::account::Username;
use crate::disk::Disk;
use crate::error::Fault;
use crate::secret::TokenId;

pub use self::change::{Outcome, Setting};
pub use self::committer::Luggage;
pub use self::line::NewAccount;

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
    core: Arc<Mutex<Core>>,
    committer: Committer,
}

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
        let view = |name: &&str| View::new(disk.clone(), state.join(name), view_group);
        let views = views.iter().map(view).collect();
        let core = Arc::new(Mutex::new(Core::new(disk.clone(), &paths.credentials)));
        let writer = Writer::new(disk.clone(), paths.clone(), views);
        let committer = Committer::new(disk, paths.lock, core.clone(), writer, lock_wait, waiters);
        Self { core, committer }
    }

    /// Makes the files that are missing, finishes what a crash left, makes views anew that are not
    /// what the file says, and reads the whole file into the index. `lock_wait` does not bound it.
    pub fn open(&self) -> Result<(), Fault> {
        self.committer.submit_unbounded(Change::Reconcile).map(drop)
    }

    /// Makes the files of a new state directory, and costs one look at any other: for CGI, which
    /// reads nothing ahead.
    pub fn found(&self) -> Result<(), Fault> {
        let missing = self.core.lock().unwrap_or_else(PoisonError::into_inner).is_missing();
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
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.refresh()?;
        let found = core.find_token(token)?;
        let account = found.as_ref().and_then(|found| found.account());
        Ok(account.filter(|account| !account.is_expired(now)).map(|a| a.user.to_owned()))
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

    /// Removes `user`'s pending account where it expired by `now`.
    pub fn expire(&self, user: &Username, now: DateTime<Utc>) -> Result<Outcome, Fault> {
        Ok(self.committer.submit(Change::Expire { user: user.clone(), now }, ())?.0)
    }

    /// Does what an operator says.
    pub fn set(&self, user: &Username, to: Setting) -> Result<Outcome, Fault> {
        Ok(self.committer.submit(Change::Set { user: user.clone(), to }, ())?.0)
    }

    /// Finishes what a crash left and makes views anew that are not what the file says.
    pub fn reconcile(&self) -> Result<(), Fault> {
        self.committer.submit(Change::Reconcile, ()).map(drop)
    }
}
