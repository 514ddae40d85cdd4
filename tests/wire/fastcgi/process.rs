//! Limits and signals, on responders in processes of their own.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::server::{ChildServer, Scratch, command, wait_for};
use super::wire::*;

/// Clients that ask again and again until told to stop, or until nobody listens.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `refusal_ends`: whether a refused connect is the expected end, or a failure.
    fn start(path: &Path, keep: bool, refusal_ends: bool) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = || {
            let (path, stop, answered) =
                (path.to_owned(), Arc::clone(&stop), Arc::clone(&answered));
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let mut client = match Client::try_connect(&path) {
                        Ok(client) => client,
                        Err(_) if refusal_ends => return,
                        Err(error) => panic!("nobody accepts: {error}"),
                    };
                    // As nginx's `keepalive_requests`, the client ends a kept connection.
                    for _ in 0..if keep { 20 } else { 1 } {
                        client.send(&request(1, keep, "load", b"abc"));
                        assert!(client.answer(1).ends_with("load 3 whole"));
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let threads = (0..4).map(|_| thread::spawn(client())).collect();
        Self { stop, answered, threads }
    }

    /// Waits until that many more were answered.
    fn wait(&self, more: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        wait_for("answers", || {
            self.answered.load(Ordering::SeqCst) >= goal
                || self.threads.iter().all(JoinHandle::is_finished)
        });
    }

    /// Ends; fails if any request failed.
    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no request failed");
        }
    }
}

#[test]
fn a_stop_loses_no_request_that_was_accepted() {
    for keep in [false, true] {
        let scratch = Scratch::new();
        let mut server = ChildServer::listening_on(&scratch.socket(), "-");
        let load = Load::start(&scratch.socket(), keep, true);
        load.wait(200);
        server.terminate();
        wait_for("the socket file's end", || !scratch.socket().exists());
        load.end();
        assert_eq!(server.status().code(), Some(0));
    }
}

#[test]
fn a_request_under_way_and_a_late_one_on_a_kept_connection_are_answered_after_a_stop() {
    let scratch = Scratch::new();
    let mut server = ChildServer::listening_on(&scratch.socket(), "-");
    let mut kept = Client::connect(&scratch.socket());
    kept.expect_serves(1);
    let mut busy = Client::connect(&scratch.socket());
    busy.send(&request(1, true, "slow", b""));
    server.terminate();
    wait_for("the socket file's end", || !scratch.socket().exists());
    assert!(busy.answer(1).ends_with("slow 0 whole"));
    kept.expect_serves(2);
    assert!(server.0.try_wait().unwrap().is_none(), "it waits for its kept connections");
    drop((kept, busy));
    assert_eq!(server.status().code(), Some(0));
}

#[test]
fn a_second_signal_ends_idle_connections_at_once() {
    let scratch = Scratch::new();
    let mut server = ChildServer::listening_on(&scratch.socket(), "-");
    let mut kept = Client::connect(&scratch.socket());
    kept.expect_serves(1);
    server.terminate();
    wait_for("the socket file's end", || !scratch.socket().exists());
    server.terminate();
    kept.expect_closed();
    assert_eq!(server.status().code(), Some(0));
}

#[test]
fn processes_that_share_a_socket_are_replaced_one_by_one_without_a_failed_request() {
    for keep in [false, true] {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.socket()).unwrap();
        let mut servers = [(); 2].map(|()| ChildServer::inheriting(&listener, "own -"));
        let load = Load::start(&scratch.socket(), keep, false);
        load.wait(200);
        for server in &mut servers {
            let next = ChildServer::inheriting(&listener, "own -");
            let mut old = std::mem::replace(server, next);
            old.terminate();
            assert_eq!(old.status().code(), Some(0));
            load.wait(200);
        }
        load.end();
        assert!(scratch.socket().exists(), "an inherited socket's file is not ours to remove");
    }
}

#[test]
fn a_socket_handed_over_by_listen_fds_is_served() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.socket()).unwrap();
    let mut server = ChildServer::activated(&listener);
    Client::connect(&scratch.socket()).expect_serves(1);
    server.terminate();
    assert_eq!(server.status().code(), Some(0));
}

#[test]
fn running_out_of_descriptors_holds_new_connections_back_and_loses_none() {
    let scratch = Scratch::new();
    // The responder itself needs a dozen; eight connections are its minimum.
    let server = ChildServer::listening_on(&scratch.socket(), "16");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&scratch.socket())).collect();
    clients[0].expect_serves(1);
    for client in &mut clients {
        client.send(&request(1, true, "waiting", b""));
    }
    // Each that leaves makes room for one that waits.
    for mut client in clients {
        assert!(client.answer(1).ends_with("waiting 0 whole"));
    }
    Client::connect(&scratch.socket()).expect_serves(1);
    server.terminate();
}

#[test]
fn the_published_crate_serves_with_its_guards_and_a_clean_log() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.socket()).unwrap();
    let mut server = ChildServer::inheriting(&listener, "fastcgi-crate -");
    let ask = |params: &[u8], body: &[u8]| {
        let mut client = Client::connect(&scratch.socket());
        client.send(&[begin(1, 1, true), stream(PARAMS, 1, params)].concat());
        client.send(&stream(STDIN, 1, body));
        client.answer(1)
    };
    let whole = [("QUERY_STRING", "q"), ("CONTENT_LENGTH", "3"), ("CODEB_SIGNUP_PARAMS", "whole")];
    assert!(ask(&pairs(&whole), b"abc").ends_with("q 3 whole"));
    assert!(ask(&pairs(&whole), b"a").ends_with("q truncated whole"));
    assert!(ask(&pairs(&whole[..1]), &[b'x'; 20_000]).ends_with("q too-large lost"));
    let cut = [b"\x01\x01X\xff".to_vec(), pairs(&whole)].concat();
    assert!(ask(&cut, b"abc").ends_with(" lost"));
    let panics = [("QUERY_STRING", "panic"), ("CODEB_SIGNUP_PARAMS", "whole")];
    assert!(ask(&pairs(&panics), b"").starts_with("Status: 500 "));
    let mut halfway = Client::connect(&scratch.socket());
    halfway.send(&begin(1, 1, true)[..12]);
    drop(halfway);
    assert!(ask(&pairs(&whole), b"abc").ends_with("q 3 whole"));
    server.terminate();
    assert_eq!(server.status().code(), Some(0));
    let log = server.stderr();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(log.matches("event=panic").count(), 1, "{log}");
}

#[test]
fn the_published_crate_out_of_descriptors_ends_with_an_error_instead_of_going_deaf() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.socket()).unwrap();
    let mut server = ChildServer::inheriting(&listener, "fastcgi-crate 16");
    let _clients: Vec<Client> = (0..20).map(|_| Client::connect(&scratch.socket())).collect();
    assert_eq!(server.status().code(), Some(71));
    let log = server.stderr();
    assert!(log.contains("event=accept_failed") && log.contains("gateway = \"own\""), "{log}");
}

#[test]
fn cgi_answers_the_one_request_of_its_environment() {
    let ask = |length: &str, body: &[u8]| {
        let mut command = command("cgi -");
        command.env("QUERY_STRING", std::ffi::OsStr::from_bytes(b"raw\xff"));
        command.env("CONTENT_LENGTH", length).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(body).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = ask("3", b"abcdef");
    assert!(answer.contains("Status: 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("raw\u{fffd} 3 whole"), "{answer}");
    assert!(ask("7", b"abcdef").ends_with("raw\u{fffd} truncated whole"));
    assert!(ask("20000", &[b'x'; 20_000]).ends_with("raw\u{fffd} too-large whole"));
}

#[test]
fn a_second_server_on_the_same_path_is_refused() {
    let scratch = Scratch::new();
    let _first = ChildServer::listening_on(&scratch.socket(), "-");
    let mut second = ChildServer::listening_on(&scratch.socket(), "-");
    assert_eq!(second.status().code(), Some(69));
    Client::connect(&scratch.socket()).expect_serves(1);
}

#[test]
#[ignore = "takes half a minute"]
fn a_request_that_does_not_end_is_hung_up_on_after_its_time() {
    let scratch = Scratch::new();
    let _server = ChildServer::listening_on(&scratch.socket(), "-");
    let mut client = Client::connect(&scratch.socket());
    client.0.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let (mut idle, bytes) = (Client::connect(&scratch.socket()), request(1, true, "x", b""));
    client.send(&bytes[..50]);
    client.expect_closed();
    idle.expect_serves(1);
}

#[test]
#[ignore = "takes more than a minute"]
fn a_stop_ends_though_the_web_server_keeps_its_connections() {
    let scratch = Scratch::new();
    let mut server = ChildServer::listening_on(&scratch.socket(), "-");
    let mut kept = Client::connect(&scratch.socket());
    kept.expect_serves(1);
    let began = Instant::now();
    server.terminate();
    thread::sleep(Duration::from_secs(50));
    kept.expect_serves(2);
    assert_eq!(server.status().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(65));
}
