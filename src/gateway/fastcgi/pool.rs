//! What the workers share: one epoll instance, the table of connections, the listeners.
//!
//! Events are edge-triggered: a connection's next bytes wake one worker, once, and nothing has to
//! be armed again, so that a request on a kept connection costs three system calls. A second wake
//! for a connection that somebody is looking at is counted, and makes him look again.
//!
//! The listeners are in the same epoll instance. Whoever wakes accepts until there is no more,
//! hands all but the last to the others and looks at the last one itself, whose request is mostly
//! there already. An accept that fails, or a full table, sets `held_back`, and accepting is tried
//! again a moment later ([`super::RETRY`]) and when a connection ends: it neither spins nor stops.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::Options;
use super::connection::{Buffers, Connection, Look, Verdict};
use super::places::Places;
use crate::gateway::listener::{Listener, Stream};
use crate::gateway::{Handler, guard};
use crate::http::After;
use crate::log::{self, Level};

/// The tokens below this one are the listeners'.
const FIRST_CONNECTION: u64 = 1024;
/// The token of the descriptor that tells workers to end.
const END: u64 = u64::MAX;
/// The tokens of what wakes workers for parked requests: see [`Places`].
const CALLS: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;
/// How long the log stays silent about accepts that fail, after a line about it.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// What the workers share.
pub struct Pool {
    handler: Arc<dyn Handler>,
    epoll: Epoll,
    /// The places for requests that may wait.
    pub places: Places,
    listeners: Vec<RwLock<Option<Listener>>>,
    connections: Mutex<Table>,
    /// Connections there are, those that are not in the table yet included.
    count: Arc<AtomicUsize>,
    accepted: AtomicUsize,
    connections_max: usize,
    held_back: AtomicBool,
    complained: Mutex<Option<Instant>>,
    started: Instant,
}

/// The connections by their tokens. Tokens are not used twice: a late event finds nothing.
#[derive(Default)]
struct Table {
    next: u64,
    by_token: HashMap<u64, Arc<Connection>>,
}

impl Pool {
    /// A pool over these listeners, which must not block. `end` becoming readable ends the workers.
    pub fn new(
        listeners: Vec<Listener>,
        handler: Arc<dyn Handler>,
        options: &Options,
        end: &impl std::os::fd::AsFd,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(end, EpollEvent::new(EpollFlags::EPOLLIN, END))?;
        for (listener, token) in listeners.iter().zip(0..FIRST_CONNECTION) {
            let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll.add(listener, EpollEvent::new(edge, token))?;
        }
        let (workers, wait) = (options.workers, options.lock_wait);
        Ok(Self {
            handler,
            places: Places::new(workers, wait, &epoll, [CALLS, TIMER])?,
            epoll,
            listeners: listeners.into_iter().map(|listener| RwLock::new(Some(listener))).collect(),
            connections: Mutex::new(Table { next: FIRST_CONNECTION, by_token: HashMap::new() }),
            count: Arc::default(),
            accepted: AtomicUsize::new(0),
            connections_max: options.connections_max(),
            held_back: AtomicBool::new(false),
            complained: Mutex::new(None),
            started: Instant::now(),
        })
    }

    /// What each worker does until the end.
    pub fn work(&self) {
        let mut buffers = Buffers::new();
        let mut events = [EpollEvent::empty()];
        loop {
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                // It fails on a bad descriptor alone, which no later call would mend.
                Err(_) => return,
            }
            let [event] = events;
            match event.data() {
                END => return,
                TIMER => self.places.call_late(),
                CALLS => {
                    if let Some(connection) = self.places.next_called() {
                        self.attend(connection, true, &mut buffers);
                    }
                }
                token if token < FIRST_CONNECTION => {
                    if let Some(fresh) = self.accept(token) {
                        self.attend(fresh, false, &mut buffers);
                    }
                }
                token => {
                    let found = self.table().by_token.get(&token).cloned();
                    if let Some(connection) = found {
                        let hang_up =
                            EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
                        let to_end = event.events().intersects(hang_up);
                        self.attend(connection, to_end, &mut buffers);
                    }
                }
            }
        }
    }

    /// Looks at a connection until nobody has called for it any more.
    fn attend(&self, connection: Arc<Connection>, mut to_end: bool, buffers: &mut Buffers) {
        let mut afters: Vec<After> = Vec::new();
        if connection.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut seen = 1;
        loop {
            let mut look = Look {
                handler: self.handler.as_ref(),
                places: &self.places,
                buffers,
                afters: &mut afters,
                started: self.started,
            };
            let verdict = connection.look(to_end, &mut look);
            if verdict == Verdict::Close || !self.watch(&connection, verdict) {
                self.forget(&connection);
                break;
            }
            match connection.wakes.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
            to_end = true;
        }
        // The peer must not see how long the work behind the answer takes.
        drop(connection);
        if self.is_held_back() {
            self.accept_held_back();
        }
        for work in afters {
            guard::run_after(Some(work));
        }
    }

    /// Makes the connection wake somebody when the time has come; whether that worked.
    fn watch(&self, connection: &Arc<Connection>, on: Verdict) -> bool {
        let output = on == Verdict::AwaitOutput;
        let mut flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        flags.set(EpollFlags::EPOLLOUT, output);
        // Waiting for output is rare, and costs a system call at its begin and end.
        let as_before = connection.awaits_output.swap(output, Ordering::AcqRel) == output;
        if let Some(&known) = connection.token.get() {
            let mut event = EpollEvent::new(flags, known);
            return as_before || self.epoll.modify(&connection.stream, &mut event).is_ok();
        }
        let new = {
            let mut table = self.table();
            let new = table.next;
            table.next += 1;
            table.by_token.insert(new, Arc::clone(connection));
            new
        };
        // Whoever watches it owns it, so nobody else has set it meanwhile.
        let _ = connection.token.set(new);
        self.epoll.add(&connection.stream, EpollEvent::new(flags, new)).is_ok()
    }

    /// Lets go of a connection; its last holder closes it.
    fn forget(&self, connection: &Connection) {
        if let Some(token) = connection.token.get() {
            self.table().by_token.remove(token);
        }
    }

    /// Accepts until there is nothing more, and gives the last connection.
    fn accept(&self, listener: u64) -> Option<Arc<Connection>> {
        let place = usize::try_from(listener).ok().and_then(|at| self.listeners.get(at))?;
        let listener = place.read().unwrap_or_else(PoisonError::into_inner);
        let listener = listener.as_ref()?;
        let mut last: Option<Arc<Connection>> = None;
        loop {
            if self.count.load(Ordering::Acquire) >= self.connections_max {
                self.hold_back(None);
                return last;
            }
            match listener.accept() {
                Ok(Some(stream)) => {
                    if let Some(previous) = last.replace(self.welcome(stream)) {
                        self.hand_over(&previous);
                    }
                }
                Ok(None) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return last,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.hold_back(Some(&error));
                        return last;
                    }
                },
            }
        }
    }

    fn welcome(&self, stream: Stream) -> Arc<Connection> {
        self.accepted.fetch_add(1, Ordering::AcqRel);
        Arc::new(Connection::new(stream, &self.count, self.connections_max))
    }

    /// Leaves a new connection to whichever worker wakes.
    fn hand_over(&self, connection: &Arc<Connection>) {
        if !self.watch(connection, Verdict::AwaitInput) {
            self.forget(connection);
        }
    }

    /// Notes that accepting stopped before the backlog was empty.
    fn hold_back(&self, error: Option<&io::Error>) {
        self.held_back.store(true, Ordering::Release);
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_some_and(|at| at.elapsed() < COMPLAINT_PAUSE) {
            return;
        }
        *complained = Some(Instant::now());
        let open = self.count.load(Ordering::Acquire);
        let event = log::event(Level::Warn, "accept_held_back").field("connections", open);
        match error {
            Some(error) => event.field("reason", error),
            None => event.field("reason", "as many connections as this process takes"),
        }
        .field("way_out", "raise LimitNOFILE, or run more processes")
        .emit();
    }

    /// Whether accepting has to be tried again.
    pub fn is_held_back(&self) -> bool {
        self.held_back.load(Ordering::Acquire)
    }

    /// Accepts what was held back and leaves it to the workers.
    pub fn accept_held_back(&self) {
        if self.held_back.swap(false, Ordering::AcqRel) {
            self.accept_waiting();
        }
    }

    /// Accepts what waits at every listener and leaves it to the workers.
    pub fn accept_waiting(&self) {
        for (_, token) in self.listeners.iter().zip(0..) {
            if let Some(last) = self.accept(token) {
                self.hand_over(&last);
            }
        }
    }

    /// Takes the listeners that `which` names away from the workers.
    pub fn take_listeners(&self, which: impl Fn(&Listener) -> bool) -> Vec<Listener> {
        let take = |place: &RwLock<Option<Listener>>| {
            place
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take_if(|listener| which(listener))
        };
        let taken: Vec<Listener> = self.listeners.iter().filter_map(take).collect();
        for listener in &taken {
            // It is about to be closed, but an inherited one stays open elsewhere, and would go on
            // to wake workers here.
            let _ = self.epoll.delete(listener);
        }
        taken
    }

    /// Calls `look` with each listener.
    pub fn for_each_listener(&self, mut look: impl FnMut(&Listener)) {
        for place in &self.listeners {
            if let Some(listener) = &*place.read().unwrap_or_else(PoisonError::into_inner) {
                look(listener);
            }
        }
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// Connections there are.
    pub fn connections(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Ends the connections whose peer is late; gives how many.
    pub fn end_overdue(&self) -> usize {
        self.end_where(|connection| connection.is_overdue(self.started))
    }

    /// Ends the connections on which nothing is under way.
    pub fn end_idle(&self) {
        self.end_where(Connection::is_idle);
    }

    /// Shuts connections down, which wakes a worker that closes them.
    fn end_where(&self, which: impl Fn(&Connection) -> bool) -> usize {
        let mut ended = 0;
        for connection in self.table().by_token.values().filter(|connection| which(connection)) {
            connection.stream.shut_down();
            ended += 1;
        }
        ended
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
