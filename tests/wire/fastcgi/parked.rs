//! The bulkhead at the socket: requests that wait for the disk of one tenant take no worker from the
//! others, and a request that has to wait for its turn can be given up like any other.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use codeb_signup::gateway::listener::{Listener, Origin};
use codeb_signup::gateway::{Handler, fastcgi};
use codeb_signup::http::{Request, Response, Waits};

use super::server::{Scratch, wait_for};
use super::wire::*;

/// With so many workers one tenant may hold two, the next one.
const WORKERS: usize = 4;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

/// Answers a query `T…` of a tenant, a digit, once it is let go, and any other at once.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    begun: Vec<String>,
    let_go: BTreeSet<String>,
}

fn query(request: &Request) -> String {
    String::from_utf8_lossy(request.query()).into_owned()
}

impl Handler for Gate {
    fn waits(&self, request: &Request) -> Waits {
        let query = query(request);
        match query.chars().next().and_then(|c| c.to_digit(10)) {
            Some(tenant) => {
                Waits::For { tenant: tenant as usize, patient: !query.ends_with("hasty") }
            }
            None => Waits::Never,
        }
    }

    fn handle(&self, request: Request) -> Response {
        let name = query(&request);
        if self.waits(&request) != Waits::Never {
            let mut state = self.state.lock().unwrap();
            state.begun.push(name.clone());
            drop(self.changed.wait_while(state, |state| !state.let_go.contains(&name)).unwrap());
        }
        Response::json(200, format!("{name} answered"))
    }

    fn handle_without_place(&self, request: Request) -> Response {
        Response::json(500, format!("{} refused", query(&request)))
    }
}

struct Server {
    gate: Arc<Gate>,
    scratch: Scratch,
    signal: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(lock_wait: Duration) -> Self {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.socket()).unwrap();
        let listener = Listener::unix(listener, Origin::Bound);
        let (signal, signals) = UnixStream::pair().unwrap();
        let gate = Arc::new(Gate::default());
        let handler = Arc::clone(&gate);
        let thread = thread::spawn(move || {
            let options = fastcgi::Options { workers: WORKERS, lock_wait, descriptors: 1024 };
            fastcgi::serve(vec![listener], handler, options, &signals).unwrap();
        });
        Self { gate, scratch, signal: Some(signal), thread: Some(thread) }
    }

    /// Sends a request on a connection of its own, that is kept.
    fn ask(&self, name: &str) -> Client {
        let mut client = Client::connect(&self.scratch.socket());
        client.send(&request(1, true, name, b"body"));
        client
    }

    /// The same, and waits until it is being answered.
    fn begin(&self, name: &str) -> Client {
        let client = self.ask(name);
        self.wait_until_begun(name);
        client
    }

    /// The same, and waits until it is parked: a second request is told that there is another.
    fn park(&self, name: &str) -> Client {
        let mut client = self.ask(name);
        client.send(&begin(2, 1, true));
        assert_eq!(client.receive(), (END, 2, vec![0, 0, 0, 0, 1, 0, 0, 0]));
        client
    }

    fn wait_until_begun(&self, name: &str) {
        wait_for(name, || self.begun().iter().any(|begun| begun == name));
    }

    fn begun(&self) -> Vec<String> {
        self.gate.state.lock().unwrap().begun.clone()
    }

    fn let_go(&self, name: &str) {
        self.gate.state.lock().unwrap().let_go.insert(name.to_owned());
        self.gate.changed.notify_all();
    }

    fn expect_served_beside(&self) {
        let mut client = self.ask("free");
        assert!(client.answer(1).ends_with("free answered"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for name in ["0a", "0b", "0c", "0d", "0e", "1a", "2a"] {
            self.let_go(name);
        }
        drop(self.signal.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

#[test]
fn a_tenant_that_hangs_leaves_workers_to_others_and_its_own_requests_wait_their_turn() {
    let server = Server::start(LONG);
    let mut held = [server.begin("0a"), server.begin("0b")];
    let mut parked = ["0c", "0d", "0e"].map(|name| server.park(name));
    server.expect_served_beside();
    let mut others = [("1a", server.begin("1a")), ("2a", server.begin("2a"))];
    // Every place is held by now; a worker is left all the same.
    server.expect_served_beside();
    assert!(server.ask("0 hasty").answer(1).ends_with("0 hasty refused"));
    assert_eq!(server.begun(), ["0a", "0b", "1a", "2a"]);
    for (name, client) in &mut others {
        server.let_go(name);
        assert!(client.answer(1).ends_with(&format!("{name} answered")));
    }
    for (client, next) in held.iter_mut().zip(["0c", "0d"]) {
        let name = if next == "0c" { "0a" } else { "0b" };
        server.let_go(name);
        assert!(client.answer(1).ends_with(&format!("{name} answered")));
        server.wait_until_begun(next);
    }
    assert_eq!(server.begun()[4..], ["0c", "0d"], "the oldest first");
    for (client, name) in parked.iter_mut().zip(["0c", "0d", "0e"]) {
        server.let_go(name);
        assert!(client.answer(1).ends_with(&format!("{name} answered")));
        client.expect_serves_plainly();
    }
}

#[test]
fn a_parked_request_is_refused_in_the_end_and_its_connection_goes_on() {
    let server = Server::start(Duration::from_secs(1));
    let _held = [server.begin("0a"), server.begin("0b")];
    let mut parked: Vec<Client> = (0..20).map(|n| server.ask(&format!("0 {n}"))).collect();
    for (n, client) in parked.iter_mut().enumerate() {
        assert!(client.answer(1).ends_with(&format!("0 {n} refused")));
        client.expect_serves_plainly();
    }
    assert_eq!(server.begun().len(), 2, "none of them was begun");
    // A later one has its own time.
    assert!(server.ask("0c").answer(1).ends_with("0c refused"));
}

#[test]
fn a_peer_that_goes_away_leaves_its_turn_to_the_next() {
    let server = Server::start(LONG);
    let mut held = [server.begin("0a"), server.begin("0b")];
    let mut gone = server.park("0c");
    let mut aborted = server.park("0d");
    let mut next = server.park("0e");
    gone.0.shutdown(Shutdown::Write).unwrap();
    gone.expect_closed();
    aborted.send(&record(ABORT, 2, &[]));
    aborted.send(&record(ABORT, 1, &[]));
    assert_eq!(aborted.receive(), (END, 1, vec![0; 8]));
    aborted.expect_serves_plainly();
    server.let_go("0a");
    assert!(held[0].answer(1).ends_with("0a answered"));
    server.wait_until_begun("0e");
    server.let_go("0e");
    assert!(next.answer(1).ends_with("0e answered"));
    assert_eq!(server.begun(), ["0a", "0b", "0e"]);
}

#[test]
fn an_abort_of_a_request_that_is_not_kept_closes() {
    let server = Server::start(LONG);
    let _held = [server.begin("0a"), server.begin("0b")];
    let mut client = Client::connect(&server.scratch.socket());
    client.send(&request(1, false, "0c", b""));
    client.send(&record(ABORT, 1, &[]));
    assert_eq!(client.receive(), (END, 1, vec![0; 8]));
    client.expect_closed();
}

#[test]
fn a_stop_answers_what_is_parked() {
    let mut server = Server::start(LONG);
    let held = [("0a", server.begin("0a")), ("0b", server.begin("0b"))];
    let parked = [("0c", server.park("0c")), ("0d", server.park("0d"))];
    let mut idle = server.ask("free");
    assert!(idle.answer(1).ends_with("free answered"));
    // The second signal ends the connections on which nothing is under way, and no other.
    let mut signal = server.signal.take().unwrap();
    signal.write_all(b"x").unwrap();
    wait_for("the stop", || signal.write_all(b"x").is_err() || is_closed(&idle));
    for (name, mut client) in held.into_iter().chain(parked) {
        server.wait_until_begun(name);
        server.let_go(name);
        assert!(client.answer(1).ends_with(&format!("{name} answered")));
    }
}

/// Whether the responder has closed the connection.
fn is_closed(client: &Client) -> bool {
    use nix::sys::socket::{MsgFlags, recv};
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(std::os::fd::AsRawFd::as_raw_fd(&client.0), &mut [0], flags) == Ok(0)
}

impl Client {
    /// Asserts that the connection is still good for a request.
    fn expect_serves_plainly(&mut self) {
        self.send(&request(9, true, "free", b""));
        assert!(self.answer(9).ends_with("free answered"));
    }
}
