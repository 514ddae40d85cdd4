//! The credentials file while its lock is held: writing a plan, and making views anew. What a crash
//! left is put right before, in `recover`.
//!
//! The order of the steps is the promise (see the table in [`super`]): what is answered is durable
//! before it is answered, and a view never has an account that may not sign in.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt;

use super::change::{Flip, Outcome, Plan, Stretch};
use super::compact::Draft;
use super::core::{Core, Found, Whole};
use super::journal::Journal;
use super::line::{Account, ENABLED, Line};
use super::stamp::Stamp;
use super::view::{self, Sum, View};
use super::{Paths, recover, scan};
use crate::disk::{self, Disk, Locked, Open};
use crate::error::Fault;
use crate::log;

/// The files that only the holder of the lock writes.
#[derive(Debug)]
pub struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) paths: Paths,
    journal: Option<Journal>,
    stamp: Option<Stamp>,
    pub(super) views: Vec<View>,
}

/// The lock, held, and the file as it stands.
#[derive(Debug)]
pub struct Hold<'a> {
    pub(super) writer: &'a mut Writer,
    pub(super) whole: Whole,
    pub(super) inode: u64,
    _lock: Locked,
}

/// Why a plan was not written.
#[derive(Debug)]
pub struct Failed {
    /// What failed.
    pub fault: Fault,
    /// Whether it is certain that nothing of the plan is left.
    pub undone: bool,
}

impl From<Fault> for Failed {
    /// A fault before anything was written.
    fn from(fault: Fault) -> Self {
        Self { fault, undone: true }
    }
}

impl Writer {
    /// For the files at `paths`.
    pub fn new(disk: Arc<dyn Disk>, paths: Paths, views: Vec<View>) -> Self {
        Self { disk, paths, journal: None, stamp: None, views }
    }

    /// Whether the files that are missing were made.
    pub fn is_prepared(&self) -> bool {
        self.journal.is_some()
    }

    /// Makes what is missing: the credentials file (where no journal shows that there was one), the
    /// journal, the views.
    fn prepare(&mut self) -> Result<(), Fault> {
        let exists = |path| self.disk.stat(path).is_ok();
        if !exists(&self.paths.journal) {
            let path = &self.paths.credentials;
            let make = || {
                self.disk.open(path, Open::Create(0o600))?.sync()?;
                // Before the journal, which tells a new directory from one that lost its accounts.
                self.disk.sync_dir(&self.paths.state)
            };
            make().map_err(|cause| Fault::new("make", path, cause))?;
        }
        self.journal = Some(Journal::open(self.disk.as_ref(), &self.paths.journal)?);
        Ok(())
    }

    /// Whether the index is of the file as it stands under the lock; it is forgotten where another
    /// hand changed the file (see `stamp`). True as well while nothing was prepared.
    pub fn recognises(&mut self, core: &mut Core) -> Result<bool, Fault> {
        // What cannot be looked at cannot be read either, and that fails with a way out.
        let (Some(journal), Ok(stat)) = (&self.journal, self.disk.stat(&self.paths.credentials))
        else {
            return Ok(true);
        };
        let found = journal.stamp()?;
        let stamp = match found.filter(|stamp| stamp.is_of(&stat)) {
            Some(stamp) => stamp,
            None => {
                let generation = rand::rng().random();
                let stamp = Stamp::of(generation, &stat);
                // Where it cannot be written, the next holder comes to the same conclusion.
                let _ = journal.put_stamp(&stamp);
                if found.is_some() {
                    log::event(log::Level::Info, "credentials")
                        .field("outcome", "changed")
                        .field("file", self.paths.credentials.display())
                        .field("note", "by another hand, or a process was killed; read anew")
                        .emit();
                }
                stamp
            }
        };
        self.stamp = Some(stamp);
        Ok(core.belongs_to(stamp.generation, &stat))
    }

    /// Begins a hold: everything that a crash, a power cut or an editor left is put right before
    /// anything is decided.
    pub fn begin<'a>(&'a mut self, lock: Locked, core: &mut Core) -> Result<Hold<'a>, Fault> {
        if self.journal.is_none() {
            self.prepare()?;
            self.recognises(core)?;
        }
        let mut whole = core.refresh()?;
        if core.is_new() {
            let synced = self.disk.sync_dir(&self.paths.state);
            synced.map_err(|cause| Fault::new("sync", &self.paths.state, cause))?;
            core.is_settled();
        }
        if whole.end < whole.len {
            self.cut_tail(&mut whole)?;
        }
        for (offset, length) in core.take_damaged() {
            self.blank_damage(&whole, offset, length)?;
        }
        let inode = whole.inode;
        let mut hold = Hold { writer: self, whole, inode, _lock: lock };
        hold.finish_journal(core)?;
        hold.make_missing_views(core)?;
        Ok(hold)
    }

    pub(super) fn fault(&self, doing: &'static str, cause: io::Error) -> Fault {
        Fault::new(doing, &self.paths.credentials, cause)
    }
}

impl Hold<'_> {
    /// The file as it stands.
    pub fn whole(&self) -> &Whole {
        &self.whole
    }

    /// Ends a hold: the next holder knows the file as it is left.
    pub fn leave(self) {
        let Some(last) = self.writer.stamp else { return };
        let note = || {
            let mut stat = self.writer.disk.stat(&self.writer.paths.credentials)?;
            if last.is_of(&stat) {
                return Ok(());
            }
            // A compacted file, which took the place of this one, was made long enough ago.
            if stat.ino == self.inode {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.whole.handle.set_mtime(now)?;
                stat = self.whole.handle.stat()?;
            }
            let journal = self.writer.journal.as_ref();
            journal.map_or(Ok(()), |journal| journal.put_stamp(&Stamp::of(last.generation, &stat)))
        };
        // Without it the next holder reads all accounts once more, and that is all.
        let _: io::Result<()> = note();
    }

    /// Writes a plan, durably. On an error nothing of it stands, or the journal names what the next
    /// holder has to make whole.
    pub fn write(&mut self, plan: &Plan) -> Result<(), Failed> {
        let journaled = !plan.journal.is_empty();
        if journaled {
            self.journal()?.write(self.inode, false, &plan.journal)?;
        }
        let gone: HashSet<&str> = plan.view_removed.iter().map(String::as_str).collect();
        if !gone.is_empty() {
            self.writer.views.iter_mut().try_for_each(|view| view.blank(&gone).map(drop))?;
        }
        if let Err(cause) = self.write_accounts(plan) {
            let fault = self.writer.fault("write accounts to", cause);
            return Err(Failed { fault, undone: self.undo(plan) });
        }
        if let Err(fault) = self.append_to_views(plan) {
            return Err(Failed { fault, undone: self.undo(plan) });
        }
        self.whole.end += plan.append.len() as u64;
        self.whole.len = self.whole.end;
        // From here on all is durable that is answered; what fails is left to the next holder.
        let finished = self
            .blank(plan.removed.iter().chain(&plan.replaced))
            .and_then(|()| if journaled { self.journal()?.clear() } else { Ok(()) });
        if let Err(fault) = finished {
            log::event(log::Level::Error, "credentials").field("fault", fault).emit();
        }
        Ok(())
    }

    fn append_to_views(&mut self, plan: &Plan) -> Result<(), Fault> {
        if plan.view_lines.is_empty() {
            return Ok(());
        }
        let views = &mut self.writer.views;
        let appended =
            views.iter_mut().try_for_each(|view| view.append(plan.view_lines.as_bytes()));
        if appended.is_err() {
            let users: HashSet<&str> =
                plan.journal.iter().map(|entry| entry.user.as_str()).collect();
            for view in views {
                // The journal still names them: the next holder looks again.
                let _ = view.blank(&users);
            }
        }
        appended
    }

    fn write_accounts(&self, plan: &Plan) -> io::Result<()> {
        let file = self.whole.handle.as_ref();
        if !plan.append.is_empty() {
            file.write_at(plan.append.as_bytes(), self.whole.end)?;
        }
        for Flip { offset, to, .. } in &plan.flips {
            file.write_at(&[*to], *offset)?;
        }
        for stretch in &plan.removed {
            file.write_at(b"#", stretch.offset)?;
        }
        file.sync()
    }

    /// Puts back what [`Hold::write_accounts`] changed; whether nothing of it is left. Where that
    /// cannot be made durable the journal says so, and the next holder first rewrites the file.
    fn undo(&self, plan: &Plan) -> bool {
        let file = self.whole.handle.as_ref();
        if !plan.append.is_empty() && !plan.confirms && self.appended_no_line() {
            // Nothing was written but a part of a line, which the next holder cuts off otherwise.
            let _ = file.set_len(self.whole.end);
            return true;
        }
        let put_back = || {
            file.set_len(self.whole.end)?;
            for Flip { offset, from, .. } in &plan.flips {
                file.write_at(&[*from], *offset)?;
            }
            for stretch in &plan.removed {
                file.write_at(&[stretch.first], stretch.offset)?;
            }
            file.sync()
        };
        let put_back = put_back();
        let undone = put_back.is_ok();
        // Lines of a holder that was killed may be among what the disk did not take.
        if undone && !plan.confirms {
            return true;
        }
        if let Err(cause) = put_back {
            let fault = self.writer.fault("undo a failed write to", cause);
            log::event(log::Level::Error, "credentials").field("fault", fault).emit();
        }
        // Where the journal fails as well, the disk takes nothing at all any more.
        let _ = self.journal().and_then(|j| j.write(self.inode, true, &plan.journal));
        undone
    }

    /// Whether no whole line follows those that stood before.
    fn appended_no_line(&self) -> bool {
        let file = self.whole.handle.as_ref();
        let end = file.stat().and_then(|stat| scan::whole_lines_end(file, stat.len));
        end.is_ok_and(|end| end == self.whole.end)
    }

    /// Fills lines whose end is known to be dead with `#`, so that nothing personal stays.
    pub(super) fn blank<'s>(
        &self,
        stretches: impl Iterator<Item = &'s Stretch>,
    ) -> Result<(), Fault> {
        for Stretch { offset, length, .. } in stretches {
            let dead = vec![b'#'; (*length as usize).saturating_sub(1)];
            let blanked = self.whole.handle.write_at(&dead, *offset);
            blanked.map_err(|cause| self.writer.fault("blank a line in", cause))?;
        }
        Ok(())
    }

    /// Of a name's lines, the last in the file first, only that one counts.
    pub(super) fn blank_older(&self, lines: &[Found]) -> Result<(), Fault> {
        let older: Vec<Stretch> = lines.iter().skip(1).map(Stretch::of).collect();
        self.blank(older.iter())
    }

    fn make_missing_views(&mut self, core: &mut Core) -> Result<(), Fault> {
        for at in 0..self.writer.views.len() {
            if !self.writer.views[at].exists()? {
                self.rebuild_view(core, at)?;
            }
        }
        Ok(())
    }

    /// Makes durable what a killed holder left, takes out lines that a later one of their name
    /// outranks, and makes every view anew that is not what the file says; how many were.
    pub fn reconcile(&mut self, core: &mut Core) -> Result<usize, Fault> {
        let mut wanted = Sum::default();
        let mut outranked = HashSet::new();
        self.each_account(core, &mut |account, counts| {
            if !counts {
                outranked.insert(account.user.to_owned());
            } else if account.disabled == ENABLED {
                wanted.add(view::line_of(account).trim_end().as_bytes());
            }
            Ok(())
        })
        .map_err(|cause| self.writer.fault("read", cause))?;
        self.sync()?;
        let lines_of = |user: &String| core.find_all(user, usize::MAX);
        outranked.iter().try_for_each(|user| self.blank_older(&lines_of(user)?))?;
        let mut rebuilt = 0;
        for at in 0..self.writer.views.len() {
            if self.writer.views[at].sum()? != wanted {
                self.rebuild_view(core, at)?;
                rebuilt += 1;
            }
        }
        Ok(rebuilt)
    }

    pub(super) fn rebuild_views(&mut self, core: &mut Core) -> Result<(), Fault> {
        (0..self.writer.views.len()).try_for_each(|at| self.rebuild_view(core, at))
    }

    fn rebuild_view(&mut self, core: &mut Core, at: usize) -> Result<(), Fault> {
        // A view must not show what a power cut could still take from the file.
        self.sync()?;
        let mut view = std::mem::replace(
            &mut self.writer.views[at],
            View::new(self.writer.disk.clone(), self.writer.paths.credentials.clone(), None),
        );
        let result = view.rebuild(|feed| self.each_enabled(core, feed));
        log::event(log::Level::Info, "view")
            .field("file", view.path().display())
            .field("outcome", if result.is_ok() { "made_anew" } else { "failed" })
            .emit();
        self.writer.views[at] = view;
        result
    }

    /// Calls `each` with the view line of every account that may sign in.
    fn each_enabled(
        &self,
        core: &Core,
        each: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_account(core, &mut |account, counts| {
            if counts && account.disabled == ENABLED {
                each(&view::line_of(account))?;
            }
            Ok(())
        })
    }

    /// Calls `each` with every live line, and whether it is the one that counts for its name.
    fn each_account(
        &self,
        core: &Core,
        each: &mut dyn FnMut(&Account<'_>, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        scan::lines(self.whole.handle.as_ref(), 0, |offset, bytes| {
            if let Line::Account(account) = Line::parse(bytes) {
                each(&account, core.counts(account.user, offset)?)?;
            }
            Ok(true)
        })
        .map(drop)
    }

    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.whole.handle.sync().map_err(|cause| self.writer.fault("sync", cause))
    }

    /// Deletes what a killed process left of a file that it wrote beside another, and gives each
    /// view to the group that is configured by now.
    pub fn settle(&self) -> Result<(), Fault> {
        let Writer { disk, paths, views, .. } = &*self.writer;
        views.iter().try_for_each(View::give_to_group)?;
        disk::unlink_if_there(disk.as_ref(), &recover::rewritten(&paths.credentials))
            .and_then(|()| views.iter().try_for_each(View::clear_leftover))
            .map_err(|cause| Fault::new("clear leftovers from", &paths.state, cause))
    }

    /// Puts a compacted copy in the place of its file; `NotFound` where that is another file by
    /// now, or one of another shape. The hold ends with it: the index is of the old file.
    pub fn put_in_place(&mut self, draft: &Draft) -> Result<Outcome, Fault> {
        // An older journal that came back after a power cut would name lines of the old file.
        self.journal()?.sync()?;
        let mut views = self.writer.views.iter_mut();
        let put = match views.find(|view| view.path() == draft.path()) {
            Some(view) => view.whole().and_then(|(file, end)| draft.put_in_place(&file, end)),
            None => draft.put_in_place(&self.whole.handle, self.whole.end),
        };
        let put = put.map_err(|cause| Fault::new("compact", draft.path(), cause))?;
        Ok(if put { Outcome::Done(String::new()) } else { Outcome::NotFound })
    }

    pub(super) fn journal(&self) -> Result<&Journal, Fault> {
        let missing =
            || Fault::new("open", &self.writer.paths.journal, io::ErrorKind::NotFound.into());
        self.writer.journal.as_ref().ok_or_else(missing)
    }
}
