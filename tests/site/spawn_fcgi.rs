//! deploy/spawn-fcgi.sh as an init script runs it. It needs root, to become the service's user; without
//! it the test says so and passes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use harness::direct::params;
use harness::server::{give, is_root};
use harness::{TempDir, fcgi, repository};

/// Owns the state directory, and is who connects.
const USER: &str = "www-data";

/// What the script works on.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::new());
        let copied =
            Command::new("cp").arg(&*harness::PROGRAM).arg(machine.path("program")).status();
        assert!(copied.unwrap().success());
        for (name, mode) in [("state", 0o710), ("pickup", 0o750)] {
            let path = machine.path(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            give(&path, USER);
        }
        machine.configure("members.example");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, realm: &str) {
        let dir = self.0.path().display();
        let text = format!(
            "[tenant.\"accounts.example\"]\nrealm = \"{realm}\"\n\
             base_url = \"https://accounts.example\"\nstate = \"{dir}/state\"\n\
             pickup = \"{dir}/pickup\"\nmail_from = \"noreply@accounts.example\"\n"
        );
        fs::write(self.path("config.toml"), text).unwrap();
    }

    fn script(&self, verb: &str) -> Output {
        Command::new(repository("deploy/spawn-fcgi.sh"))
            .arg(verb)
            .env("PROGRAM", self.path("program"))
            .env("CODEB_SIGNUP_CONFIG", self.path("config.toml"))
            .env("SERVICE_USER", USER)
            .env("WEB_GROUP", USER)
            .env("RUN", self.path("run"))
            .env("LOG", self.path("log"))
            .output()
            .unwrap()
    }

    fn does(&self, verb: &str) {
        let output = self.script(verb);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verb}: {said}\n{}", self.log());
    }

    /// What it says where it refuses.
    fn refuses(&self, verb: &str, code: i32) -> String {
        let output = self.script(verb);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{verb}: {said}");
        said
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn pids(&self) -> Vec<String> {
        let read = |n| fs::read_to_string(self.path(&format!("run/{n}.pid")));
        [1, 2].into_iter().filter_map(|n| read(n).ok()).map(|pid| pid.trim().to_owned()).collect()
    }

    /// Both processes answer on their sockets, and nothing else lies beside these.
    fn assert_serves(&self) {
        for number in [1, 2] {
            let request = params("192.0.2.1", "GET", "/captcha.ashx", "", b"");
            let socket = self.path(&format!("run/{number}.sock"));
            let reply = fcgi::exchange(&socket, &fcgi::request(&request, b""));
            assert_eq!(reply.outcome(), "200 -", "process {number}");
        }
        let entries = fs::read_dir(self.path("run")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["1.pid", "1.sock", "2.pid", "2.sock"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for pid in self.pids() {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            if exe.starts_with(self.0.path()) {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// Whether a process is gone, or waits for its parent to look at how it ended.
fn ended(pid: &str) -> bool {
    let exe = format!("/proc/{pid}/exe");
    fs::read_link(Path::new(&exe)).is_err()
}

#[test]
fn spawn_fcgi_sh_has_a_log_and_a_restart_that_fails_leaves_the_old_processes_serving() {
    if !is_root() {
        println!("skipped: needs root, to run the program as another user");
        return;
    }
    let machine = Machine::new();
    machine.does("start");
    machine.assert_serves();
    assert_eq!(machine.log().matches("event=start ").count(), 2, "{}", machine.log());
    let old = machine.pids();

    machine.configure("members:example");
    let said = machine.refuses("restart", 78);
    assert!(said.contains("realm") && said.contains("nothing was started or stopped"), "{said}");
    assert_eq!(machine.pids(), old);
    machine.assert_serves();

    // Root can read it, so `check` finds nothing wrong.
    machine.configure("members.example");
    fs::set_permissions(machine.path("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let said = machine.refuses("restart", 1);
    assert!(said.contains("config.toml") && said.contains("goes on as it was"), "{said}");
    assert_eq!(machine.pids(), old);
    machine.assert_serves();

    fs::set_permissions(machine.path("config.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    machine.does("restart");
    machine.assert_serves();
    let new = machine.pids();
    assert!(new.iter().all(|pid| !old.contains(pid)), "{old:?} {new:?}");
    harness::wait_for("the old processes to end", Duration::from_secs(70), || {
        old.iter().all(|pid| ended(pid)).then_some(())
    });
    machine.does("stop");
    assert!(machine.pids().is_empty() && new.iter().all(|pid| ended(pid)));
    assert_eq!(machine.log().matches("event=start ").count(), 4, "{}", machine.log());
}
