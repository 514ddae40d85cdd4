//! A batch: what the leader of a process does under the lock for everybody who waits.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Paths;
use super::file::AccountsFile;
use super::plan::{Plan, Planned};
use super::queue::{Batch, Outcome, Queue, Work, lock};
use super::transaction::{Files, Transaction, log_fault};
use crate::disk::{self, Disk};
use crate::error::Fault;
use crate::log;
use crate::store::accounts::{Failed, Updated};
use crate::store::views::htdigest::View;

/// The exit code of a program with a fault of its own (`EX_SOFTWARE`).
const EXIT_PANICKED: i32 = 70;
/// How long the end waits for a log that hangs.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// What the threads of a process share of one tenant's accounts. The locks are taken in this order:
/// `files`, the queue's, `accounts`; nothing is synced and no file lock is waited for under the last
/// two, which readers need.
#[derive(Debug)]
pub struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) paths: Paths,
    pub(super) views: Vec<PathBuf>,
    /// For readers: the file and its index.
    pub(super) accounts: Mutex<AccountsFile>,
    /// For the leader: what only the holder of the lock writes.
    files: Mutex<Files>,
    pub(super) queue: Queue,
    /// Whether this process has the lock, for the words of a fault.
    has_lock: AtomicBool,
}

impl Shared {
    /// For the files at `paths`, and the views of these names beside them.
    pub fn new(disk: Arc<dyn Disk>, paths: Paths, views: &[&str], view_group: Option<u32>) -> Self {
        let view_paths: Vec<_> = views.iter().map(|name| paths.state.join(name)).collect();
        let view = |path: &PathBuf| View::new(disk.clone(), path.clone(), view_group);
        let views = view_paths.iter().map(view).collect();
        Self {
            accounts: Mutex::new(AccountsFile::new(disk.clone(), &paths.credentials)),
            files: Mutex::new(Files::new(disk.clone(), paths.clone(), views)),
            disk,
            paths,
            views: view_paths,
            queue: Queue::default(),
            has_lock: AtomicBool::new(false),
        }
    }

    /// Takes the lock and does what waits by then; `None` where another process has the lock and
    /// `blocks` is not wanted.
    pub fn lead(&self, blocks: bool) -> Option<Batch> {
        let mut files = lock(&self.files);
        let has_lock = || self.has_lock.store(true, Ordering::Relaxed);
        let begun = files.begin(&self.accounts, blocks, &has_lock);
        let batch = match begun {
            Ok(None) => None,
            Ok(Some(transaction)) => Some(self.do_batch(transaction)),
            // Whoever waits by now waits for nothing else: it is everybody's answer.
            Err(fault) => {
                let failed = |job| (job, Err(Failed::Undone(fault.share())));
                Some(self.queue.take().into_iter().map(failed).collect())
            }
        };
        self.has_lock.store(false, Ordering::Relaxed);
        batch
    }

    /// Decides and writes. The lock is given back at the end, before anybody is answered.
    fn do_batch(&self, mut transaction: Transaction<'_>) -> Batch {
        let mut plan = Plan::default();
        let (mut ended, mut planned, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut maintenance = None;
        let jobs = self.queue.take();
        let accounts = lock(&self.accounts);
        for job in jobs {
            let work = lock(&job.work).take();
            match work {
                Some(Work::Update(key, mut decide)) => {
                    match plan.add(&accounts, &key, &mut decide) {
                        Ok(Planned::Now(updated)) => planned.push((job, updated)),
                        Ok(Planned::Later) => later.push((job, Work::Update(key, decide))),
                        Err(fault) => ended.push((job, Err(Failed::Undone(fault)))),
                    }
                }
                Some(Work::Maintain(work)) if maintenance.is_none() => {
                    maintenance = Some((job, work));
                }
                // One at a time: it may put another file in place, which has to be read first.
                Some(work) => later.push((job, work)),
                None => {}
            }
        }
        // Nobody has to wait for our syncs to look something up.
        drop(accounts);
        later.into_iter().rev().for_each(|(job, work)| self.queue.put_back(job, work));
        let written = transaction.write(&plan);
        if let Err(Failed::Undone(fault) | Failed::Unknown(fault)) = &written {
            log_fault(fault);
        }
        ended.extend(planned.into_iter().map(|(job, updated)| (job, outcome(&written, updated))));
        if let Some((job, work)) = maintenance {
            let done = work(&mut transaction).map(|()| None).map_err(Failed::Undone);
            ended.push((job, done));
        }
        ended
    }

    /// The fault of a caller whose change no leader took in time.
    pub fn waited_in_vain(&self) -> Fault {
        let cause = io::ErrorKind::TimedOut.into();
        if self.has_lock.load(Ordering::Relaxed) {
            return Fault::new("wait for the disk under", &self.paths.credentials, cause)
                .way_out("look for a hung or overloaded disk");
        }
        let fault = Fault::new("wait for the lock on", &self.paths.lock, cause);
        match disk::lock_holder(&self.paths.lock) {
            Some(pid) => fault.way_out(format!("process {pid} holds it: let it go on or end it")),
            None => fault.way_out("find its holder with `fuser` or `lslocks`"),
        }
    }
}

/// What a planned change comes to: what was left alone is as it was, whatever became of the rest.
fn outcome(written: &Result<(), Failed>, updated: Updated) -> Outcome {
    match written {
        Err(_) if matches!(updated, Updated::Left(_)) => Ok(Some(updated)),
        Err(Failed::Undone(fault)) => Err(Failed::Undone(fault.share())),
        Err(Failed::Unknown(fault)) => Err(Failed::Unknown(fault.share())),
        Ok(()) => Ok(Some(updated)),
    }
}

/// Runs a leader's work; ends the process where that panics, and its supervisor starts another: an
/// account that was being written is whole or gone with the next holder of the lock, as after a kill.
pub fn or_exit<T>(work: impl FnOnce() -> T) -> T {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        log::event(log::Level::Error, "accounts")
            .field("outcome", "panicked")
            .field("note", "the process ends, to be started again; report the line before")
            .emit();
        log::flush(LOG_WAIT);
        std::process::exit(EXIT_PANICKED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_process_with_a_code_that_makes_a_supervisor_start_it_again() {
        const CHILD: &str = "CODEB_SIGNUP_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            return or_exit(|| panic!("as the test wants it"));
        }
        let name = std::thread::current().name().map(str::to_owned).unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = command.args([&name, "--exact", "--nocapture"]).env(CHILD, "1").output();
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(EXIT_PANICKED));
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(log.matches("event=accounts outcome=panicked").count(), 1, "{log}");
    }
}
