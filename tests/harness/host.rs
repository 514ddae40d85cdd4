//! A whole host in one directory: configuration, state, pickup, program and web server.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::http::Ask;
use crate::mail::Mail;
use crate::process::Process;
use crate::server::{self, Server};
use crate::visitor::Visitor;
use crate::way::Way;
use crate::{PROGRAM, TempDir, wait_for};

/// The tenant that every host has; its realm differs from its host on purpose.
pub const HOST: &str = "accounts.example";
pub const ALIAS: &str = "join.example";
pub const REALM: &str = "members.example";
pub const BASE_URL: &str = "https://accounts.example/join";

/// libfaketime, as Debian installs it for every architecture.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// What differs from the plain host of required keys only.
#[derive(Debug, Clone)]
pub struct Setup {
    pub way: Way,
    /// Responder processes that share the state directory.
    pub processes: usize,
    /// More lines for the top of the configuration.
    pub top: String,
    /// More lines for the tenant.
    pub tenant: String,
    /// More tenants; `@DIR@` is the host's directory.
    pub tenants: String,
    /// More nginx configuration for the `http` block.
    pub nginx_http: String,
    /// More nginx configuration for the `server` block; `@DIR@` is the host's directory.
    pub nginx_server: String,
    /// nginx's `keepalive_timeout` for the program, which a stopping process waits for. Shorter
    /// than the shipped five seconds, or each restart would cost a test so much.
    pub keepalive: &'static str,
    /// Whether the program's clock can be moved.
    pub faketime: bool,
    /// What happens in the directory before the program starts.
    pub prepare: fn(&Path),
}

impl Default for Setup {
    fn default() -> Self {
        let text = String::new;
        Self {
            way: Way::Own,
            processes: 2,
            top: text(),
            tenant: text(),
            tenants: text(),
            nginx_http: text(),
            nginx_server: text(),
            keepalive: "500ms",
            faketime: false,
            prepare: |_| {},
        }
    }
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    pub setup: Setup,
    pub server: Option<Server>,
    pub responders: Vec<Process>,
    dir: TempDir,
    clients: AtomicU32,
}

impl Setup {
    pub fn way(way: Way) -> Self {
        Self { way, ..Self::default() }
    }

    /// Lays out the directory, starts everything and waits until it answers.
    pub fn start(self) -> Host {
        let dir = TempDir::new();
        let mut host = Host {
            setup: self,
            server: None,
            responders: Vec::new(),
            dir,
            clients: AtomicU32::new(0),
        };
        host.lay_out();
        (host.setup.prepare)(host.path());
        match host.setup.way {
            Way::LighttpdCgi => {
                let program = host.copy_program();
                host.server = Some(server::lighttpd(host.path(), &program, &host.config()));
            }
            Way::ApacheCgi | Way::ApacheModCgi => {
                let program = host.copy_program();
                let directives = format!(
                    "SetEnv CODEB_SIGNUP_CONFIG {}\nScriptAliasMatch \"(?i)^/.*\\.ashx$\" {}\n\
                     <Directory {}>\nRequire all granted\n</Directory>",
                    host.config().display(),
                    program.display(),
                    host.path().display(),
                );
                let cgi = if host.setup.way == Way::ApacheCgi { "cgid" } else { "cgi" };
                let modules = [cgi, "alias", "env"];
                host.server = Some(server::apache(host.path(), &modules, &directives));
            }
            _ => {
                for number in 0..host.setup.processes {
                    let process = host.start_responder(number);
                    host.responders.push(process);
                }
                host.wait_until_responders_listen();
                host.start_nginx();
            }
        }
        host
    }
}

impl Host {
    /// The plain host of required keys only, two processes behind nginx.
    pub fn plain() -> Self {
        Setup::default().start()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    pub fn state(&self, file: &str) -> PathBuf {
        self.path().join("state").join(file)
    }

    pub fn pickup(&self) -> PathBuf {
        self.path().join("pickup")
    }

    pub fn socket(&self, number: usize) -> PathBuf {
        self.path().join(format!("{number}.sock"))
    }

    pub fn address(&self) -> SocketAddrV4 {
        self.server.as_ref().expect("a running web server").address
    }

    /// The credentials file, every whole line of it.
    pub fn credentials(&self) -> String {
        fs::read_to_string(self.state("credentials")).unwrap_or_default()
    }

    /// How many lines of the file are `user`'s.
    pub fn count_lines(&self, user: &str) -> usize {
        let start = format!("{user}:");
        self.credentials().lines().filter(|line| line.starts_with(&start)).count()
    }

    /// The line of one account: its six fields, where there is exactly one such line.
    pub fn account(&self, user: &str) -> Option<Vec<String>> {
        let text = self.credentials();
        let start = format!("{user}:");
        let mut lines = text.lines().filter(|line| line.starts_with(&start));
        let line = lines.next()?;
        assert!(lines.next().is_none(), "two lines bear one name");
        Some(line.splitn(6, ':').map(str::to_owned).collect())
    }

    /// One attribute of an account, decoded.
    pub fn attribute(&self, user: &str, name: &str) -> Option<String> {
        let fields = self.account(user)?;
        let mut pairs = url::form_urlencoded::parse(fields.get(5)?.as_bytes());
        pairs.find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }

    /// The view that Apache reads.
    pub fn htdigest(&self) -> String {
        fs::read_to_string(self.state("htdigest")).unwrap_or_default()
    }

    /// Every mail in the pickup directory.
    pub fn mails(&self) -> Vec<Mail> {
        Mail::all(&self.pickup())
    }

    /// The one mail to an address.
    pub fn mail_to(&self, address: &str) -> Mail {
        let mut mails: Vec<Mail> =
            self.mails().into_iter().filter(|m| m.header("To") == Some(address)).collect();
        assert_eq!(mails.len(), 1, "mails to {address}");
        mails.remove(0)
    }

    /// Everything that the program's processes and nginx wrote to their logs.
    pub fn logs(&self) -> String {
        self.responders.iter().for_each(Process::wait_until_logged);
        let mut all = String::new();
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "log") {
                all += &String::from_utf8_lossy(&fs::read(path).unwrap());
            }
        }
        all
    }

    /// What the program's processes wrote to their logs.
    pub fn program_log(&self) -> String {
        self.responders.iter().for_each(Process::wait_until_logged);
        (0..self.setup.processes)
            .map(|n| fs::read_to_string(self.responder_log(n)).unwrap_or_default())
            .collect()
    }

    /// A loopback address that no other client of this host has.
    pub fn fresh_address(&self) -> Ipv4Addr {
        let n = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
        let [_, _, high, low] = n.to_be_bytes();
        Ipv4Addr::new(127, 1, high, low)
    }

    /// A client with an address of its own.
    pub fn visitor(&self) -> Visitor<'_> {
        Visitor::new(self, self.fresh_address())
    }

    /// A request to the tenant from an address of its own.
    pub fn ask(&self, method: &str, target: &str) -> Ask {
        Ask::new(self.address(), self.fresh_address(), method, target, HOST)
    }

    pub fn get(&self, target: &str) -> crate::Reply {
        self.ask("GET", target).send()
    }

    /// Moves the program's clock; needs `faketime`. The offset is libfaketime's, `+901s` say.
    pub fn move_clock(&self, offset: &str) {
        assert!(self.setup.faketime);
        let next = self.path().join("time.next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, self.path().join("time")).unwrap();
    }

    /// Starts one responder process in the host's way.
    pub fn start_responder(&self, number: usize) -> Process {
        let socket = self.socket(number);
        let mut command;
        match self.setup.way {
            Way::SpawnFcgi => {
                let _ = fs::remove_file(&socket);
                command = Command::new("spawn-fcgi");
                command.arg("-n").arg("-s").arg(&socket).args(["-b", "256", "--", &PROGRAM]);
                command.env("CODEB_SIGNUP_CONFIG", self.config());
            }
            Way::ListenFds => {
                let _ = fs::remove_file(&socket);
                command = Command::new("systemd-socket-activate");
                command.arg("-l").arg(&socket).args([&PROGRAM, "serve", "--config"]);
                command.arg(self.config());
            }
            _ => {
                command = Command::new(&*PROGRAM);
                command.arg("serve").arg("--config").arg(self.config());
                command.arg("--listen").arg(format!("unix:{}", socket.display()));
            }
        }
        if self.setup.faketime {
            command
                .env("LD_PRELOAD", FAKETIME)
                .env("FAKETIME_TIMESTAMP_FILE", self.path().join("time"))
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        Process::start(&format!("responder {number}"), command, &self.responder_log(number))
    }

    pub fn wait_until_responders_listen(&mut self) {
        for number in 0..self.responders.len() {
            self.wait_until_listening(number);
        }
    }

    /// Waits until a process accepts connections.
    pub fn wait_until_listening(&mut self, number: usize) {
        let socket = self.socket(number);
        let process = &mut self.responders[number];
        wait_for("a responder's socket", Duration::from_secs(20), || {
            assert!(process.runs(), "responder {number} ended: {}", process.said());
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    pub fn start_nginx(&mut self) {
        let sockets: Vec<PathBuf> = (0..self.setup.processes).map(|n| self.socket(n)).collect();
        let extra = self.setup.nginx_server.replace("@DIR@", &self.path().to_string_lossy());
        let http = self.setup.nginx_http.replace("@DIR@", &self.path().to_string_lossy());
        let keepalive = self.setup.keepalive;
        self.server = Some(server::nginx(self.path(), &sockets, keepalive, &http, &extra));
    }

    /// Stops all processes of the program, as a service manager does, and starts new ones.
    pub fn restart(&mut self) {
        for number in 0..self.responders.len() {
            self.restart_one(number);
        }
    }

    /// Stops one process, checks that it ended well, and starts it anew.
    pub fn restart_one(&mut self, number: usize) {
        let status = self.responders[number].stop();
        assert!(status.success(), "exit of responder {number}: {status}");
        self.responders[number] = self.start_responder(number);
        self.wait_until_listening(number);
    }

    fn responder_log(&self, number: usize) -> PathBuf {
        self.path().join(format!("responder-{number}.log"))
    }

    /// The program where any user may run it. Copied by another process: what this one writes,
    /// a child that another test starts at that moment may hold open ("text file busy").
    fn copy_program(&self) -> PathBuf {
        let copy = self.path().join("codeb-signup");
        let copied = Command::new("cp").arg(&*PROGRAM).arg(&copy).status().unwrap();
        assert!(copied.success(), "cp {}", *PROGRAM);
        copy
    }

    fn lay_out(&self) {
        let dir = self.path();
        // The first write of the clock must not race with the start.
        fs::write(dir.join("time"), "+0").unwrap();
        let mut config = String::new();
        if self.setup.way == Way::FastcgiCrate {
            config += "gateway = \"fastcgi-crate\"\n";
        }
        config += &format!(
            "{top}\n[tenant.\"{HOST}\"]\nrealm = \"{REALM}\"\nbase_url = \"{BASE_URL}\"\n\
             state = \"@DIR@/state\"\npickup = \"@DIR@/pickup\"\n\
             mail_from = \"Accounts <noreply@accounts.example>\"\n{tenant}\n{tenants}\n",
            top = self.setup.top,
            tenant = self.setup.tenant,
            tenants = self.setup.tenants,
        );
        let config = config.replace("@DIR@", &dir.to_string_lossy());
        fs::File::create(self.config()).unwrap().write_all(config.as_bytes()).unwrap();
        for name in ["state", "pickup", "state-2", "pickup-2"] {
            let path = dir.join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
            if self.setup.way.is_apache() && server::is_root() {
                server::give(&path, "www-data");
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The web server first: it closes the connections that the program would wait for.
        self.server = None;
        for process in &mut self.responders {
            if std::thread::panicking() {
                continue;
            }
            let status = process.stop();
            assert!(status.success(), "exit of a responder: {status}; {}", process.said());
        }
        if std::thread::panicking() {
            eprintln!("the program's log:\n{}", self.program_log());
        }
    }
}
