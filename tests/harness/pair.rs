//! Two tenants of one process, the state directory of the first one wherever a test wants it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::fcgi;
use crate::process::Process;
use crate::visitor::URLENCODED;
use crate::{Captcha, Form, Mail, PROGRAM, Reply, TempDir, wait_for};

/// The tenants.
pub const A: &str = "a.example";
pub const B: &str = "b.example";

/// The directories of both, and the program that serves them.
#[derive(Debug)]
pub struct Pair {
    pub process: Option<Process>,
    /// Where A's `state` and `pickup` are.
    pub home_of_a: PathBuf,
    dir: TempDir,
    clients: AtomicU32,
}

impl Pair {
    /// Lays out the directories; `top` is for the top of the configuration.
    pub fn lay_out(top: &str, home_of_a: Option<&Path>) -> Self {
        let dir = TempDir::new();
        let home_of_a = home_of_a.map_or_else(|| dir.path().join("a"), Path::to_owned);
        let pair = Self { process: None, home_of_a, dir, clients: AtomicU32::new(0) };
        let mut config = format!("listen = \"unix:{}/sock\"\n{top}\n", pair.dir.path().display());
        for host in [A, B] {
            let home = pair.home(host);
            for name in ["state", "pickup"] {
                fs::create_dir_all(home.join(name)).unwrap();
                let mode = fs::Permissions::from_mode(0o710);
                fs::set_permissions(home.join(name), mode).unwrap();
            }
            config += &format!(
                "[tenant.\"{host}\"]\nrealm = \"{host}\"\nbase_url = \"https://{host}\"\n\
                 state = \"{home}/state\"\npickup = \"{home}/pickup\"\nmail_from = \"x@{host}\"\n",
                home = home.display(),
            );
        }
        fs::write(pair.path("config.toml"), config).unwrap();
        pair
    }

    /// A file of the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self, host: &str) -> PathBuf {
        if host == A { self.home_of_a.clone() } else { self.path("b") }
    }

    pub fn state(&self, host: &str, name: &str) -> PathBuf {
        self.home(host).join("state").join(name)
    }

    pub fn pickup(&self, host: &str) -> PathBuf {
        self.home(host).join("pickup")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&*PROGRAM);
        command.args(args).arg("--config").arg(self.path("config.toml"));
        command
    }

    /// Starts the program and waits until it listens.
    pub fn start(&mut self) {
        let mut process =
            Process::start("the program", self.command(&["serve"]), &self.path("log"));
        wait_for("the program's socket", Duration::from_secs(30), || {
            assert!(process.runs(), "it ended: {}", process.said());
            UnixStream::connect(self.path("sock")).ok()
        });
        self.process = Some(process);
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            assert!(process.stop().success(), "{}", process.said());
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A request from a client that nobody else is, as bytes.
    pub fn request(
        &self,
        host: &str,
        method: &str,
        endpoint: &str,
        query: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let [_, b, c, d] = (self.clients.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
        let (client, length) = (format!("10.{b}.{c}.{d}"), body.len().to_string());
        let params: Vec<u8> = [
            ("REQUEST_METHOD", method),
            ("SCRIPT_NAME", endpoint),
            ("QUERY_STRING", query),
            ("HTTP_HOST", host),
            ("REMOTE_ADDR", &client),
            ("CONTENT_TYPE", URLENCODED),
            ("CONTENT_LENGTH", &length),
            // What the published crate has to see that all has arrived.
            ("CODEB_SIGNUP_PARAMS", "whole"),
        ]
        .iter()
        .flat_map(|(name, value)| fcgi::pair(name, value.as_bytes()))
        .collect();
        fcgi::request(&params, body)
    }

    pub fn ask(&self, host: &str, method: &str, endpoint: &str, query: &str, body: &[u8]) -> Reply {
        fcgi::exchange(&self.path("sock"), &self.request(host, method, endpoint, query, body))
    }

    pub fn captcha(&self, host: &str) -> Reply {
        self.ask(host, "GET", "/captcha.ashx", "", b"")
    }

    /// A form with a captcha of its own.
    pub fn form(&self, host: &str, user: &str) -> Form {
        Form::of(user, &Captcha::solve(&self.captcha(host)))
    }

    pub fn sign_up(&self, host: &str, user: &str) -> Reply {
        let form = self.form(host, user);
        self.ask(host, "POST", "/signup.ashx", "", &form.urlencoded())
    }

    pub fn activate(&self, host: &str, token: &str) -> Reply {
        self.ask(host, "GET", "/activate.ashx", &format!("token={token}"), b"")
    }

    pub fn mails(&self, host: &str) -> Vec<Mail> {
        Mail::all(&self.pickup(host))
    }

    /// The mails to `user`.
    pub fn mails_to(&self, host: &str, user: &str) -> Vec<Mail> {
        let to = crate::visitor::email(user);
        let mails = self.mails(host).into_iter();
        mails.filter(|mail| mail.header("To") == Some(&to)).collect()
    }

    /// The live lines of `user`.
    pub fn lines_of(&self, host: &str, user: &str) -> usize {
        let text = fs::read_to_string(self.state(host, "credentials")).unwrap();
        text.lines().filter(|line| line.starts_with(&format!("{user}:"))).count()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!("the end of the program's log:\n{}", log.get(from..).unwrap_or(&log));
        }
    }
}
