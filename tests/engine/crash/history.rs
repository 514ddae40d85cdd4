//! What a process did to a directory, step by step, and what a crash at any step leaves of it.
//!
//! **A kill** leaves every step before it: what a process wrote is in the kernel's hands. A write
//! that spans pages may have stopped between two.
//!
//! **A power cut** leaves what was synced, and of the rest any part:
//! - a write since its file's last sync is there, or not, or torn at any byte, each page of it for
//!   itself: its beginning alone or, over older bytes, its end alone; where it lies behind the end that was durable, its length may be there and its bytes
//!   zero. A byte that was durable is never zeroed by a write to its neighbour: the sector holds
//!   old or new bytes, a filesystem puts no zeros over a block that it had allocated;
//! - a cut of the length is there or not;
//! - a name that was made, replaced or removed since its directory's last sync has its old or its
//!   new meaning, each for itself and in any order, whatever became of the file's content (a
//!   journalling filesystem keeps the order; this does not count on it);
//! - a rename within a directory has happened or not. Across directories both names may stand; the
//!   new one stands for certain once its directory was synced, the old one is gone for certain once
//!   its own was too. Never neither: each filesystem adds the new name in the transaction that
//!   removes the old, or in an earlier one;
//! - a sync that failed made nothing durable.

use std::path::{Path, PathBuf};

use super::random::Random;
use super::tree::{Content, FileId, Node, PAGE, Tree};

/// One change, or a word of the test's.
#[derive(Debug, Clone)]
pub enum Step {
    Create {
        file: FileId,
        path: PathBuf,
        mode: u32,
    },
    Write {
        file: FileId,
        offset: u64,
        data: Vec<u8>,
    },
    SetLen {
        file: FileId,
        len: u64,
    },
    Mode {
        file: FileId,
        mode: u32,
    },
    Sync {
        file: FileId,
    },
    Rename {
        file: FileId,
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        file: FileId,
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
        mode: u32,
    },
    /// The operation on this account was answered with success.
    Acknowledged {
        user: String,
    },
}

/// A beginning, and what was done since.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub base: Tree,
    pub steps: Vec<Step>,
}

/// A change that may not be durable yet.
#[derive(Debug, Clone)]
struct Unit {
    step: Step,
    settled: Settled,
}

/// How much of a unit is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Nothing,
    /// The new name of a rename across directories.
    NewName,
    Whole,
}

/// What a power cut makes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    Whole,
    /// The first bytes of a write.
    Torn(usize),
    /// All but the first bytes of a write over others.
    Headless(usize),
    /// The length of a write, but not its bytes.
    Zeroed,
    /// Both names of a rename.
    Both,
}

/// How many states of a power cut are tried at a step.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Up to so many units, every subset of them is tried whole.
    pub exhaustive: usize,
    /// Subsets tried at random beyond that.
    pub subsets: usize,
    /// Mixtures of lost, whole, torn and zeroed.
    pub mixed: usize,
}

impl History {
    /// The users whose operation was acknowledged before step `at`.
    pub fn acknowledged(&self, at: usize) -> Vec<&str> {
        let users = self.steps[..at].iter().filter_map(|step| match step {
            Step::Acknowledged { user } => Some(user.as_str()),
            _ => None,
        });
        users.collect()
    }

    /// The steps before `at`, as the beginning of another process's history.
    pub fn until(&self, at: usize) -> Self {
        Self { base: self.base.clone(), steps: self.steps[..at].to_vec() }
    }

    /// What the kernel shows after the steps before `at`.
    pub fn shown(&self, at: usize) -> Tree {
        let mut tree = self.base.clone();
        self.steps[..at].iter().for_each(|step| apply(&mut tree, step));
        tree
    }

    /// Step `at`, stopped between two pages of its write.
    pub fn stopped_writes(&self, at: usize) -> Vec<Step> {
        let Some(Step::Write { file, offset, data }) = self.steps.get(at) else { return vec![] };
        let ends =
            (offset / PAGE + 1..(offset + data.len() as u64).div_ceil(PAGE)).map(|p| p * PAGE);
        let part = |end: u64| data[..(end - offset) as usize].to_vec();
        ends.map(|end| Step::Write { file: *file, offset: *offset, data: part(end) }).collect()
    }

    /// The states that a power cut after the steps before `at` may leave.
    pub fn cuts(&self, at: usize, bound: Bound, random: &mut Random) -> Vec<Tree> {
        let (durable, units) = self.durable(at);
        let mut states: Vec<Tree> = Vec::new();
        for fates in choices(&durable, &units, bound, random) {
            let state = cut(&durable, &units, &fates);
            if !states.contains(&state) {
                states.push(state);
            }
        }
        states
    }

    /// The contents that are durable under the names of the beginning, and every change since that
    /// was to a name or is not durable, in order.
    fn durable(&self, at: usize) -> (Tree, Vec<Unit>) {
        let mut shown = self.base.clone();
        let mut durable = self.base.clone();
        let mut units: Vec<Unit> = Vec::new();
        for step in &self.steps[..at] {
            apply(&mut shown, step);
            match step {
                Step::Write { file, offset, data } => {
                    let parts = pages(*offset, data);
                    units.extend(parts.map(|(offset, data)| {
                        let step = Step::Write { file: *file, offset, data: data.to_vec() };
                        Unit { step, settled: Settled::Nothing }
                    }));
                }
                Step::Sync { file } => {
                    units.retain(|unit| unit.content_of() != Some(*file));
                    durable.files.insert(*file, shown.files[file].clone());
                }
                Step::SyncDir { path } => units.iter_mut().for_each(|unit| unit.settle(path)),
                Step::Create { file, mode, .. } => {
                    let node = Node { content: Content::default(), mode: *mode };
                    durable.files.insert(*file, node);
                    units.push(Unit { step: step.clone(), settled: Settled::Nothing });
                }
                Step::Mode { .. } => apply(&mut durable, step),
                Step::Acknowledged { .. } => {}
                Step::SetLen { .. }
                | Step::Rename { .. }
                | Step::Unlink { .. }
                | Step::MakeDir { .. } => {
                    units.push(Unit { step: step.clone(), settled: Settled::Nothing });
                }
            }
        }
        // What is certain up to the first thing that is not need not be looked at again.
        let certain = units.iter().take_while(|unit| unit.settled == Settled::Whole).count();
        units.drain(..certain).for_each(|unit| apply(&mut durable, &unit.step));
        (durable, units)
    }
}

impl Unit {
    /// The file whose bytes or length it changes.
    fn content_of(&self) -> Option<FileId> {
        match &self.step {
            Step::Write { file, .. } | Step::SetLen { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// The names in `dir` are durable.
    fn settle(&mut self, dir: &Path) {
        let is_in = |path: &PathBuf| path.parent() == Some(dir);
        self.settled = match &self.step {
            Step::Create { path, .. } | Step::Unlink { path, .. } | Step::MakeDir { path, .. }
                if is_in(path) =>
            {
                Settled::Whole
            }
            Step::Rename { from, .. } if is_in(from) => Settled::Whole,
            Step::Rename { to, .. } if is_in(to) && self.settled == Settled::Nothing => {
                Settled::NewName
            }
            _ => self.settled,
        };
    }

    /// What may become of it.
    fn fates(&self, durable: &Tree, random: &mut Random) -> Vec<Fate> {
        match (&self.step, self.settled) {
            (_, Settled::Whole) => vec![Fate::Whole],
            (_, Settled::NewName) => vec![Fate::Whole, Fate::Both],
            (Step::Rename { from, to, .. }, _) if from.parent() != to.parent() => {
                vec![Fate::Lost, Fate::Whole, Fate::Both]
            }
            (Step::Write { file, offset, data }, _) => {
                let mut fates = vec![Fate::Lost, Fate::Whole];
                if data.len() > 1 {
                    fates.push(Fate::Torn(1 + random.below(data.len() - 1)));
                }
                let end = durable.files[file].content.len;
                if data.len() > 1 && offset + data.len() as u64 <= end {
                    fates.push(Fate::Headless(1 + random.below(data.len() - 1)));
                }
                if *offset >= end {
                    fates.push(Fate::Zeroed);
                }
                fates
            }
            _ => vec![Fate::Lost, Fate::Whole],
        }
    }
}

/// The combinations of fates that are tried.
fn choices(durable: &Tree, units: &[Unit], bound: Bound, random: &mut Random) -> Vec<Vec<Fate>> {
    let all: Vec<Vec<Fate>> = units.iter().map(|unit| unit.fates(durable, random)).collect();
    let open = all.iter().filter(|fates| fates.len() > 1).count();
    let mut chosen = Vec::new();
    let subset = |bits: u64| {
        let mut number = 0;
        let pick = |fates: &Vec<Fate>| {
            if fates.len() == 1 {
                return fates[0];
            }
            number += 1;
            fates[(bits >> ((number - 1) % 64) & 1) as usize]
        };
        all.iter().map(pick).collect::<Vec<Fate>>()
    };
    if open <= bound.exhaustive {
        chosen.extend((0..1 << open).map(subset));
    } else {
        chosen.extend([0, u64::MAX].map(subset));
        chosen.extend((0..bound.subsets).map(|_| subset(random.next())));
    }
    for _ in 0..if open > 0 { bound.mixed } else { 0 } {
        let mixed = units.iter().map(|unit| {
            let fates = unit.fates(durable, random);
            fates[random.below(fates.len())]
        });
        chosen.push(mixed.collect());
    }
    chosen
}

/// The durable state with each unit as its fate has it.
fn cut(durable: &Tree, units: &[Unit], fates: &[Fate]) -> Tree {
    let mut tree = durable.clone();
    for (unit, fate) in units.iter().zip(fates) {
        match (&unit.step, fate) {
            (_, Fate::Lost) => {}
            (step, Fate::Whole) => apply(&mut tree, step),
            (Step::Write { file, offset, data }, Fate::Torn(bytes)) => {
                let content = &mut tree.files.get_mut(file).unwrap().content;
                content.write(*offset, &data[..*bytes]);
            }
            (Step::Write { file, offset, data }, Fate::Headless(bytes)) => {
                let content = &mut tree.files.get_mut(file).unwrap().content;
                content.write(offset + *bytes as u64, &data[*bytes..]);
            }
            (Step::Write { file, offset, data }, _) => {
                let content = &mut tree.files.get_mut(file).unwrap().content;
                content.set_len(content.len.max(offset + data.len() as u64));
            }
            (Step::Rename { file, to, .. }, _) => {
                tree.names.insert(to.clone(), *file);
            }
            _ => {}
        }
    }
    // What lies below a directory that is not there is not there.
    let dirs = tree.dirs.clone();
    let reached = |path: &Path| {
        path.ancestors().skip(1).all(|dir| dir == Path::new("") || dirs.contains_key(dir))
    };
    tree.names.retain(|path, _| reached(path));
    tree.dirs.retain(|path, _| reached(path));
    tree
}

/// A step as the kernel shows it.
pub fn apply(tree: &mut Tree, step: &Step) {
    let mut content = |file: &FileId, change: &dyn Fn(&mut Node)| {
        tree.files.get_mut(file).into_iter().for_each(change);
    };
    match step {
        Step::Create { file, path, mode } => {
            let fresh = || Node { content: Content::default(), mode: *mode };
            tree.files.entry(*file).or_insert_with(fresh);
            tree.names.insert(path.clone(), *file);
        }
        Step::Write { file, offset, data } => {
            content(file, &|node| node.content.write(*offset, data));
        }
        Step::SetLen { file, len } => content(file, &|node| node.content.set_len(*len)),
        Step::Mode { file, mode } => content(file, &|node| node.mode = *mode),
        Step::Rename { file, from, to } => {
            if tree.names.get(from) == Some(file) {
                tree.names.remove(from);
            }
            tree.names.insert(to.clone(), *file);
        }
        Step::Unlink { file, path } => {
            if tree.names.get(path) == Some(file) {
                tree.names.remove(path);
            }
        }
        Step::MakeDir { path, mode } => {
            // A file of this name went before: no filesystem has one name for both.
            tree.names.remove(path);
            tree.dirs.insert(path.clone(), *mode);
        }
        Step::Sync { .. } | Step::SyncDir { .. } | Step::Acknowledged { .. } => {}
    }
}

/// A write, page by page.
fn pages(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let part = ((PAGE - at % PAGE) as usize).min(data.len() - done);
        let piece = &data[done..done + part];
        done += part;
        (part > 0).then_some((at, piece))
    })
}
