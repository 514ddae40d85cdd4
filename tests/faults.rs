//! Faults of the machine, made for real: what is answered, what is logged, what is left, and that the
//! same form works once the fault is gone. The tests that need root say so and pass without it.
//! Prints a row for each fault: fault | status | log line | state afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::TempDir;
use common::direct::{Direct, Start, Wire};
use common::server::is_root;
use common::visitor::email;
use common::volume::{Volume, fill};

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

/// Frees what a file takes at once: a child that another test is starting may hold it open still.
fn empty_and_remove(filler: &Path) {
    fs::write(filler, "").unwrap();
    fs::remove_file(filler).unwrap();
}

#[test]
fn a_full_disk() {
    let Some(volume) = Volume::mount("size=2m") else { return };
    let mut host = volume.host();
    let pending = host.sign_up("early");
    assert_eq!(pending.status, 200);
    let filler = volume.path().join("filler");
    fault(
        &host,
        "full disk",
        &["No space left", "free space", &volume.path().to_string_lossy()],
        &|| {
            fill(&filler);
            let captcha = host.ask("127.0.0.1", "GET", "/captcha.ashx", "", b"");
            assert_eq!(captcha.status, 200, "a captcha needs no space");
        },
        &|| empty_and_remove(&filler),
    );
    // An activation either is done or leaves its link good.
    fill(&filler);
    let token =
        host.mails().iter().find(|m| m.header("To") == Some(&email("early"))).unwrap().token();
    let reply = host.activate(&token);
    assert!([200, 500].contains(&reply.status));
    empty_and_remove(&filler);
    if reply.status == 500 {
        assert_eq!(host.activate(&token).status, 200, "the link stayed good");
    }
    let view = fs::read_to_string(host.state("htdigest")).unwrap();
    assert_eq!(view.matches("early:").count(), 1);
    println!("| full disk, activation | {} | | the link stays good |", reply.status);
    host.stop();
}

#[test]
fn check_warns_of_a_disk_that_is_nearly_full() {
    for (options, megabytes, why) in [
        ("size=80m", 20, "KiB are free on its filesystem"),
        ("size=80m,nr_inodes=500", 0, "its filesystem takes "),
    ] {
        let Some(volume) = Volume::mount(options) else { return };
        let host = Start { volume: Some(volume.path().to_owned()), ..Start::default() }.lay_out();
        let warnings =
            || String::from_utf8(host.own_command(&["check"]).output().unwrap().stderr).unwrap();
        assert_eq!(warnings().contains(why), megabytes == 0);
        fs::write(volume.path().join("ballast"), vec![0; megabytes << 20]).unwrap();
        let told = warnings();
        let of_disk: Vec<&str> = told.lines().filter(|line| line.contains(why)).collect();
        assert_eq!(of_disk.len(), 1, "state and pickup are on the same one: {told}");
        assert!(of_disk[0].contains(".state: is "), "{told}");
    }
}

/// A program that a web server starts for one request finds a state directory that is new, and a disk
/// without room for it: the client hears what CONTRACT.md has for a fault, the log tells it once.
#[test]
fn a_full_disk_and_a_new_state_directory_under_cgi() {
    let Some(volume) = Volume::mount("size=2m,nr_inodes=40") else { return };
    let host = Start { volume: Some(volume.path().to_owned()), ..Start::default() }.lay_out();
    let files = volume.path().join("files");
    fs::create_dir(&files).unwrap();
    let made = (0..).take_while(|n| fs::write(files.join(n.to_string()), "").is_ok());
    assert!(made.count() < 40);
    let ask = |method: &str, script: &str| {
        let output = Command::new(common::PROGRAM)
            .env_clear()
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("CODEB_SIGNUP_CONFIG", host.path("config.toml"))
            .env("REQUEST_METHOD", method)
            .env("SCRIPT_NAME", script)
            .env("REMOTE_ADDR", "192.0.2.9")
            .env("HTTP_HOST", common::host::HOST)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}");
        let log = String::from_utf8(output.stderr).unwrap();
        (common::fcgi::cgi_reply(&output.stdout), log)
    };
    // No room for a directory; then for the directories, and for no file.
    for room in [0, 2] {
        (0..room).for_each(|n| fs::remove_file(files.join(n.to_string())).unwrap());
        for (method, script, outcome) in [
            ("GET", "/captcha.ashx", "503 captcha_unavailable"),
            ("POST", "/signup.ashx", "500 server_error"),
            ("GET", "/activate.ashx", "500 -"),
        ] {
            let (reply, log) = ask(method, script);
            assert_eq!(reply.outcome(), outcome, "{script}");
            let body = reply.lossy();
            assert!(!body.contains("configured") && !body.contains("No space"), "{body}");
            assert_eq!(log.lines().count(), 1, "one line: {log}");
            for word in ["level=error", "cannot ", "/state/", "No space left", "(free space"] {
                assert!(log.contains(word), "{script}: no {word:?} in {log}");
            }
            println!("| full disk, new state, CGI {script} | {outcome} | {} | |", log.trim());
        }
    }
    assert_eq!(ask("GET", "/nothing").0.outcome(), "404 not_found");
    fs::remove_dir_all(&files).unwrap();
    let (reply, log) = ask("GET", "/captcha.ashx");
    assert_eq!(reply.outcome(), "200 -", "{log}");
}

/// With ever more room left, the attempt fails at ever later steps, until it succeeds; and an account
/// is there if and only if its mail is.
#[test]
fn a_disk_that_ends_in_the_middle_of_a_sign_up() {
    const PAGE: u64 = 4096;
    let Some(volume) = Volume::mount("size=2m") else { return };
    let mut host = volume.host();
    assert_eq!(host.sign_up("early").status, 200);
    let filler = volume.path().join("filler");
    let mut failed_at = std::collections::BTreeSet::new();
    let mut succeeded = 0;
    for pages in 0..24 {
        // Names of the longest kind, so that the accounts' file needs a page now and then.
        let user = format!("{pages:02}{}", "x".repeat(50));
        let form = host.form(&user);
        let client = host.client();
        let post = || host.ask(&client, "POST", "/signup.ashx", "", &form.urlencoded());
        let known = host.log().len();
        fill(&filler);
        let size = fs::metadata(&filler).unwrap().len().next_multiple_of(PAGE);
        fs::File::options()
            .write(true)
            .open(&filler)
            .unwrap()
            .set_len(size.saturating_sub(pages / 3 * PAGE))
            .unwrap();
        let reply = post();
        let (accounts, to) = (host.lines_of(&user).len(), email(&user));
        let mails = host.mails().iter().filter(|m| m.header("To") == Some(&to)).count();
        let staged = fs::read_dir(host.state("staging")).unwrap().count();
        empty_and_remove(&filler);
        match reply.outcome().as_str() {
            "200 -" => {
                assert_eq!((accounts, mails, staged), (1, 1, 0), "{pages}");
                succeeded += 1;
            }
            "500 server_error" => {
                assert_eq!((accounts, mails, staged), (0, 0, 0), "{pages}: something is left");
                let log = host.log()[known..].to_owned();
                let told = log.split("fault=\"cannot ").nth(1).expect("a fault in the log");
                failed_at.insert(told.split(" /").next().unwrap().to_owned());
                let again = post().outcome();
                assert_eq!(again, "200 -", "{pages}: the same form, mended: {}", host.log());
            }
            other => panic!("{pages}: {other}"),
        }
        assert!(host.credentials().ends_with('\n'));
    }
    assert!(succeeded > 0 && failed_at.len() > 1, "{succeeded} {failed_at:?}");
    println!("| disk full in mid-sign-up | 500 | at: {failed_at:?} | nothing left |");
    host.stop();
}

#[test]
fn no_inodes() {
    let Some(volume) = Volume::mount("size=4m,nr_inodes=40") else { return };
    let mut host = volume.host();
    assert_eq!(host.sign_up("early").status, 200);
    let files = volume.path().join("files");
    fs::create_dir(&files).unwrap();
    let break_it = || {
        let made = (0..).take_while(|n| fs::write(files.join(n.to_string()), "").is_ok());
        assert!(made.count() < 40);
    };
    let mend_it = || {
        for entry in fs::read_dir(&files).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    let says = ["No space left", "free space", "staging"];
    fault(&host, "no inodes", &says, &break_it, &mend_it);
    host.stop();
}

/// A filesystem that is remounted while files are open for writing keeps them; what is opened anew
/// fails. Made here by a read-only bind mount in place of the directories.
#[test]
fn a_read_only_filesystem() {
    let Some(volume) = Volume::mount("size=4m") else { return };
    let mut host = volume.host();
    assert_eq!(host.sign_up("early").status, 200);
    let staging = host.state("staging");
    let mount = |args: &[&str]| {
        assert!(Command::new("mount").args(args).arg(&staging).status().unwrap().success());
    };
    let says = ["Read-only file system", "remount the filesystem read-write", "staging"];
    fault(
        &host,
        "read-only remount",
        &says,
        &|| {
            mount(&["--bind", staging.to_str().unwrap()]);
            mount(&["-o", "remount,bind,ro"]);
        },
        &|| assert!(Command::new("umount").arg(&staging).status().unwrap().success()),
    );
    // All of it, while the program does not run: it says so instead of starting.
    host.stop();
    let remount = |how: &str| {
        let args = ["-o", how, volume.path().to_str().unwrap()];
        assert!(Command::new("mount").args(args).status().unwrap().success());
    };
    remount("remount,ro");
    let output = host.command(&["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("Read-only file system (remount"), "{said}");
    remount("remount,rw");
    host.start();
    assert_eq!(host.sign_up("late").status, 200);
    println!("| read-only at start | exit 78 | {} | starts when mended |", said.trim());
    host.stop();
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
    let request = common::fcgi::request(
        &common::direct::params("10.9.9.8", "GET", "/captcha.ashx", "", b""),
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
