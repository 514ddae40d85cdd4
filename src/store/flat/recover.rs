//! Putting right, under the lock, what a crash, a power cut or an editor left, before anything is
//! decided: an unfinished line, damaged bytes, lines that a later one overrides, a failed sync, views
//! that are not what the file says.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::file::LineRef;
use super::line::{Line, Record};
use super::queue::lock;
use super::scan;
use super::transaction::{Files, Transaction};
use crate::disk::{self, Open};
use crate::error::Fault;
use crate::log;
use crate::store::views::htdigest::{self, Sum};

/// Bytes of an unfinished line that are kept aside at once.
const ASIDE: usize = 256 * 1024;

impl Transaction<'_> {
    /// What follows the last LF is nobody's line: it is kept aside and cut off.
    pub(super) fn cut_tail(&mut self) -> Result<(), Fault> {
        let (end, len) = (self.snapshot.end, self.snapshot.stat.len);
        if end >= len {
            return Ok(());
        }
        let handle = self.snapshot.handle.clone();
        let cut = || {
            let mut tail = vec![0; ASIDE.min((len - end) as usize)];
            let mut at = end;
            while at < len {
                let read = handle.read_at(&mut tail, at)?.min((len - at) as usize);
                if read == 0 {
                    break;
                }
                self.files.keep_aside(tail.get(..read).unwrap_or_default())?;
                at += read as u64;
            }
            handle.set_len(end)?;
            handle.sync()
        };
        cut().map_err(|cause| self.fault("cut off an unfinished line in", cause))?;
        self.files.log_damage("unfinished_line", end);
        Ok(())
    }

    /// Bytes that are no line are kept aside and become dead space.
    pub(super) fn blank_damage(&mut self) -> Result<(), Fault> {
        let damaged = lock(self.accounts).take_damaged();
        for span in damaged {
            let mut bytes = vec![0; span.length as usize];
            let handle = self.snapshot.handle.as_ref();
            let mut blank = || {
                let read = handle.read_at(&mut bytes, span.offset)?;
                if read < bytes.len() || Line::parse(&bytes) != Line::Damaged {
                    return Ok(false);
                }
                self.files.keep_aside(&bytes)?;
                handle.write_at(&vec![b'#'; bytes.len()], span.offset)?;
                handle.sync()?;
                Ok(true)
            };
            if blank().map_err(|cause| self.fault("blank damaged bytes in", cause))? {
                self.files.log_damage("damaged_bytes", span.offset);
            }
        }
        Ok(())
    }

    /// Finishes what a holder that died, or a power cut, left half-way.
    pub(super) fn put_right(&mut self) -> Result<(), Fault> {
        // Whoever is killed at this leaves it to the next.
        self.block.dirty = true;
        self.write_block()?;
        if self.block.suspect {
            self.rewrite()?;
        }
        // What that holder wrote has to be durable before a view shows it, and before what it
        // replaces goes.
        self.sync()?;
        self.rebuild_stale_views()?;
        (self.block.dirty, self.block.suspect) = (false, false);
        Ok(())
    }

    /// Kills lines that a later one of their name overrides, and makes every view anew that is not
    /// what the file says; how many were.
    pub fn rebuild_stale_views(&mut self) -> Result<usize, Fault> {
        let mut wanted = Sum::default();
        let mut overridden = HashSet::new();
        self.each_record(&mut |record, counts| {
            if !counts {
                overridden.insert(record.user.to_owned());
            } else if record.is_enabled() {
                wanted.add(htdigest::line_of_record(record).trim_end().as_bytes());
            }
            Ok(())
        })?;
        self.kill_overridden(&overridden)?;
        let mut rebuilt = 0;
        for at in 0..self.files.views.len() {
            let view = &mut self.files.views[at];
            if !view.exists()? || view.sum()? != wanted {
                self.rebuild_view(at)?;
                rebuilt += 1;
            }
        }
        Ok(rebuilt)
    }

    fn kill_overridden(&self, users: &HashSet<String>) -> Result<(), Fault> {
        let mut spans = Vec::new();
        for user in users {
            let lines = lock(self.accounts).live_lines(user, usize::MAX)?;
            spans.extend(lines.iter().skip(1).map(LineRef::span));
        }
        if spans.is_empty() {
            return Ok(());
        }
        let handle = self.snapshot.handle.as_ref();
        let mut kill = spans.iter().map(|span| handle.write_at(b"#", span.offset));
        kill.try_for_each(|killed| killed.map_err(|cause| self.fault("kill a line in", cause)))?;
        self.sync()?;
        self.erase(spans.into_iter())
    }

    pub(super) fn rebuild_missing_views(&mut self) -> Result<(), Fault> {
        for at in 0..self.files.views.len() {
            if !self.files.views[at].exists()? {
                self.rebuild_view(at)?;
            }
        }
        Ok(())
    }

    fn rebuild_view(&mut self, at: usize) -> Result<(), Fault> {
        // A view must not show what a power cut could still take from the file.
        self.sync()?;
        let mut draft = self.files.views[at].rebuild()?;
        let fed = self.each_record(&mut |record, counts| match counts && record.is_enabled() {
            true => draft.add(&htdigest::line_of_record(record)),
            false => Ok(()),
        });
        let view = &mut self.files.views[at];
        let result = fed.and_then(|()| view.put_in_place(draft));
        log::event(log::Level::Info, "view")
            .field("file", view.path().display())
            .field("outcome", if result.is_ok() { "rebuilt" } else { "failed" })
            .emit();
        result
    }

    /// Calls `each` with every live line, and whether it is the one that counts for its name.
    fn each_record(
        &self,
        each: &mut dyn FnMut(&Record<'_>, bool) -> io::Result<()>,
    ) -> Result<(), Fault> {
        scan::lines(self.snapshot.handle.as_ref(), 0, |offset, bytes| {
            if let Line::Record(record) = Line::parse(bytes) {
                each(&record, lock(self.accounts).counts(record.user, offset)?)?;
            }
            Ok(true)
        })
        .map(drop)
        .map_err(|cause| self.fault("read", cause))
    }

    /// Copies the file beside itself and puts the copy in its place: every page of it is written
    /// and synced anew.
    fn rewrite(&mut self) -> Result<(), Fault> {
        let copied = self.copy_beside();
        copied.map_err(|cause| self.fault("rewrite, after a failed sync,", cause))?;
        self.snapshot = lock(self.accounts).refresh()?;
        Ok(())
    }

    fn copy_beside(&self) -> io::Result<()> {
        let Files { disk, paths, .. } = &*self.files;
        let beside = rewritten(&paths.credentials);
        let copy = disk.open(&beside, Open::Create(0o600))?;
        copy.set_len(0)?;
        copy.set_mode(self.snapshot.stat.mode)?;
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        while at < self.snapshot.end {
            let read = self.snapshot.handle.read_at(&mut buffer, at)? as u64;
            let part = read.min(self.snapshot.end - at);
            if part == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            copy.write_at(buffer.get(..part as usize).unwrap_or_default(), at)?;
            at += part;
        }
        copy.sync()?;
        disk.rename(&beside, &paths.credentials)?;
        disk.sync_dir(&paths.state)
    }

    /// Deletes what a killed process left of a file that it wrote beside another, and gives each
    /// view to the group that is configured by now.
    pub fn clear_leftovers(&mut self) -> Result<(), Fault> {
        let Files { disk, paths, views, .. } = &*self.files;
        views.iter().try_for_each(|view| view.give_to_group())?;
        disk::unlink_if_there(disk.as_ref(), &rewritten(&paths.credentials))
            .and_then(|()| views.iter().try_for_each(|view| view.clear_leftover()))
            .map_err(|cause| Fault::new("clear leftovers from", &paths.state, cause))
    }
}

impl Files {
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

/// Where the accounts are rewritten. Not `credentials.new`, which an operator may be editing.
fn rewritten(credentials: &Path) -> PathBuf {
    credentials.with_extension("rewritten")
}
