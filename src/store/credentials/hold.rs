//! The credentials file while its lock is held: writing a plan, and making views anew. What a crash
//! left is put right before, in `recover`.
//!
//! The order of the steps is the promise (see the table in [`super`]): what is answered is durable
//! before it is answered, and a view never has an account that may not sign in.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::change::{Flip, Outcome, Plan, Stretch};
use super::compact::Draft;
use super::core::{Core, Found, Whole};
use super::journal::Journal;
use super::line::{Account, ENABLED, Line};
use super::seal::Seal;
use super::view::{self, Sum, View};
use super::{Paths, recover, scan};
use crate::disk::{self, Disk, Handle, Locked, Open};
use crate::error::Fault;
use crate::log;

/// The files that only the holder of the lock writes.
#[derive(Debug)]
pub struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) paths: Paths,
    journal: Option<Journal>,
    sealed: Option<Seal>,
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
        Self { disk, paths, journal: None, sealed: None, views }
    }

    /// Whether the files that are missing were made.
    pub fn is_prepared(&self) -> bool {
        self.journal.is_some()
    }

    /// Makes what is missing: the credentials file (where no journal shows that there was one), the
    /// journal, the views.
    fn prepare(&mut self) -> Result<(), Fault> {
        if self.journal.is_some() {
            return Ok(());
        }
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

    /// Whether `core` knows the file as it stands; call it under the lock. Where another hand wrote
    /// since the last hold, every process learns here that it has to read anew.
    pub fn is_caught_up(&mut self, core: &mut Core) -> Result<bool, Fault> {
        self.prepare()?;
        // A file that is not there is everybody's answer in a moment.
        let Ok(stat) = self.disk.stat(&self.paths.credentials) else { return Ok(true) };
        let journal = self.journal.as_ref().ok_or_else(|| self.no_journal())?;
        let last = journal.seal();
        let last = last.map_err(|cause| Fault::new("read", &self.paths.journal, cause))?;
        let seal = match last.filter(|seal| seal.is_of(&stat)) {
            Some(seal) => seal,
            None => {
                let seal = Seal::new(&stat);
                journal.set_seal(&seal)?;
                if last.is_some() {
                    self.log_edited();
                }
                seal
            }
        };
        self.sealed = Some(seal);
        Ok(core.is_of(&stat, seal.epoch))
    }

    fn log_edited(&self) {
        log::event(log::Level::Info, "credentials")
            .field("outcome", "edited")
            .field("file", self.paths.credentials.display())
            .field("note", "read anew; an operator changed it, or a process was killed at it")
            .emit();
    }

    /// Notes how the file is left. Where that fails, the next holder reads it once more.
    fn seal(&self, handle: &Arc<dyn Handle>) -> io::Result<()> {
        let path = &self.paths.credentials;
        let (Some(sealed), Some(journal)) = (self.sealed, &self.journal) else { return Ok(()) };
        let stat = self.disk.stat(path)?;
        if sealed.is_of(&stat) {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match handle.stat()?.same_file(&stat) {
            true => handle.set_mtime(now)?,
            false => self.disk.open(path, Open::Write)?.set_mtime(now)?,
        }
        journal.set_seal(&sealed.again(&self.disk.stat(path)?)).map_err(io::Error::other)
    }

    fn no_journal(&self) -> Fault {
        Fault::new("open", &self.paths.journal, io::ErrorKind::NotFound.into())
    }

    /// Begins a hold: everything that a crash, a power cut or an editor left is put right before
    /// anything is decided.
    pub fn begin<'a>(&'a mut self, lock: Locked, core: &mut Core) -> Result<Hold<'a>, Fault> {
        self.prepare()?;
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

impl Drop for Hold<'_> {
    /// Seals the file; the lock is given back after that.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.writer.seal(&self.whole.handle);
        }
    }
}

impl Hold<'_> {
    /// The file as it stands.
    pub fn whole(&self) -> &Whole {
        &self.whole
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
        self.writer.journal.as_ref().ok_or_else(|| self.writer.no_journal())
    }
}
