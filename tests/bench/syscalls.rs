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

/// How many syncs of files and directories these processes make for each of the pieces of work that
/// `work` tells; by `perf`, which does not slow them down as `strace` would.
pub fn syncs(ids: &[u32], work: impl FnOnce() -> usize) -> Option<f64> {
    const EVENTS: &str = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync";
    if !is_installed("perf") {
        return None;
    }
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let mut perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", EVENTS, "-p", &ids.join(",")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    // It does not say when it begins.
    thread::sleep(Duration::from_millis(500));
    if perf.try_wait().ok()?.is_some() {
        return None;
    }
    let pieces = work();
    kill(Pid::from_raw(perf.id() as i32), Signal::SIGINT).ok()?;
    let said = perf.wait_with_output().ok()?.stderr;
    let said = String::from_utf8_lossy(&said);
    let counts = said.lines().filter(|line| line.contains("sys_enter_"));
    let sum =
        counts.map(|line| line.split(',').next()?.parse::<u64>().ok()).sum::<Option<u64>>()?;
    (pieces > 0).then(|| sum as f64 / pieces as f64)
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
