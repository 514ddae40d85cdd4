//! What a batch of changes comes to: the lines and bytes to write, without the writing.
//!
//! How an account changes is told by comparing it before and after: a change of its status alone
//! overwrites the `disabled` byte of its line; every other one appends a line and kills the old one.

use std::collections::HashSet;

use super::file::{AccountsFile, LineRef, Span};
use super::line::{byte_of, line_of};
use crate::account::{Account, Status, Username};
use crate::error::Fault;
use crate::store::accounts::{Decide, Decision, Key, Standing, Updated};
use crate::store::views::htdigest;

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

/// What a batch writes; each account is in it once.
#[derive(Debug, Default)]
pub struct Plan {
    /// Lines for the end of the file.
    pub append: String,
    /// `disabled` bytes.
    pub flips: Vec<Flip>,
    /// Lines that a later one of their name overrides; they die before that one may.
    pub overridden: Vec<(Span, Flip)>,
    /// Lines that die once those and the appended ones are durable.
    pub killed: Vec<(Span, Flip)>,
    /// Names that go from every view first.
    pub out_of_views: HashSet<String>,
    /// Lines for every view, once all else is durable.
    pub into_views: String,
    touched: HashSet<String>,
}

/// What became of a change that was to be planned.
#[derive(Debug)]
pub enum Planned {
    /// This comes of it once the plan is written.
    Now(Updated),
    /// Its account is in the batch already: it has to wait for the next.
    Later,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.append.is_empty() && !self.changes_in_place()
    }

    /// Whether anything but the file's end changes.
    pub fn changes_in_place(&self) -> bool {
        let Self { flips, overridden, killed, out_of_views, into_views, .. } = self;
        let in_views = !(out_of_views.is_empty() && into_views.is_empty());
        let in_file = !(flips.is_empty() && overridden.is_empty() && killed.is_empty());
        in_file || in_views
    }

    /// Lets `decide` decide on what stands in `file`, and plans what it wants.
    pub fn add(
        &mut self,
        file: &AccountsFile,
        key: &Key,
        decide: &mut Decide,
    ) -> Result<Planned, Fault> {
        let user = match key {
            Key::User(user) => user.clone(),
            Key::Token(_, token) => {
                let found = file.find_token(token)?;
                let user = found.and_then(|line| Username::parse(line.record()?.user).ok());
                match user {
                    Some(user) => user,
                    None => return Ok(Planned::Now(Updated::Left(Standing::Free))),
                }
            }
        };
        if self.touched.contains(user.as_str()) {
            return Ok(Planned::Later);
        }
        let lines = file.live_lines(user.as_str(), usize::MAX)?;
        let standing = lines.first().map_or(Standing::Free, LineRef::standing);
        let updated = match decide(&standing) {
            Decision::Leave => Updated::Left(standing),
            Decision::Remove if lines.is_empty() => Updated::Left(standing),
            Decision::Remove => {
                self.shut_out(&user, &lines);
                self.kill(&lines);
                self.touched.insert(user.as_str().to_owned());
                Updated::Removed(standing)
            }
            Decision::Put(account) => {
                self.put(&standing, account, &lines);
                self.touched.insert(user.as_str().to_owned());
                Updated::Put(standing)
            }
        };
        Ok(Planned::Now(updated))
    }

    fn put(&mut self, standing: &Standing, account: Account, lines: &[LineRef]) {
        let before = match standing {
            Standing::Is(before) => Some(before),
            Standing::Free | Standing::Resting { .. } => None,
        };
        if before == Some(&account) {
            return;
        }
        let status = account.status;
        let is_in_views = |account: &&Account| account.status == Status::Enabled;
        let shown = before.filter(is_in_views).is_some_and(|before| {
            status == Status::Enabled && htdigest::line_of(before) == htdigest::line_of(&account)
        });
        if !shown {
            self.shut_out(&account.user, lines);
            if status == Status::Enabled {
                self.into_views.push_str(&htdigest::line_of(&account));
            }
        }
        let only_status =
            before.is_some_and(|before| Account { status, ..before.clone() } == account);
        match (lines.first(), only_status) {
            (Some(line), true) => {
                let record = line.record();
                let at = line.offset + record.map_or(0, |record| record.disabled_at());
                let from = byte_of(before.map_or(status, |before| before.status));
                self.flips.push(Flip { offset: at, from, to: byte_of(status) });
                self.overridden.extend(lines.iter().skip(1).map(death_of));
            }
            _ => {
                self.append.push_str(&line_of(&account));
                self.kill(lines);
            }
        }
    }

    /// The name goes from the views, where any of its lines may have brought it there.
    fn shut_out(&mut self, user: &Username, lines: &[LineRef]) {
        let is_enabled = |line: &LineRef| line.record().is_some_and(|r| r.is_enabled());
        if lines.iter().any(is_enabled) {
            self.out_of_views.insert(user.as_str().to_owned());
        }
    }

    /// The lines of a name, the one that counts first.
    fn kill(&mut self, lines: &[LineRef]) {
        self.killed.extend(lines.first().map(death_of));
        self.overridden.extend(lines.iter().skip(1).map(death_of));
    }
}

/// The first byte of a line becomes `#`.
fn death_of(line: &LineRef) -> (Span, Flip) {
    (line.span(), Flip { offset: line.offset, from: line.first(), to: b'#' })
}
