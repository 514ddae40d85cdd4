//! The [`Bulkhead`] as the workers have it: a parked request costs its connection and no thread, and
//! two descriptors in the workers' epoll instance wake one of them, for a request whose turn it is
//! and for the first that is late.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::connection::Connection;
use crate::gateway::bulkhead::{Bulkhead, Ticket, Turn};
use crate::http::Waits;

/// See the module's head.
#[derive(Debug)]
pub struct Places {
    state: Mutex<State>,
    /// Readable while a connection has been called that no worker has taken yet.
    calls: EventFd,
    /// Expires when the first parked request is late. Counts in monotonic time.
    timer: TimerFd,
    wait: Duration,
}

#[derive(Debug)]
struct State {
    bulkhead: Bulkhead<Arc<Connection>>,
    called: VecDeque<Arc<Connection>>,
    /// Whether the timer runs.
    timed: bool,
}

/// What becomes of a request that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is answered now.
    Now(Place),
    /// It waits for its turn.
    Parked(Ticket),
}

/// What a request that is answered has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It waits for no disk.
    NotNeeded,
    /// A place of this tenant, to be given back.
    Held(usize),
    /// It may wait, and is not to.
    Refused,
}

impl Places {
    /// So many places; `wait` is how long a request waits for one. `epoll` tells `calls` when
    /// somebody is to call [`Places::next_called`], and `timer` when [`Places::call_late`].
    pub fn new(
        places: usize,
        wait: Duration,
        epoll: &Epoll,
        [calls, timer]: [u64; 2],
    ) -> nix::Result<Self> {
        let bulkhead = Bulkhead::new(places);
        let places = Self {
            state: Mutex::new(State { bulkhead, called: VecDeque::new(), timed: false }),
            calls: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            timer: TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
            )?,
            wait,
        };
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&places.calls, EpollEvent::new(edge, calls))?;
        epoll.add(&places.timer, EpollEvent::new(edge, timer))?;
        Ok(places)
    }

    /// Sets the number of places, for a start that did not get all its workers.
    pub fn set(&self, places: usize) {
        self.state().bulkhead.set_places(places);
    }

    /// Takes a place for the request that arrived on `connection`, or parks it.
    pub fn admit(&self, connection: &Arc<Connection>, waits: Waits) -> Admission {
        let Waits::For { tenant, patient } = waits else {
            return Admission::Now(Place::NotNeeded);
        };
        let mut state = self.state();
        if state.bulkhead.take(tenant) {
            return Admission::Now(Place::Held(tenant));
        }
        if !patient {
            return Admission::Now(Place::Refused);
        }
        let until = Instant::now() + self.wait;
        let ticket = state.bulkhead.park(tenant, until, Arc::clone(connection));
        self.set_timer(&mut state);
        Admission::Parked(ticket)
    }

    /// What a parked request has, once its turn has come or its time is over.
    pub fn turn(&self, ticket: Ticket) -> Option<Place> {
        match self.state().bulkhead.turn(ticket) {
            Turn::Wait => None,
            Turn::Go => Some(Place::Held(ticket.tenant())),
            Turn::Late => Some(Place::Refused),
        }
    }

    /// Gives a place of this tenant back.
    pub fn release(&self, tenant: usize) {
        let mut state = self.state();
        let next = state.bulkhead.release(tenant);
        self.call(&mut state, next);
    }

    /// Gives up the ticket of a request whose client is gone.
    pub fn leave(&self, ticket: Ticket) {
        let mut state = self.state();
        let next = state.bulkhead.leave(ticket);
        self.call(&mut state, next);
    }

    /// A connection whose parked request is to be looked at: its turn has come, or its time is over.
    pub fn next_called(&self) -> Option<Arc<Connection>> {
        let mut state = self.state();
        let next = state.called.pop_front();
        if !state.called.is_empty() {
            // Several calls may have woken one worker.
            self.ring();
        }
        next
    }

    /// Calls the requests that are late by now.
    pub fn call_late(&self) {
        let mut state = self.state();
        let late = state.bulkhead.call_late(Instant::now());
        state.timed = false;
        self.set_timer(&mut state);
        self.call(&mut state, late);
    }

    /// Calls every parked request as if it were late: the process is about to end.
    pub fn call_all(&self) {
        let mut state = self.state();
        let all = state.bulkhead.call_late(Instant::now() + self.wait);
        self.call(&mut state, all);
    }

    fn call(&self, state: &mut State, connections: Vec<Arc<Connection>>) {
        if !connections.is_empty() {
            state.called.extend(connections);
            self.ring();
        }
    }

    fn ring(&self) {
        // It fails with EAGAIN alone, at a count that is readable anyway.
        let _ = self.calls.write(1);
    }

    /// Lets the timer run to when the first parked request is late, unless it runs already: a request
    /// that is parked later is late later.
    fn set_timer(&self, state: &mut State) {
        let Some(until) = state.bulkhead.next_late().filter(|_| !state.timed) else { return };
        // Zero would stop it.
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let set = Expiration::OneShot(TimeSpec::from_duration(left));
        // It fails on what is no timer alone.
        let done: Result<(), Errno> = self.timer.set(set, TimerSetTimeFlags::empty());
        state.timed = done.is_ok();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
