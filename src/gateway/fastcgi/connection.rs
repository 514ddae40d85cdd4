//! One connection: its socket, the state of its input, and what of its output is not out yet.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::deadline::Deadline;
use super::parser::{Parser, Step};
use super::places::{Admission, Place, Places};
use super::record;
use crate::gateway::bulkhead::Ticket;
use crate::gateway::listener::Stream;
use crate::gateway::{Handler, guard};
use crate::http::{After, Request, Response};

/// How long a request may take to arrive, from its first byte to its last. A web server buffers
/// bodies and sends a request at once.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a reply may take to leave.
const REPLY_TIME: Duration = Duration::from_secs(30);
/// What one read takes at most, in bytes: a whole request with the largest form in it.
const READ_SIZE: usize = 32 * 1024;
/// The reply buffer that a worker keeps for the next request, in bytes.
const REPLY_KEPT: usize = 64 * 1024;

/// A worker's buffers, so that connections need none.
#[derive(Debug)]
pub struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Buffers {
    /// Buffers for one worker.
    pub fn new() -> Self {
        Self { input: vec![0; READ_SIZE], output: Vec::new() }
    }
}

/// What counts the connections of the process.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection, shared by whichever worker its next bytes wake.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Its token in the table, once it is there.
    pub token: OnceLock<u64>,
    /// Wake-ups that nobody has acted upon yet. The worker that raises it from zero owns the
    /// connection until it has lowered it to zero again.
    pub wakes: AtomicUsize,
    /// Whether it was last told to wake somebody when the socket takes more output.
    pub awaits_output: AtomicBool,
    deadline: Deadline,
    state: Mutex<State>,
    _counted: Counted,
}

struct State {
    parser: Parser,
    /// Reply bytes that the socket did not take.
    unsent: Vec<u8>,
    /// Work for when they are out.
    afters: Vec<After>,
    /// Whether the connection ends once they are out.
    closing: bool,
    parked: Option<Parked>,
}

/// A request that is whole and waits for a place. At most one a connection, so that their number is
/// bounded as that of connections is.
struct Parked {
    ticket: Ticket,
    id: u16,
    keep: bool,
    request: Request,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("parser", &self.parser).finish_non_exhaustive()
    }
}

/// What is to become of a connection after its bytes were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for bytes.
    AwaitInput,
    /// Wait until the socket takes more of the reply; input waits meanwhile.
    AwaitOutput,
    /// Close it.
    Close,
}

/// Everything that a look at a connection needs.
pub struct Look<'a> {
    /// What answers.
    pub handler: &'a dyn Handler,
    /// The places for requests that may wait.
    pub places: &'a Places,
    /// The worker's buffers.
    pub buffers: &'a mut Buffers,
    /// Work for after the answers whose last byte is out.
    pub afters: &'a mut Vec<After>,
    /// The responder's start, which deadlines count from.
    pub started: Instant,
}

impl Connection {
    /// A connection that was just accepted. It counts in `count` until it is dropped.
    pub fn new(stream: Stream, count: &Arc<AtomicUsize>, connections_max: usize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        let state = State {
            parser: Parser::new(connections_max),
            unsent: Vec::new(),
            afters: Vec::new(),
            closing: false,
            parked: None,
        };
        Self {
            stream,
            token: OnceLock::new(),
            wakes: AtomicUsize::new(0),
            awaits_output: AtomicBool::new(false),
            deadline: Deadline::default(),
            state: Mutex::new(state),
            _counted: Counted(Arc::clone(count)),
        }
    }

    /// Whether the peer is late with the rest of a request, or with taking a reply.
    pub fn is_overdue(&self, started: Instant) -> bool {
        self.deadline.is_over(started)
    }

    /// Whether nothing is under way on it.
    pub fn is_idle(&self) -> bool {
        self.wakes.load(Ordering::Acquire) == 0
            && !self.deadline.is_set()
            && self.state.try_lock().is_ok_and(|state| state.parked.is_none())
    }

    /// Sends what waits, reads what is there, answers every request in it. With `to_end` it reads
    /// until the socket has no more; otherwise a read that did not fill the buffer is the last,
    /// since bytes that come later wake somebody again.
    pub fn look(self: &Arc<Self>, to_end: bool, look: &mut Look<'_>) -> Verdict {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        state.answer_parked(look);
        if !state.unsent.is_empty() {
            match self.send(&state.unsent) {
                Ok(sent) if sent == state.unsent.len() => state.unsent = Vec::new(),
                Ok(sent) => {
                    state.unsent.drain(..sent);
                    if !self.deadline.is_set() {
                        self.deadline.set(look.started, REPLY_TIME);
                    }
                    return Verdict::AwaitOutput;
                }
                Err(_) => return state.close(look),
            }
            look.afters.append(&mut state.afters);
            if state.closing {
                return Verdict::Close;
            }
            self.expect_rest(state, look.started, true);
        }
        loop {
            let length =
                match recv(self.stream.raw(), &mut look.buffers.input, MsgFlags::MSG_DONTWAIT) {
                    Ok(0) => return state.close(look),
                    Ok(length) => length,
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => continue,
                    Err(_) => return state.close(look),
                };
            match self.take(state, length, look) {
                Verdict::AwaitInput => {}
                verdict => return verdict,
            }
            if length < look.buffers.input.len() && !to_end {
                break;
            }
        }
        Verdict::AwaitInput
    }

    /// Acts on the first `length` bytes of the input buffer.
    fn take(self: &Arc<Self>, state: &mut State, length: usize, look: &mut Look<'_>) -> Verdict {
        let Look { handler, places, .. } = *look;
        let Buffers { input, output } = &mut *look.buffers;
        let mut input = input.get(..length).unwrap_or_default();
        let mut answered = false;
        output.clear();
        loop {
            match state.parser.feed(&mut input, output) {
                Step::NeedMore => break,
                Step::HangUp => state.closing = true,
                Step::Aborted { keep } => {
                    state.leave(places);
                    state.closing = !keep;
                }
                Step::Ready { id, request, keep } => {
                    answered = true;
                    // It has arrived: what its answer takes is not the peer's time.
                    self.deadline.clear();
                    let place = match places.admit(self, handler.waits(&request)) {
                        Admission::Now(place) => place,
                        Admission::Parked(ticket) => {
                            state.parser.put_off(id, keep);
                            state.parked = Some(Parked { ticket, id, keep, request });
                            continue;
                        }
                    };
                    let mut response = answer(handler, places, place, request);
                    record::push_answer(output, id, &response);
                    state.afters.extend(response.take_after());
                    state.closing = !keep;
                    // A request behind this one must not hold this answer back.
                    if !input.is_empty() {
                        match self.send(output) {
                            Ok(sent) => drop(output.drain(..sent)),
                            Err(_) => return state.close(look),
                        }
                    }
                }
            }
            if state.closing {
                break;
            }
        }
        match self.send(output) {
            Ok(sent) if sent == output.len() => {}
            Ok(sent) => {
                state.unsent = output.split_off(sent);
                self.deadline.set(look.started, REPLY_TIME);
                return Verdict::AwaitOutput;
            }
            Err(_) => return state.close(look),
        }
        output.shrink_to(REPLY_KEPT);
        look.afters.append(&mut state.afters);
        if state.closing {
            return Verdict::Close;
        }
        self.expect_rest(state, look.started, answered);
        Verdict::AwaitInput
    }

    /// Sets the time for the rest of a request where one is owed; only a new request gets new time.
    fn expect_rest(&self, state: &State, started: Instant, new: bool) {
        if !state.parser.is_midway() {
            self.deadline.clear();
        } else if new || !self.deadline.is_set() {
            self.deadline.set(started, REQUEST_TIME);
        }
    }

    /// Sends what the socket takes at once.
    fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.stream.raw(), rest, flags) {
                Ok(length) => sent += length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// Asks for the answer to a request, and gives its place back.
fn answer(handler: &dyn Handler, places: &Places, place: Place, request: Request) -> Response {
    match place {
        Place::NotNeeded => guard::answer(|| handler.handle(request)),
        Place::Refused => guard::answer(|| handler.handle_without_place(request)),
        Place::Held(tenant) => {
            let response = guard::answer(|| handler.handle(request));
            places.release(tenant);
            response
        }
    }
}

impl State {
    /// Answers the parked request, where its turn has come or its time is over; the answer is put to
    /// what is not sent yet.
    fn answer_parked(&mut self, look: &mut Look<'_>) {
        let turn = self.parked.as_ref().and_then(|parked| look.places.turn(parked.ticket));
        let Some(place) = turn else { return };
        let Some(Parked { id, keep, request, .. }) = self.parked.take() else { return };
        self.parser.resume();
        let mut response = answer(look.handler, look.places, place, request);
        record::push_answer(&mut self.unsent, id, &response);
        self.afters.extend(response.take_after());
        self.closing = !keep;
    }

    /// Gives up the parked request, where there is one.
    fn leave(&mut self, places: &Places) {
        if let Some(parked) = self.parked.take() {
            places.leave(parked.ticket);
        }
    }

    /// The work after answers is done even where the peer is gone: it was promised to the request.
    fn close(&mut self, look: &mut Look<'_>) -> Verdict {
        self.leave(look.places);
        look.afters.append(&mut self.afters);
        Verdict::Close
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use nix::sys::epoll::{Epoll, EpollCreateFlags};

    use super::*;
    use crate::http::{Request, Response};

    /// Notes whether the connection had a deadline while its request was answered.
    struct Witness(OnceLock<(Arc<Connection>, AtomicBool)>);

    impl Handler for Witness {
        fn handle(&self, _: Request) -> Response {
            let (connection, had_deadline) = self.0.get().unwrap();
            had_deadline.store(connection.deadline.is_set(), Ordering::Release);
            Response::empty(204)
        }
    }

    #[test]
    fn a_request_that_came_in_pieces_is_not_cut_off_while_it_is_answered() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let connection = Arc::new(Connection::new(Stream::Unix(ours), &Arc::default(), 1));
        let witness = Witness(OnceLock::new());
        witness.0.set((connection.clone(), AtomicBool::new(true))).unwrap();
        let started = Instant::now();
        let mut buffers = Buffers::new();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let places = Places::new(1, REPLY_TIME, &epoll, [0, 1]).unwrap();
        let mut look = |expected| {
            let (buffers, afters) = (&mut buffers, &mut Vec::new());
            let mut look = Look { handler: &witness, places: &places, buffers, afters, started };
            assert_eq!(connection.look(false, &mut look), expected);
        };
        let begin = [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        peer.write_all(&begin).unwrap();
        look(Verdict::AwaitInput);
        assert!(connection.deadline.is_set(), "the peer owes the rest");
        peer.write_all(&[1, 4, 0, 1, 0, 0, 0, 0, 1, 5, 0, 1, 0, 0, 0, 0]).unwrap();
        look(Verdict::Close);
        assert!(!witness.0.get().unwrap().1.load(Ordering::Acquire));
    }
}
