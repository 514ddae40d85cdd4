//! Work that no answer waits for: a thread with a bounded queue, started when it is first needed.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// One piece of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// The most jobs that wait: about what a disk does of them in a stop's time when it is slow.
const JOBS_MAX: usize = 1000;
/// The thread's stack, in bytes; as a worker's.
const STACK: usize = 256 * 1024;

/// Does jobs one after another. When it is dropped, the jobs that it has are still done.
#[derive(Debug, Default)]
pub struct Background(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells of every change: to the thread, and to who waits for its end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    has_thread: bool,
    is_at_work: bool,
    is_closed: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl Background {
    /// Queues a job. An error where the queue is full or the system gives no thread: the job will
    /// not be done.
    pub fn submit(&self, job: Job) -> io::Result<()> {
        let mut state = self.0.state();
        if state.jobs.len() >= JOBS_MAX {
            return Err(io::Error::other(format!("{JOBS_MAX} wait already")));
        }
        if !state.has_thread {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("background".into()).stack_size(STACK);
            thread.spawn(move || shared.run())?;
            state.has_thread = true;
        }
        state.jobs.push_back(job);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Waits until all jobs are done, but not longer than until `deadline`; how many are not.
    pub fn finish(&self, deadline: Instant) -> usize {
        let mut state = self.0.state();
        loop {
            let open = state.jobs.len() + usize::from(state.is_at_work);
            let left = deadline.saturating_duration_since(Instant::now());
            if open == 0 || left.is_zero() {
                return open;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// What the thread does until it is closed.
    fn run(&self) {
        while let Some(job) = self.next() {
            // A panic ends that job and nothing else; the panic hook has logged it.
            let _ = panic::catch_unwind(AssertUnwindSafe(job));
        }
    }

    /// Waits for the next job; `None` where there will be none.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        state.is_at_work = false;
        self.changed.notify_all();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.is_at_work = true;
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Longer than anything that works takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Has the thread wait in a job until the sender that is given is dropped.
    fn hold_up(background: &Background) -> Sender<()> {
        let (release, released) = channel::<()>();
        let (begin, begun) = channel();
        let job = move || {
            begin.send(()).unwrap();
            let _ = released.recv();
        };
        background.submit(Box::new(job)).unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        release
    }

    #[test]
    fn jobs_are_done_in_order_and_a_panic_ends_none_of_the_others() {
        let background = Background::default();
        let (done, results) = channel();
        for number in 0..10 {
            let done = done.clone();
            let job = move || {
                done.send(number).unwrap();
                assert!(number != 3, "as the test wants it");
            };
            background.submit(Box::new(job)).unwrap();
        }
        assert_eq!(background.finish(Instant::now() + PATIENCE), 0);
        assert_eq!(results.try_iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_queue_takes_no_job_and_the_end_tells_what_is_not_done() {
        let background = Background::default();
        let release = hold_up(&background);
        for _ in 0..JOBS_MAX {
            background.submit(Box::new(|| {})).unwrap();
        }
        let refused = background.submit(Box::new(|| {})).unwrap_err();
        assert_eq!(refused.to_string(), "1000 wait already");
        assert_eq!(background.finish(Instant::now()), JOBS_MAX + 1);
        drop(release);
        assert_eq!(background.finish(Instant::now() + PATIENCE), 0);
    }

    #[test]
    fn what_was_queued_is_done_after_the_owner_is_gone() {
        let background = Background::default();
        let release = hold_up(&background);
        let (done, result) = channel();
        background.submit(Box::new(move || done.send(()).unwrap())).unwrap();
        drop(background);
        drop(release);
        result.recv_timeout(PATIENCE).unwrap();
    }
}
