//! Filesystems without room, without inodes and without the right to write.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::direct::Start;
use harness::visitor::email;
use harness::volume::{Volume, fill};

use super::fault;

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
        let output = Command::new(&*harness::PROGRAM)
            .env_clear()
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("CODEB_SIGNUP_CONFIG", host.path("config.toml"))
            .env("REQUEST_METHOD", method)
            .env("SCRIPT_NAME", script)
            .env("REMOTE_ADDR", "192.0.2.9")
            .env("HTTP_HOST", harness::host::HOST)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}");
        let log = String::from_utf8(output.stderr).unwrap();
        (harness::fcgi::cgi_reply(&output.stdout), log)
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
