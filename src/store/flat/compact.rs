//! A file without its dead space: copied while requests go on, put in place under the lock.
//!
//! Dropped are the lines that `is_dead` names (what a removed account leaves); every other one is
//! kept. The copy is made in segments of whole lines and synced. Under the lock, which keeps everybody
//! from writing, each segment is compared with what the file says by then: one that changed (an
//! account was enabled, or removed) is filtered again and filled up to its old length with dead
//! lines. What was appended follows; then the copy is synced and renamed over the file.
//!
//! The pause under the lock is the time to read the file twice from memory and to sync what changed.
//! On disk beside the file: `NAME.compact`, locked by the process that writes it; what a killed one
//! leaves, the next compaction overwrites or a sweep deletes.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::dead;
use crate::disk::{self, Disk, Handle, Open};
use crate::store::accounts::Compacted;

/// Bytes of a segment, unless one line is longer.
const SEGMENT: usize = 256 * 1024;
/// The copy is synced whenever this much was written: a filesystem that is given hundreds of
/// megabytes at once lets everybody's syncs wait for them.
const SYNC_EVERY: u64 = 8 * 1024 * 1024;

/// The copy of a file, on its way. Dropping it before it was put in place deletes it.
#[derive(Debug)]
pub struct Draft {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    beside: PathBuf,
    source: Arc<dyn Handle>,
    copy: Arc<dyn Handle>,
    segments: Vec<Segment>,
    is_dead: fn(&[u8]) -> bool,
    placed: bool,
}

/// Lines of the file, and what of them is in the copy.
#[derive(Debug, Clone, Copy)]
struct Segment {
    from: u64,
    length: usize,
    copied_to: u64,
    copied: usize,
}

impl Draft {
    /// Copies the file at `path` beside it, as far as it consists of whole lines. Needs no lock.
    pub fn copy(disk: &Arc<dyn Disk>, path: &Path, is_dead: fn(&[u8]) -> bool) -> io::Result<Self> {
        let source = disk.open(path, Open::Read)?;
        let len = source.stat()?.len;
        let end = super::scan::whole_lines_end(source.as_ref(), len)?;
        let beside = beside(path);
        let copy = own(disk.as_ref(), &beside)?;
        let (disk, path) = (disk.clone(), path.to_owned());
        let (segments, placed) = (Vec::new(), false);
        let mut draft = Self { disk, path, beside, source, copy, segments, is_dead, placed };
        draft.copy.set_len(0)?;
        draft.take_on_rights()?;
        draft.copy_segments(end)?;
        Ok(draft)
    }

    /// The file that it is a copy of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the copy lacks nothing that the file has.
    pub fn drops_nothing(&self) -> bool {
        self.segments.iter().all(|segment| segment.copied == segment.length)
    }

    /// The length of the copy before the rest is carried over, in bytes.
    pub fn len(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.copied_to + last.copied as u64)
    }

    fn copied_end(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.from + last.length as u64)
    }

    /// Group and mode of the file; its owner is ours, or it could not have been opened.
    fn take_on_rights(&self) -> io::Result<()> {
        let (of, now) = (self.source.stat()?, self.copy.stat()?);
        if now.gid != of.gid {
            self.copy.set_group(of.gid)?;
        }
        if now.mode != of.mode {
            self.copy.set_mode(of.mode)?;
        }
        Ok(())
    }

    fn copy_segments(&mut self, end: u64) -> io::Result<()> {
        let mut synced = 0;
        while self.copied_end() < end {
            let (from, copied_to) = (self.copied_end(), self.len());
            let lines = read_lines(self.source.as_ref(), from, end)?;
            let kept = self.kept(&lines);
            self.copy.write_at(&kept, copied_to)?;
            self.segments.push(Segment {
                from,
                length: lines.len(),
                copied_to,
                copied: kept.len(),
            });
            if self.len() - synced > SYNC_EVERY {
                self.copy.sync()?;
                synced = self.len();
            }
        }
        self.copy.sync()
    }

    /// Carries over what changed in `source` since, whose whole lines reach to `end`, and puts the
    /// copy in the file's place, durably; returns it. `None` where `source` is another file, or lines
    /// moved in it: then the copy is of no use. The lock must be held.
    pub fn put_in_place(
        mut self,
        source: &Arc<dyn Handle>,
        end: u64,
    ) -> io::Result<Option<(Compacted, Arc<dyn Handle>)>> {
        let started = Instant::now();
        let stat = source.stat()?;
        if !stat.same_file(&self.source.stat()?) || end < self.copied_end() {
            return Ok(None);
        }
        for segment in &self.segments {
            if !self.carry_over(segment)? {
                return Ok(None);
            }
        }
        let after = self.append_rest(end)?;
        self.take_on_rights()?;
        self.copy.sync()?;
        self.disk.rename(&self.beside, &self.path)?;
        self.placed = true;
        let path = self.path.clone();
        let compacted = Compacted { path, before: stat.len, after, pause: started.elapsed() };
        self.path.parent().map_or(Ok(()), |directory| self.disk.sync_dir(directory))?;
        Ok(Some((compacted, self.copy.clone())))
    }

    /// The lines that are not dead.
    fn kept(&self, lines: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(lines.len());
        let mut rest = lines;
        while !rest.is_empty() {
            let from_here = rest;
            // A slice searches for LF many bytes at a time, and reading from one does not fail.
            let length = rest.skip_until(b'\n').unwrap_or(from_here.len());
            let line = from_here.get(..length).unwrap_or(from_here);
            if !(self.is_dead)(line) {
                kept.extend_from_slice(line);
            }
        }
        kept
    }

    /// Makes the copy of a segment what the file says now; `false` where its lines moved.
    fn carry_over(&self, segment: &Segment) -> io::Result<bool> {
        let now = read_exactly(self.source.as_ref(), segment.from, segment.length)?;
        let copied = read_exactly(self.copy.as_ref(), segment.copied_to, segment.copied)?;
        if now == copied {
            return Ok(true);
        }
        if now.last() != Some(&b'\n') {
            return Ok(false);
        }
        let mut kept = self.kept(&now);
        if kept == copied {
            return Ok(true);
        }
        if kept.len() > copied.len() {
            return Ok(false);
        }
        kept.extend(dead::filler(copied.len() - kept.len()));
        self.copy.write_at(&kept, segment.copied_to)?;
        Ok(true)
    }

    /// Copies what was appended since; the length of the copy.
    fn append_rest(&self, end: u64) -> io::Result<u64> {
        let (mut from, mut to) = (self.copied_end(), self.len());
        while from < end {
            let lines = read_lines(self.source.as_ref(), from, end)?;
            let kept = self.kept(&lines);
            self.copy.write_at(&kept, to)?;
            from += lines.len() as u64;
            to += kept.len() as u64;
        }
        Ok(to)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be deleted now, the next compaction overwrites.
            let _ = self.disk.unlink(&self.beside);
        }
    }
}

/// Deletes what a killed compaction left beside the file at `path`; whether there was something.
pub fn clear_leftover(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let beside = beside(path);
    match disk.stat(&beside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        stat => stat?,
    };
    match own(disk, &beside) {
        // Somebody is at it.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
        owned => {
            let _locked = owned?;
            disk.unlink(&beside).map(|()| true)
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("compact")
}

/// The file at `beside`, locked; an error of kind `ResourceBusy` where another compaction has it.
fn own(disk: &dyn Disk, beside: &Path) -> io::Result<Arc<dyn Handle>> {
    let handle = disk.open(beside, Open::Create(0o600))?;
    // Whoever held the lock may have renamed the file away before it let go: then it is the live
    // one, and nobody's to write.
    if !handle.try_lock()? || !disk.stat(beside).is_ok_and(is_file_of(&handle.stat()?)) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another compaction is under way"));
    }
    Ok(handle)
}

fn is_file_of(handle: &disk::Stat) -> impl Fn(disk::Stat) -> bool + '_ {
    |stat| stat.same_file(handle)
}

/// Whole lines from `from` on: about a segment, at least one line, nothing behind `end`, which is
/// the end of a line.
fn read_lines(source: &dyn Handle, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut size = SEGMENT;
    loop {
        let length = (end - from).min(size as u64) as usize;
        let mut bytes = read_exactly(source, from, length)?;
        if let Some(last) = bytes.iter().rposition(|&b| b == b'\n') {
            bytes.truncate(last + 1);
            return Ok(bytes);
        }
        if length < size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its lines changed meanwhile"));
        }
        size *= 2;
    }
}

fn read_exactly(source: &dyn Handle, from: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    match source.read_at(&mut bytes, from)? {
        read if read == length => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn only_dead_lines_go() {
        let dir = std::env::temp_dir().join(format!("codeb-dead-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("file");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dead = "####\n#\r\n#:##:00000000000000000000000000000000\n";
        let kept = "# a note\n\njoe:r\n##x\n#:#:00\n";
        std::fs::write(&path, format!("{dead}{kept}{dead}")).unwrap();
        let file = disk.open(&path, Open::Write).unwrap();
        let draft = Draft::copy(&disk, &path, dead::is_dead).unwrap();
        draft.put_in_place(&file, file.stat().unwrap().len).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_changed_after_the_copy_is_carried_over() {
        let dir = std::env::temp_dir().join(format!("codeb-draft-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("file");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        std::fs::write(&path, "####\njoe:1\nbob:1\nsue:1\ntorn").unwrap();
        let draft = Draft::copy(&disk, &path, dead::is_dead).unwrap();
        assert!(Draft::copy(&disk, &path, dead::is_dead).is_err(), "one at a time");
        assert!(!draft.drops_nothing());
        let file = disk.open(&path, Open::Write).unwrap();
        file.write_at(b"joe:0\n#####\nsue:1\n####\nnew:1\n", 5).unwrap();
        let (outcome, _) = draft.put_in_place(&file, 34).unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"joe:0\nsue:1\n#####\nnew:1\n");
        assert_eq!((outcome.before, outcome.after), (34, 24));

        std::fs::write(&path, "####\njoe:1\n").unwrap();
        let draft = Draft::copy(&disk, &path, dead::is_dead).unwrap();
        std::fs::write(&path, "#\njoe:1\nbob:1\n").unwrap();
        let file = disk.open(&path, Open::Write).unwrap();
        assert!(draft.put_in_place(&file, 14).unwrap().is_none(), "lines moved");
        std::fs::write(dir.join("file.compact"), "left").unwrap();
        assert!(clear_leftover(&RealDisk, &path).unwrap());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
