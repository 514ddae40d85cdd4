//! A disk that passes every operation on to a real directory and writes down each change. It can
//! fail at a step, and it can be broken on purpose: leave a step out, or put it off.
//!
//! Files bear the inode numbers of the history, not the real ones: what the program wrote about an
//! inode stays true in every directory that a state is laid out in.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codeb_signup::disk::{Disk, Handle, Open, RealDisk, Stat};

use super::history::{History, Step};
use super::tree::{FileId, Tree};

/// What a step does, for faults and breakages to choose by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Write,
    SetLen,
    Attribute,
    Sync,
    Rename,
    RenameAcross,
    Unlink,
    SyncDir,
    MakeDir,
}

/// A step that is about to be done: its kind, the path (relative) that its file was opened by or
/// that it leads to, and how many bytes it writes.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub kind: Kind,
    pub path: &'a Path,
    pub data: &'a [u8],
}

impl About<'_> {
    pub fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && self.path == Path::new(name)
    }
}

/// Which steps fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The number of the first step that fails, among those that `only` lets through.
    pub at: usize,
    /// Whether every later one fails too.
    pub lasting: bool,
    pub errno: i32,
    pub only: fn(&About<'_>) -> bool,
}

/// A deliberate mistake in the order of steps.
#[derive(Clone, Copy)]
pub struct Breakage {
    pub name: &'static str,
    /// Steps that are answered with success and not done.
    pub dropped: fn(&About<'_>) -> bool,
    /// Steps that are put off until after one that `until` names.
    pub deferred: fn(&About<'_>) -> bool,
    pub until: fn(&About<'_>) -> bool,
    /// Whether the process that recovers makes the mistake as well.
    pub lasting: bool,
}

/// A filesystem that is read-only takes nothing at all.
pub const EROFS: i32 = nix::errno::Errno::EROFS as i32;

type Deed = Box<dyn FnOnce() -> io::Result<()> + Send>;

struct State {
    history: History,
    names: HashMap<PathBuf, FileId>,
    next: u64,
    fault: Option<Fault>,
    seen: usize,
    failed: usize,
    deferred: Vec<(Step, Deed)>,
}

struct Shared {
    root: PathBuf,
    breakage: Option<Breakage>,
    state: Mutex<State>,
}

/// See the module's head.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// On `root`, in which the end of `history` stands.
    pub fn new(root: &Path, history: History, breakage: Option<Breakage>) -> Self {
        let shown = history.shown(history.steps.len());
        let highest = shown.files.keys().map(|id| id.0).max().unwrap_or(0);
        let state = State {
            history,
            names: shown.names.into_iter().collect(),
            // Far from the numbers of a process whose steps are replayed here.
            next: (highest / 1000 + 1) * 1000,
            fault: None,
            seen: 0,
            failed: 0,
            deferred: Vec::new(),
        };
        Self(Arc::new(Shared { root: root.to_owned(), breakage, state: Mutex::new(state) }))
    }

    /// On `root`, whose content is the durable beginning.
    pub fn on(root: &Path, breakage: Option<Breakage>) -> Self {
        Self::new(root, History { base: Tree::load(root), steps: Vec::new() }, breakage)
    }

    /// Forgets the steps; what they made counts as durable from now on.
    pub fn begin(&self) {
        let mut state = self.0.lock();
        let base = state.history.shown(state.history.steps.len());
        state.history = History { base, steps: Vec::new() };
    }

    /// What was written down.
    pub fn history(&self) -> History {
        self.0.lock().history.clone()
    }

    /// Writes down that an operation was answered with success.
    pub fn acknowledge(&self, user: &str) {
        self.0.lock().history.steps.push(Step::Acknowledged { user: user.to_owned() });
    }

    /// From now on steps fail as `fault` says.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut state = self.0.lock();
        (state.fault, state.seen, state.failed) = (fault, 0, 0);
    }

    /// How many steps a fault could have hit, and how many it did hit.
    pub fn seen_and_failed(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.seen, state.failed)
    }

    /// Does a step of another process here.
    pub fn replay(&self, step: &Step) {
        let mut state = self.0.lock();
        let at = |path: &Path| self.0.root.join(path);
        let open = |state: &State, file: &FileId| {
            let (path, _) = state.names.iter().find(|(_, id)| *id == file)?;
            Some(fs::OpenOptions::new().write(true).open(at(path)).unwrap())
        };
        match step {
            Step::Create { file, path, mode } => {
                RealDisk.open(&at(path), Open::New(*mode)).unwrap();
                state.names.insert(path.clone(), *file);
            }
            Step::Write { file, offset, data } => {
                open(&state, file).iter().for_each(|f| f.write_all_at(data, *offset).unwrap());
            }
            Step::SetLen { file, len } => {
                open(&state, file).iter().for_each(|f| f.set_len(*len).unwrap());
            }
            Step::Rename { file, from, to } => {
                RealDisk.rename(&at(from), &at(to)).unwrap();
                state.names.remove(from);
                state.names.insert(to.clone(), *file);
            }
            Step::Unlink { path, .. } => {
                RealDisk.unlink(&at(path)).unwrap();
                state.names.remove(path);
            }
            Step::MakeDir { path, mode } => RealDisk.make_dir(&at(path), *mode).unwrap(),
            Step::Mode { .. } | Step::Sync { .. } | Step::SyncDir { .. } => {}
            Step::Acknowledged { .. } => {}
        }
        state.history.steps.push(step.clone());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).expect("a path in the recorded directory").to_owned()
    }

    /// Does a step, unless it is to fail, to be left out or to be put off.
    fn perform(
        &self,
        state: &mut State,
        about: About<'_>,
        step: Step,
        deed: Deed,
    ) -> io::Result<()> {
        state.fault(&about)?;
        if let Some(breakage) = &self.breakage {
            if (breakage.dropped)(&about) {
                return Ok(());
            }
            if (breakage.deferred)(&about) {
                state.deferred.push((step, deed));
                return Ok(());
            }
        }
        deed()?;
        state.note(step);
        if self.breakage.is_some_and(|breakage| (breakage.until)(&about)) {
            for (step, deed) in std::mem::take(&mut state.deferred) {
                deed()?;
                state.note(step);
            }
        }
        Ok(())
    }

    /// The number of the file at `path`; one that was written behind our back is written down now.
    fn file_at(&self, state: &mut State, path: &Path) -> io::Result<FileId> {
        let relative = self.relative(path);
        if let Some(id) = state.names.get(&relative) {
            return Ok(*id);
        }
        let data = fs::read(path)?;
        let file = state.fresh();
        state.note(Step::Create { file, path: relative, mode: 0o640 });
        state.note(Step::Write { file, offset: 0, data });
        Ok(file)
    }
}

impl State {
    fn fresh(&mut self) -> FileId {
        self.next += 1;
        FileId(self.next)
    }

    fn fault(&mut self, about: &About<'_>) -> io::Result<()> {
        let Some(fault) = self.fault else { return Ok(()) };
        if !(fault.only)(about) {
            return Ok(());
        }
        self.seen += 1;
        let hit = if fault.lasting { self.seen > fault.at } else { self.seen == fault.at + 1 };
        if !hit {
            return Ok(());
        }
        self.failed += 1;
        Err(io::Error::from_raw_os_error(fault.errno))
    }

    fn note(&mut self, step: Step) {
        match &step {
            Step::Create { file, path, .. } => {
                self.names.insert(path.clone(), *file);
            }
            Step::Rename { file, from, to } => {
                self.names.remove(from);
                self.names.insert(to.clone(), *file);
            }
            Step::Unlink { path, .. } => {
                self.names.remove(path);
            }
            _ => {}
        }
        self.history.steps.push(step);
    }
}

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
