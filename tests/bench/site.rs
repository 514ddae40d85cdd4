//! One contestant behind an nginx of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts;
use crate::disk_floor;
use crate::http::{HOST, Visitor};
use crate::load::{self, Sample};
use crate::process::{self, Process};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_codeb-signup");

/// What stands behind nginx.
#[derive(Debug, Clone, Copy)]
pub enum Backend {
    /// The program: how many processes, with which gateway.
    Program(usize, &'static str),
    /// A responder that does nothing (see [`crate::gateways`]).
    Constant(&'static str),
    /// The PHP program behind PHP-FPM.
    Php,
}

/// A contestant that runs. nginx goes first, so that the others see their connections closed.
#[derive(Debug)]
pub struct Site {
    _nginx: Process,
    /// The processes behind it.
    pub processes: Vec<Process>,
    /// Where nginx listens.
    pub address: SocketAddr,
    /// Where everything of it lies.
    pub dir: PathBuf,
    /// From the start of the processes to the first answer.
    pub first_answer: Duration,
    /// Links of mails that nobody has opened yet.
    tokens: Mutex<Vec<String>>,
}

impl Site {
    /// Starts it in a new directory with this many accounts, and waits for its first answer.
    pub fn start(dir: &Path, backend: Backend, accounts: u64) -> Self {
        for name in ["state", "state/staging", "pickup"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let with_files = !matches!(backend, Backend::Constant(_));
        if with_files && (accounts > 0 || matches!(backend, Backend::Php)) {
            accounts::write(&dir.join("state"), accounts, 0);
        }
        let mut processes = 1;
        if let Backend::Program(count, gateway) = backend {
            processes = count;
            fs::write(dir.join("config.toml"), configuration(dir, gateway)).unwrap();
        }
        let sockets: Vec<PathBuf> = (1..=processes).map(|n| dir.join(format!("s{n}"))).collect();
        let (nginx, address) = nginx(dir, &sockets, backend);
        let started = Instant::now();
        let processes = sockets.iter().map(|socket| start(dir, socket, backend)).collect();
        for socket in sockets {
            // Each is asked in turn; one that is not there yet would be a refusal.
            while UnixStream::connect(&socket).is_err() {
                assert!(started.elapsed() < Duration::from_secs(60), "{backend:?} does not start");
                thread::sleep(Duration::from_millis(1));
            }
        }
        let mut visitor = Visitor::new(address);
        while !visitor.try_get("/captcha.ashx").is_ok_and(|reply| reply.status == 200) {
            let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "{backend:?}: {}", log());
            thread::sleep(Duration::from_millis(1));
        }
        let first_answer = started.elapsed();
        let (dir, tokens) = (dir.to_owned(), Mutex::default());
        Self { _nginx: nginx, processes, address, dir, first_answer, tokens }
    }

    /// Sign-ups with fresh names from fresh addresses.
    pub fn sign_ups(&self, clients: usize, time: Duration) -> Sample {
        let begin = || Visitor::new(self.address);
        let sample = load::closed(clients, time, begin, |visitor| {
            assert_eq!(visitor.sign_up(None), 200);
            true
        });
        self.take_mails();
        sample
    }

    /// The same at a given rate.
    pub fn sign_ups_at(&self, rate: f64, clients: usize, time: Duration) -> Sample {
        let begin = || Visitor::new(self.address);
        let sample = load::open(clients, time, rate, begin, |visitor| {
            assert_eq!(visitor.sign_up(None), 200);
        });
        self.take_mails();
        sample
    }

    /// Begins with an empty file again, for a program that reads it anew at each request.
    pub fn forget_accounts(&self) {
        fs::write(self.dir.join("state/credentials"), "").unwrap();
    }

    /// Sign-ups with names that are taken.
    pub fn conflicts(&self, clients: usize, time: Duration) -> Sample {
        let first = Visitor::new(self.address).sign_up(Some("taken"));
        assert!(first == 200 || first == 409, "{first}");
        let begin = || Visitor::new(self.address);
        let sample = load::closed(clients, time, begin, |visitor| {
            assert_eq!(visitor.sign_up(Some("taken")), 409);
            true
        });
        self.take_mails();
        sample
    }

    /// Activations by the links of the mails so far; ends early where there are no more.
    pub fn activations(&self, clients: usize, time: Duration) -> Sample {
        let begin = || Visitor::new(self.address);
        load::closed(clients, time, begin, |visitor| {
            let Some(token) = self.tokens.lock().unwrap().pop() else { return false };
            let reply = visitor.get(&format!("/activate.ashx?token={token}"));
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
            true
        })
    }

    /// Links that stand for nothing: what the load and the web server alone come to.
    pub fn links(&self, clients: usize, time: Duration) -> Sample {
        let target = format!("/activate.ashx?token={}", "A".repeat(43));
        let begin = || Visitor::new(self.address);
        load::closed(clients, time, begin, |visitor| visitor.get(&target).status == 200)
    }

    /// How long the threads of the processes were runnable, but waited for a processor.
    pub fn waited_for_a_processor(&self) -> Duration {
        self.processes.iter().map(Process::waited_for_a_processor).sum()
    }

    /// Captchas in a second, by `wrk`.
    pub fn captchas(&self, clients: usize, seconds: u64) -> f64 {
        wrk(self.address, "/captcha.ashx", clients, seconds)
    }

    /// Resident memory of the first process, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.processes[0].resident_kib()
    }

    /// Connections that say nothing.
    pub fn idle_connections(&self, count: usize) -> Vec<UnixStream> {
        (0..count).map(|_| UnixStream::connect(self.dir.join("s1")).unwrap()).collect()
    }

    /// The lines of one sign-up: the account's and the mail.
    pub fn example(&self) -> (Vec<u8>, Vec<u8>) {
        assert_eq!(Visitor::new(self.address).sign_up(None), 200);
        let entry = fs::read_dir(self.dir.join("pickup")).unwrap().next().unwrap();
        let mail = fs::read(entry.unwrap().path()).unwrap();
        let accounts = fs::read(self.dir.join("state/credentials")).unwrap();
        let line = accounts.split_inclusive(|&b| b == b'\n').next_back().unwrap().to_vec();
        self.take_mails();
        (line, mail)
    }

    /// Takes the mails as an SMTP service would, and keeps their links.
    fn take_mails(&self) {
        let pickup = self.dir.join("pickup");
        let mut tokens = self.tokens.lock().unwrap();
        for entry in fs::read_dir(&pickup).unwrap() {
            let mail = fs::read_to_string(entry.unwrap().path()).unwrap();
            // Long lines come as quoted-printable, with `3D` before the token, which ends the line.
            let text = mail.replace("=\r\n", "");
            let line = text.split_once("token=").and_then(|(_, rest)| rest.lines().next());
            tokens.extend(line.map(|line| line[line.len() - 43..].to_owned()));
        }
        drop(tokens);
        disk_floor::clear(&pickup);
    }
}

/// nginx's own answer to a constant, the ceiling of every measurement by `wrk`.
pub fn wrk(address: SocketAddr, path: &str, clients: usize, seconds: u64) -> f64 {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{clients}"), &format!("-d{seconds}s")]);
    command.args(["-H", &format!("Host: {HOST}"), &format!("http://{address}{path}")]);
    let text = process::output_of(&mut command).expect("wrk");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).unwrap();
    line.trim().parse().unwrap()
}

fn start(dir: &Path, socket: &Path, backend: Backend) -> Process {
    let log = dir.join("log");
    match backend {
        Backend::Program(..) => {
            let mut command = Command::new(PROGRAM);
            command.arg("serve").arg("--config").arg(dir.join("config.toml"));
            command.arg("--listen").arg(format!("unix:{}", socket.display()));
            Process::start(command.stdin(Stdio::null()), &log)
        }
        Backend::Constant(kind) => {
            let listener = UnixListener::bind(socket).unwrap();
            // The standard library asks for a backlog of 128.
            let _ = nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE);
            let mut command = Command::new(std::env::current_exe().unwrap());
            let stdin = Stdio::from(std::os::fd::OwnedFd::from(listener));
            Process::start(command.args(["answer", kind]).stdin(stdin), &log)
        }
        Backend::Php => {
            let file = dir.join("fpm.conf");
            let user = if is_root() { "user = root\ngroup = root" } else { "" };
            let text = include_str!("php/fpm.conf.in")
                .replace("@DIR@", &dir.to_string_lossy())
                .replace("@USER@", user);
            fs::write(&file, text).unwrap();
            let mut command = Command::new(php_fpm().expect("PHP-FPM"));
            command.arg("-F").arg("-y").arg(file);
            if is_root() {
                command.arg("-R");
            }
            Process::start(command.stdin(Stdio::null()), &log)
        }
    }
}

/// The configuration: what is required, and a trusted proxy, so that each visitor can come from an
/// address of his own on a kept connection.
fn configuration(dir: &Path, gateway: &str) -> String {
    let dir = dir.display();
    format!(
        "gateway = \"{gateway}\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n[tenant.\"{HOST}\"]\n\
         realm = \"{HOST}\"\nbase_url = \"http://{HOST}\"\nstate = \"{dir}/state\"\n\
         pickup = \"{dir}/pickup\"\nmail_from = \"signup@{HOST}\"\n"
    )
}

/// The PHP-FPM of the distribution, whichever version it is.
pub fn php_fpm() -> Option<PathBuf> {
    let names = fs::read_dir("/usr/sbin").ok()?;
    names.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"))
    })
}

fn nginx(dir: &Path, sockets: &[PathBuf], backend: Backend) -> (Process, SocketAddr) {
    let servers = sockets.iter().map(|s| format!("server unix:{} max_fails=0;", s.display()));
    let shipped = fs::read_to_string(Path::new(REPOSITORY).join("nginx/signup.conf")).unwrap();
    let include = match backend {
        Backend::Php => {
            let script =
                format!("fastcgi_param SCRIPT_FILENAME {REPOSITORY}/tests/bench/php/app.php;");
            shipped.replacen("fastcgi_keep_conn on;", &format!("fastcgi_keep_conn on; {script}"), 1)
        }
        _ => shipped,
    };
    for _ in 0..5 {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let text = include_str!("nginx.conf.in")
            .replace("@USER@", if is_root() { "user root;" } else { "" })
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@PORT@", &port.to_string())
            .replace("@UPSTREAM@", &servers.clone().collect::<String>())
            .replace("@INCLUDE@", &include);
        fs::write(dir.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).args(["-c", "nginx.conf", "-e", "nginx-error.log"]);
        let nginx = Process::start(command.stdin(Stdio::null()), &dir.join("log"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let patience = Instant::now() + Duration::from_secs(5);
        while Instant::now() < patience {
            let ready = Visitor::new(address).try_get("/.ready");
            if ready.is_ok_and(|reply| reply.body == dir.to_string_lossy().as_bytes()) {
                return (nginx, address);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("nginx does not start: {}", fs::read_to_string(dir.join("log")).unwrap_or_default());
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
