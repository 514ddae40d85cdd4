//! A log that nobody reads: requests and stops do not wait for it, and what it missed is counted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, pipe};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use harness::direct::{Direct, Start};
use harness::host::HOST;
use harness::process::Process;
use harness::{Host, PROGRAM, Setup, fcgi};
use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::Mode;

const PATIENCE: Duration = Duration::from_secs(30);
/// More than a pipe and the queue take together of lines that are longer than [`NAME`].
const REQUESTS: usize = 3000;
/// The length of the host name in each of them.
const NAME: usize = 900;

/// A request for a host that is not served, which logs a long line with this number in it.
fn ask(socket: &Path, number: usize) {
    let host = format!("{number:0NAME$}.example");
    let params: Vec<u8> = [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", "/captcha.ashx"),
        ("HTTP_HOST", &host),
        ("REMOTE_ADDR", "192.0.2.9"),
    ]
    .iter()
    .flat_map(|(name, value)| fcgi::pair(name, value.as_bytes()))
    .collect();
    assert_eq!(fcgi::exchange(socket, &fcgi::request(&params, b"")).status, 421, "{number}");
}

/// The number of a line of [`ask`].
fn number(line: &str) -> Option<usize> {
    let (_, host) = line.split_once(" outcome=unknown_host host=")?;
    host.split_once(".example")?.0.parse().ok()
}

/// Reads what requests 0 to [`REQUESTS`] logged while nobody read: each has its line or is counted, in
/// order. Then there is room again: one more request has its line.
fn assert_told(log: impl Read, socket: &Path) {
    let mut lines = BufReader::new(log).lines().map(Result::unwrap);
    let mut next = 0;
    let report = " event=log outcome=dropped lines=";
    let dropped: usize = loop {
        let line = lines.next().unwrap();
        if let Some((_, count)) = line.split_once(report) {
            break count.parse().unwrap();
        }
        if let Some(number) = number(&line) {
            assert_eq!(number, next, "in order");
            next += 1;
        }
    };
    assert!(next > 0 && dropped > 0, "{next} were written, {dropped} dropped");
    assert_eq!(next + dropped, REQUESTS);
    ask(socket, REQUESTS);
    assert_eq!(lines.find_map(|line| number(&line)), Some(REQUESTS));
}

/// The program with a pipe as standard error that nobody reads.
fn start(host: &Direct) -> (Process, PipeReader) {
    let (reader, stderr) = pipe().unwrap();
    let mut command = host.command(&["serve"]);
    command.stderr(stderr);
    let process = Process::spawn("the program", command, &host.path("log"));
    harness::wait_for("the program's socket", PATIENCE, || {
        UnixStream::connect(host.path("sock")).ok()
    });
    (process, reader)
}

#[test]
fn requests_do_not_wait_for_standard_error_and_what_it_missed_is_counted() {
    let host = Start::default().lay_out();
    let (mut process, reader) = start(&host);
    (0..REQUESTS).for_each(|number| ask(&host.path("sock"), number));
    assert_told(&reader, &host.path("sock"));
    assert!(process.stop().success());
    let mut end = String::new();
    (&reader).read_to_string(&mut end).unwrap();
    assert!(end.contains(" event=stop "), "the last line is written before the end: {end}");
}

#[test]
fn sigterm_ends_a_service_whose_standard_error_nobody_reads() {
    let host = Start::default().lay_out();
    let (mut process, _reader) = start(&host);
    (0..REQUESTS).for_each(|number| ask(&host.path("sock"), number));
    assert!(process.stop().success());
}

/// A service whose log is a FIFO.
fn with_fifo() -> Setup {
    let prepare = |dir: &Path| nix::unistd::mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
    Setup { processes: 1, top: "log = \"@DIR@/fifo\"".into(), prepare, ..Setup::default() }
}

fn run(host: &Host, verb: &str) -> Output {
    Command::new(&*PROGRAM).arg(verb).arg("--config").arg(host.config()).output().unwrap()
}

#[test]
fn a_fifo_as_the_log_needs_no_reader_and_what_it_missed_is_counted() {
    let mut host = with_fifo().start();
    let socket = host.socket(0);
    host.visitor().joined("joe");
    assert!(run(&host, "sweep").status.success(), "a verb");
    let fifo = || {
        let mut options = File::options();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let fifo = options.open(host.path().join("fifo")).unwrap();
        nix::fcntl::fcntl(&fifo, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        fifo
    };
    (0..REQUESTS).for_each(|number| ask(&socket, number));
    assert_told(fifo(), &socket);
    // The reader is gone again, and nobody reads while it stops.
    (0..REQUESTS).for_each(|number| ask(&socket, number));
    host.restart();
}

#[test]
fn check_says_what_a_log_that_is_no_plain_file_needs() {
    let host = with_fifo().start();
    let checked = run(&host, "check");
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("a FIFO: lines that nobody reads in time are dropped"), "{said}");
    assert!(said.contains("keep a reader at it"), "{said}");
    let config = fs::read_to_string(host.config()).unwrap();
    let socket = format!("log = {:?}", host.socket(0));
    let fifo = format!("log = {:?}", host.path().join("fifo"));
    fs::write(host.config(), config.replace(&fifo, &socket)).unwrap();
    let checked = run(&host, "check");
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(78), "{said}");
    assert!(said.contains("write the path of a file or of a FIFO"), "{said}");
}

/// A CGI program's answer does not wait for its line; its end does, so that the line is not lost.
#[test]
fn a_cgi_request_is_answered_while_nobody_reads_its_log_and_loses_no_line() {
    let host = Host::plain();
    let (reader, mut stderr) = pipe().unwrap();
    fill(&mut stderr);
    let mut child = Command::new(&*PROGRAM)
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("CODEB_SIGNUP_CONFIG", host.config())
        .env("REQUEST_METHOD", "GET")
        .env("SCRIPT_NAME", "/nope.ashx")
        .env("REMOTE_ADDR", "192.0.2.9")
        .env("HTTP_HOST", HOST)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let (mut stdout, (sender, answer)) = (child.stdout.take().unwrap(), channel());
    std::thread::spawn(move || {
        let mut answer = Vec::new();
        stdout.read_to_end(&mut answer).unwrap();
        sender.send(answer).unwrap();
    });
    let Ok(answer) = answer.recv_timeout(PATIENCE) else {
        child.kill().unwrap();
        panic!("no answer");
    };
    assert_eq!(fcgi::cgi_reply(&answer).status, 404);
    let mut log = Vec::new();
    (&reader).read_to_end(&mut log).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("outcome=not_found"));
    assert!(child.wait().unwrap().success());
}

/// Fills a pipe to the last byte; it blocks again afterwards.
fn fill(pipe: &mut PipeWriter) {
    let set = |flags| nix::fcntl::fcntl(&*pipe, FcntlArg::F_SETFL(flags)).unwrap();
    set(OFlag::O_NONBLOCK);
    for size in [4096, 1] {
        while nix::unistd::write(&*pipe, &vec![b'\n'; size]).is_ok() {}
    }
    set(OFlag::empty());
}
