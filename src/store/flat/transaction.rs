//! The accounts while their lock is held: what is durable in which order.
//!
//! | change | steps, in this order, in one hold of the lock |
//! |---|---|
//! | new account | append; sync |
//! | let in | dirty; byte or line; sync; into the views; sync; clean |
//! | shut out | dirty; out of the views; sync; byte; sync; clean |
//! | another HA1 | dirty; out of the views; sync; append; sync; old line's first byte `#`; sync; into the views; sync; its rest `#`; clean |
//! | remove | dirty; out of the views; sync; first byte `#`; sync; its rest `#`; clean |
//!
//! A line of a view dies in two steps: a byte of its realm `#`, sync; the rest dead (see
//! [`super::dead`]), sync. A name's older lines die, durably, before the one that counts does. What could not be made durable
//! is put back, lines are cut off again, in the same hold. `dirty` and `clean` are flags in the block
//! (see [`super::block`]); where they stay set, the next holder puts the rest right (see
//! [`super::recover`]).

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Paths;
use super::block::{Block, BlockFile};
use super::file::{AccountsFile, Snapshot, Span, read_fault};
use super::plan::{Flip, Plan};
use super::queue::lock;
use super::scan;
use crate::disk::{Disk, LockFile, Locked, Open, Stat};
use crate::error::Fault;
use crate::log;
use crate::store::accounts::Failed;
use crate::store::views::htdigest::View;

/// How often a holder gives the lock back to read what is new without it.
const CATCH_UPS: usize = 2;

/// The files that only the holder of the lock writes.
#[derive(Debug)]
pub struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) paths: Paths,
    pub(super) views: Vec<View>,
    boot: String,
    lock_file: LockFile,
    block: Option<(BlockFile, Stat)>,
    /// The credentials file whose name is durable.
    named: Option<Stat>,
}

/// The lock, held, and the file as it stands.
#[derive(Debug)]
pub struct Transaction<'a> {
    pub(super) files: &'a mut Files,
    pub(super) accounts: &'a Mutex<AccountsFile>,
    pub(super) snapshot: Snapshot,
    pub(super) block: Block,
    /// Whether a holder before this one left something half-way, which was finished.
    pub(super) was_put_right: bool,
    /// What the block says on disk.
    written: Block,
    _lock: Locked,
}

impl Files {
    /// For the files at `paths`.
    pub fn new(disk: Arc<dyn Disk>, paths: Paths, views: Vec<View>) -> Self {
        let boot = disk.boot_id().unwrap_or_else(|| "-".into());
        let lock_file = LockFile::new(&paths.lock, 0o600);
        Self { disk, paths, views, boot, lock_file, block: None, named: None }
    }

    /// Takes the lock, with the index up to date, and puts right what a crash, a power cut or an
    /// editor left. `None` where another process has the lock and `blocks` is not wanted.
    pub fn begin<'a>(
        &'a mut self,
        accounts: &'a Mutex<AccountsFile>,
        blocks: bool,
        locked: &dyn Fn(),
    ) -> Result<Option<Transaction<'a>>, Fault> {
        let mut tries = 0;
        let (lock, block, snapshot) = loop {
            let mut reader = lock(accounts);
            if reader.is_sealed() {
                // What fails here fails under the lock again.
                let _ = reader.refresh();
            }
            drop(reader);
            let taken = match blocks {
                true => self.lock_file.lock(self.disk.as_ref()).map(Some),
                false => self.lock_file.try_lock(self.disk.as_ref()),
            };
            let taken = taken.map_err(|cause| Fault::new("lock", &self.paths.lock, cause))?;
            let Some(taken) = taken else { return Ok(None) };
            locked();
            let (block, stat) = self.look()?;
            let mut accounts = lock(accounts);
            if accounts.catch_up(&stat, block.epoch) || tries == CATCH_UPS {
                break (taken, block, accounts.refresh()?);
            }
            tries += 1;
        };
        let written = block.clone();
        let mut transaction = Transaction {
            files: self,
            accounts,
            snapshot,
            block,
            was_put_right: false,
            written,
            _lock: lock,
        };
        transaction.recover()?;
        Ok(Some(transaction))
    }

    /// The block, and what the credentials file is, made where they are missing. A file that somebody
    /// else wrote is made durable and begins a new epoch.
    fn look(&mut self) -> Result<(Block, Stat), Fault> {
        let known = self.read_block()?;
        let path = &self.paths.credentials;
        let stat = self.disk.stat(path).map_err(|cause| read_fault(path, cause))?;
        let was_known = known.is_some();
        let mut block = known.unwrap_or_else(|| Block::unknown(&self.boot));
        let same_boot = block.is_of_boot(&self.boot);
        block.dirty |= !same_boot;
        if block.fits(&stat) {
            return Ok((block, stat));
        }
        let synced = self.disk.open(path, Open::Write).and_then(|file| file.sync());
        block.begin_epoch();
        block.seal(&self.boot, &stat);
        block.suspect |= synced.is_err();
        self.write_block(&block)?;
        synced.map_err(|cause| Fault::new("sync", path, cause))?;
        if was_known && same_boot {
            log::event(log::Level::Info, "credentials")
                .field("outcome", "edited")
                .field("file", path.display())
                .field("note", "read anew; an operator changed it, or a process was killed at it")
                .emit();
        }
        Ok((block, stat))
    }

    fn read_block(&mut self) -> Result<Option<Block>, Fault> {
        let path = self.paths.block.clone();
        let fault = |cause| Fault::new("open", &path, cause);
        let is_same = |known: &Stat| self.disk.stat(&path).is_ok_and(|now| now.same_file(known));
        if !self.block.as_ref().is_some_and(|(_, known)| is_same(known)) {
            self.make_missing()?;
            let file = BlockFile::open(self.disk.as_ref(), &path).map_err(fault)?;
            self.block = Some((file, self.disk.stat(&path).map_err(fault)?));
            self.retire_journal()?;
        }
        let Some((file, _)) = &self.block else { return Ok(None) };
        file.read().map_err(|cause| Fault::new("read", &path, cause))
    }

    /// Makes the credentials file of a new state directory: one in which no block and no journal shows
    /// that there was one before.
    fn make_missing(&self) -> Result<(), Fault> {
        let Paths { state, credentials, block, journal, .. } = &self.paths;
        if [block, journal].iter().any(|path| self.disk.stat(path).is_ok()) {
            return Ok(());
        }
        let make = || {
            self.disk.open(credentials, Open::Create(0o600))?.sync()?;
            // Before the block, which tells a new directory from one that lost its accounts.
            self.disk.sync_dir(state)
        };
        make().map_err(|cause| Fault::new("make", credentials, cause))
    }

    /// The journal of versions before this one: what it has to say becomes a flag of the block, and a
    /// directory takes its place, so that such a version fails instead of working on.
    fn retire_journal(&self) -> Result<(), Fault> {
        let path = &self.paths.journal;
        let retire = || {
            match self.disk.stat(path) {
                Ok(stat) if stat.is_dir => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                stat => {
                    stat?;
                    let mut first = [0];
                    self.disk.open(path, Open::Read)?.read_at(&mut first, 0)?;
                    let mut block = Block::unknown(&self.boot);
                    block.suspect = first != *b"0";
                    if let Some((file, _)) = &self.block {
                        file.write(&block)?;
                    }
                    self.disk.unlink(path)?;
                }
            }
            self.disk.make_dir(path, 0o700)
        };
        retire().map_err(|cause| Fault::new("put a directory in the place of", path, cause))
    }

    pub(super) fn write_block(&self, block: &Block) -> Result<(), Fault> {
        let Some((file, _)) = &self.block else { return Ok(()) };
        file.write(block).map_err(|cause| Fault::new("write", &self.paths.block, cause))
    }

    /// Makes the name of the credentials file durable, where it is another file than before.
    fn make_name_durable(&mut self, stat: &Stat) -> Result<(), Fault> {
        if !self.named.is_some_and(|named| named.same_file(stat)) {
            let state = &self.paths.state;
            let synced = self.disk.sync_dir(state);
            synced.map_err(|cause| Fault::new("sync", state, cause))?;
            self.named = Some(*stat);
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Puts right what others left; see [`super::recover`].
    fn recover(&mut self) -> Result<(), Fault> {
        self.files.make_name_durable(&self.snapshot.stat)?;
        self.cut_tail()?;
        self.blank_damage()?;
        if self.block.dirty || self.block.suspect {
            self.put_right()?;
            self.was_put_right = true;
        }
        self.rebuild_missing_views()
    }

    /// Writes a plan, durably.
    pub fn write(&mut self, plan: &Plan) -> Result<(), Failed> {
        if plan.is_empty() {
            return Ok(());
        }
        if plan.changes_in_place() {
            self.block.dirty = true;
            self.write_block().map_err(Failed::Undone)?;
        }
        let mut flipped = Vec::new();
        let written = self.write_views_and_accounts(plan, &mut flipped);
        if let Err(fault) = written {
            // The block stays dirty: what the views lack by now, the next holder gives back.
            return Err(match self.undo(&flipped) {
                true => Failed::Undone(fault),
                false => Failed::Unknown(fault),
            });
        }
        self.snapshot.end += plan.append.len() as u64;
        // From here on all is durable that is answered.
        match self.erase(plan.overridden.iter().chain(&plan.killed).map(|(span, _)| *span)) {
            Ok(()) => self.block.dirty = false,
            Err(fault) => log_fault(&fault),
        }
        Ok(())
    }

    /// Notes in `flipped` which bytes changed in place.
    fn write_views_and_accounts<'p>(
        &mut self,
        plan: &'p Plan,
        flipped: &mut Vec<&'p Flip>,
    ) -> Result<(), Fault> {
        let Files { views, .. } = &mut *self.files;
        if !plan.out_of_views.is_empty() {
            views.iter_mut().try_for_each(|view| view.kill(&plan.out_of_views).map(drop))?;
        }
        let appends = !plan.append.is_empty();
        let first = plan.flips.iter().chain(plan.overridden.iter().map(|(_, flip)| flip));
        let first: Vec<&Flip> = first.collect();
        if appends || !first.is_empty() {
            if appends {
                let bytes = plan.append.as_bytes();
                let written = self.snapshot.handle.write_at(bytes, self.snapshot.end);
                written.map_err(|cause| self.fault("write accounts to", cause))?;
            }
            self.flip(first, flipped)?;
            self.sync()?;
        }
        if !plan.killed.is_empty() {
            self.flip(plan.killed.iter().map(|(_, flip)| flip), flipped)?;
            self.sync()?;
        }
        if plan.into_views.is_empty() {
            return Ok(());
        }
        let Files { views, .. } = &mut *self.files;
        let lines = plan.into_views.as_bytes();
        let appended = views.iter_mut().try_for_each(|view| view.append(lines));
        if appended.is_err() {
            let users = plan.into_views.lines().filter_map(|line| line.split(':').next());
            let users = users.map(str::to_owned).collect();
            // What stays in a view even so, the next holder takes out: the block is dirty.
            views.iter_mut().for_each(|view| drop(view.kill(&users)));
        }
        appended
    }

    /// Writes bytes in place, and notes which.
    fn flip<'p>(
        &self,
        flips: impl IntoIterator<Item = &'p Flip>,
        flipped: &mut Vec<&'p Flip>,
    ) -> Result<(), Fault> {
        for flip in flips {
            let written = self.snapshot.handle.write_at(&[flip.to], flip.offset);
            written.map_err(|cause| self.fault("write accounts to", cause))?;
            flipped.push(flip);
        }
        Ok(())
    }

    /// Puts back what was changed in the accounts; whether nothing of it is left.
    fn undo(&mut self, flipped: &[&Flip]) -> bool {
        let end = self.snapshot.end;
        let file = self.snapshot.handle.clone();
        let is_whole = |len| scan::whole_lines_end(file.as_ref(), len).ok() != Some(end);
        let appended = file.stat().map_or(true, |stat| is_whole(stat.len));
        if appended {
            // Lines that others may have read by now may not stand again where other ones will.
            self.block.begin_epoch();
        }
        // Before the lines go that replaced them: an account is always there.
        let revive = || {
            flipped.iter().try_for_each(|flip| file.write_at(&[flip.from], flip.offset))?;
            if flipped.is_empty() { Ok(()) } else { file.sync() }
        };
        let cut = || match file.set_len(end) {
            // A part of a line is nobody's: the next holder cuts it off.
            _ if !appended => Ok(()),
            cut => cut.and_then(|()| file.sync()),
        };
        if let Err(cause) = revive().and_then(|()| cut()) {
            self.block.suspect = true;
            log_fault(&self.fault("undo a failed write to", cause));
            return false;
        }
        true
    }

    /// Fills lines whose death is durable with `#`, so that nothing personal stays.
    pub(super) fn erase(&self, spans: impl Iterator<Item = Span>) -> Result<(), Fault> {
        for Span { offset, length } in spans {
            let dead = vec![b'#'; (length as usize).saturating_sub(1)];
            let erased = self.snapshot.handle.write_at(&dead, offset);
            erased.map_err(|cause| self.fault("erase a line in", cause))?;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.snapshot.handle.sync().map_err(|cause| self.fault("sync", cause))
    }

    pub(super) fn write_block(&mut self) -> Result<(), Fault> {
        self.files.write_block(&self.block)?;
        self.written = self.block.clone();
        Ok(())
    }

    pub(super) fn fault(&self, doing: &'static str, cause: io::Error) -> Fault {
        Fault::new(doing, &self.files.paths.credentials, cause)
    }

    /// Notes how the file is left. Where that fails, the next holder reads it once more.
    fn seal(&mut self) -> io::Result<()> {
        let handle = &self.snapshot.handle;
        if !self.block.fits(&handle.stat()?) {
            handle.set_mtime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())?;
            self.block.seal(&self.files.boot, &handle.stat()?);
        }
        if self.block != self.written {
            self.write_block().map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    /// Seals the file; the lock is given back after that.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.seal();
        }
    }
}

pub(super) fn log_fault(fault: &Fault) {
    log::event(log::Level::Error, "credentials").field("fault", fault).emit();
}
