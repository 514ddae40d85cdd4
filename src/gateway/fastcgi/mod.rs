//! Our own FastCGI 1.0 responder.
//!
//! | what | where |
//! |---|---|
//! | records, answers | `record` |
//! | name-value pairs | `pairs` |
//! | bytes → requests, protocol replies | `parser` |
//! | one socket: read, answer, write; when to give up on it | `connection`, `deadline` |
//! | the places for requests that may wait | `places`, on `gateway::bulkhead` |
//! | epoll, the table of connections, accepting | `pool` |
//! | start, housekeeping, stop | here |
//!
//! Promised: parameters are bytes as they came, and a request whose parameters did not arrive
//! whole says so; an idle connection and a half-sent request cost no thread; no error of an accept
//! ends or spins the process; a request that has arrived is answered, also during a stop; a peer
//! that closes in mid-request has asked for nothing. Not done: multiplexing (the protocol lets a
//! responder say so, and no web server asks for it), the roles of authorizer and filter.

mod connection;
mod deadline;
pub mod pairs;
pub mod parser;
mod places;
mod pool;
mod record;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::pool::Pool;
use super::Handler;
use super::listener::Listener;
use crate::error::Fault;
use crate::log::{self, Level};

/// How long a stop waits for web servers to close their kept connections, and for everything else
/// together with that, so that the process has ended within 65 seconds. Below the `TimeoutStopSec` of the shipped unit; above nginx's
/// `keepalive_time` and `keepalive_timeout` in the shipped configuration.
const STOP_TIME: Duration = Duration::from_secs(64);
/// How often peers that are late are looked for.
const SWEEP: u16 = 1000;
/// How soon accepting is tried again after it failed; also how often a stop looks at its progress.
const RETRY: u16 = 50;
/// How long an own socket must be silent before it is closed: a connect may be half-way through.
const QUIET: Duration = Duration::from_millis(20);
/// How long accepting from an own socket goes on during a stop, should it never be silent.
const LAST_ACCEPTS: Duration = Duration::from_secs(2);
/// How long before the end of a stop the requests that still wait for their turn are refused.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A worker's stack, in bytes. A whole sign-up was seen to fit into 96 KiB in an unoptimised build.
const STACK: usize = 256 * 1024;
/// The most connections of one process, where descriptors suffice.
const CONNECTIONS_MAX: usize = 16 * 1024;
/// The fewest connections, however few descriptors there are.
const CONNECTIONS_MIN: usize = 8;
/// Descriptors kept free of connections: for each worker (lock, file, directory, mail) …
const DESCRIPTORS_EACH_WORKER: usize = 4;
/// … and for the process.
const DESCRIPTORS_ALL: usize = 64;

/// How the responder runs.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that answer requests that may wait for a disk; one more answers none of these.
    pub workers: usize,
    /// How long a request waits for its turn where its tenant holds its share of them.
    pub lock_wait: Duration,
    /// Descriptors that the process may have open.
    pub descriptors: usize,
}

impl Options {
    /// How many connections fit beside the files that answering needs.
    fn connections_max(&self) -> usize {
        let kept = DESCRIPTORS_ALL + self.workers * DESCRIPTORS_EACH_WORKER;
        self.descriptors.saturating_sub(kept).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
    }
}

/// Serves until a byte arrives at `signals`, then stops: see `stop`. Returns when all that was
/// under way is answered, or after `STOP_TIME`.
pub fn serve(
    listeners: Vec<Listener>,
    handler: Arc<dyn Handler>,
    options: Options,
    signals: &UnixStream,
) -> Result<(), Fault> {
    let setting_up = |error| Fault::pathless("set up the responder", error);
    for listener in &listeners {
        listener.set_blocking(false).map_err(setting_up)?;
    }
    signals.set_nonblocking(true).map_err(setting_up)?;
    let (end, end_seen_by_workers) = UnixStream::pair().map_err(setting_up)?;
    let pool = Pool::new(listeners, handler.clone(), &options, &end_seen_by_workers);
    let pool = Arc::new(pool.map_err(setting_up)?);
    let workers = start_workers(&pool, options.workers)?;
    while !signalled(signals, if pool.is_held_back() { RETRY } else { SWEEP }) {
        housekeep(&pool);
    }
    let deadline = Instant::now() + STOP_TIME;
    stop(&pool, signals, deadline);
    drop(end);
    // Idle workers end at once, others when they have handed over the work behind their last answer.
    while !workers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    handler.finish(deadline);
    Ok(())
}

/// Starts the wanted workers, and one beside them: with fewer, fewer requests may wait at a time.
fn start_workers(pool: &Arc<Pool>, wanted: usize) -> Result<Vec<JoinHandle<()>>, Fault> {
    let mut workers = Vec::new();
    for number in 0..=wanted.max(1) {
        let own = Arc::clone(pool);
        let named = thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK);
        match named.spawn(move || own.work()) {
            Ok(worker) => workers.push(worker),
            Err(error) if workers.is_empty() => {
                let fault = Fault::pathless("start a worker thread", error);
                return Err(fault.way_out("raise the limit on tasks or on memory"));
            }
            Err(error) => {
                log::event(Level::Warn, "few_workers")
                    .field("workers", workers.len())
                    .field("wanted", wanted)
                    .field("reason", error)
                    .emit();
                pool.places.set(workers.len() - 1);
                break;
            }
        }
    }
    Ok(workers)
}

/// What the serving thread does between its naps.
fn housekeep(pool: &Pool) {
    pool.accept_held_back();
    let ended = pool.end_overdue();
    if ended > 0 {
        log::event(Level::Warn, "peer_too_slow").field("connections", ended).emit();
    }
}

/// Stops without losing a request. An inherited socket is let go: others accept from it. An own
/// one loses its path, is accepted from until nobody waits there, and is closed. Then connections
/// are served on until the web server closes them, since closing a kept one would lose the request
/// that crosses the close. A second signal ends the idle ones at once.
fn stop(pool: &Pool, signals: &UnixStream, deadline: Instant) {
    drop(pool.take_listeners(Listener::is_inherited));
    pool.for_each_listener(Listener::unlink);
    accept_the_last(pool);
    drop(pool.take_listeners(|_| true));
    let mut hurried = false;
    while pool.connections() > 0 && Instant::now() < deadline {
        hurried |= signalled(signals, RETRY);
        housekeep(pool);
        if Instant::now() + LAST_ANSWERS >= deadline {
            pool.places.call_all();
        }
        if hurried {
            pool.end_idle();
        }
    }
}

/// Accepts from own sockets until they are silent.
fn accept_the_last(pool: &Pool) {
    let end = Instant::now() + LAST_ACCEPTS;
    loop {
        let before = pool.accepted();
        pool.accept_waiting();
        thread::sleep(QUIET);
        pool.accept_waiting();
        let silent = pool.accepted() == before && !pool.is_held_back();
        if silent || Instant::now() >= end {
            return;
        }
    }
}

/// Waits up to `timeout` milliseconds for a signal's byte, and takes what came.
fn signalled(signals: &UnixStream, timeout: u16) -> bool {
    let mut watched = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, PollTimeout::from(timeout)) {
        Ok(0) | Err(Errno::EINTR) => return false,
        Ok(_) => {}
        // Without it there is no way to stop but the hard one.
        Err(_) => return true,
    }
    let mut bytes = [0; 64];
    // The sender's end closing counts too: nobody could ask for a stop any more.
    !matches!(
        io::Read::read(&mut &*signals, &mut bytes),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock
    )
}
