//! One tenant that cannot be opened, or whose disk hangs, beside another that is served, swept and
//! worked on as ever.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::Duration;

use codeb_signup::disk::{LockFile, RealDisk};
use harness::frozen::HangingDisk;
use harness::pair::{A, B, Pair};
use harness::wait_for;

/// Longer than a look at a tenant that is out takes to come.
const PATIENCE: Duration = Duration::from_secs(60);

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// The lines of the log that say that A went out or came back.
fn told(pair: &Pair, outcome: &str) -> Vec<String> {
    let start = format!("event=tenant tenant={A} outcome={outcome}");
    pair.log().lines().filter(|line| line.contains(&start)).map(str::to_owned).collect()
}

/// A is out: the log says why, with all of `says`; every endpoint of it answers as for a fault, and B
/// is served.
fn expect_out(pair: &Pair, says: &[&str]) {
    // A line may land just after the start that it tells of.
    let lines = harness::wait_for("the line of a tenant that is out", PATIENCE, || {
        Some(told(pair, "out")).filter(|lines| !lines.is_empty())
    });
    assert_eq!(lines.len(), 1, "{}", pair.log());
    for word in says.iter().chain(&["level=error", "it answers 500"]) {
        assert!(lines[0].contains(word), "no {word:?} in {}", lines[0]);
    }
    assert_eq!(pair.captcha(A).outcome(), "503 captcha_unavailable");
    let form = pair.form(B, "somebody").urlencoded();
    let signed_up = pair.ask(A, "POST", "/signup.ashx", "", &form);
    assert_eq!(signed_up.outcome(), "500 server_error");
    let page = pair.activate(A, &"x".repeat(43));
    assert_eq!(page.status, 500);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<html"));
    assert_eq!(pair.ask(A, "HEAD", "/activate.ashx", "", b"").status, 200);
    assert_eq!(pair.ask(A, "GET", "/signup.ashx", "", b"").outcome(), "405 method_not_allowed");
    for reply in [signed_up, page] {
        assert!(!reply.lossy().contains("/state"), "{}", reply.lossy());
    }
    serve_b(pair);
}

fn serve_b(pair: &Pair) {
    let user = format!("user{}", pair.mails(B).len());
    assert_eq!(pair.sign_up(B, &user).outcome(), "200 -");
    assert_eq!(pair.activate(B, &pair.mails_to(B, &user)[0].token()).status, 200);
}

/// Once mended, A comes back by itself: its requests make the program look.
fn expect_back(pair: &Pair) {
    wait_for("the tenant's return", PATIENCE, || (pair.captcha(A).status == 200).then_some(()));
    assert_eq!(pair.sign_up(A, "joe").outcome(), "200 -");
    assert_eq!((told(pair, "out").len(), told(pair, "back").len()), (1, 1), "{}", pair.log());
}

#[test]
fn a_tenant_without_its_directory_is_out_until_it_has_one() {
    let mut pair = Pair::lay_out("", None);
    let (state, away) = (pair.state(A, ""), pair.path("away"));
    fs::rename(&state, &away).unwrap();
    pair.start();
    expect_out(&pair, &["which does not exist", "install -d", "tenant.\\\"a.example\\\".state"]);
    fs::rename(&away, &state).unwrap();
    expect_back(&pair);
    pair.stop();
}

#[test]
fn a_tenant_whose_accounts_cannot_be_read_is_out_until_they_can() {
    let mut pair = Pair::lay_out("", None);
    let credentials = pair.state(A, "credentials");
    fs::create_dir(&credentials).unwrap();
    pair.start();
    expect_out(&pair, &["state/credentials"]);
    fs::remove_dir(&credentials).unwrap();
    expect_back(&pair);
    pair.stop();
}

#[test]
fn a_tenant_whose_lock_is_held_keeps_the_others_waiting_for_a_moment_only() {
    let mut pair = Pair::lay_out("lock_wait = \"1s\"", None);
    pair.start();
    assert_eq!(pair.sign_up(A, "early").outcome(), "200 -");
    pair.stop();
    let lock = LockFile::new(&pair.state(A, "credentials.lock"), 0o600).lock(&RealDisk).unwrap();
    pair.start();
    let holder = format!("process {} holds it", std::process::id());
    assert!(pair.log().contains(&holder), "{}", pair.log());
    expect_out(&pair, &["a lock that nobody gives back"]);
    drop(lock);
    expect_back(&pair);
    pair.stop();
}

#[test]
fn a_start_fails_where_every_tenant_is_out_or_two_share_a_directory() {
    let pair = Pair::lay_out("", None);
    let ends = |words: &[&str]| {
        let output = pair.command(&["serve"]).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        for word in words {
            assert!(said(&output).contains(word), "no {word:?} in {}", said(&output));
        }
        let check = pair.command(&["check"]).output().unwrap();
        assert_eq!(check.status.code(), Some(78), "{}", said(&check));
    };
    fs::remove_dir(pair.state(A, "")).unwrap();
    symlink(pair.state(B, ""), pair.state(A, "").components().as_path()).unwrap();
    ends(&["is the directory of tenant.", "under another name"]);
    fs::remove_file(pair.state(A, "").components().as_path()).unwrap();
    fs::remove_dir(pair.pickup(B)).unwrap();
    ends(&["tenant.\"a.example\".state", "tenant.\"b.example\".pickup"]);
}

#[test]
fn the_verbs_open_the_tenants_that_they_need() {
    let pair = Pair::lay_out("", None);
    let run = |args: &[&str]| {
        let output = pair.command(args).output().unwrap();
        (output.status.code(), said(&output))
    };
    assert_eq!(run(&["sweep"]).0, Some(0));
    fs::remove_dir_all(pair.state(A, "")).unwrap();
    let ha1 = "0123456789abcdef0123456789abcdef";
    fs::write(pair.state(B, "credentials"), format!("joe:{B}:{ha1}:0:guest:\n")).unwrap();
    assert_eq!(run(&["user", "disable", "joe", "--tenant", B]).0, Some(0));
    let (code, said) = run(&["user", "disable", "joe", "--tenant", A]);
    assert!(code == Some(78) && said.contains("does not exist"), "{said}");
    for verb in ["sweep", "compact"] {
        let (code, said) = run(&[verb]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("a.example: ") && said.contains("does not exist"), "{said}");
        let of_b =
            if verb == "sweep" { "b.example: mails released" } else { "b/state/credentials" };
        assert!(said.contains(of_b), "it went on: {said}");
    }
}

#[test]
fn under_cgi_a_tenant_that_is_out_is_its_own_requests_matter() {
    let pair = Pair::lay_out("", None);
    fs::remove_dir_all(pair.state(A, "")).unwrap();
    let ask = |host: &str| {
        let output = std::process::Command::new(&*harness::PROGRAM)
            .env_clear()
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("CODEB_SIGNUP_CONFIG", pair.path("config.toml"))
            .env("REQUEST_METHOD", "GET")
            .env("SCRIPT_NAME", "/captcha.ashx")
            .env("REMOTE_ADDR", "192.0.2.9")
            .env("HTTP_HOST", host)
            .output()
            .unwrap();
        harness::fcgi::cgi_reply(&output.stdout).outcome()
    };
    assert_eq!(ask(A), "503 captcha_unavailable");
    assert_eq!(ask(B), "200 -");
}

/// A line of an account whose link expired long ago.
fn expired(host: &str, user: &str) -> String {
    format!(
        "{user}:{host}:0123456789abcdef0123456789abcdef:1:guest:name=N&email=n%40x.example&\
         created=2020-01-01T00%3A00%3A00Z&expires=2020-01-08T00%3A00%3A00Z&activation={}\n",
        "0".repeat(64)
    )
}

#[ignore = "tests/all.sh"]
#[test]
fn one_tenants_frozen_sweep_keeps_no_other_from_expiring() {
    let Some(disk) = HangingDisk::mount("one_tenants_frozen_sweep") else { return };
    let mut pair = Pair::lay_out("lock_wait = \"2s\"", Some(&disk.path()));
    pair.start();
    for (host, user) in [(A, "early"), (B, "early")] {
        assert_eq!(pair.sign_up(host, user).outcome(), "200 -");
    }
    for host in [A, B] {
        let mut file =
            fs::File::options().append(true).open(pair.state(host, "credentials")).unwrap();
        file.write_all(expired(host, "old").as_bytes()).unwrap();
    }
    let forms = [0; 40].map(|_| pair.form(A, "late").urlencoded());
    let frozen = disk.freeze();
    // A's sweep has to make this file again, which waits for the disk while others sync there.
    fs::remove_file(pair.state(A, "sweep.lock")).unwrap();
    let hanging = forms.map(|form| {
        let mut stream = UnixStream::connect(pair.path("sock")).unwrap();
        stream.write_all(&pair.request(A, "POST", "/signup.ashx", "", &form)).unwrap();
        stream
    });
    // The second sweep is a minute after the start.
    wait_for("the other tenant's sweep", 2 * PATIENCE, || {
        (pair.lines_of(B, "old") == 0).then_some(())
    });
    serve_b(&pair);
    frozen.thaw();
    wait_for("the sweep after the thaw", PATIENCE, || (pair.lines_of(A, "old") == 0).then_some(()));
    assert_eq!(pair.lines_of(A, "early"), 1);
    drop(hanging);
    pair.stop();
}

#[ignore = "tests/all.sh"]
#[test]
fn a_disk_that_hangs_at_the_start_keeps_no_other_tenant_waiting_for_long() {
    let Some(disk) = HangingDisk::mount("a_disk_that_hangs_at_the_start") else { return };
    let mut pair = Pair::lay_out("", Some(&disk.path()));
    let frozen = disk.freeze();
    // A's files are new, so that they have to reach the disk.
    pair.start();
    expect_out(&pair, &["a hung disk"]);
    frozen.thaw();
    expect_back(&pair);
    pair.stop();
}
