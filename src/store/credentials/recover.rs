//! Putting right, under the lock, what a crash, a power cut or an editor left, before anything is
//! decided: an unfinished line, damaged bytes, the batch of a holder that died, a failed sync.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::change::Stretch;
use super::core::{Core, Whole};
use super::hold::{Hold, Writer};
use super::journal::{Entry, Pending};
use super::line::{ENABLED, LINE_MAX, Line};
use super::{scan, view};
use crate::disk::Open;
use crate::error::Fault;
use crate::log;

/// Bytes of an unfinished line that are kept aside at once.
const ASIDE: usize = 256 * 1024;

impl Writer {
    /// What follows the last LF is nobody's line: it is kept aside and cut off.
    pub(super) fn cut_tail(&self, whole: &mut Whole) -> Result<(), Fault> {
        let cut = || {
            let mut tail = vec![0; ASIDE.min((whole.len - whole.end) as usize)];
            let mut at = whole.end;
            while at < whole.len {
                let read = whole.handle.read_at(&mut tail, at)?.min((whole.len - at) as usize);
                if read == 0 {
                    break;
                }
                self.keep_aside(&tail[..read])?;
                at += read as u64;
            }
            whole.handle.set_len(whole.end)?;
            whole.handle.sync()
        };
        cut().map_err(|cause| self.fault("cut off an unfinished line in", cause))?;
        self.log_damage("unfinished_line", whole.end);
        whole.len = whole.end;
        Ok(())
    }

    /// Bytes that are no line are kept aside and become dead space.
    pub(super) fn blank_damage(
        &self,
        whole: &Whole,
        offset: u64,
        length: u64,
    ) -> Result<(), Fault> {
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
}

impl Hold<'_> {
    /// Finishes the batch of a holder that died.
    pub(super) fn finish_journal(&mut self, core: &mut Core) -> Result<(), Fault> {
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
}

/// Where the accounts are rewritten. Not `credentials.new`, which an operator may be editing.
pub fn rewritten(credentials: &Path) -> PathBuf {
    credentials.with_extension("rewritten")
}
