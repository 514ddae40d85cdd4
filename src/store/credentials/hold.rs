//! The credentials file while its lock is held: finishing what a crash left, and writing a plan.
//!
//! The order of the steps is the promise (see the table in [`super`]): what is answered is durable
//! before it is answered, and a view never has an account that may not sign in.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::change::{Flip, Outcome, Plan, Stretch};
use super::compact::Draft;
use super::core::{Core, Found, Whole};
use super::journal::{Entry, Journal, Pending};
use super::line::{Account, ENABLED, LINE_MAX, Line};
use super::view::{self, Sum, View};
use super::{Paths, scan};
use crate::disk::{self, Disk, Locked, Open};
use crate::error::Fault;
use crate::log;

/// The files that only the holder of the lock writes.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    paths: Paths,
    journal: Option<Journal>,
    views: Vec<View>,
}

/// The lock, held, and the file as it stands.
#[derive(Debug)]
pub struct Hold<'a> {
    writer: &'a mut Writer,
    whole: Whole,
    inode: u64,
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
        Self { disk, paths, journal: None, views }
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
                // Its name has to be durable before the journal can be, which is what tells a new
                // directory from one that lost its accounts.
                self.disk.sync_dir(&self.paths.state)
            };
            make().map_err(|cause| Fault::new("make", path, cause))?;
        }
        self.journal = Some(Journal::open(self.disk.as_ref(), &self.paths.journal)?);
        Ok(())
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

    /// What follows the last LF is nobody's line: it is kept aside and cut off.
    fn cut_tail(&self, whole: &mut Whole) -> Result<(), Fault> {
        let mut tail = vec![0; (whole.len - whole.end).min(LINE_MAX as u64) as usize];
        let mut cut = || {
            let read = whole.handle.read_at(&mut tail, whole.end)?;
            tail.truncate(read);
            self.keep_aside(&tail)?;
            whole.handle.set_len(whole.end)?;
            whole.handle.sync()
        };
        cut().map_err(|cause| self.fault("cut off an unfinished line in", cause))?;
        self.log_damage("unfinished_line", whole.end);
        whole.len = whole.end;
        Ok(())
    }

    /// Bytes that are no line are kept aside and become dead space.
    fn blank_damage(&self, whole: &Whole, offset: u64, length: u64) -> Result<(), Fault> {
        let mut bytes = vec![0; length as usize];
        let mut blank = || {
            let read = whole.handle.read_at(&mut bytes, offset)?;
            if read < bytes.len() || Line::parse(&bytes) != Line::Damaged {
                return Ok(false);
            }
            self.keep_aside(&bytes)?;
            whole.handle.write_at(&vec![b'#'; bytes.len()], offset)?;
            whole.handle.sync()?;
            Ok(true)
        };
        if blank().map_err(|cause| self.fault("blank damaged bytes in", cause))? {
            self.log_damage("damaged_bytes", offset);
        }
        Ok(())
    }

    fn keep_aside(&self, bytes: &[u8]) -> io::Result<()> {
        let aside = self.disk.open(&self.paths.damaged, Open::Create(0o600))?;
        let at = aside.stat()?.len;
        aside.write_at(&[bytes, b"\n"].concat(), at)?;
        aside.sync()
    }

    fn log_damage(&self, outcome: &str, offset: u64) {
        log::event(log::Level::Error, "credentials")
            .field("outcome", outcome)
            .field("file", self.paths.credentials.display())
            .field("at_byte", offset)
            .field("kept_in", self.paths.damaged.display())
            .emit();
    }

    fn fault(&self, doing: &'static str, cause: io::Error) -> Fault {
        Fault::new(doing, &self.paths.credentials, cause)
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

    /// Puts back what [`Hold::write_accounts`] changed. Where even that cannot be made durable, the
    /// journal says so, and the next holder rewrites the file before it promises anything.
    /// Whether nothing of the plan is left.
    fn undo(&self, plan: &Plan) -> bool {
        let file = self.whole.handle.as_ref();
        if !plan.append.is_empty() && !plan.confirms && self.appended_no_line() {
            // Appending is the first step, so nothing was written but a part of a line. That is
            // nobody's: what the disk does not let us cut off now, the next holder does.
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
    fn blank<'s>(&self, stretches: impl Iterator<Item = &'s Stretch>) -> Result<(), Fault> {
        for Stretch { offset, length, .. } in stretches {
            let dead = vec![b'#'; (*length as usize).saturating_sub(1)];
            let blanked = self.whole.handle.write_at(&dead, *offset);
            blanked.map_err(|cause| self.writer.fault("blank a line in", cause))?;
        }
        Ok(())
    }

    /// Of a name's lines, the last in the file first, only that one counts.
    fn blank_older(&self, lines: &[Found]) -> Result<(), Fault> {
        let older: Vec<Stretch> = lines.iter().skip(1).map(Stretch::of).collect();
        self.blank(older.iter())
    }

    /// Finishes the batch of a holder that died.
    fn finish_journal(&mut self, core: &mut Core) -> Result<(), Fault> {
        match self.journal()?.read()? {
            Pending::Nothing => return Ok(()),
            Pending::Unreadable => self.rebuild_views(core)?,
            Pending::Accounts { inode, suspect, entries } => {
                // A copy has every line where it was.
                let same_file = inode == self.inode;
                if suspect {
                    self.rewrite(core)?;
                }
                // What that holder wrote has to be durable before a view shows it, and before
                // what it replaces goes.
                self.sync()?;
                for entry in &entries {
                    self.make_whole(core, entry, same_file)?;
                }
                self.sync()?;
            }
        }
        self.journal()?.clear()
    }

    /// Makes one account whole: a line that was on its way out is blanked to its end, older live
    /// lines of the name go, and every view has it if and only if it is enabled.
    fn make_whole(&mut self, core: &Core, entry: &Entry, same_file: bool) -> Result<(), Fault> {
        if same_file && entry.length > 0 && self.is_dying(entry)? {
            let dying = Stretch { offset: entry.offset, length: entry.length, first: b'#' };
            self.blank([dying].iter())?;
        }
        let lines = core.find_all(&entry.user, usize::MAX)?;
        self.blank_older(&lines)?;
        let counts = lines.first().and_then(|line| line.account());
        let wanted =
            counts.filter(|account| account.disabled == ENABLED).map(|a| view::line_of(&a));
        for view in &mut self.writer.views {
            if !view.exists()? {
                continue;
            }
            let has = view.lines_of(&entry.user)?;
            if has.iter().eq(wanted.iter()) {
                continue;
            }
            view.blank(&HashSet::from([entry.user.as_str()]))?;
            if let Some(line) = &wanted {
                view.append(line.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Whether the line of a journal entry was begun to be blanked: one line, with `#` in front.
    fn is_dying(&self, entry: &Entry) -> Result<bool, Fault> {
        let line = scan::line_at(self.whole.handle.as_ref(), entry.offset, LINE_MAX);
        let line = line.map_err(|cause| self.writer.fault("read", cause))?;
        Ok(line.is_some_and(|l| l.first() == Some(&b'#') && l.len() as u64 + 1 == entry.length))
    }

    fn make_missing_views(&mut self, core: &mut Core) -> Result<(), Fault> {
        for at in 0..self.writer.views.len() {
            if !self.writer.views[at].exists()? {
                self.rebuild_view(core, at)?;
            }
        }
        Ok(())
    }

    /// Makes durable what a killed holder left in memory alone, takes out lines that a later one
    /// of the same name outranks, and makes every view anew that is not what the file says; how
    /// many were.
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
        for user in outranked {
            self.blank_older(&core.find_all(&user, usize::MAX)?)?;
        }
        let mut rebuilt = 0;
        for at in 0..self.writer.views.len() {
            if self.writer.views[at].sum()? != wanted {
                self.rebuild_view(core, at)?;
                rebuilt += 1;
            }
        }
        Ok(rebuilt)
    }

    fn rebuild_views(&mut self, core: &mut Core) -> Result<(), Fault> {
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

    /// Copies the file beside itself and puts the copy in its place: every page of it is written
    /// and synced anew.
    fn rewrite(&mut self, core: &mut Core) -> Result<(), Fault> {
        let copied = self.copy_beside();
        copied.map_err(|cause| self.writer.fault("rewrite, after a failed sync,", cause))?;
        self.whole = core.refresh()?;
        core.is_settled();
        let stat = self.whole.handle.stat();
        self.inode = stat.map_err(|cause| self.writer.fault("look at", cause))?.ino;
        Ok(())
    }

    fn copy_beside(&self) -> io::Result<()> {
        let Writer { disk, paths, .. } = &*self.writer;
        let old = self.whole.handle.stat()?;
        let beside = rewritten(&paths.credentials);
        let copy = disk.open(&beside, Open::Create(0o600))?;
        copy.set_len(0)?;
        copy.set_mode(old.mode)?;
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        while at < self.whole.end {
            let read = self.whole.handle.read_at(&mut buffer, at)?;
            let part = read.min((self.whole.end - at) as usize);
            if part == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            copy.write_at(&buffer[..part], at)?;
            at += part as u64;
        }
        copy.sync()?;
        disk.rename(&beside, &paths.credentials)?;
        disk.sync_dir(&paths.state)
    }

    fn sync(&self) -> Result<(), Fault> {
        self.whole.handle.sync().map_err(|cause| self.writer.fault("sync", cause))
    }

    /// Deletes what a killed process left of a file that it wrote beside another, and gives each
    /// view to the group that is configured by now.
    pub fn settle(&self) -> Result<(), Fault> {
        let Writer { disk, paths, views, .. } = &*self.writer;
        views.iter().try_for_each(View::give_to_group)?;
        disk::unlink_if_there(disk.as_ref(), &rewritten(&paths.credentials))
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

    fn journal(&self) -> Result<&Journal, Fault> {
        let missing =
            || Fault::new("open", &self.writer.paths.journal, io::ErrorKind::NotFound.into());
        self.writer.journal.as_ref().ok_or_else(missing)
    }
}

/// Where the accounts are rewritten. Not `credentials.new`, which an operator may be editing.
fn rewritten(credentials: &Path) -> PathBuf {
    credentials.with_extension("rewritten")
}
