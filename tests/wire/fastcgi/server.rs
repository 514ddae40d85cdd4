//! Responders to talk to: one in this process for most tests, children for signals and limits.

use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use codeb_signup::config::{Config, Gateway, Lines, Listen, LogTarget};
use codeb_signup::gateway::listener::{Listener, Origin};
use codeb_signup::gateway::{Handler, cgi, fastcgi};
use codeb_signup::http::{Body, Request, Response};
use codeb_signup::{log, serve};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a request waits for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// Answers with what it was asked: the query, the body's length, whether the parameters are whole.
#[derive(Default)]
pub struct Echo {
    pub handled: AtomicUsize,
    pub after: Arc<AtomicUsize>,
}

impl Handler for Echo {
    fn handle(&self, request: Request) -> Response {
        self.handled.fetch_add(1, Ordering::SeqCst);
        let query = String::from_utf8_lossy(request.query()).into_owned();
        match query.as_str() {
            "panic" => panic!("asked for"),
            "slow" => thread::sleep(Duration::from_millis(300)),
            "large" => return Response::json(200, vec![b'x'; 3_000_000]),
            _ => {}
        }
        let body = match request.body {
            Body::Whole(body) => body.len().to_string(),
            Body::TooLarge => "too-large".into(),
            Body::Truncated => "truncated".into(),
        };
        let whole = if request.whole { "whole" } else { "lost" };
        let after = Arc::clone(&self.after);
        Response::json(200, format!("{query} {body} {whole}")).after(Box::new(move || {
            after.fetch_add(1, Ordering::SeqCst);
        }))
    }
}

/// A directory of its own, removed in the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("codeb-wire-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A responder in this process.
pub struct Server {
    pub echo: Arc<Echo>,
    scratch: Scratch,
    signal: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.socket()).unwrap();
        Self::with(scratch, Listener::unix(listener, Origin::Bound))
    }

    pub fn over(listener: Listener) -> Self {
        Self::with(Scratch::new(), listener)
    }

    fn with(scratch: Scratch, listener: Listener) -> Self {
        let (signal, signals) = UnixStream::pair().unwrap();
        let echo = Arc::new(Echo::default());
        let handler: Arc<dyn Handler> = Arc::clone(&echo) as _;
        let thread = thread::spawn(move || {
            let options = fastcgi::Options { workers: 4, lock_wait: WAIT, descriptors: 1024 };
            fastcgi::serve(vec![listener], handler, options, &signals).unwrap();
        });
        Self { echo, scratch, signal: Some(signal), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.socket()
    }

    pub fn handled(&self) -> usize {
        self.echo.handled.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.signal.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// What a child is to do; passed in the environment.
pub const CHILD: &str = "CODEB_TEST_CHILD";

/// The body of the child processes: [`serve::run`] with [`Echo`].
pub fn be_a_child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let mut words = task.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (gateway, descriptors, path) = (word(), word(), word());
    if gateway == "cgi" {
        cgi::run(&Echo::default()).unwrap();
        std::process::exit(0);
    }
    if let Ok(limit) = descriptors.parse() {
        setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
    }
    let config = Config {
        file: PathBuf::new(),
        listen: (!path.is_empty()).then(|| Listen::Unix(PathBuf::from(path))),
        gateway: if gateway == "own" { Gateway::Own } else { Gateway::FastcgiCrate },
        workers: 4,
        log: LogTarget::Stderr,
        lock_wait: WAIT,
        default_tenant: None,
        trusted_proxies: Vec::new(),
        tenants: Vec::new(),
        lines: Lines::default(),
    };
    let ended = serve::run(&config, None, Arc::new(Echo::default()));
    log::flush(Duration::from_secs(60));
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(error.exit_code().into())
        }
    }
}

/// A responder in a process of its own.
pub struct ChildServer(pub Child);

impl ChildServer {
    /// Starts one that listens on `path`, and waits until it does.
    pub fn listening_on(path: &Path, descriptors: &str) -> Self {
        let task = format!("own {descriptors} {}", path.display());
        let child = Self(command(&task).stdin(Stdio::null()).spawn().unwrap());
        wait_for("the socket", || UnixStream::connect(path).is_ok());
        child
    }

    /// Starts one that is handed `listener` on descriptor 0; its standard error can be read.
    pub fn inheriting(listener: &UnixListener, task: &str) -> Self {
        let listener = Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        Self(command(task).stdin(listener).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Starts one that is handed `listener` by `LISTEN_FDS`.
    pub fn activated(listener: &UnixListener) -> Self {
        let listener = Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 exec \"$0\" \"$@\"";
        let direct = command("own -");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(direct.get_program()).args(direct.get_args());
        Self(
            shell
                .env(CHILD, "own -")
                .stdin(listener)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    pub fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// What it wrote on standard error; waits for its end.
    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits for its end.
    pub fn status(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the child's end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test binary, told to run nothing but [`be_a_child`].
pub fn command(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fastcgi::a_server_for_the_other_tests", "--ignored", "--nocapture"])
        .env(CHILD, task)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Polls until `done`, for half a minute at most.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Raises this process's limit on descriptors as far as it goes.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
