//! Operators' editors and tools at the credentials file while requests run: under its lock nothing is
//! lost; without it what the copy lacks is lost, but no line is mixed and no name stands twice.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::direct::{Direct, Start};
use harness::host::REALM;
use harness::visitor::{ha1, password};
use harness::{Host, PROGRAM, Setup};

fn line(user: &str, disabled: u8) -> String {
    format!("{user}:{REALM}:{}:{disabled}:guest:", ha1(user, REALM, &password(user)))
}

/// How an operator's tool puts a changed copy in place.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Rename,
    Copy,
}

/// Edits the file some times while sign-ups run; the users who got a 200.
fn edit_during_sign_ups(host: &Direct, by: By, locked: bool) -> Vec<String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let over = &over;
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for n in 0..400 {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let user = format!("u{thread}-{n}");
                        let reply = host.sign_up(&user);
                        assert!([200, 500].contains(&reply.status), "{}", reply.lossy());
                        if reply.status == 200 {
                            made.push(user);
                        }
                    }
                    made
                })
            })
            .collect();
        for round in 0..15 {
            let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
            if locked {
                lock.lock().unwrap();
            }
            let text = host.credentials() + &format!("# edited {round}\n");
            match by {
                By::Rename => {
                    fs::write(host.state("edited"), text).unwrap();
                    fs::rename(host.state("edited"), host.state("credentials")).unwrap();
                }
                By::Copy => fs::write(host.state("credentials"), text).unwrap(),
            }
            drop(lock);
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// The live lines, how many a name has. A line that is no account is nobody's; one that is must be
/// one account's from end to end: its address was made from its name. (A copy that is written over an
/// append may leave the append's tail, so the name may have lost its head.)
fn live_lines(host: &Direct) -> HashMap<String, usize> {
    let mut names = HashMap::new();
    let text = host.credentials();
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, realm, ha1, _, _, attributes] = fields.as_slice() else { continue };
        assert_eq!((*realm, ha1.len()), (REALM, 32), "mixed: {line}");
        let own = format!("{user}%40people.example&");
        assert!(attributes.contains(&own), "another's attributes: {line}");
        *names.entry((*user).to_owned()).or_insert(0) += 1;
    }
    names
}

#[test]
fn under_the_lock_nothing_is_lost_while_requests_run() {
    for by in [By::Rename, By::Copy] {
        let mut host = Start::default().run();
        let made = edit_during_sign_ups(&host, by, true);
        assert!(!made.is_empty());
        let names = live_lines(&host);
        for user in &made {
            assert_eq!(names.get(user), Some(&1), "{user} is lost, or twice there");
        }
        assert_eq!(host.mails().len(), names.len(), "a mail for each account");
        host.stop();
    }
}

#[test]
fn without_the_lock_no_line_is_mixed_and_no_name_stands_twice() {
    for by in [By::Rename, By::Copy] {
        let mut host = Start::default().run();
        let made = edit_during_sign_ups(&host, by, false);
        assert_eq!(host.sign_up("last").status, 200, "service goes on");
        let names = live_lines(&host);
        assert!(names.values().all(|count| *count == 1), "a name stands twice");
        let lost = made.iter().filter(|user| !names.contains_key(*user)).count();
        let log = host.log();
        let told = ["changed_in_place", "replaced", "unfinished_line", "damaged_bytes", "foreign"];
        let noticed = told.iter().any(|outcome| log.contains(outcome));
        // A copy in place that lacks nothing looks like an append.
        assert!(noticed || by == By::Copy && lost == 0, "nobody noticed: {log}");
        let by = if by == By::Rename { "rename" } else { "in place" };
        println!("{by}, no lock: {} made, {lost} lost with the copies, noticed", made.len());
        host.stop();
    }
}

/// What an editor on another system, or a hand in a hurry, leaves in the file.
#[test]
fn an_operators_file_is_taken_as_it_is() {
    let mut host = Start::default().lay_out();
    let file = [
        format!("{}\r\n", line("crlf", 0)),
        "this is no account\n".into(),
        format!("{}\n", line("twice", 2)),
        "\n# a note\n".into(),
        format!("{}\n", line("twice", 0)),
        line("unfinished", 0),
    ]
    .concat();
    fs::write(host.state("credentials"), &file).unwrap();
    fs::set_permissions(
        host.state("credentials"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    host.start();
    for (user, outcome) in
        [("crlf", "409 conflict"), ("twice", "409 conflict"), ("unfinished", "200 -")]
    {
        assert_eq!(host.sign_up(user).outcome(), outcome, "{user}");
    }
    let view = fs::read_to_string(host.state("htdigest")).unwrap();
    let mut lines: Vec<&str> = view.lines().collect();
    lines.sort_unstable();
    let entry = |user: &str| format!("{user}:{REALM}:{}", ha1(user, REALM, &password(user)));
    assert_eq!(lines, [entry("crlf"), entry("twice")], "the last of a name counts");
    assert!(!view.contains('\r'));
    let kept = fs::read_to_string(host.state("credentials.damaged")).unwrap();
    assert!(kept.contains(&line("unfinished", 0)), "what was cut off is kept aside");
    let log = host.log();
    for (outcome, way_out) in
        [("foreign_lines", "mend them or make them comments"), ("unfinished_line", "kept_in=")]
    {
        let told = log.lines().find(|line| line.contains(outcome));
        let told = told.unwrap_or_else(|| panic!("no {outcome} in {log}"));
        assert!(told.contains("credentials") && told.contains(way_out), "{told}");
        assert!(!told.contains(&ha1("unfinished", REALM, &password("unfinished"))));
        println!("| {outcome} | 200, 409 | {told} | the rest of the file counts |");
    }
    assert!(host.credentials().contains("this is no account\n"), "left where it is");
    host.stop();
}

fn two_processes() -> Host {
    Setup { tenant: "signups_per_hour = 10000".into(), ..Setup::default() }.start()
}

/// Writes `name` over the name of another account of that length, in place.
fn rename_in_place(host: &Host, user: &str, name: &str, tool: impl FnOnce(u64)) {
    assert_eq!(user.len(), name.len());
    let text = host.credentials();
    let at = text.find(&format!("{user}:")).unwrap();
    let last = text.trim_end().rfind('\n').unwrap();
    assert!(at < last, "not in the last line");
    tool(at as u64);
    assert_eq!(host.credentials(), text.replacen(&format!("{user}:"), &format!("{name}:"), 1));
}

/// What a shell does to the file, with or without the lock.
fn by_shell(host: &Host, name: &str, at: u64, locked: bool) {
    let write =
        format!("printf %s {name} | dd of=credentials bs=1 seek={at} conv=notrunc status=none");
    let mut command = Command::new(if locked { "flock" } else { "sh" });
    if locked {
        command.args(["credentials.lock", "sh"]);
    }
    let directory = host.state("credentials").parent().unwrap().to_owned();
    let status = command.args(["-c", &write]).current_dir(directory).status();
    assert!(status.unwrap().success());
}

/// Makes accounts until no process remembers a line before them as the last that it read.
fn move_on(host: &Host, suffix: &str) {
    for process in [0, 1] {
        for user in ["next", "more", "last"] {
            host.visitor().at_process(process).signed_up(&format!("{user}{process}-{suffix}"));
        }
    }
}

/// Each process knows the names that stand there, and each name has one line.
fn assert_that_names_are_known(host: &Host, gone: &str, there: &str, first: usize) {
    for process in [first, 1 - first] {
        let reply = host.visitor().at_process(process).sign_up(there);
        assert_eq!(reply.outcome(), "409 conflict", "{there} at process {process}");
    }
    let reply = host.visitor().at_process(1 - first).sign_up(gone);
    assert_eq!(reply.outcome(), "200 -", "{gone} is free");
    let reply = host.visitor().at_process(first).sign_up(gone);
    assert_eq!(reply.outcome(), "409 conflict", "{gone} is taken again");
    for user in [gone, there] {
        assert_eq!(host.count_lines(user), 1, "lines of {user}");
    }
}

#[test]
fn a_name_written_over_another_in_place_is_known_to_every_process() {
    let host = two_processes();
    for round in 0..8 {
        let (gone, there) = (format!("alice{round}"), format!("clara{round}"));
        host.visitor().at_process(0).signed_up(&gone);
        move_on(&host, &format!("{round}"));
        // Without the lock it is noticed as well where nobody writes at that moment.
        let locked = round < 4;
        rename_in_place(&host, &gone, &there, |at| by_shell(&host, &there, at, locked));
        assert_that_names_are_known(&host, &gone, &there, round % 2);
    }
    let length = host.credentials().len();
    for args in [&["user", "remove", "alice0"][..], &["compact"], &["sweep"]] {
        let mut command = Command::new(&*PROGRAM);
        let done = command.args(args).arg("--config").arg(host.config()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(host.credentials().len() < length, "compacted");
    for process in [0, 1] {
        host.visitor().at_process(process).joined(&format!("later{process}"));
    }
    assert_eq!(host.program_log().matches("outcome=edited").count(), 8, "once for each edit");
}

/// So soon after a hold that the kernel's clock for files may not have ticked since.
#[test]
fn a_name_written_in_the_moment_after_a_sign_up_is_known() {
    let host = two_processes();
    host.visitor().signed_up("first");
    for round in 10..60 {
        let (gone, there) = (format!("alice{round}"), format!("clara{round}"));
        host.visitor().signed_up(&gone);
        let text = host.credentials();
        let at = text.find(&format!("{gone}:")).unwrap() as u64;
        let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
        let file = File::options().write(true).open(host.state("credentials")).unwrap();
        let visitor = host.visitor().at_process(round % 2);
        for name in ["next", "last"] {
            visitor.signed_up(&format!("{name}{round}"));
        }
        lock.lock().unwrap();
        file.write_all_at(there.as_bytes(), at).unwrap();
        drop(lock);
        assert_eq!(visitor.sign_up(&there).outcome(), "409 conflict", "round {round}");
        assert_eq!(visitor.sign_up(&gone).outcome(), "200 -", "round {round}");
    }
}

/// Nobody took the lock since: who looks a link up finds out by himself.
#[test]
fn links_work_after_two_lines_changed_places() {
    let host = two_processes();
    let tokens = ["alice", "clara"].map(|user| host.visitor().token_of(user));
    move_on(&host, "");
    let text = host.credentials();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(lines[0].len(), lines[1].len());
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let file = File::options().write(true).open(host.state("credentials")).unwrap();
    file.write_all_at([lines[1], lines[0]].concat().as_bytes(), 0).unwrap();
    drop(lock);
    for (process, token) in tokens.iter().enumerate() {
        let visitor = host.visitor().at_process(process);
        assert_eq!(visitor.activate(token).status, 200);
        assert_eq!(visitor.activate(token).status, 400);
    }
    for user in ["alice", "clara"] {
        assert_eq!(host.account(user).unwrap()[3], "0");
        assert!(host.htdigest().contains(&format!("{user}:")));
    }
}

/// However many lines a name has, all of them die, the one that counts last.
#[test]
fn a_name_with_a_hundred_lines_is_removed_whole() {
    let mut host = Start::default().lay_out();
    let twice = line("twice", 0) + "\n";
    fs::write(host.state("credentials"), line("other", 0) + "\n" + &twice.repeat(100)).unwrap();
    fs::set_permissions(
        host.state("credentials"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let removed = host.own_command(&["user", "remove", "twice"]).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert!(host.lines_of("twice").is_empty());
    host.start();
    assert_eq!(host.sign_up("other").outcome(), "409 conflict");
    assert_eq!(host.sign_up("twice").outcome(), "200 -");
    assert_eq!(
        fs::read_to_string(host.state("htdigest"))
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count(),
        1
    );
    host.stop();
}
