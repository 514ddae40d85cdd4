//! What can be done to the accounts, and what that comes to: the decisions, without the writing.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::compact::Draft;
use super::core::{Core, Found, Whole};
use super::journal::{self, Entry};
use super::line::{Account, DISABLED, ENABLED};
use super::mailing::{self, AskedBy, Before, Pending};
use super::view;
use crate::account::Username;
use crate::error::Fault;
use crate::secret::TokenId;

/// A change to the accounts.
#[derive(Debug)]
pub enum Change {
    /// Append this line, unless the name is taken at this time.
    Create {
        /// The new name.
        user: Username,
        /// The whole line, LF included.
        line: String,
        /// What activates it.
        token: TokenId,
        /// Pending lines that expired by then do not count.
        now: DateTime<Utc>,
    },
    /// Enable the pending account of this token.
    Activate {
        /// The token.
        token: TokenId,
        /// The time that must not be after its expiry.
        now: DateTime<Utc>,
    },
    /// Take back a pending line that this token would activate.
    Withdraw {
        /// Its name.
        user: Username,
        /// Its token.
        token: TokenId,
    },
    /// Let this token activate a pending account, too, for one more mail.
    Remail {
        /// Its name.
        user: Username,
        /// Who wants that.
        by: AskedBy,
        /// The new token.
        token: TokenId,
        /// When the mail is made.
        now: DateTime<Utc>,
    },
    /// Undo that: the mail could not be sent.
    Unmail {
        /// Its name.
        user: Username,
        /// The token of the mail.
        token: TokenId,
        /// What the line said before.
        before: Before,
    },
    /// Remove a pending account that expired.
    Expire {
        /// Its name.
        user: Username,
        /// The time to compare with.
        now: DateTime<Utc>,
    },
    /// What an operator says.
    Set {
        /// Whose account.
        user: Username,
        /// What becomes of it.
        to: Setting,
    },
    /// Make the pending account of this token durable, where there is one.
    Confirm {
        /// The token.
        token: TokenId,
        /// The time that must not be after its expiry.
        now: DateTime<Utc>,
    },
    /// Finish what a crash left; every other change does that first as well.
    Settle,
    /// Make every view anew that is not what the file says.
    Reconcile,
    /// Put this copy in its file's place.
    Compact(Arc<Draft>),
}

/// What an operator may do to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// It may sign in.
    Enabled,
    /// It may not.
    Disabled,
    /// It is gone and its name free.
    Removed,
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, to the account of this name.
    Done(String),
    /// The name belongs to somebody.
    Taken,
    /// There is no such account (any more), or none in that state; for what is about no account:
    /// nothing was to be done, or nothing could be.
    NotFound,
}

/// Bytes of a line, LF included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
    /// Its first byte, to put it back.
    pub first: u8,
}

/// One byte that changes in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    /// Where.
    pub offset: u64,
    /// What stands there.
    pub from: u8,
    /// What shall stand there.
    pub to: u8,
}

/// What a batch writes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Lines for the end of the file.
    pub append: String,
    /// Bytes that change.
    pub flips: Vec<Flip>,
    /// Lines that go.
    pub removed: Vec<Stretch>,
    /// Lines that go once the appended ones are durable.
    pub replaced: Vec<Stretch>,
    /// Lines for every view.
    pub view_lines: String,
    /// Names that go from every view first.
    pub view_removed: Vec<String>,
    /// Whether lines that were there before have to be durable as well.
    pub confirms: bool,
    /// What the journal has to know; empty for a batch that only appends.
    pub journal: Vec<Entry>,
    /// Names that this batch touches: each once.
    touched: HashSet<String>,
}

/// What became of a change that was to be planned.
#[derive(Debug, PartialEq, Eq)]
pub enum Planned {
    /// It is part of the plan and has this outcome once the plan is written, or needs no writing.
    Now(Outcome),
    /// It has to wait for the next batch.
    Later,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.append.is_empty() && self.journal.is_empty() && !self.confirms
    }

    /// Adds a change, decided on what `core` finds in `whole` and what the plan holds by now.
    pub fn add(&mut self, change: &Change, core: &Core, whole: &Whole) -> Result<Planned, Fault> {
        if self.journal.len() >= journal::MOST - 1 {
            return Ok(Planned::Later);
        }
        match change {
            Change::Create { user, line, now, .. } => self.create(user, line, *now, core),
            Change::Activate { token, now } => match core.find_token(token)? {
                Some(found) => self.activate(&found, *now, whole),
                None => Ok(Planned::Now(Outcome::NotFound)),
            },
            Change::Withdraw { user, token } => self.remove_if(user, core, |account| {
                account.is_pending() && account.tokens().any(|id| id.same(token))
            }),
            Change::Remail { user, by, token, now } => self.replace(user, core, |account| {
                Pending::of(account, by, *now).map(|_| mailing::remailed(account, *token, *now))
            }),
            Change::Unmail { user, token, before } => {
                self.replace(user, core, |account| mailing::restored(account, *token, before))
            }
            Change::Expire { user, now } => {
                self.remove_if(user, core, |account| account.is_expired(*now))
            }
            Change::Set { user, to: Setting::Removed } => self.remove_if(user, core, |_| true),
            Change::Set { user, to } => self.set(user, *to == Setting::Enabled, core),
            Change::Confirm { token, now } => self.confirm(token, *now, core),
            Change::Settle | Change::Reconcile | Change::Compact(_) => {
                Ok(Planned::Now(Outcome::Done(String::new())))
            }
        }
    }

    fn create(
        &mut self,
        user: &Username,
        line: &str,
        now: DateTime<Utc>,
        core: &Core,
    ) -> Result<Planned, Fault> {
        if self.touched.contains(user.as_str()) {
            // Either a name made a moment ago, or one whose removal has to be durable first.
            return Ok(Planned::Later);
        }
        if let Some(old) = core.find_user(user.as_str())? {
            if !old.account().is_some_and(|account| account.is_expired(now)) {
                return Ok(Planned::Now(Outcome::Taken));
            }
            let stretch = Stretch::of(&old);
            self.journal.push(stretch.entry(user.as_str()));
            self.replaced.push(stretch);
        }
        self.append.push_str(line);
        Ok(self.done(user.as_str()))
    }

    fn activate(
        &mut self,
        found: &Found,
        now: DateTime<Utc>,
        whole: &Whole,
    ) -> Result<Planned, Fault> {
        let Some(account) = found.account() else { return Ok(Planned::Now(Outcome::NotFound)) };
        if account.is_expired(now) || found.offset + found.len() > whole.end {
            return Ok(Planned::Now(Outcome::NotFound));
        }
        if self.touched.contains(account.user) {
            return Ok(Planned::Later);
        }
        Ok(self.enable(found, &account))
    }

    fn confirm(
        &mut self,
        token: &TokenId,
        now: DateTime<Utc>,
        core: &Core,
    ) -> Result<Planned, Fault> {
        let found = core.find_token(token)?;
        let account = found.as_ref().and_then(Found::account);
        let Some(account) = account.filter(|account| !account.is_expired(now)) else {
            return Ok(Planned::Now(Outcome::NotFound));
        };
        self.confirms = true;
        Ok(Planned::Now(Outcome::Done(account.user.to_owned())))
    }

    fn enable(&mut self, found: &Found, account: &Account<'_>) -> Planned {
        let offset = found.offset + account.disabled_at();
        self.flips.push(Flip { offset, from: account.disabled, to: ENABLED });
        self.view_lines.push_str(&view::line_of(account));
        self.journal.push(Entry { user: account.user.to_owned(), offset: 0, length: 0 });
        self.done(account.user)
    }

    fn set(&mut self, user: &Username, enabled: bool, core: &Core) -> Result<Planned, Fault> {
        let Some(found) = core.find_user(user.as_str())? else {
            return Ok(Planned::Now(Outcome::NotFound));
        };
        let Some(account) = found.account() else { return Ok(Planned::Now(Outcome::NotFound)) };
        if self.touched.contains(user.as_str()) {
            return Ok(Planned::Later);
        }
        let wanted = if enabled { ENABLED } else { DISABLED };
        if account.disabled == wanted {
            return Ok(Planned::Now(Outcome::Done(account.user.to_owned())));
        }
        if enabled {
            return Ok(self.enable(&found, &account));
        }
        let offset = found.offset + account.disabled_at();
        self.flips.push(Flip { offset, from: account.disabled, to: DISABLED });
        self.view_removed.push(account.user.to_owned());
        self.journal.push(Entry { user: account.user.to_owned(), offset: 0, length: 0 });
        Ok(self.done(account.user))
    }

    /// Puts another line in the place of the one that counts for `user`, where there is one.
    fn replace(
        &mut self,
        user: &Username,
        core: &Core,
        line: impl FnOnce(&Account<'_>) -> Option<String>,
    ) -> Result<Planned, Fault> {
        if self.touched.contains(user.as_str()) {
            return Ok(Planned::Later);
        }
        let found = core.find_user(user.as_str())?;
        let account = found.as_ref().and_then(Found::account);
        let (Some(found), Some(line)) = (&found, account.and_then(|account| line(&account))) else {
            return Ok(Planned::Now(Outcome::NotFound));
        };
        let stretch = Stretch::of(found);
        self.journal.push(stretch.entry(user.as_str()));
        self.replaced.push(stretch);
        self.append.push_str(&line);
        Ok(self.done(user.as_str()))
    }

    /// Removes every live line of `user` where the one that counts is as `condition` wants it.
    fn remove_if(
        &mut self,
        user: &Username,
        core: &Core,
        condition: impl FnOnce(&Account<'_>) -> bool,
    ) -> Result<Planned, Fault> {
        if self.touched.contains(user.as_str()) {
            return Ok(Planned::Later);
        }
        let room = journal::MOST - self.journal.len();
        let mut lines = core.find_all(user.as_str(), usize::MAX)?;
        let Some(account) = lines.first().and_then(Found::account) else {
            return Ok(Planned::Now(Outcome::NotFound));
        };
        if !condition(&account) {
            return Ok(Planned::Now(Outcome::NotFound));
        }
        if lines.len() > room {
            if self.is_empty() {
                // The line that counts goes last, in a later batch: until then it outranks the rest.
                let oldest = lines.split_off(lines.len() - room);
                self.remove_lines(user, &oldest);
                self.touched.insert(user.as_str().to_owned());
            }
            return Ok(Planned::Later);
        }
        if lines.iter().any(|line| !line.account().is_some_and(|account| account.is_pending())) {
            self.view_removed.push(user.as_str().to_owned());
        }
        self.remove_lines(user, &lines);
        Ok(self.done(user.as_str()))
    }

    fn remove_lines(&mut self, user: &Username, lines: &[Found]) {
        for stretch in lines.iter().map(Stretch::of) {
            self.journal.push(stretch.entry(user.as_str()));
            self.removed.push(stretch);
        }
    }

    fn done(&mut self, user: &str) -> Planned {
        self.touched.insert(user.to_owned());
        Planned::Now(Outcome::Done(user.to_owned()))
    }
}

impl Stretch {
    /// The line that was found.
    pub fn of(found: &Found) -> Self {
        let first = found.account().and_then(|a| a.user.bytes().next()).unwrap_or(b'#');
        Self { offset: found.offset, length: found.len(), first }
    }

    fn entry(&self, user: &str) -> Entry {
        Entry { user: user.to_owned(), offset: self.offset, length: self.length }
    }
}
