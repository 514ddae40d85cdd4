//! Who takes the lock on the accounts, and for whom.
//!
//! Changes queue up, and one thread of the process at a time, the *leader*, takes the lock and does
//! all that wait as one batch. Whoever finds nobody leading leads in its own thread, where the lock
//! is free; where another process has it, a thread of its own blocks in flock (which the kernel
//! serves in turn; asking again and again would starve), and the requests wait for that. At its end
//! a leader hands over to the request that waited longest.
//!
//! # Limits
//! Waiting ends after a time, work does not: a change that no leader took by then is withdrawn; one
//! that was taken is waited for, however long the disk takes. A leader that panics ends the process.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::transaction::Transaction;
use crate::error::Fault;
use crate::store::accounts::{Decide, Failed, Key, Updated};

/// Changes that one batch takes at most; the rest waits for the next.
const BATCH: usize = 256;
/// While a lead takes longer than a caller may wait, nobody who came before got his turn in time:
/// whoever comes then waits for this part of the time only.
const STUCK_PART: u32 = 8;

/// What a caller wants to be done under the lock.
pub enum Work {
    /// A change of one account.
    Update(Key, Decide),
    /// Something that needs the files themselves.
    Maintain(Maintenance),
}

/// Something that is done once, with the files under the lock.
pub type Maintenance = Box<dyn FnOnce(&mut Transaction<'_>) -> Result<(), Fault> + Send>;

/// What became of it; `None` for maintenance.
pub type Outcome = Result<Option<Updated>, Failed>;

/// A batch that was done: the outcomes to hand over.
pub type Batch = Vec<(Arc<Job>, Outcome)>;

/// Something to be done, and who waits for it.
pub struct Job {
    /// Taken out by the leader that does it, put back where it has to wait for the next batch.
    pub work: Mutex<Option<Work>>,
    progress: Mutex<Progress>,
    caller: Thread,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// How far a job is.
enum Progress {
    Waiting,
    /// Its caller leads the next batch.
    Leading,
    Taken,
    Ended(Outcome),
}

/// What a caller does next.
enum Next {
    Return(Outcome),
    Lead,
    Withdraw,
    Sleep(Duration),
    SleepUntilDone,
}

/// The jobs of one tenant's accounts.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Wakes the thread that blocks in flock.
    blocked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Job>>,
    /// Since when somebody leads, or was asked to.
    led: Option<Instant>,
    /// Whether that is the thread that blocks in flock.
    is_blocking: bool,
    closed: bool,
}

impl Job {
    fn new(work: Work) -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::new(Some(work)),
            progress: Mutex::new(Progress::Waiting),
            caller: std::thread::current(),
        })
    }

    fn end(&self, outcome: Outcome) {
        *lock(&self.progress) = Progress::Ended(outcome);
        self.wake();
    }

    /// Wakes its caller, who mostly is the one that calls.
    fn wake(&self) {
        if self.caller.id() != std::thread::current().id() {
            self.caller.unpark();
        }
    }

    fn next(&self, left: Duration) -> Next {
        let mut progress = lock(&self.progress);
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Ended(outcome) => Next::Return(outcome),
            Progress::Leading => {
                *progress = Progress::Waiting;
                Next::Lead
            }
            Progress::Waiting => {
                *progress = Progress::Waiting;
                if left.is_zero() { Next::Withdraw } else { Next::Sleep(left) }
            }
            Progress::Taken => Next::SleepUntilDone,
        }
    }
}

impl Queue {
    /// Has `work` done within `wait`; `None` where no leader took it by then. `lead` does a batch in
    /// this thread; `None` where another process has the lock.
    pub fn submit(
        &self,
        work: Work,
        wait: Duration,
        mut lead: impl FnMut() -> Option<Batch>,
    ) -> Option<Outcome> {
        let started = Instant::now();
        let job = Job::new(work);
        let mut state = lock(&self.state);
        state.waiting.push_back(job.clone());
        let led_for = state.led.map(|since| since.elapsed());
        let wait = if led_for.is_some_and(|time| time >= wait) { wait / STUCK_PART } else { wait };
        let mut leads = led_for.is_none();
        state.led.get_or_insert(started);
        drop(state);
        loop {
            if leads {
                self.lead(&mut lead);
            }
            leads = false;
            match job.next(wait.saturating_sub(started.elapsed())) {
                Next::Return(outcome) => return Some(outcome),
                Next::Lead => leads = true,
                Next::Sleep(left) => std::thread::park_timeout(left),
                Next::SleepUntilDone => std::thread::park(),
                Next::Withdraw => {
                    let mut state = lock(&self.state);
                    let before = state.waiting.len();
                    state.waiting.retain(|other| !Arc::ptr_eq(other, &job));
                    if state.waiting.len() < before {
                        drop(state);
                        // It may have been asked to lead in this moment: somebody has to.
                        if matches!(job.next(Duration::MAX), Next::Lead) {
                            self.lead(&mut lead);
                        }
                        return None;
                    }
                    // A leader took it in this moment.
                }
            }
        }
    }

    fn lead(&self, lead: &mut impl FnMut() -> Option<Batch>) {
        // Others may be about to bring a change too: see `outbox::group_sync`.
        std::thread::yield_now();
        match lead() {
            Some(batch) => self.hand_over(batch),
            None => {
                lock(&self.state).is_blocking = true;
                self.blocked.notify_one();
            }
        }
    }

    /// The jobs that a leader does now; those of callers who gave up are not among them.
    pub fn take(&self) -> Vec<Arc<Job>> {
        let mut state = lock(&self.state);
        let count = state.waiting.len().min(BATCH);
        let taken: Vec<Arc<Job>> = state.waiting.drain(..count).collect();
        for job in &taken {
            *lock(&job.progress) = Progress::Taken;
        }
        taken
    }

    /// Puts a job back that has to wait for the next batch.
    pub fn put_back(&self, job: Arc<Job>, work: Work) {
        *lock(&job.work) = Some(work);
        let mut state = lock(&self.state);
        *lock(&job.progress) = Progress::Waiting;
        job.wake();
        state.waiting.push_front(job);
    }

    /// Ends a lead: the caller that waited longest leads next. It is woken before those who are
    /// answered, so that the disk has work meanwhile.
    fn hand_over(&self, batch: Batch) {
        let mut state = lock(&self.state);
        match state.waiting.front() {
            Some(job) => {
                *lock(&job.progress) = Progress::Leading;
                job.wake();
                state.led = Some(Instant::now());
            }
            None => state.led = None,
        }
        drop(state);
        batch.into_iter().for_each(|(job, outcome)| job.end(outcome));
    }

    /// The work of the thread that blocks in flock: leads whenever it is asked to, until the queue is
    /// closed.
    pub fn lead_blocking(&self, mut lead: impl FnMut() -> Batch) {
        loop {
            let mut state = lock(&self.state);
            while !state.is_blocking {
                if state.closed {
                    return;
                }
                state = self.blocked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            let batch = lead();
            lock(&self.state).is_blocking = false;
            self.hand_over(batch);
        }
    }

    /// Nobody brings a job any more.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.blocked.notify_all();
    }
}

/// The lock of a mutex, whatever became of who held it before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
