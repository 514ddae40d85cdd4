//! System calls a request, counted by `strace` where there is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::is_installed;

/// How often each system call came, a repetition of `work`.
pub type Counts = BTreeMap<String, f64>;

/// Counts what process `id` does while `work` is done `times` times.
pub fn count(id: u32, dir: &Path, times: usize, mut work: impl FnMut()) -> Option<Counts> {
    if !is_installed("strace") {
        return None;
    }
    let summary = dir.join("strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-p", &id.to_string(), "-o"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    if !is_traced(id) {
        let _ = strace.kill();
        let _ = strace.wait();
        return None;
    }
    (0..times).for_each(|_| work());
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGINT).ok()?;
    strace.wait().ok()?;
    let text = fs::read_to_string(summary).ok()?;
    Some(text.lines().filter_map(row).map(|(name, n)| (name, n as f64 / times as f64)).collect())
}

/// Waits until every thread is traced.
fn is_traced(id: u32) -> bool {
    let patience = Instant::now() + Duration::from_secs(5);
    let all = || {
        fs::read_dir(format!("/proc/{id}/task")).is_ok_and(|tasks| {
            tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        })
    };
    while !all() {
        if Instant::now() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// "% time, seconds, usecs/call, calls, [errors,] syscall".
fn row(line: &str) -> Option<(String, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (share, calls, name) = (fields.first()?, fields.get(3)?, fields.last()?);
    share.parse::<f64>().ok()?;
    (*name != "total").then(|| Some(((*name).to_owned(), calls.parse().ok()?)))?
}
