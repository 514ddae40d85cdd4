//! The one thread of a process that writes a tenant's accounts.
//!
//! It blocks in flock (which the kernel serves in turn) while requests wait for it with a time-out,
//! and takes all that wait as one batch: lock, catch up, decide, write, sync, unlock. A request that
//! gave up withdraws its change; where that was taken already, the committer takes its line back.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::change::{Change, Outcome, Plan, Planned};
use super::core::Core;
use super::hold::{Failed, Hold, Writer};
use super::job::{Job, Luggage, lock};
use super::thread;
use crate::disk::{self, Disk, LockFile, Locked};
use crate::error::Fault;
use crate::log;

/// Changes that one batch takes at most; the rest waits for the next.
const BATCH: usize = 256;
/// A batch that takes longer than this part of the wait for the lock is stuck, and no more than the
/// allowed number of callers waits behind it. A compaction of a few hundred megabytes takes less than
/// a quarter of the default wait.
const STUCK_PART: u32 = 4;

/// See the module's head.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    start: Mutex<Option<Writer>>,
    lock_wait: Duration,
    waiters: usize,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    lock_path: PathBuf,
    core: Arc<Mutex<Core>>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    has_lock: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Arc<Job>>,
    busy_since: Option<Instant>,
    closed: bool,
}

impl Committer {
    /// Writes through `writer`, under the lock at `lock_path`.
    pub fn new(
        disk: Arc<dyn Disk>,
        lock_path: PathBuf,
        core: Arc<Mutex<Core>>,
        writer: Writer,
        lock_wait: Duration,
        waiters: usize,
    ) -> Self {
        let shared = Shared {
            disk,
            lock_path,
            core,
            queue: Mutex::default(),
            arrived: Condvar::new(),
            has_lock: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), start: Mutex::new(Some(writer)), lock_wait, waiters }
    }

    /// Hands a change over and waits for its outcome, at most the configured time.
    pub fn submit<L: Luggage>(&self, change: Change, luggage: L) -> Result<(Outcome, L), Fault> {
        self.enqueue(change, luggage, self.lock_wait)
    }

    /// How long a caller waits.
    pub fn lock_wait(&self) -> Duration {
        self.lock_wait
    }

    /// The same with another bound.
    pub fn submit_within(&self, change: Change, wait: Duration) -> Result<Outcome, Fault> {
        self.enqueue(change, (), wait).map(|(outcome, ())| outcome)
    }

    /// Hands several changes over at once, which makes them share their syncs.
    pub fn submit_all(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, Fault> {
        let pushed = changes.into_iter().map(|change| self.push(change, Box::new(())));
        let jobs = pushed.collect::<Result<Vec<_>, _>>()?;
        let wait =
            |job: &Arc<Job>| job.wait(self.lock_wait).ok_or_else(|| self.shared.stuck_fault())?.0;
        jobs.iter().map(wait).collect()
    }

    fn enqueue<L: Luggage>(
        &self,
        change: Change,
        luggage: L,
        wait: Duration,
    ) -> Result<(Outcome, L), Fault> {
        let job = self.push(change, Box::new(luggage))?;
        let (result, luggage) = job.wait(wait).ok_or_else(|| self.shared.stuck_fault())?;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(fault) => {
                job.part_with(luggage);
                return Err(fault);
            }
        };
        match (luggage as Box<dyn Any>).downcast() {
            Ok(luggage) => Ok((outcome, *luggage)),
            Err(_) => {
                Err(Fault::pathless("match a change with its luggage", io::ErrorKind::Other.into()))
            }
        }
    }

    fn push(&self, change: Change, luggage: Box<dyn Luggage>) -> Result<Arc<Job>, Fault> {
        self.ensure_running()?;
        let job = Arc::new(Job::new(change, luggage));
        let mut queue = lock(&self.shared.queue);
        let stuck =
            queue.busy_since.is_some_and(|since| since.elapsed() > self.lock_wait / STUCK_PART);
        if stuck && queue.jobs.len() >= self.waiters && !job.must_be_done() {
            drop(queue);
            return Err(self.shared.stuck_fault());
        }
        queue.jobs.push_back(job.clone());
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(job)
    }

    fn ensure_running(&self) -> Result<(), Fault> {
        let mut start = lock(&self.start);
        let Some(writer) = start.take() else { return Ok(()) };
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name("committer".into()).spawn(move || {
            thread::run_or_exit(|| shared.run(writer));
        });
        // The writer went with the closure; where no thread can be had, the process is of no use.
        spawned.map(drop).map_err(|cause| {
            Fault::pathless("start the committer thread", cause)
                .way_out("raise the limit on threads (TasksMax, ulimit -u) and restart")
        })
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    fn run(&self, mut writer: Writer) {
        let mut lock_file = LockFile::new(&self.lock_path, 0o600);
        while self.wait_for_work() {
            // Others may be about to bring one too: see `store::group_sync`.
            std::thread::yield_now();
            if let Err(fault) = self.batch(&mut writer, &mut lock_file) {
                // Whoever is in the queue by now waits for nothing else: a lock that cannot be
                // had at all is everybody's answer.
                let jobs = self.take_jobs(usize::MAX);
                log_unheard(&fault, &jobs);
                for job in jobs {
                    self.answer(&job, Err(fault.share()));
                }
            }
            lock(&self.queue).busy_since = None;
        }
    }

    /// Sleeps until there is a job; `false` once nobody can bring one any more.
    fn wait_for_work(&self) -> bool {
        let mut queue = lock(&self.queue);
        while queue.jobs.is_empty() {
            if queue.closed {
                return false;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn batch(&self, writer: &mut Writer, lock_file: &mut LockFile) -> Result<(), Fault> {
        let locked = self.lock_caught_up(writer, lock_file)?;
        self.has_lock.store(true, Ordering::Relaxed);
        let jobs = self.take_jobs(BATCH);
        let mut core = lock(&self.core);
        let ended = match writer.begin(locked, &mut core) {
            Ok(hold) => self.under_lock(hold, core, jobs),
            Err(fault) => {
                drop(core);
                log_unheard(&fault, &jobs);
                jobs.into_iter().map(|job| (job, Err(fault.share()))).collect()
            }
        };
        self.has_lock.store(false, Ordering::Relaxed);
        ended.into_iter().for_each(|(job, result)| self.answer(&job, result));
        Ok(())
    }

    /// The lock, with the index up to date. Reading what is new happens without the lock, even
    /// where the file was replaced or changed while the lock was waited for.
    fn lock_caught_up(
        &self,
        writer: &mut Writer,
        lock_file: &mut LockFile,
    ) -> Result<Locked, Fault> {
        for last in [false, false, true] {
            let mut core = lock(&self.core);
            if writer.is_prepared() {
                core.refresh()?;
            } else if core.is_sealed() {
                // What fails is what this writer has yet to make, or fails under the lock again.
                let _ = core.refresh();
            }
            // An unsealed file is sealed first, below, or it would have to be read twice.
            drop(core);
            lock(&self.queue).busy_since.get_or_insert_with(Instant::now);
            let locked = lock_file
                .lock(self.disk.as_ref())
                .map_err(|cause| Fault::new("lock", &self.lock_path, cause))?;
            let caught_up = writer.is_caught_up(&mut lock(&self.core))?;
            if last || caught_up {
                return Ok(locked);
            }
            drop(locked);
            // Reading a whole file is work, not a hung disk.
            lock(&self.queue).busy_since = None;
        }
        Err(Fault::new("lock", &self.lock_path, io::ErrorKind::ResourceBusy.into()))
    }

    /// Decides and writes; the lock is given back at the end, before anybody is answered.
    fn under_lock(
        &self,
        mut hold: Hold<'_>,
        mut core: MutexGuard<'_, Core>,
        jobs: Vec<Arc<Job>>,
    ) -> Vec<(Arc<Job>, Result<Outcome, Fault>)> {
        let mut plan = Plan::default();
        let (mut ended, mut planned) = (Vec::new(), Vec::new());
        for job in jobs {
            let tended = match job.change {
                Change::Settle => hold.settle().map(|()| true),
                Change::Reconcile => hold.reconcile(&mut core).map(|rebuilt| rebuilt > 0),
                _ => Ok(true),
            };
            match tended {
                Ok(true) => {}
                Ok(false) => {
                    ended.push((job, Ok(Outcome::NotFound)));
                    continue;
                }
                Err(fault) => {
                    ended.push((job, Err(fault)));
                    continue;
                }
            }
            match plan.add(&job.change, &core, hold.whole()) {
                Ok(Planned::Now(outcome)) => planned.push((job, outcome)),
                Ok(Planned::Later) => self.requeue(job),
                Err(fault) => ended.push((job, Err(fault))),
            }
        }
        // Nobody has to wait for our syncs to look something up.
        drop(core);
        let written = if plan.is_empty() { Ok(()) } else { hold.write(&plan) };
        if let Err(failed) = &written {
            log_fault(&failed.fault);
        }
        for (job, outcome) in planned {
            let result = match &written {
                Err(Failed { fault, undone }) if matches!(outcome, Outcome::Done(_)) => {
                    if !undone {
                        job.leave_luggage();
                    }
                    Err(fault.share())
                }
                _ => match &job.change {
                    Change::Compact(draft) => hold.put_in_place(draft),
                    _ => Ok(outcome),
                },
            };
            ended.push((job, result));
        }
        ended
    }

    /// Hands an outcome over. An account that was made for a caller who is gone is taken back.
    fn answer(&self, job: &Job, result: Result<Outcome, Fault>) {
        let made = matches!((&job.change, &result), (Change::Create { .. }, Ok(Outcome::Done(_))));
        let failed = result.is_err();
        let Some(luggage) = job.end(result) else { return };
        match &job.change {
            Change::Create { user, token, .. } if made => {
                let change = Change::Withdraw { user: user.clone(), token: *token };
                lock(&self.queue).jobs.push_back(Arc::new(Job::unheard(change, luggage)));
            }
            // The line waits for the mail: the sweep sends it.
            Change::Remail { .. } if !failed => luggage.leave(),
            _ if failed => job.part_with(luggage),
            _ => drop(luggage),
        }
    }

    fn take_jobs(&self, most: usize) -> Vec<Arc<Job>> {
        let mut queue = lock(&self.queue);
        let count = queue.jobs.len().min(most);
        let taken: Vec<Arc<Job>> = queue.jobs.drain(..count).collect();
        drop(queue);
        taken.into_iter().filter(|job| job.take() || job.is_abandoned()).collect()
    }

    fn requeue(&self, job: Arc<Job>) {
        if job.put_back() || job.is_abandoned() {
            lock(&self.queue).jobs.push_front(job);
        }
    }

    fn stuck_fault(&self) -> Fault {
        let cause = io::ErrorKind::TimedOut.into();
        if self.has_lock.load(Ordering::Relaxed) {
            let credentials = self.lock_path.with_extension("");
            return Fault::new("wait for the disk under", &credentials, cause)
                .way_out("look for a hung or overloaded disk");
        }
        lock_fault(&self.lock_path, cause)
    }
}

fn lock_fault(path: &Path, cause: io::Error) -> Fault {
    let fault = Fault::new("wait for the lock on", path, cause);
    match disk::lock_holder(path) {
        Some(pid) => fault.way_out(format!("process {pid} holds it: let it go on or end it")),
        None => fault.way_out("find its holder with `fuser` or `lslocks`"),
    }
}

/// Logs a fault that no request waits for; who waits for one logs it as his own.
fn log_unheard(fault: &Fault, jobs: &[Arc<Job>]) {
    if jobs.iter().all(|job| job.is_abandoned()) {
        log_fault(fault);
    }
}

fn log_fault(fault: &Fault) {
    log::event(log::Level::Error, "credentials").field("fault", fault).emit();
}
