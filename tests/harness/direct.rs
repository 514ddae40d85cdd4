//! The program without a web server in front of it, asked over its own socket: for faults, foreign
//! users and floods, where nginx would only stand in the way.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::fcgi;
use crate::host::{BASE_URL, HOST, REALM};
use crate::process::Process;
use crate::visitor::URLENCODED;
use crate::{Captcha, Form, Mail, PROGRAM, Reply, TempDir, wait_for};

/// How it is started.
#[derive(Debug, Default)]
pub struct Start {
    /// More lines for the top of the configuration.
    pub top: &'static str,
    /// More lines for the tenant.
    pub tenant: String,
    /// Where `state` and `pickup` are; in the test's own directory where unset.
    pub volume: Option<PathBuf>,
    /// The user that runs it; the one who runs the tests where unset.
    pub user: Option<u32>,
    /// A group that he is a member of.
    pub group: Option<u32>,
    /// A command that the program's is appended to.
    pub wrapper: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

/// The running program.
#[derive(Debug)]
pub struct Direct {
    pub process: Option<Process>,
    start: Start,
    dir: TempDir,
    clients: AtomicU32,
}

impl Start {
    /// Lays out the directories, starts the program and waits until it listens.
    pub fn run(self) -> Direct {
        let mut direct = self.lay_out();
        direct.start();
        direct
    }

    /// Lays out the directories only.
    pub fn lay_out(self) -> Direct {
        let dir = TempDir::new();
        let volume = self.volume.clone().unwrap_or_else(|| dir.path().to_owned());
        for (name, mode) in [("state", 0o710), ("pickup", 0o750)] {
            let path = volume.join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            give(&path, self.user);
        }
        give(dir.path(), self.user);
        let config = format!(
            "listen = \"unix:{own}/sock\"\n{top}\n[tenant.\"{HOST}\"]\nrealm = \"{REALM}\"\n\
             base_url = \"{BASE_URL}\"\nstate = \"{volume}/state\"\npickup = \"{volume}/pickup\"\n\
             mail_from = \"Accounts <noreply@accounts.example>\"\n{tenant}\n",
            own = dir.path().display(),
            volume = volume.display(),
            top = self.top,
            tenant = self.tenant,
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        // By another process: what this one writes, a child of another test may hold open.
        let copied =
            Command::new("cp").arg(&*PROGRAM).arg(dir.path().join("codeb-signup")).status();
        assert!(copied.unwrap().success());
        let clients = AtomicU32::new(0);
        Direct { process: None, start: self, dir, clients }
    }
}

/// Gives a path to a user, where there is one to give it to.
fn give(path: &Path, user: Option<u32>) {
    if let Some(user) = user {
        let (uid, gid) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(user));
        nix::unistd::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

impl Direct {
    /// A file of the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where `state` and `pickup` are.
    pub fn volume(&self) -> PathBuf {
        self.start.volume.clone().unwrap_or_else(|| self.dir.path().to_owned())
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.volume().join("state").join(name)
    }

    /// The program with these arguments, as its user.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words: Vec<String> = self.start.wrapper.clone();
        if let Some(user) = self.start.user {
            let user = user.to_string();
            words.extend(["setpriv", "--reuid", &user, "--regid", &user].map(str::to_owned));
            match self.start.group {
                Some(group) => words.extend(["--groups".into(), group.to_string()]),
                None => words.push("--clear-groups".into()),
            }
        }
        words.push(self.path("codeb-signup").to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).arg("--config").arg(self.path("config.toml"));
        command.envs(self.start.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The program with these arguments, as the user who runs the tests.
    pub fn own_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("codeb-signup"));
        command.args(args).arg("--config").arg(self.path("config.toml"));
        command
    }

    pub fn start(&mut self) {
        let mut process =
            Process::start("the program", self.command(&["serve"]), &self.path("log"));
        let socket = self.path("sock");
        wait_for("the program's socket", Duration::from_secs(30), || {
            assert!(process.runs(), "it ended: {}", process.said());
            UnixStream::connect(&socket).ok()
        });
        self.process = Some(process);
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            assert!(process.stop().success(), "{}", process.said());
        }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.iter().for_each(Process::wait_until_logged);
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    pub fn credentials(&self) -> String {
        fs::read_to_string(self.state("credentials")).unwrap_or_default()
    }

    /// The lines of one account.
    pub fn lines_of(&self, user: &str) -> Vec<String> {
        let start = format!("{user}:");
        let all = self.credentials();
        all.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
    }

    pub fn mails(&self) -> Vec<Mail> {
        Mail::all(&self.volume().join("pickup"))
    }

    /// A client that nobody else is.
    pub fn client(&self) -> String {
        let [_, b, c, d] = (self.clients.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
        format!("10.{b}.{c}.{d}")
    }

    /// Asks on a connection of its own.
    pub fn ask(
        &self,
        client: &str,
        method: &str,
        endpoint: &str,
        query: &str,
        body: &[u8],
    ) -> Reply {
        let request = fcgi::request(&params(client, method, endpoint, query, body), body);
        fcgi::exchange(&self.path("sock"), &request)
    }

    pub fn captcha(&self) -> Captcha {
        Captcha::solve(&self.ask("127.0.0.1", "GET", "/captcha.ashx", "", b""))
    }

    pub fn form(&self, user: &str) -> Form {
        Form::of(user, &self.captcha())
    }

    pub fn post(&self, form: &Form) -> Reply {
        self.ask(&self.client(), "POST", "/signup.ashx", "", &form.urlencoded())
    }

    pub fn sign_up(&self, user: &str) -> Reply {
        self.post(&self.form(user))
    }

    /// Follows a link.
    pub fn activate(&self, token: &str) -> Reply {
        let query = format!("token={token}");
        self.ask(&self.client(), "GET", "/activate.ashx", &query, b"")
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program's log:\n{}", self.log());
        }
    }
}

/// The parameters of a request.
pub fn params(client: &str, method: &str, endpoint: &str, query: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    [
        ("REQUEST_METHOD", method),
        ("SCRIPT_NAME", endpoint),
        ("QUERY_STRING", query),
        ("HTTP_HOST", HOST),
        ("REMOTE_ADDR", client),
        ("CONTENT_TYPE", URLENCODED),
        ("CONTENT_LENGTH", &length),
    ]
    .iter()
    .flat_map(|(name, value)| fcgi::pair(name, value.as_bytes()))
    .collect()
}

/// A kept connection to the program.
#[derive(Debug)]
pub struct Wire(UnixStream);

impl Wire {
    pub fn open(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(stream))
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Asks, and keeps the connection.
    pub fn ask(&mut self, client: &str, method: &str, endpoint: &str, body: &[u8]) -> Reply {
        let mut bytes = fcgi::request(&params(client, method, endpoint, "", body), body);
        // The flag of the begin record that keeps the connection (FastCGI 1.0 §5.1).
        bytes[10] = 1;
        self.write(&bytes).unwrap();
        self.answer()
    }

    /// The answer to a request that was sent.
    pub fn answer(&mut self) -> Reply {
        let mut out = Vec::new();
        loop {
            let mut header = [0; 8];
            self.0.read_exact(&mut header).expect("a record");
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let mut content = vec![0; length + usize::from(header[6])];
            self.0.read_exact(&mut content).expect("a record's content");
            match header[1] {
                6 => out.extend_from_slice(&content[..length]),
                3 => return fcgi::cgi_reply(&out),
                _ => {}
            }
        }
    }
}
