//! The published crate `fastcgi` 1.0.0 behind the same [`Handler`], for whoever wants exactly it.
//!
//! What this adapter cures:
//! - the crate drops parameters without a word at the first byte that is not UTF-8. The shipped
//!   web-server configuration sends an explicit list whose last is [`SENTINEL`]; where that is
//!   missing, the request is not whole, and is refused;
//! - a handler that panics is answered 500; bodies are capped, and held against their length;
//! - the crate's own panics (at every close of a connection) stay out of the log;
//! - the end of its accept loop (out of descriptors or threads) ends the process with an error,
//!   so that whoever supervises it starts it anew, where the crate alone would go deaf;
//! - a request that may wait for its tenant's disk waits for one of the places of
//!   [`super::bulkhead`] first, in the thread that it has anyway, and gives up after a time.
//!
//! What no adapter cures: a thread for each connection, without limit; no time-outs; a recursion
//! for each parameter (the web server's limit on headers keeps it flat); no graceful stop: a stop
//! waits for requests under way and cuts kept connections. It must not share a socket with the
//! own responder, whose sockets do not block, which ends the crate's accept loop.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::bulkhead::{Bulkhead, Turn};
use super::listener::Listener;
use super::{Handler, guard};
use crate::error::Fault;
use crate::http::{BODY_MAX, PARAMS_MAX, Params, Request, Response, Waits};
use crate::log::{self, Level};

/// The parameter that the web server sends last, with the value [`SENTINEL_VALUE`].
pub const SENTINEL: &str = "CODEB_SIGNUP_PARAMS";
/// Its value.
pub const SENTINEL_VALUE: &str = "whole";

/// How long a stop waits for requests under way and for the work behind their answers.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How often it looks whether there are any.
const STOP_LOOK: Duration = Duration::from_millis(10);
/// The most of a body that is read over when it is too large, in bytes.
const READ_OVER_MAX: u64 = 1024 * 1024;
/// The name of the thread that the crate accepts on. Those that it starts have none.
const ACCEPTOR: &str = "fastcgi-accept";

/// Serves until a byte arrives at `signals`, or until the crate's accept loop ends, which is an
/// error. There are so many `places` for requests that may wait for a disk, and one waits for a place
/// for `lock_wait`.
pub fn serve(
    listener: &Listener,
    handler: Arc<dyn Handler>,
    (places, lock_wait): (usize, Duration),
    signals: &UnixStream,
) -> Result<(), Fault> {
    let setting_up = |error| Fault::pathless("set up the crate fastcgi", error);
    listener.set_blocking(true).map_err(setting_up)?;
    let (ended, mut end) = UnixStream::pair().map_err(setting_up)?;
    // Before anything is accepted, which may take the last descriptor.
    let mut wake = signals.try_clone().map_err(setting_up)?;
    replace_panic_hook(ended.try_clone().map_err(setting_up)?);
    let under_way = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&under_way);
    let descriptor = listener.as_fd().as_raw_fd();
    let bulkhead = Mutex::new(Bulkhead::new(places));
    let places = Places { bulkhead, lock_wait };
    let answering = Arc::clone(&handler);
    let accept = move || {
        let answer = move |request| answer(request, answering.as_ref(), &places, &count);
        fastcgi::run_raw(answer, descriptor);
    };
    thread::Builder::new().name(ACCEPTOR.to_owned()).spawn(accept).map_err(setting_up)?;
    let mut stop = ended;
    thread::spawn(move || {
        // Any outcome of the read is a reason to stop.
        let _ = wake.read(&mut [0]);
        let _ = stop.write(&[STOPPED]);
    });
    let mut why = [0];
    end.read_exact(&mut why).map_err(setting_up)?;
    if why != [STOPPED] {
        let cause = io::Error::other("its accept loop ended; the log line before this says why");
        let fault = Fault::pathless("go on with the crate fastcgi", cause);
        return Err(fault.way_out("set gateway = \"own\", which survives this"));
    }
    listener.unlink();
    let deadline = Instant::now() + STOP_TIME;
    while under_way.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
        thread::sleep(STOP_LOOK);
    }
    handler.finish(deadline);
    Ok(())
}

/// Tells the serving thread that a signal came …
const STOPPED: u8 = 1;
/// … or that the crate's accept loop panicked.
const BROKEN: u8 = 2;

/// Answers one request of the crate.
fn answer(
    mut request: fastcgi::Request,
    handler: &dyn Handler,
    places: &Places,
    under_way: &AtomicUsize,
) {
    let _counted = Counted::new(under_way);
    let mut params = Params::default();
    let mut size = 0;
    for (name, value) in request.params() {
        size += name.len() + value.len();
        params.push(name.as_bytes(), value.as_bytes());
    }
    let whole = params.get(SENTINEL) == Some(SENTINEL_VALUE.as_bytes()) && size <= PARAMS_MAX;
    let mut body = Vec::new();
    let mut stdin = request.stdin();
    let kept = (&mut stdin).take(BODY_MAX as u64 + 1).read_to_end(&mut body);
    let rest = io::copy(&mut stdin.take(READ_OVER_MAX), &mut io::sink());
    if kept.is_err() || rest.is_err() {
        // Given up by the web server: nothing was asked for.
        return;
    }
    let mut response = places.answer(handler, guard::request(params, whole, body));
    let mut bytes = Vec::new();
    response.write_cgi(&mut bytes);
    // Where the web server is gone there is nobody to tell.
    let _ = request.stdout().write_all(&bytes);
    drop(request);
    guard::run_after(response.take_after());
}

/// The places for requests that may wait for a disk.
struct Places {
    bulkhead: Mutex<Bulkhead<Arc<Condvar>>>,
    lock_wait: Duration,
}

impl Places {
    /// The handler's answer, with a place where the request needs one.
    fn answer(&self, handler: &dyn Handler, request: Request) -> Response {
        let Waits::For { tenant, patient } = handler.waits(&request) else {
            return guard::answer(|| handler.handle(request));
        };
        if !self.take(tenant, if patient { self.lock_wait } else { Duration::ZERO }) {
            return guard::answer(|| handler.handle_without_place(request));
        }
        let response = guard::answer(|| handler.handle(request));
        let next = self.bulkhead.lock().unwrap_or_else(PoisonError::into_inner).release(tenant);
        next.iter().for_each(|waiter| waiter.notify_one());
        response
    }

    /// Takes a place of a tenant within `wait`; whether there was one.
    fn take(&self, tenant: usize, wait: Duration) -> bool {
        let mut bulkhead = self.bulkhead.lock().unwrap_or_else(PoisonError::into_inner);
        if bulkhead.take(tenant) {
            return true;
        }
        let until = Instant::now() + wait;
        let called = Arc::new(Condvar::new());
        let ticket = bulkhead.park(tenant, until, Arc::clone(&called));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match bulkhead.turn(ticket) {
                Turn::Go => return true,
                // Nobody has given it a place, so nobody has it instead.
                _ if left.is_zero() => {
                    drop(bulkhead.leave(ticket));
                    return false;
                }
                _ => {
                    let woken = called.wait_timeout(bulkhead, left);
                    bulkhead = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

/// Counts a request under way for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// From now on the crate's panics at the end of a connection are silent, one on its accepting
/// thread is logged and told to `ended`, and all others do as before.
fn replace_panic_hook(ended: UnixStream) {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(ACCEPTOR) {
            log::event(Level::Error, "accept_failed").field("reason", reason(info)).emit();
            // The serving thread would otherwise wait for ever; there is no third one to tell.
            let _ = (&ended).write(&[BROKEN]);
        } else if !is_end_of_connection(info) {
            previous(info);
        }
    }));
}

/// The crate panics where it reads the end of a connection; that is in its own source.
fn is_end_of_connection(info: &PanicHookInfo<'_>) -> bool {
    let in_crate = |file: &str| file.contains("fastcgi") && file.ends_with("src/lib.rs");
    thread::current().name().is_none() && info.location().is_some_and(|at| in_crate(at.file()))
}

/// The message of a panic on the accepting thread, which has seen no client's bytes.
fn reason<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload().downcast_ref::<String>().map_or("unknown", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_for_a_place_and_gives_up_after_its_time() {
        let long = Duration::from_secs(600);
        let places = Places { bulkhead: Mutex::new(Bulkhead::new(2)), lock_wait: long };
        assert!(places.take(0, long), "half of two");
        assert!(!places.take(0, Duration::from_millis(20)));
        assert!(places.take(1, long), "another tenant has its own half");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| places.take(0, long));
            let is_parked = || places.bulkhead.lock().unwrap().next_late().is_some();
            while !is_parked() {
                thread::yield_now();
            }
            let next = places.bulkhead.lock().unwrap().release(0);
            assert_eq!(next.len(), 1, "who gave up is not called");
            next.iter().for_each(|waiter| waiter.notify_one());
            assert!(waiting.join().unwrap());
        });
    }
}
