//! The operations that are crashed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use codeb_signup::disk::{Disk, LockFile, Open, RealDisk};
use codeb_signup::maintenance;
use codeb_signup::store::accounts::Decide;
use codeb_signup::store::rules;

use super::record::{About, Fault, Kind, Recorder};
use super::world::{Base, Form, Process};

/// What an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Absent,
    Pending,
    Enabled,
    Disabled,
}

/// What an operation does to one account.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    pub user: &'static str,
    pub before: Status,
    pub after: Status,
    pub changes_ha1: bool,
}

/// One operation.
pub struct Operation {
    pub name: &'static str,
    /// Changes the beginning before any process is there.
    pub prepare: fn(&Path),
    /// Whether a process is running before the first step that is crashed.
    pub running: bool,
    pub effects: &'static [Effect],
    pub run: fn(&Run),
}

/// An operation under way.
pub struct Run<'a> {
    pub root: &'a Path,
    pub recorder: &'a Recorder,
    pub process: Option<&'a Process>,
    pub base: &'a Base,
    /// The forms that were sent, with their answers.
    pub forms: Mutex<Vec<(Form, u16)>>,
}

pub(super) const fn effect(user: &'static str, before: Status, after: Status) -> Effect {
    Effect { user, before, after, changes_ha1: false }
}

pub(super) const NINA: Effect = effect("nina", Status::Absent, Status::Pending);
pub(super) const OTTO: Effect = effect("otto", Status::Absent, Status::Pending);
const CARL_ACTIVE: Effect = effect("carl", Status::Pending, Status::Enabled);
const DORA_EXPIRED: Effect = effect("dora", Status::Pending, Status::Absent);
const DORA_TAKEN: Effect = effect("dora", Status::Pending, Status::Pending);
pub(super) const ANNA_DISABLED: Effect = effect("anna", Status::Enabled, Status::Disabled);
pub(super) const EMIL_ENABLED: Effect = effect("emil", Status::Disabled, Status::Enabled);
pub(super) const BERT_REMOVED: Effect = effect("bert", Status::Enabled, Status::Absent);
const CARL_MAILED: Effect = effect("carl", Status::Pending, Status::Pending);
const ANNA_CHANGED: Effect =
    Effect { changes_ha1: true, ..effect("anna", Status::Enabled, Status::Enabled) };
const CARL_REMOVED: Effect = effect("carl", Status::Pending, Status::Absent);

/// What the program does, each kind of change at least once.
pub const ALL: &[Operation] = &[
    Operation { name: "sign-up", effects: &[NINA], run: |run| run.sign_up("nina", 1), ..PLAIN },
    Operation {
        name: "a second sign-up",
        effects: &[NINA, OTTO],
        run: |run| {
            run.sign_up("nina", 1);
            run.sign_up("otto", 1);
        },
        ..PLAIN
    },
    Operation {
        name: "the first sign-up in an empty state directory",
        prepare: |root| {
            let state = root.join("state");
            fs::remove_dir_all(&state).unwrap();
            fs::create_dir(&state).unwrap();
            fs::remove_dir_all(root.join("pickup")).unwrap();
            fs::create_dir(root.join("pickup")).unwrap();
        },
        running: false,
        effects: &[NINA],
        run: |run| run.sign_up("nina", 1),
    },
    Operation {
        name: "activate",
        effects: &[CARL_ACTIVE],
        run: |run| run.activate_carl(),
        ..PLAIN
    },
    Operation {
        name: "expire",
        effects: &[DORA_EXPIRED],
        run: |run| run.acknowledge("dora", run.on(|process| process.expire("dora"))),
        ..PLAIN
    },
    Operation {
        name: "disable",
        effects: &[ANNA_DISABLED],
        run: |run| run.set("anna", rules::disable()),
        ..PLAIN
    },
    Operation {
        name: "enable",
        effects: &[EMIL_ENABLED],
        run: |run| run.set("emil", rules::enable()),
        ..PLAIN
    },
    Operation {
        name: "remove",
        effects: &[BERT_REMOVED],
        run: |run| run.set("bert", rules::remove()),
        ..PLAIN
    },
    Operation {
        name: "remove a pending account",
        effects: &[CARL_REMOVED],
        run: |run| run.set("carl", rules::remove()),
        ..PLAIN
    },
    Operation {
        name: "take over an expired name",
        effects: &[DORA_TAKEN],
        run: |run| run.sign_up("dora", 1),
        ..PLAIN
    },
    Operation {
        name: "resend a mail",
        effects: &[CARL_MAILED],
        run: |run| run.acknowledge("carl", run.on(Process::resend_to_carl)),
        ..PLAIN
    },
    Operation {
        name: "compact",
        prepare: |root| {
            let path = root.join("state/credentials");
            let text = fs::read_to_string(&path).unwrap();
            let dead = "#".repeat(5000);
            fs::write(&path, format!("{dead}\n{text}{dead}\n")).unwrap();
        },
        effects: &[],
        run: |run| run.on(|process| drop(maintenance::compact(process.tenant()))),
        ..PLAIN
    },
    Operation {
        name: "withdraw after a rename that failed",
        effects: &[NINA],
        run: |run| {
            run.sign_up_failing(|about| {
                about.kind == Kind::RenameAcross && about.path.starts_with("pickup")
            })
        },
        ..PLAIN
    },
    Operation {
        name: "withdraw after a directory sync that failed",
        effects: &[NINA],
        run: |run| run.sign_up_failing(|about| about.is(Kind::SyncDir, "pickup")),
        ..PLAIN
    },
    Operation {
        name: "captcha key made anew",
        prepare: |root| {
            fs::write(root.join("state/spool/captcha.key"), "1 damaged\n").unwrap();
            // A running process looks at the file once in ten milliseconds: so the next request does.
            std::thread::sleep(Duration::from_millis(20));
        },
        running: true,
        effects: &[NINA],
        run: |run| run.sign_up("nina", 1),
    },
    Operation {
        name: "view made anew",
        prepare: |root| {
            let view = root.join("state/htdigest");
            let lines = fs::read_to_string(&view).unwrap();
            // `finn` is the last, and falls out.
            let kept: String = lines.split_inclusive('\n').take(2).collect();
            fs::write(view, kept).unwrap();
        },
        running: false,
        effects: &[],
        run: |run| run.on(|_| ()),
    },
    Operation {
        name: "unfinished and damaged lines put aside",
        prepare: |root| {
            let path = root.join("state/credentials");
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend_from_slice(b"\0\0\0\0\0\0\nhalf:a:li");
            fs::write(path, bytes).unwrap();
        },
        running: false,
        effects: &[NINA],
        run: |run| run.sign_up("nina", 1),
    },
    Operation {
        name: "another HA1",
        effects: &[ANNA_CHANGED],
        run: |run| run.acknowledge("anna", run.on(|process| process.change_ha1("anna"))),
        ..PLAIN
    },
    Operation {
        name: "seven changes in one batch",
        effects: &[NINA, OTTO, DORA_TAKEN, CARL_ACTIVE, ANNA_DISABLED, EMIL_ENABLED, BERT_REMOVED],
        run: |run| run.batch(),
        ..PLAIN
    },
];

pub(super) const PLAIN: Operation =
    Operation { name: "", prepare: |_| {}, running: true, effects: &[], run: |_| {} };

impl Run<'_> {
    /// Calls `work` with the process that runs, or with one that is started for it.
    pub fn on<T: Default>(&self, work: impl FnOnce(&Process) -> T) -> T {
        match self.process {
            Some(process) => work(process),
            None => {
                let disk = std::sync::Arc::new(self.recorder.clone());
                Process::start(self.root, disk).map_or_else(|_| T::default(), |p| work(&p))
            }
        }
    }

    pub(super) fn acknowledge(&self, user: &str, done: bool) {
        if done {
            self.recorder.acknowledge(user);
        }
    }

    pub(super) fn sign_up(&self, user: &'static str, client: u8) {
        self.on(|process| self.sign_up_at(process, user, client));
    }

    fn sign_up_at(&self, process: &Process, user: &'static str, client: u8) {
        let Some(form) = process.form(user, client) else { return };
        let status = process.sign_up(&form);
        self.forms.lock().unwrap_or_else(PoisonError::into_inner).push((form, status));
        self.acknowledge(user, status == 200);
    }

    pub(super) fn sign_up_failing(&self, only: fn(&About<'_>) -> bool) {
        let errno = nix::errno::Errno::EIO as i32;
        self.recorder.fail(Some(Fault { at: 0, lasting: false, errno, only }));
        self.sign_up("nina", 1);
    }

    fn activate_carl(&self) {
        let token = self.base.carl.reveal();
        self.acknowledge("carl", self.on(|process| process.activate(&token)) == 200);
    }

    pub(super) fn set(&self, user: &str, decide: Decide) {
        self.acknowledge(user, self.on(|process| process.set(user, decide)));
    }

    /// What a careful operator does: under the lock, a whole new file by rename, with more at its
    /// beginning.
    pub(super) fn edit(&self, more: &str) {
        let lock = LockFile::new(&self.root.join("state/credentials.lock"), 0o600);
        let (mut lock, disk) = (lock, self.recorder);
        let held = lock.lock(&RealDisk).unwrap();
        let path = self.root.join("state/credentials");
        let beside = self.root.join("state/edited");
        let text = more.to_owned() + &fs::read_to_string(&path).unwrap();
        let edit = || {
            let file = disk.open(&beside, Open::Create(0o600))?;
            file.write_at(text.as_bytes(), 0)?;
            file.sync()?;
            disk.rename(&beside, &path)?;
            disk.sync_dir(&self.root.join("state"))
        };
        edit().unwrap();
        drop(held);
    }

    /// Everything at once while somebody else holds the lock.
    fn batch(&self) {
        let process = self.process.expect("a running process");
        let path = self.root.join("state/credentials.lock");
        let lock = LockFile::new(&path, 0o600).lock(&RealDisk).unwrap();
        let refused = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (client, user) in ["nina", "otto", "dora"].into_iter().enumerate() {
                let refused = &refused;
                scope.spawn(move || {
                    self.sign_up_at(process, user, client as u8 + 1);
                    refused.fetch_add(1, Ordering::SeqCst);
                });
            }
            scope.spawn(|| self.activate_carl());
            scope.spawn(|| self.set("anna", rules::disable()));
            scope.spawn(|| self.set("emil", rules::enable()));
            scope.spawn(|| self.set("bert", rules::remove()));
            let started = Instant::now();
            let staged = || fs::read_dir(self.root.join("state/staging")).unwrap().count();
            while staged() + refused.load(Ordering::SeqCst) < 3
                && started.elapsed() < Duration::from_secs(2)
            {
                std::thread::yield_now();
            }
            drop(lock);
        });
    }
}
