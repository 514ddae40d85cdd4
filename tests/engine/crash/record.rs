//! A disk that passes every operation on to a real directory and writes down each change. It can
//! fail at a step, and it can be broken on purpose: leave a step out, or put it off.
//!
//! Files bear the inode numbers of the history, not the real ones: what the program wrote about an
//! inode stays true in every directory that a state is laid out in.

mod disk;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codeb_signup::disk::{Disk, Open, RealDisk};

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
