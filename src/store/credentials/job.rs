//! A change on its way through the committer: who waits for it, and what goes along with it.

use std::any::Any;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::change::{Change, Outcome};
use crate::error::Fault;

/// What goes along with a change: dropped once the account is known not to be there, left where it
/// is when that is not known.
pub trait Luggage: Any + Send {
    /// The account is, or may be, there.
    fn leave(self: Box<Self>);
}

impl Luggage for () {
    fn leave(self: Box<Self>) {}
}

/// See the module's head.
pub struct Job {
    /// What is to be done.
    pub change: Change,
    state: Mutex<State>,
    ended: Condvar,
}

/// How far it is.
enum State {
    Queued(Box<dyn Luggage>),
    Taken(Box<dyn Luggage>),
    Ended(Result<Outcome, Fault>, Box<dyn Luggage>),
    /// The caller gave up while the committer was at it.
    Abandoned(Box<dyn Luggage>),
    /// The caller gave up before, or has its answer.
    Over,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl Job {
    /// A change whose caller waits.
    pub fn new(change: Change, luggage: Box<dyn Luggage>) -> Self {
        Self { change, state: Mutex::new(State::Queued(luggage)), ended: Condvar::new() }
    }

    /// A change that nobody waits for.
    pub fn unheard(change: Change, luggage: Box<dyn Luggage>) -> Self {
        Self { change, state: Mutex::new(State::Abandoned(luggage)), ended: Condvar::new() }
    }

    /// Waits for the end; `None` where it did not come in time, and then the luggage is dropped as
    /// soon as the account is known not to be there.
    pub fn wait(&self, wait: Duration) -> Option<(Result<Outcome, Fault>, Box<dyn Luggage>)> {
        let started = Instant::now();
        let mut state = lock(&self.state);
        loop {
            let left = wait.saturating_sub(started.elapsed());
            state = match std::mem::replace(&mut *state, State::Over) {
                State::Ended(result, luggage) => return Some((result, luggage)),
                State::Queued(luggage) if left.is_zero() && !self.must_be_done() => {
                    drop(state);
                    drop(luggage);
                    return None;
                }
                State::Queued(luggage) | State::Taken(luggage) if left.is_zero() => {
                    *state = State::Abandoned(luggage);
                    return None;
                }
                waiting => {
                    *state = waiting;
                    let woken = self.ended.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Whether it is done even when its caller gives up: an account that was made for nobody goes,
    /// and so does a token whose mail was not sent.
    pub fn must_be_done(&self) -> bool {
        matches!(self.change, Change::Withdraw { .. } | Change::Unmail { .. })
    }

    /// What becomes of the luggage of a change that failed.
    pub fn part_with(&self, luggage: Box<dyn Luggage>) {
        match self.change {
            // An account or a token that could not be taken back is still there.
            Change::Withdraw { .. } | Change::Unmail { .. } => luggage.leave(),
            _ => drop(luggage),
        }
    }

    /// Marks the change as taken; whether its caller still wants it.
    pub fn take(&self) -> bool {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Queued(luggage) => {
                *state = State::Taken(luggage);
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    /// Puts a taken change back into the queue's state; whether its caller still wants it.
    pub fn put_back(&self) -> bool {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Taken(luggage) => {
                *state = State::Queued(luggage);
                true
            }
            _ => false,
        }
    }

    /// Hands the outcome over; returns the luggage of a caller that is gone.
    pub fn end(&self, result: Result<Outcome, Fault>) -> Option<Box<dyn Luggage>> {
        let mut state = lock(&self.state);
        let abandoned = match std::mem::replace(&mut *state, State::Over) {
            State::Taken(luggage) | State::Queued(luggage) => {
                *state = State::Ended(result, luggage);
                None
            }
            State::Abandoned(luggage) => Some(luggage),
            State::Ended(..) | State::Over => None,
        };
        drop(state);
        self.ended.notify_one();
        abandoned
    }

    /// Leaves the luggage where it is, and an empty one in its place.
    pub fn leave_luggage(&self) {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Taken(luggage) => {
                *state = State::Taken(Box::new(()));
                luggage.leave();
            }
            State::Abandoned(luggage) => {
                *state = State::Abandoned(Box::new(()));
                luggage.leave();
            }
            other => *state = other,
        }
    }

    /// Whether its caller gave up.
    pub fn is_abandoned(&self) -> bool {
        matches!(*lock(&self.state), State::Abandoned(_))
    }
}

/// The lock of a mutex, whatever became of who held it before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
