//! The shipped binary as a shell, a service manager and a web server run it: its exit code and output
//! are looked at.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use harness::{PROGRAM, TempDir};

/// The binary, in an environment that says nothing to it.
pub fn program() -> Command {
    let mut command = Command::new(&*PROGRAM);
    for variable in ["GATEWAY_INTERFACE", "CODEB_SIGNUP_CONFIG", "LISTEN_FDS", "LISTEN_PID"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

pub fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    let piped = program()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = piped.unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A directory with `state`, `pickup` and a configuration that names them.
pub struct Site(TempDir);

impl Site {
    pub fn new() -> Self {
        let site = Self(TempDir::new());
        for name in ["state", "pickup"] {
            fs::create_dir(site.path(name)).unwrap();
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o710)).unwrap();
        }
        site.write("");
        site
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration, with `more` keys of the tenant.
    pub fn write(&self, more: &str) {
        let dir = self.0.path().display();
        let text = format!(
            "[tenant.localhost]\nrealm = \"localhost\"\nbase_url = \"http://localhost\"\n\
             state = \"{dir}/state\"\npickup = \"{dir}/pickup\"\nmail_from = \"a@localhost\"\n{more}"
        );
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    pub fn check(&self) -> Output {
        self.run(&["check"])
    }

    pub fn run(&self, args: &[&str]) -> Output {
        program().args(args).arg("--config").arg(self.config()).output().unwrap()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("state").join(name)).unwrap()
    }
}
