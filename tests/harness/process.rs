//! Processes that a test starts, each stopped by its owner, and their exit codes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running process; killed when dropped, unless it was stopped before.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it says goes to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().append(true).create(true).open(log).expect("open a log");
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self::spawn(name, command, log)
    }

    /// Starts `command`, whose output goes where it was told; its log is in `log`, where it has one.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}; tests/run.sh installs it"));
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until what the program has logged by now is written: until its thread for that sleeps.
    /// Other programs have no such thread.
    pub fn wait_until_logged(&self) {
        let tasks = format!("/proc/{}/task", self.pid());
        let busy = |task: &Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.contains(" (log) ") && !stat.contains(" (log) S ")
        };
        let started = Instant::now();
        while std::fs::read_dir(&tasks).into_iter().flatten().flatten().any(|t| busy(&t.path())) {
            // A test whose program hangs says so itself.
            if started.elapsed() > Duration::from_secs(20) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.name));
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < limit, "{} still runs after {limit:?}", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, and the exit status within the time that a service manager would grant.
    pub fn stop(&mut self) -> ExitStatus {
        if self.runs() {
            self.signal(Signal::SIGTERM);
        }
        self.wait(Duration::from_secs(65))
    }

    /// SIGSTOP; returns when every thread stands still, which is after the signal.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid());
        let stands = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat"));
            stat.is_ok_and(|stat| stat.contains(") T "))
        };
        super::wait_for("every thread to stand still", Duration::from_secs(10), || {
            let tasks = std::fs::read_dir(&tasks).unwrap();
            tasks.into_iter().all(|task| task.is_ok_and(stands)).then_some(())
        });
    }

    /// SIGKILL, as a crash.
    pub fn crash(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM first: a web server takes its workers along only when it may say good-bye.
        if self.runs() {
            self.signal(Signal::SIGTERM);
            let started = Instant::now();
            while self.runs() && started.elapsed() < Duration::from_secs(3) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.crash();
    }
}
