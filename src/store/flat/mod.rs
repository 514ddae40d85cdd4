//! The accounts of one tenant in a flat file that other programs read, changed under a lock that other
//! programs may take.
//!
//! # On disk, in the state directory
//! | file | what it is |
//! |---|---|
//! | `credentials` | a line for each account; see [`mod@line`] |
//! | `credentials.lock` | empty; flock on it is the lock; never renamed |
//! | `credentials.block` | what one holder of the lock tells the next; see `block` |
//! | `credentials.damaged` | bytes that were no lines |
//! | `credentials.journal` | a directory: versions before this one fail on it instead of working on |
//! | `spool/captcha.spent`, `spool/rate` | what is counted; see `slots` |
//!
//! # A line's life
//! An account is the last live line of its name. Its `disabled` byte changes in place; otherwise a
//! byte of the file only ever becomes `#`. Every change is one of [`super::rules`]' decisions on the
//! way through `queue` (who takes the lock), `plan` (what to write) and `transaction` (in which
//! order it becomes durable); `recover` puts right what a crash left, `compact` drops dead space.
//!
//! # Not promised
//! One state directory belongs to one machine: flock and the boot id do not cross a network
//! filesystem.

mod audit;
mod block;
mod claims;
mod compact;
pub(super) mod dead;
mod file;
mod index;
mod lead;
pub mod line;
mod maintain;
mod places;
mod plan;
mod queue;
mod recover;
pub(super) mod scan;
mod slots;
mod transaction;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::audit::{OtherRealms, other_realms};
pub use self::claims::FlatClaims;
use self::lead::{Shared, or_exit};
use self::line::Line;
use self::queue::{Outcome, Work, lock};
pub use self::slots::NO_DIRECTORY;
use crate::account::{Account, Purpose, Username};
use crate::disk::Disk;
use crate::error::Fault;
use crate::secret::TokenId;
use crate::store::accounts::{
    Accounts, Compacted, Decide, Failed, Key, Maintained, SignedUp, Standing, Updated, Wish,
};
use crate::store::claims::{Claims, Place, Reservation};
use crate::store::outbox::Staged;
use crate::store::rules;

/// Where the files are.
#[derive(Debug, Clone)]
struct Paths {
    state: PathBuf,
    credentials: PathBuf,
    lock: PathBuf,
    block: PathBuf,
    journal: PathBuf,
    damaged: PathBuf,
}

impl Paths {
    fn of(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            credentials: state.join("credentials"),
            lock: state.join("credentials.lock"),
            block: state.join("credentials.block"),
            journal: state.join("credentials.journal"),
            damaged: state.join("credentials.damaged"),
        }
    }
}

/// The accounts of one tenant.
#[derive(Debug)]
pub struct FlatAccounts {
    shared: Arc<Shared>,
    claims: Arc<FlatClaims>,
    lock_wait: Duration,
    /// Whether the thread could be had that blocks in flock.
    blocking: OnceLock<bool>,
}

impl FlatAccounts {
    /// The accounts in the directory `state`. `views` are file names in it, readable for
    /// `view_group`; `lock_wait` is how long a caller waits for the lock.
    pub fn new(
        disk: Arc<dyn Disk>,
        state: &Path,
        views: &[&str],
        view_group: Option<u32>,
        claims: Arc<FlatClaims>,
        lock_wait: Duration,
    ) -> Self {
        let shared = Arc::new(Shared::new(disk, Paths::of(state), views, view_group));
        Self { shared, claims, lock_wait, blocking: OnceLock::new() }
    }

    /// Has `work` done under the lock, waiting for that at most so long.
    fn submit(&self, work: Work, wait: Duration) -> Outcome {
        let shared = &self.shared;
        let outcome = shared.queue.submit(work, wait, || {
            let batch = or_exit(|| shared.lead(false));
            if batch.is_none() && !self.has_blocking_thread() {
                return or_exit(|| shared.lead(true));
            }
            batch
        });
        outcome.unwrap_or_else(|| Err(Failed::Undone(shared.waited_in_vain())))
    }

    fn has_blocking_thread(&self) -> bool {
        *self.blocking.get_or_init(|| {
            let shared = self.shared.clone();
            let lead = move || {
                shared.queue.lead_blocking(|| or_exit(|| shared.lead(true)).unwrap_or_default());
            };
            std::thread::Builder::new().name("accounts".into()).spawn(lead).is_ok()
        })
    }
}

impl Drop for FlatAccounts {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Accounts for FlatAccounts {
    fn open(&self) -> Result<(), Fault> {
        self.recover()
    }

    fn create_if_missing(&self) -> Result<(), Fault> {
        match self.shared.disk.stat(&self.shared.paths.credentials) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.recover(),
            _ => Ok(()),
        }
    }

    fn get(&self, user: &Username) -> Result<Standing, Fault> {
        let mut accounts = lock(&self.shared.accounts);
        let snapshot = accounts.refresh()?;
        if let Some(line) = accounts.find_user(user.as_str())? {
            return Ok(line.standing());
        }
        if accounts.is_certain(&snapshot) {
            return Ok(Standing::Free);
        }
        drop(accounts);
        self.standing_under_lock(Key::User(user.clone()))
    }

    fn by_token(&self, purpose: Purpose, id: &TokenId) -> Result<Option<Account>, Fault> {
        let mut accounts = lock(&self.shared.accounts);
        let snapshot = accounts.refresh()?;
        let found = accounts.find_token(id)?.map(|line| line.standing());
        let standing = match found {
            Some(standing) => standing,
            None if accounts.is_certain(&snapshot) => Standing::Free,
            None => {
                drop(accounts);
                // Somebody writes at this moment, or wrote where nobody saw it.
                self.standing_under_lock(Key::Token(purpose, *id))?
            }
        };
        Ok(match standing {
            Standing::Is(account) => Some(account),
            Standing::Free | Standing::Resting { .. } => None,
        })
    }

    fn list(&self, each: &mut dyn FnMut(&Account) -> ControlFlow<()>) -> Result<(), Fault> {
        let file = lock(&self.shared.accounts).refresh()?.handle;
        let listed = scan::lines(file.as_ref(), 0, |offset, bytes| {
            let Line::Record(record) = Line::parse(bytes) else { return Ok(true) };
            if !lock(&self.shared.accounts).counts(record.user, offset)? {
                return Ok(true);
            }
            match record.standing() {
                Some(Standing::Is(account)) => Ok(each(&account).is_continue()),
                _ => Ok(true),
            }
        });
        listed.map(drop).map_err(|cause| file::read_fault(&self.shared.paths.credentials, cause))
    }

    fn sign_up(
        &self,
        wish: Wish,
        stage: &mut dyn FnMut() -> Result<Staged, Fault>,
    ) -> Result<SignedUp, Fault> {
        let Wish { account, captcha, client, now } = wish;
        let now_ms = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        let Some(captcha) = self.claims.present(&captcha, now_ms)? else {
            return Ok(SignedUp::Captcha);
        };
        let place = match self.claims.take_place(client, now_ms)? {
            Place::Taken(place) => place,
            Place::Full(wait) => return Ok(SignedUp::Full(wait)),
        };
        if self.is_taken(&account.user, now)? {
            return Ok(SignedUp::Taken);
        }
        // S1: the mail is whole and durable, but not yet where mails are taken from.
        let held = Reservation::new(stage()?, vec![captcha, place]);
        let key = Key::User(account.user.clone());
        match self.update(key, rules::create(account, now)) {
            // S2: the account is durable.
            Ok(Updated::Put(_)) => Ok(SignedUp::Made(held)),
            Ok(_) => Ok(SignedUp::Taken),
            Err(failed) => Err(failed.settle(held)),
        }
    }

    fn update(&self, key: Key, decide: Decide) -> Result<Updated, Failed> {
        let outcome = self.submit(Work::Update(key, decide), self.lock_wait)?;
        Ok(outcome.unwrap_or(Updated::Left(Standing::Free)))
    }

    fn maintain(&self, now: DateTime<Utc>) -> Result<Maintained, Fault> {
        self.put_in_order(now)
    }

    fn tick(&self, now: DateTime<Utc>) -> Result<(), Fault> {
        self.shared.show_view_changes(now)
    }

    fn compact(&self) -> Result<Vec<Compacted>, Fault> {
        self.compact_files()
    }
}

impl FlatAccounts {
    /// Whether `user` is certainly taken at `now`. A hint that spares work: `false` may turn out
    /// wrong under the lock.
    fn is_taken(&self, user: &Username, now: DateTime<Utc>) -> Result<bool, Fault> {
        let Ok(mut accounts) = self.shared.accounts.try_lock() else { return Ok(false) };
        accounts.refresh()?;
        let found = accounts.find_user(user.as_str())?;
        Ok(found.is_some_and(|line| !line.standing().is_vacant(now)))
    }

    fn standing_under_lock(&self, key: Key) -> Result<Standing, Fault> {
        match self.update(key, rules::confirm()).map_err(Failed::fault)? {
            Updated::Left(standing) | Updated::Put(standing) | Updated::Removed(standing) => {
                Ok(standing)
            }
        }
    }
}
