//! The disk that writes down what is done to it.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use codeb_signup::disk::{Disk, Handle, Open, RealDisk, Stat};

use super::{About, Deed, EROFS, Kind, Recorder, Shared};
use crate::crash::history::Step;
use crate::crash::tree::FileId;

fn numbered(mut stat: Stat, file: FileId) -> Stat {
    stat.ino = file.0;
    stat
}

impl Disk for Recorder {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn Handle>> {
        let shared = &self.0;
        let mut state = shared.lock();
        let relative = shared.relative(path);
        let mode = match how {
            Open::Create(mode) | Open::New(mode) => Some(mode),
            Open::Read | Open::Write => None,
        };
        let missing = fs::symlink_metadata(path).is_err();
        let (inner, file) = match mode.filter(|_| missing) {
            Some(mode) => {
                let about = About { kind: Kind::Create, path: &relative, data: b"" };
                state.fault(&about)?;
                let inner = RealDisk.open(path, how)?;
                let file = state.fresh();
                state.note(Step::Create { file, path: relative.clone(), mode });
                (inner, file)
            }
            None => {
                let inner = RealDisk.open(path, how)?;
                (inner, shared.file_at(&mut state, path)?)
            }
        };
        let shared = shared.clone();
        Ok(Arc::new(Recorded { shared, inner, file, path: relative }))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let stat = RealDisk.stat(path)?;
        if stat.is_dir {
            return Ok(stat);
        }
        let mut state = self.0.lock();
        let file = self.0.file_at(&mut state, path)?;
        Ok(numbered(stat, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let (old, new) = (self.0.relative(from), self.0.relative(to));
        let within = old.parent() == new.parent();
        let kind = if within { Kind::Rename } else { Kind::RenameAcross };
        let about = About { kind, path: &new, data: b"" };
        let Some(&file) = state.names.get(&old) else { return RealDisk.rename(from, to) };
        let step = Step::Rename { file, from: old.clone(), to: new.clone() };
        let (from, to) = (from.to_owned(), to.to_owned());
        let deed = Box::new(move || RealDisk.rename(&from, &to));
        self.0.perform(&mut state, about, step, deed)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let relative = self.0.relative(path);
        let about = About { kind: Kind::Unlink, path: &relative, data: b"" };
        let file = self.0.file_at(&mut state, path)?;
        let step = Step::Unlink { file, path: relative.clone() };
        let path = path.to_owned();
        self.0.perform(&mut state, about, step, Box::new(move || RealDisk.unlink(&path)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let relative = self.0.relative(path);
        let about = About { kind: Kind::SyncDir, path: &relative, data: b"" };
        let step = Step::SyncDir { path: relative.clone() };
        self.0.perform(&mut state, about, step, Box::new(|| Ok(())))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(path)
    }

    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let mut state = self.0.lock();
        let relative = self.0.relative(path);
        let about = About { kind: Kind::MakeDir, path: &relative, data: b"" };
        let step = Step::MakeDir { path: relative.clone(), mode };
        let path = path.to_owned();
        self.0.perform(&mut state, about, step, Box::new(move || RealDisk.make_dir(&path, mode)))
    }
}

struct Recorded {
    shared: Arc<Shared>,
    inner: Arc<dyn Handle>,
    file: FileId,
    path: PathBuf,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorded")
    }
}

impl Recorded {
    fn perform(&self, kind: Kind, data: &[u8], step: Step, deed: Deed) -> io::Result<()> {
        let mut state = self.shared.lock();
        let about = About { kind, path: &self.path, data };
        self.shared.perform(&mut state, about, step, deed)
    }
}

impl Handle for Recorded {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let step = Step::Write { file: self.file, offset, data: data.to_vec() };
        let (inner, bytes) = (self.inner.clone(), data.to_vec());
        let deed = Box::new(move || inner.write_at(&bytes, offset));
        let written = self.perform(Kind::Write, data, step, deed);
        let partly = written.as_ref().is_err_and(|e| e.raw_os_error() != Some(EROFS));
        if partly && data.len() > 1 {
            // A full disk takes a part; whoever fails has to reckon with it.
            let part = &data[..data.len() / 2];
            self.inner.write_at(part, offset)?;
            let step = Step::Write { file: self.file, offset, data: part.to_vec() };
            self.shared.lock().note(step);
        }
        written
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let inner = self.inner.clone();
        let step = Step::SetLen { file: self.file, len };
        self.perform(Kind::SetLen, b"", step, Box::new(move || inner.set_len(len)))
    }

    fn sync(&self) -> io::Result<()> {
        self.perform(Kind::Sync, b"", Step::Sync { file: self.file }, Box::new(|| Ok(())))
    }

    fn stat(&self) -> io::Result<Stat> {
        self.inner.stat().map(|stat| numbered(stat, self.file))
    }

    fn lock(&self) -> io::Result<()> {
        self.inner.lock()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }

    fn set_group(&self, _gid: u32) -> io::Result<()> {
        Ok(())
    }

    /// No step: no reader after a crash goes by it.
    fn set_mtime(&self, since_1970: Duration) -> io::Result<()> {
        self.inner.set_mtime(since_1970)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let inner = self.inner.clone();
        let step = Step::Mode { file: self.file, mode };
        self.perform(Kind::Attribute, b"", step, Box::new(move || inner.set_mode(mode)))
    }
}
