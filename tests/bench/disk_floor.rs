//! What the disk alone can do: the same bytes, the same syncs in the same order, shared among all
//! who wait, and nothing else: no web server, no request, no lock, no look whether a name is free.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::load::{self, Sample};

/// Work that one thread does for all who wait.
struct Group<T> {
    state: Mutex<State<T>>,
    ended: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    /// The batch that gathers, and the last one that is done.
    gathering: u64,
    done: u64,
    busy: bool,
}

impl<T> Group<T> {
    fn new() -> Self {
        let state = State { waiting: Vec::new(), gathering: 1, done: 0, busy: false };
        Self { state: Mutex::new(state), ended: Condvar::new() }
    }

    /// Returns when `work` was done with `item` in its batch, by this thread or another.
    fn join(&self, item: T, work: impl FnOnce(Vec<T>)) {
        let mut state = self.state.lock().unwrap();
        state.waiting.push(item);
        let mine = state.gathering;
        while state.busy && state.done < mine {
            state = self.ended.wait(state).unwrap();
        }
        if state.done >= mine {
            return;
        }
        state.busy = true;
        state.gathering += 1;
        let batch = std::mem::take(&mut state.waiting);
        drop(state);
        work(batch);
        let mut state = self.state.lock().unwrap();
        state.done = mine;
        state.busy = false;
        self.ended.notify_all();
    }
}

/// The four syncs of a sign-up: mail, staging directory, line, pickup directory.
pub struct SignUps {
    dir: PathBuf,
    accounts: File,
    end: AtomicU64,
    names: AtomicU64,
    line: Vec<u8>,
    mail: Vec<u8>,
    staging: (File, Group<()>),
    pickup: (File, Group<()>),
    lines: Group<()>,
}

impl SignUps {
    /// In a new directory, with the line and the mail of a sign-up.
    pub fn new(dir: &Path, line: &[u8], mail: &[u8]) -> Self {
        let directory = |name: &str| {
            let path = dir.join(name);
            fs::create_dir_all(&path).unwrap();
            (File::open(path).unwrap(), Group::new())
        };
        Self {
            staging: directory("staging"),
            pickup: directory("pickup"),
            accounts: File::create(dir.join("credentials")).unwrap(),
            dir: dir.to_owned(),
            end: AtomicU64::new(0),
            names: AtomicU64::new(0),
            line: line.to_vec(),
            mail: mail.to_vec(),
            lines: Group::new(),
        }
    }

    /// Measures, and takes the mails out of the way afterwards.
    pub fn measure(&self, clients: usize, time: Duration) -> Sample {
        let sample = load::closed(clients, time, || (), |()| self.once());
        clear(&self.dir.join("pickup"));
        sample
    }

    /// The same at a given rate.
    pub fn measure_at(&self, rate: f64, clients: usize, time: Duration) -> Sample {
        let sample = load::open(clients, time, rate, || (), |()| _ = self.once());
        clear(&self.dir.join("pickup"));
        sample
    }

    fn once(&self) -> bool {
        let name = format!("{:064x}.eml", self.names.fetch_add(1, Ordering::Relaxed));
        let staged = self.dir.join("staging").join(&name);
        let mut mail = File::create_new(&staged).unwrap();
        mail.write_all(&self.mail).unwrap();
        mail.sync_data().unwrap();
        self.staging.1.join((), |_| self.staging.0.sync_all().unwrap());
        self.lines.join((), |batch| {
            let lines = self.line.repeat(batch.len());
            let end = self.end.fetch_add(lines.len() as u64, Ordering::Relaxed);
            self.accounts.write_all_at(&lines, end).unwrap();
            self.accounts.sync_data().unwrap();
        });
        fs::rename(staged, self.dir.join("pickup").join(name)).unwrap();
        self.pickup.1.join((), |_| self.pickup.0.sync_all().unwrap());
        true
    }
}

/// An activation: one byte of a file changes, then a line is appended to another.
pub struct Activations {
    accounts: File,
    view: File,
    end: AtomicU64,
    next: AtomicU64,
    length: u64,
    view_line: Vec<u8>,
    group: Group<u64>,
}

impl Activations {
    /// On a file of this many copies of `line`.
    pub fn new(dir: &Path, line: &[u8], view_line: &[u8], copies: usize) -> Self {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("accounts"), line.repeat(copies)).unwrap();
        let accounts = File::options().write(true).open(dir.join("accounts")).unwrap();
        accounts.sync_all().unwrap();
        Self {
            accounts,
            view: File::create(dir.join("view")).unwrap(),
            end: AtomicU64::new(0),
            next: AtomicU64::new(0),
            length: line.len() as u64 * copies as u64,
            view_line: view_line.to_vec(),
            group: Group::new(),
        }
    }

    /// Measures.
    pub fn measure(&self, clients: usize, time: Duration, line: u64) -> Sample {
        load::closed(
            clients,
            time,
            || (),
            |()| {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let offset = (number * line + line / 4) % self.length;
                self.group.join(offset, |offsets| self.write(&offsets));
                true
            },
        )
    }

    fn write(&self, offsets: &[u64]) {
        for &offset in offsets {
            self.accounts.write_all_at(b"0", offset).unwrap();
        }
        self.accounts.sync_data().unwrap();
        let lines = self.view_line.repeat(offsets.len());
        let end = self.end.fetch_add(lines.len() as u64, Ordering::Relaxed);
        self.view.write_all_at(&lines, end).unwrap();
        self.view.sync_data().unwrap();
    }
}

/// Empties a directory, as an SMTP service would, and lets the disk come to rest. The files move to
/// the directory `taken` beside it: ext4 without a journal does not use the inode of a deleted file
/// again for some minutes and looks at every such inode whenever it makes a file, which would cost whoever comes
/// next more than its syncs (`perf`: `recently_deleted`).
pub fn clear(dir: &Path) {
    let taken = dir.with_file_name("taken");
    fs::create_dir_all(&taken).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), taken.join(entry.file_name())).unwrap();
    }
    File::open(dir).unwrap().sync_all().unwrap();
}
