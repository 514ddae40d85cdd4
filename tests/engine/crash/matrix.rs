//! Every crash of an operation, and what another process makes of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use codeb_signup::disk::{Disk, RealDisk};
use sha2::Digest;

use super::check::{Expected, Verdict, view};
use super::history::{Bound, History, Step};
use super::operations::{Operation, Run};
use super::random::Random;
use super::record::{Breakage, Recorder};
use super::tree::Tree;
use super::world::{Base, Form, Process, scratch};

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// States for each power cut of the operation.
    pub first: Bound,
    /// States for each power cut of the recovery.
    pub second: Bound,
    /// Of so many recoveries one is crashed in its turn.
    pub one_in: usize,
    /// Of so many states after a power cut one is also used.
    pub used_one_in: usize,
}

/// The part that runs with every test.
pub const BOUNDED: Scale = Scale {
    first: Bound { exhaustive: 4, subsets: 6, mixed: 5 },
    second: Bound { exhaustive: 1, subsets: 1, mixed: 1 },
    one_in: 30,
    used_one_in: 10,
};

/// Everything.
pub const WHOLE: Scale = Scale {
    first: Bound { exhaustive: 6, subsets: 40, mixed: 60 },
    second: Bound { exhaustive: 2, subsets: 3, mixed: 4 },
    one_in: 30,
    used_one_in: 8,
};

/// How many states were checked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Points {
    pub steps: usize,
    pub kills: usize,
    pub cuts: usize,
    pub second: usize,
}

/// An operation that was done once, and recorded.
pub struct Recording<'a> {
    operation: &'a Operation,
    breakage: Option<Breakage>,
    root: PathBuf,
    base: Base,
    history: History,
    forms: Vec<(Form, u16)>,
    /// Who was in the view before.
    viewed: Vec<String>,
    random: Random,
    scale: Scale,
    points: Points,
}

impl<'a> Recording<'a> {
    /// Does the operation.
    pub fn of(operation: &'a Operation, breakage: Option<Breakage>, scale: Scale) -> Self {
        let name = breakage.map_or(operation.name, |breakage| breakage.name);
        let tag = format!("{name}-{}", scale.first.subsets);
        let root = scratch(&tag.replace(' ', "-"));
        let base = Base::lay_out(&root);
        // Views, journal and key stand there from the beginning.
        let first = Process::start(&root, Arc::new(RealDisk)).unwrap();
        first.form("nobody", 9).unwrap();
        drop(first);
        (operation.prepare)(&root);
        let viewed = view(&root.join("state"));
        let recorder = Recorder::on(&root, breakage);
        let disk = || Arc::new(recorder.clone());
        let process = operation.running.then(|| Process::start(&root, disk()).unwrap());
        if operation.running {
            recorder.begin();
        }
        let run = Run {
            root: &root,
            recorder: &recorder,
            process: process.as_ref(),
            base: &base,
            forms: Mutex::default(),
        };
        (operation.run)(&run);
        let forms = run.forms.into_inner().unwrap_or_else(PoisonError::into_inner);
        let history = recorder.history();
        let breakage = breakage.filter(|breakage| breakage.lasting);
        let random = Random(history.steps.len() as u64);
        let points = Points { steps: history.steps.len(), ..Points::default() };
        Self { operation, breakage, root, base, history, forms, viewed, random, scale, points }
    }

    /// Plays every crash.
    pub fn play(mut self) -> Result<Points, String> {
        for at in 0..=self.history.steps.len() {
            self.kills(at).map_err(|why| self.describe("killed", at, &why))?;
            self.cuts(at).map_err(|why| self.describe("power cut", at, &why))?;
        }
        Ok(self.points)
    }

    fn describe(&self, what: &str, at: usize, why: &str) -> String {
        let step = self.history.steps.get(at).map_or("the end".into(), brief);
        let after =
            at.checked_sub(1).map_or("the beginning".into(), |n| brief(&self.history.steps[n]));
        format!("{}: {what} at step {at}, between {after} and {step}: {why}", self.operation.name)
    }

    fn kills(&mut self, at: usize) -> Verdict {
        let mut histories = vec![self.history.until(at)];
        for part in self.history.stopped_writes(at) {
            let mut history = self.history.until(at);
            history.steps.push(part);
            histories.push(history);
        }
        for history in histories {
            self.points.kills += 2;
            self.kill(at, history.clone())?;
            if self.operation.running {
                self.kill_beside_another(at, &history)?;
            }
        }
        Ok(())
    }

    /// A new process finds what the killed one left.
    fn kill(&mut self, at: usize, history: History) -> Verdict {
        let acknowledged = history.acknowledged(history.steps.len());
        let acknowledged: Vec<String> = acknowledged.into_iter().map(str::to_owned).collect();
        let names: Vec<&str> = acknowledged.iter().map(String::as_str).collect();
        let root = self.root.clone();
        history.shown(history.steps.len()).materialise(&root);
        self.expected(&names).raw(&root)?;
        let recorder = Recorder::new(&root, history, self.breakage);
        let process = recover(&root, &recorder)?;
        self.expected(&names).swept(&root)?;
        let recovered = recorder.history();
        self.expected(&names).usable(&root, &process, &self.forms, true)?;
        drop(process);
        if at.is_multiple_of(self.scale.one_in.div_ceil(5)) {
            self.crash_again(at, recovered, &names)?;
        }
        Ok(())
    }

    /// A process that was running all along finds it, and serves before anybody sweeps.
    fn kill_beside_another(&mut self, _at: usize, history: &History) -> Verdict {
        let names = history.acknowledged(history.steps.len());
        let root = self.root.clone();
        history.base.materialise(&root);
        let beginning = History { base: history.base.clone(), steps: Vec::new() };
        let recorder = Recorder::new(&root, beginning, self.breakage);
        let process = start(&root, &recorder)?;
        let begun = recorder.history().steps.len();
        history.steps.iter().for_each(|step| recorder.replay(step));
        let expected = self.expected(&names);
        let form = process.form("yves", 200).ok_or("no captcha can be had")?;
        let status = process.sign_up(&form);
        if status != 200 {
            return Err(format!("another process answered {status} ({begun} steps at its start)"));
        }
        expected.raw(&root)?;
        process.set("yves", codeb_signup::store::rules::remove());
        let _ = std::fs::read_dir(root.join("pickup")).map(|entries| {
            let yves = newest_mail_of(entries, "yves");
            yves.into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
        });
        expected.complete(&root)?;
        process.sweep().map_err(|fault| fault.to_string())?;
        expected.swept(&root)?;
        expected.usable(&root, &process, &self.forms, true)
    }

    fn cuts(&mut self, at: usize) -> Verdict {
        let history = self.history.clone();
        let names = history.acknowledged(at);
        let states = history.cuts(at, self.scale.first, &mut self.random);
        for state in states {
            let number = self.points.cuts;
            self.points.cuts += 1;
            let recovered =
                self.cut(&state, &names, number.is_multiple_of(self.scale.used_one_in))?;
            if number.is_multiple_of(self.scale.one_in) {
                self.crash_again(at, recovered, &names)?;
            }
        }
        Ok(())
    }

    /// The machine starts again on what a power cut left; the history of the recovery.
    fn cut(&self, state: &Tree, names: &[&str], used: bool) -> Result<History, String> {
        let root = &self.root;
        let base = another_boot(state.clone());
        base.materialise(root);
        let expected = self.expected(names);
        expected.raw(root)?;
        let history = History { base, steps: Vec::new() };
        let recorder = Recorder::new(root, history, self.breakage);
        let process = recover(root, &recorder)?;
        expected.swept(root)?;
        let recovered = recorder.history();
        if used {
            expected.usable(root, &process, &self.forms, false)?;
        }
        Ok(recovered)
    }

    /// Crashes a recovery at a few of its steps: what it repaired, or left, another one finds.
    fn crash_again(&mut self, at: usize, recovery: History, names: &[&str]) -> Verdict {
        let end = recovery.steps.len();
        let from = self.history.steps[..at].len().min(end);
        for _ in 0..3 {
            let second = if end > from { from + self.random.below(end - from + 1) } else { end };
            self.points.second += 1;
            let root = self.root.clone();
            recovery.shown(second).materialise(&root);
            let recorder = Recorder::new(&root, recovery.until(second), self.breakage);
            let expected = self.expected(names);
            expected.raw(&root).map_err(again)?;
            let process = recover(&root, &recorder).map_err(again)?;
            expected.swept(&root).map_err(again)?;
            drop(process);
            for state in recovery.cuts(second, self.scale.second, &mut self.random) {
                self.points.second += 1;
                self.cut(&state, names, false).map_err(again)?;
            }
        }
        Ok(())
    }

    fn expected<'b>(&'b self, acknowledged: &'b [&'b str]) -> Expected<'b> {
        let populated = self.history.base.names.contains_key(Path::new("state/credentials"));
        let (effects, viewed) = (self.operation.effects, self.viewed.as_slice());
        Expected { base: &self.base, effects, acknowledged, populated, viewed }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn again(why: String) -> String {
    format!("and again in the recovery: {why}")
}

fn start(root: &Path, recorder: &Recorder) -> Result<Process, String> {
    Process::start(root, Arc::new(recorder.clone())).map_err(|fault| format!("no start: {fault}"))
}

fn recover(root: &Path, recorder: &Recorder) -> Result<Process, String> {
    let process = start(root, recorder)?;
    process.sweep().map_err(|fault| format!("no sweep: {fault}"))?;
    Ok(process)
}

/// The kernel has another boot id after a power cut: what bears this one's bears a foreign one.
fn another_boot(mut state: Tree) -> Tree {
    let boot = RealDisk.boot_id().unwrap();
    let other = "00000000-0000-0000-0000-000000000000";
    let mut write = |name: &str, change: &dyn Fn(&str) -> String| {
        let file = state.names.get(Path::new(name)).copied();
        if let Some(node) = file.and_then(|file| state.files.get_mut(&file)) {
            let text = String::from_utf8_lossy(&node.content.bytes()).into_owned();
            node.content.write(0, change(&text).as_bytes());
        }
    };
    write("state/spool/captcha.key", &|text| text.replace(&boot, other));
    write("state/credentials.block", &|text| {
        // Its line ends in a sum over what is before it.
        let Some((line, _)) = text.split_once('\n').filter(|(line, _)| line.contains(&boot)) else {
            return text.to_owned();
        };
        let Some((line, _)) = line.rsplit_once(' ') else { return text.to_owned() };
        let line = line.replace(&boot, other);
        let sum = sha2::Sha256::digest(line.as_bytes());
        format!("{line} {}\n", data_encoding::HEXLOWER.encode(&sum[..8]))
    });
    state
}

/// The mails to a user.
fn newest_mail_of(entries: std::fs::ReadDir, user: &str) -> Vec<PathBuf> {
    let to = format!("To: {user}@people.example\r\n");
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(&to))
        .collect()
}

/// A step without the bytes that it writes.
pub fn brief(step: &Step) -> String {
    match step {
        Step::Write { file, offset, data } => {
            format!("Write({} bytes at {offset} of {})", data.len(), file.0)
        }
        other => format!("{other:?}"),
    }
}
