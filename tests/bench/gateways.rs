//! Responders that do nothing but answer: what a gateway costs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use codeb_signup::gateway::fastcgi::{self as own, Options};
use codeb_signup::gateway::listener::Listener;
use codeb_signup::http::{Handler, Request, Response};

/// As long as a captcha's, and one that a visitor can go on with.
const BODY: &str = concat!(
    r#"{"question":"3 + 5","token":"AZ0123456789abcdefghijkl.0123456789abcdefghijklmnopqrstuv","#,
    r#""realm":"bench.example"}"#
);

/// How long a request waits for its turn; none does here.
const WAIT: Duration = Duration::from_secs(5);

struct Constant;

impl Handler for Constant {
    fn handle(&self, _: Request) -> Response {
        Response::json(200, BODY)
    }
}

/// Answers on the listening socket that is descriptor 0, until it is killed.
pub fn answer(kind: &str) {
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    match kind {
        "own" => {
            let (signals, _keep) = UnixStream::pair().unwrap();
            let options = Options { workers: 64, lock_wait: WAIT, descriptors: 8192 };
            let listener = Listener::inherited(socket).unwrap();
            own::serve(vec![listener], Arc::new(Constant), options, &signals).unwrap();
        }
        "crate" => fastcgi::run(|mut request| {
            let mut bytes = Vec::new();
            Constant.handle(nothing()).write_cgi(&mut bytes);
            // Where the web server is gone there is nobody to tell.
            let _ = request.stdout().write_all(&bytes);
        }),
        "blocking" => blocking(&UnixListener::from(socket)),
        _ => panic!("no responder {kind}"),
    }
}

fn nothing() -> Request {
    let body = codeb_signup::http::Body::Whole(Vec::new());
    Request { params: std::iter::empty().collect(), whole: true, body }
}

/// A thread a connection, one read and one write a request: the least that a responder can do.
fn blocking(listener: &UnixListener) {
    let mut answer = Vec::new();
    let mut content = Vec::new();
    Constant.handle(nothing()).write_cgi(&mut content);
    let padding = content.len().next_multiple_of(8) - content.len();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    answer.extend([1, 6, 0, 1, high, low, padding as u8, 0]);
    answer.extend_from_slice(&content);
    answer.resize(answer.len() + padding, 0);
    answer.extend([1, 6, 0, 1, 0, 0, 0, 0]);
    answer.extend([1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let answer: Arc<[u8]> = answer.into();
    for stream in listener.incoming() {
        let (Ok(mut stream), answer) = (stream, answer.clone()) else { continue };
        let serve = move || {
            let mut input = [0; 8192];
            let mut filled = 0;
            loop {
                let Ok(read @ 1..) = stream.read(&mut input[filled..]) else { return };
                filled += read;
                // A request ends with an empty STDIN record.
                if input[..filled].ends_with(&[1, 5, 0, 1, 0, 0, 0, 0]) {
                    filled = 0;
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            }
        };
        thread::Builder::new().stack_size(64 * 1024).spawn(serve).unwrap();
    }
}

/// The descriptors a process may have open are inherited: as many as there may be.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Where what a child says goes.
pub fn log_file(path: &std::path::Path) -> File {
    File::options().append(true).create(true).open(path).unwrap()
}
