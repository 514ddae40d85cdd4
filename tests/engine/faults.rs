//! Faults of the machine, made for real: what is answered, what is logged, what is left, and that the
//! same form works once the fault is gone. The tests that need root say so and pass without it.
//! Prints a row for each fault: fault | status | log line | state afterwards.

mod volume;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use harness::TempDir;
use harness::direct::{Direct, Start, Wire};
use harness::server::is_root;
use harness::visitor::email;

/// The names in the directories whose files come and go.
fn census(host: &Direct) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for dir in ["pickup", "state/staging"] {
        let entries = fs::read_dir(host.volume().join(dir));
        names.extend(entries.into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    names.sort();
    names
}

/// Breaks, posts a form twice, mends, posts it again: what CONTRACT.md promises of step 7. The log
/// line must have every one of `says` in it.
fn fault(host: &Direct, what: &str, says: &[&str], break_it: &dyn Fn(), mend_it: &dyn Fn()) {
    let user = what.replace(' ', "-");
    let form = host.form(&user);
    let (client, before) = (host.client(), census(host));
    let post = || host.ask(&client, "POST", "/signup.ashx", "", &form.urlencoded());
    let known = host.log().len();
    break_it();
    let reply = post();
    let again = post();
    mend_it();
    assert_eq!(reply.outcome(), "500 server_error", "{what}");
    assert_eq!(again.outcome(), "500 server_error", "{what}");
    let body = reply.lossy();
    assert!(!body.contains('/') && !body.contains("error "), "a fault text: {body}");
    let log = host.log()[known..].to_owned();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("level=error")).collect();
    let of_signups = lines.iter().filter(|line| line.contains("event=signup")).count();
    assert_eq!(of_signups, 2, "{what}: a line for each request: {log}");
    let line = lines.iter().find(|line| line.contains("event=signup")).unwrap();
    let told = line.split("fault=").nth(1).unwrap();
    for word in says.iter().chain(&["cannot ", "(", ")"]) {
        assert!(told.contains(word), "{what}: no {word:?} in {told}");
    }
    assert_eq!(host.lines_of(&user).len(), 0, "{what}: an account remains");
    assert_eq!(census(host), before, "{what}: a file remains");
    assert_eq!(post().outcome(), "200 -", "{what}: the same form, mended");
    assert_eq!(host.lines_of(&user).len(), 1);
    let to = email(&user);
    let mails = host.mails().iter().filter(|mail| mail.header("To") == Some(&to)).count();
    assert_eq!(mails, 1, "{what}");
    // The failed attempts took no place: two more fit, a fourth does not.
    for (number, outcome) in [(1, "200 -"), (2, "200 -"), (3, "429 rate_limited")] {
        let form = host.form(&format!("{user}.{number}"));
        let reply = host.ask(&client, "POST", "/signup.ashx", "", &form.urlencoded());
        assert_eq!(reply.outcome(), outcome, "{what}: place {number}");
    }
    println!("| {what} | 500 | {told} | nothing left; the same form: 200 |");
}

#[test]
fn a_directory_that_is_gone_or_turned_into_a_file() {
    let mut host = Start { top: "lock_wait = \"1s\"", ..Start::default() }.run();
    assert_eq!(host.sign_up("early").status, 200);
    let away = host.path("away");
    for (name, named) in [
        ("pickup", "pickup"),
        ("state/staging", "staging"),
        ("state/spool", "spool"),
        ("state", "state"),
    ] {
        let path = host.path(name);
        let what = format!("no {named}");
        let spool = named == "spool" || named == "state";
        let way_out = if spool { "it makes the directory again" } else { "create it" };
        let says = ["No such file or directory", named, way_out];
        fault(&host, &what, &says, &|| fs::rename(&path, &away).unwrap(), &|| {
            fs::rename(&away, &path).unwrap()
        });
        let what = format!("a file for {named}");
        fault(
            &host,
            &what,
            &["Not a directory", named],
            &|| {
                fs::rename(&path, &away).unwrap();
                fs::write(&path, "").unwrap();
            },
            &|| {
                fs::remove_file(&path).unwrap();
                fs::rename(&away, &path).unwrap();
            },
        );
    }
    host.stop();
}

/// A symlink where one of our files should be is refused, and the file that it leads to untouched.
#[test]
fn a_symlink_in_place_of_a_file_of_ours() {
    let mut host = Start { top: "lock_wait = \"1s\"", ..Start::default() }.run();
    assert_eq!(host.sign_up("early").status, 200);
    let (away, bait) = (host.path("away"), host.path("bait"));
    fs::write(&bait, "precious").unwrap();
    for name in ["credentials.lock", "credentials", "spool/rate", "spool/captcha.spent"] {
        let path = host.state(name);
        let what = format!("a symlink for {}", name.replace('/', "."));
        fault(
            &host,
            &what,
            &["it is a symbolic link", name],
            &|| {
                fs::rename(&path, &away).unwrap();
                symlink(&bait, &path).unwrap();
            },
            &|| {
                fs::remove_file(&path).unwrap();
                fs::rename(&away, &path).unwrap();
            },
        );
    }
    assert_eq!(fs::read_to_string(&bait).unwrap(), "precious");
    host.stop();
}

/// The captcha key's file is looked at once in ten milliseconds.
fn wait_for_the_next_look() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

#[test]
fn a_captcha_key_that_is_empty_or_damaged_is_made_anew() {
    let mut host = Start::default().run();
    let key = host.state("spool/captcha.key");
    for damage in ["", "1 \n", "rubbish", "1 00000000-0000-0000-0000-000000000000 00\n"] {
        let form = host.form("joe");
        fs::write(&key, damage).unwrap();
        wait_for_the_next_look();
        assert_eq!(host.post(&form).outcome(), "400 captcha_failed", "the old key is gone");
        let user = format!("u{}", damage.len());
        assert_eq!(host.sign_up(&user).status, 200, "a new captcha is good");
        let mode = fs::metadata(&key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    println!("| empty or damaged captcha.key | 400 for old tokens | | key made anew |");
    host.stop();
}

#[test]
fn a_captcha_key_that_cannot_be_read() {
    if !is_root() {
        println!("skipped: needs root, to run the program as another user");
        return;
    }
    let mut host = Start { user: Some(65_534), ..Start::default() }.run();
    let (key, form) = (host.state("spool/captcha.key"), host.form("joe"));
    let open = |mode| {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        wait_for_the_next_look();
    };
    open(0);
    let captcha = host.ask("127.0.0.1", "GET", "/captcha.ashx", "", b"");
    assert_eq!(captcha.outcome(), "503 captcha_unavailable");
    assert_eq!(host.post(&form).outcome(), "500 server_error");
    let log = host.log();
    let line = log.lines().find(|line| line.contains("captcha_unavailable")).unwrap();
    let told = line.split("fault=").nth(1).unwrap().to_owned();
    for word in ["captcha.key", "Permission denied", "let the service's user read and write it"] {
        assert!(told.contains(word), "{told}");
    }
    open(0o600);
    assert_eq!(host.post(&form).outcome(), "200 -");
    println!("| unreadable captcha.key | 503, 500 | {told} | the same form: 200 |");
    host.stop();
}

/// The descriptors end while a connection is kept: it is answered 500, new ones wait, and all goes on
/// when there are descriptors again.
#[test]
fn no_descriptors() {
    let mut host = Start { top: "lock_wait = \"1s\"", ..Start::default() }.run();
    assert_eq!(host.sign_up("early").status, 200);
    let form = host.form("joe");
    let mut wire = Wire::open(&host.path("sock")).unwrap();
    assert_eq!(wire.ask("10.9.9.9", "GET", "/captcha.ashx", b"").status, 200);
    let pid = host.process.as_ref().unwrap().pid().to_string();
    let limit = |n: &str| {
        let status = Command::new("prlimit").args(["--pid", &pid, n]).status().unwrap();
        assert!(status.success());
    };
    limit("--nofile=3:1024");
    let reply = wire.ask("10.9.9.9", "POST", "/signup.ashx", &form.urlencoded());
    assert_eq!(reply.outcome(), "500 server_error");
    let mut waiting = Wire::open(&host.path("sock")).unwrap();
    let request = harness::fcgi::request(
        &harness::direct::params("10.9.9.8", "GET", "/captcha.ashx", "", b""),
        b"",
    );
    waiting.write(&request).unwrap();
    limit("--nofile=1024:1024");
    assert_eq!(waiting.answer().status, 200, "it waited, and was not lost");
    let reply = wire.ask("10.9.9.9", "POST", "/signup.ashx", &form.urlencoded());
    assert_eq!(reply.outcome(), "200 -", "{}", host.log());
    let log = host.log();
    let line = log.lines().find(|line| line.contains("Too many open files")).unwrap();
    assert!(line.contains("LimitNOFILE"), "{line}");
    drop((wire, waiting));
    println!("| EMFILE | 500 | {} | new connections waited; the same form: 200 |", line.trim());
    host.stop();
}

const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

#[test]
fn a_clock_that_is_stepped_by_a_day() {
    if !fs::read_dir("/usr/lib").unwrap().any(|e| e.unwrap().path().join("faketime").exists()) {
        println!("skipped: no libfaketime");
        return;
    }
    let time = TempDir::new();
    let file = time.path().join("time");
    let step = |offset: &str| {
        let next = time.path().join("next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, &file).unwrap();
    };
    step("+0");
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = vec![
        variable("LD_PRELOAD", FAKETIME),
        variable("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        variable("FAKETIME_NO_CACHE", "1"),
        variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let mut host = Start { environment, ..Start::default() }.run();
    let client = host.client();
    let sign_up = |user: &str| {
        let form = host.form(user);
        host.ask(&client, "POST", "/signup.ashx", "", &form.urlencoded()).outcome()
    };
    let old = host.form("old");
    for user in ["a", "b", "c"] {
        assert_eq!(sign_up(user), "200 -");
    }
    assert_eq!(sign_up("d"), "429 rate_limited");
    for (offset, other) in [("+1d", "forward"), ("-1d", "back"), ("+0", "right")] {
        step(offset);
        let reply = host.post(&old);
        let expected = if offset == "+0" { "200 -" } else { "400 captcha_failed" };
        assert_eq!(reply.outcome(), expected, "an old captcha, {other}");
        // Nobody is shut out for longer than an hour by a clock that jumped.
        let user = format!("{other}-1");
        let outcome = sign_up(&user);
        let right = ["200 -", "429 rate_limited"];
        assert!(right.contains(&outcome.as_str()), "{other}: {outcome}");
        if offset != "+0" {
            assert_eq!(outcome, "200 -", "{other}");
        }
        assert_eq!(host.sign_up(&format!("{other}-2")).outcome(), "200 -", "{other}");
    }
    let mail = host.mails().into_iter().find(|m| m.header("To") == Some(&email("a"))).unwrap();
    assert_eq!(host.activate(&mail.token()).status, 200, "the links outlive it");
    println!("| clock by a day, both ways | 400 for old captchas | | new forms: 200 |");
    host.stop();
}
