//! Stopping and restarting under load: no accepted request is lost, and with two processes
//! restarted one after the other no request fails at all. And how much a start has to read.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use harness::direct::{Direct, Start};
use harness::host::REALM;
use harness::{Form, Host, Setup, load};

/// As long as a service manager waits before it kills.
const LONGEST_STOP: Duration = Duration::from_secs(65);

/// One visitor's whole way: each answer's outcome, and the account's name where it was made.
fn one_sign_up(host: &Host, count: &AtomicU32) -> (Vec<String>, Option<String>) {
    let visitor = host.visitor();
    let captcha = visitor.ask("GET", "captcha.ashx").send();
    if captcha.status != 200 {
        return (vec![captcha.outcome()], None);
    }
    let user = format!("u{}", count.fetch_add(1, Ordering::Relaxed));
    let reply = visitor.post(&Form::of(&user, &harness::Captcha::solve(&captcha)));
    let made = (reply.status == 200).then_some(user);
    (vec![captcha.outcome(), reply.outcome()], made)
}

/// What nginx says where the program closed a connection on a request that it had taken.
fn lost_requests(host: &Host) -> Vec<String> {
    let log = fs::read_to_string(host.path().join("nginx-error.log")).unwrap();
    let lost = |line: &&str| {
        line.contains("prematurely closed")
            || line.contains("reset by peer")
            || line.contains("Broken pipe")
    };
    log.lines().filter(lost).map(str::to_owned).collect()
}

/// Each account that was answered 200 is there, with its mail; and no other one is.
fn assert_nothing_lost(host: &Host, made: &[String]) {
    for user in made {
        assert!(host.account(user).is_some(), "{user} was answered 200 and is lost");
    }
    assert_eq!(host.mails().len(), made.len(), "mails of the accounts");
}

#[test]
fn sigterm_under_load_loses_no_accepted_request() {
    let mut host = Setup { processes: 1, ..Setup::default() }.start();
    let mut responder = host.responders.remove(0);
    let count = AtomicU32::new(0);
    let results = load::during(
        8,
        |_| one_sign_up(&host, &count),
        || {
            let enough = || (count.load(Ordering::Relaxed) > 50).then_some(());
            harness::wait_for("some load", Duration::from_secs(30), enough);
            let started = Instant::now();
            let status = responder.stop();
            assert!(status.success(), "{status}: {}", responder.said());
            assert!(started.elapsed() < LONGEST_STOP);
        },
    );
    let made: Vec<String> = results.iter().filter_map(|(_, user)| user.clone()).collect();
    assert!(made.len() > 20, "{} accounts", made.len());
    // After the end nginx finds nobody: that is no accepted request.
    for (outcomes, _) in &results {
        let fine = |outcome: &String| outcome == "200 -" || outcome == "502 server_error";
        assert!(outcomes.iter().all(fine), "{outcomes:?}");
    }
    assert_eq!(lost_requests(&host), Vec::<String>::new());
    assert_nothing_lost(&host, &made);
}

#[test]
fn two_processes_restarted_in_turn_fail_no_request() {
    let host = Setup::default().start();
    let mut responders = Vec::new();
    let mut host = host;
    responders.append(&mut host.responders);
    let count = AtomicU32::new(0);
    let results = load::during(
        6,
        |_| one_sign_up(&host, &count),
        || {
            for round in 0..2 {
                for (number, responder) in responders.iter_mut().enumerate() {
                    let before = count.load(Ordering::Relaxed);
                    let enough = || (count.load(Ordering::Relaxed) > before + 20).then_some(());
                    harness::wait_for("some load", Duration::from_secs(30), enough);
                    let started = Instant::now();
                    let status = responder.stop();
                    assert!(status.success(), "round {round}: {status}: {}", responder.said());
                    assert!(started.elapsed() < LONGEST_STOP);
                    *responder = host.start_responder(number);
                    let socket = host.socket(number);
                    harness::wait_for("the new process", Duration::from_secs(20), || {
                        std::os::unix::net::UnixStream::connect(&socket).ok()
                    });
                }
            }
        },
    );
    let failed: Vec<&Vec<String>> = results
        .iter()
        .map(|(outcomes, _)| outcomes)
        .filter(|outcomes| outcomes.iter().any(|outcome| outcome != "200 -"))
        .collect();
    assert_eq!(failed, Vec::<&Vec<String>>::new(), "of {}", results.len());
    let made: Vec<String> = results.into_iter().filter_map(|(_, user)| user).collect();
    assert!(made.len() > 80, "{} accounts", made.len());
    assert_nothing_lost(&host, &made);
    host.responders = responders;
}

/// What the program has read since it started, once it reads no more.
fn read_at_start(host: &mut Direct) -> u64 {
    host.start();
    // proc(5): what its read calls brought, from the disk or not.
    let path = format!("/proc/{}/io", host.process.as_ref().unwrap().pid());
    let mut before = 0;
    let read = harness::wait_for("the end of the start", Duration::from_secs(30), || {
        std::thread::sleep(Duration::from_millis(300));
        let io = fs::read_to_string(&path).unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        let read: u64 = line.parse().unwrap();
        (std::mem::replace(&mut before, read) == read).then_some(read)
    });
    host.stop();
    read
}

/// Without the seal a process cannot tell whether the accounts that it read are still the same.
#[test]
fn a_start_after_the_seal_was_lost_reads_the_accounts_no_more_often_than_any() {
    let mut host = Start::default().lay_out();
    let line = |n| format!("u{n}:{REALM}:{n:032x}:0:guest:\n");
    let path = host.state("credentials");
    fs::write(&path, (0..50_000).map(line).collect::<String>()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    read_at_start(&mut host);
    let sealed = read_at_start(&mut host);
    let block = File::options().write(true).open(host.state("credentials.block")).unwrap();
    block.write_all_at(&[b' '; 128], 0).unwrap();
    let unsealed = read_at_start(&mut host);
    let accounts = fs::metadata(&path).unwrap().len();
    assert!(unsealed < sealed + accounts / 2, "{unsealed} bytes, with the seal {sealed}");
}
