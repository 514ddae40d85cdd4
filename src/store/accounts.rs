//! The port to the accounts: all that endpoints, verbs and the sweep know of them, whatever engine
//! keeps them.
//!
//! # Order
//! [`Accounts::sign_up`] makes an account; everything else that happens to one is [`Accounts::update`]
//! with one of the pure functions in [`super::rules`], which is given the account as it stands and
//! says what shall become of it. An engine calls it under its own lock or in its own transaction, and
//! may call it again.
//!
//! # Promises
//! What a call returns with `Ok` is durable, `Left` included, and shown by every view. After
//! [`Failed::Undone`] nothing of the change is left; after [`Failed::Unknown`] it may stand, and
//! whoever uses the accounts next finds it whole or gone.
//!
//! # Not promised
//! That what [`Accounts::get`] and [`Accounts::by_token`] return is durable yet.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::captcha::Presentation;
use super::claims::Reservation;
use super::outbox::Staged;
use crate::account::{Account, Purpose, Username};
use crate::error::Fault;
use crate::secret::TokenId;

/// Which account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The one of this name.
    User(Username),
    /// The one that this token is about.
    Token(Purpose, TokenId),
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Free,
    /// The name of an account that is gone, which nobody gets before this time.
    Resting {
        /// When it is free again.
        until: DateTime<Utc>,
    },
    /// An account.
    Is(Account),
}

impl Standing {
    /// Whether a new account may take the name at `now`.
    pub fn is_vacant(&self, now: DateTime<Utc>) -> bool {
        match self {
            Self::Free => true,
            Self::Resting { until } => *until <= now,
            Self::Is(account) => account.is_expired(now),
        }
    }
}

/// What shall become of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stands like this from now on.
    Put(Account),
    /// It goes, and its name is free.
    Remove,
    /// Nothing changes.
    Leave,
}

/// Decides on an account; see [`super::rules`]. It may run more than once, on another thread.
pub type Decide = Box<dyn FnMut(&Standing) -> Decision + Send>;

/// What an update came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// The account stands as it was put; this stood there before.
    Put(Standing),
    /// This account is gone.
    Removed(Standing),
    /// It was left as it stands.
    Left(Standing),
}

/// Why an update was not done.
#[derive(Debug)]
pub enum Failed {
    /// Nothing of it is left.
    Undone(Fault),
    /// It may stand.
    Unknown(Fault),
}

impl Failed {
    /// Lets go of what a request holds, or keeps it where the change may stand; the fault.
    pub fn settle(self, held: Reservation) -> Fault {
        match self {
            Self::Undone(fault) => fault,
            Self::Unknown(fault) => {
                held.retain();
                fault
            }
        }
    }

    /// The fault, where nothing is held.
    pub fn fault(self) -> Fault {
        match self {
            Self::Undone(fault) | Self::Unknown(fault) => fault,
        }
    }
}

/// What a visitor asks for.
#[derive(Debug)]
pub struct Wish {
    /// The account, pending.
    pub account: Account,
    /// The captcha that came with it.
    pub captcha: Presentation,
    /// Who asks.
    pub client: IpAddr,
    /// When.
    pub now: DateTime<Utc>,
}

/// What a sign-up came to.
#[derive(Debug)]
pub enum SignedUp {
    /// The account is there, durable; its mail is staged and waits to be sent.
    Made(Reservation),
    /// The captcha is spent, or its answer wrong.
    Captcha,
    /// This client made its accounts; it may make another after this time.
    Full(Duration),
    /// The name belongs to somebody.
    Taken,
}

/// What maintenance did.
#[derive(Debug, Default)]
pub struct Maintained {
    /// Pending accounts and resting names whose time was over.
    pub expired: usize,
    /// Unfinished copies of files that were deleted.
    pub cleared: usize,
    /// Whether a view was made anew.
    pub views_rebuilt: bool,
    /// What could not be done; it kept nothing else from being done.
    pub faults: Vec<Fault>,
}

/// What compacting a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// The file.
    pub path: PathBuf,
    /// Its length before, in bytes.
    pub before: u64,
    /// Its length after.
    pub after: u64,
    /// How long nobody could write for it; zero where nothing was to be dropped.
    pub pause: Duration,
}

/// The accounts of one tenant.
pub trait Accounts: Send + Sync + std::fmt::Debug {
    /// Makes them ready: finishes what a crash left and reads what has to be read, however long that
    /// takes. Every other call does so as well where it must.
    fn open(&self) -> Result<(), Fault>;

    /// Makes what a new state directory lacks, and costs one look at any other: for a process that
    /// answers one request and reads nothing ahead.
    fn create_if_missing(&self) -> Result<(), Fault>;

    /// What stands under a name.
    fn get(&self, user: &Username) -> Result<Standing, Fault>;

    /// The account that a token is about.
    fn by_token(&self, purpose: Purpose, id: &TokenId) -> Result<Option<Account>, Fault>;

    /// Calls `each` with every account until it breaks, in no order.
    fn list(&self, each: &mut dyn FnMut(&Account) -> ControlFlow<()>) -> Result<(), Fault>;

    /// Makes an account, in the contract's order: captcha, place, name. `stage` makes its mail; it
    /// runs at most once, on the caller's thread, and only where nothing stands against the account.
    fn sign_up(
        &self,
        wish: Wish,
        stage: &mut dyn FnMut() -> Result<Staged, Fault>,
    ) -> Result<SignedUp, Fault>;

    /// Changes one account as `decide` says: read, decision and change are one step for everybody
    /// else.
    fn update(&self, key: Key, decide: Decide) -> Result<Updated, Failed>;

    /// Puts in order what time and crashes left: expired accounts, stale views, unfinished copies.
    fn maintain(&self, now: DateTime<Utc>) -> Result<Maintained, Fault>;

    /// Makes the last changes plain to readers that look for another second in a file's time of
    /// change; called once a second.
    fn tick(&self, now: DateTime<Utc>) -> Result<(), Fault>;

    /// Drops dead space while requests go on; what became of each file that may have some.
    fn compact(&self) -> Result<Vec<Compacted>, Fault>;
}
