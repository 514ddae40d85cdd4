//! What stands in the staging directory, is named like a mail and is none: a sweep leaves it, names
//! it, and does the rest of its work.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use codeb_signup::secret::Token;
use harness::PROGRAM;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::site::{Site, code, err, out};

/// A tenant with an expired account and a mail without an account, which a sweep removes.
fn site() -> Site {
    let site = Site::new();
    fs::create_dir(site.path("state/staging")).unwrap();
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(site.path("state/staging"), private).unwrap();
    let ha1 = "0123456789abcdef0123456789abcdef";
    let expired = format!("old:localhost:{ha1}:1:guest:expires=2001-01-01T00:00:00Z\n");
    fs::write(site.path("state/credentials"), expired).unwrap();
    fs::write(staging(&site, &mail_name()), "nobody's").unwrap();
    site
}

fn staging(site: &Site, name: &str) -> PathBuf {
    site.path("state/staging").join(name)
}

/// The name of a staged mail.
fn mail_name() -> String {
    format!("{}.eml", Token::random().unwrap().id().hex())
}

/// Each kind under the name of a mail and under one that the mail composer gives, last changed when
/// such a file would be a dead request's.
fn odd_entries(site: &Site) -> Vec<PathBuf> {
    let target = site.path("pickup/target");
    fs::write(&target, "not a mail").unwrap();
    let mut odd = Vec::new();
    for uuid in [None, Some("c0ffee00-0000-4000-8000-00000000000")] {
        let [directory, link, pipe, socket] = [1, 2, 3, 4].map(|number| {
            let name = uuid.map_or_else(mail_name, |uuid| format!("{uuid}{number}.eml"));
            staging(site, &name)
        });
        fs::create_dir(&directory).unwrap();
        symlink(&target, &link).unwrap();
        nix::unistd::mkfifo(pipe.as_path(), Mode::S_IRWXU).unwrap();
        // A socket's own address may be shorter than such a name.
        let short = site.path("s");
        drop(UnixListener::bind(&short).unwrap());
        fs::rename(short, &socket).unwrap();
        odd.extend([directory, link, pipe, socket]);
    }
    for path in &odd {
        let touched = Command::new("touch").args(["-h", "-d", "2001-01-01"]).arg(path).status();
        assert!(touched.unwrap().success());
    }
    odd
}

#[test]
fn a_sweep_leaves_what_only_looks_like_a_mail_names_it_once_and_does_the_rest() {
    let site = site();
    let mut odd = odd_entries(&site);
    if nix::unistd::geteuid().is_root() {
        let foreign = staging(&site, &mail_name());
        fs::write(&foreign, "somebody else's").unwrap();
        chown(&foreign, Some(65_534), None).unwrap();
        odd.push(foreign);
    }
    for _ in 0..2 {
        let output = site.run(&["sweep"]);
        let (out, err, code) = (out(&output), err(&output), code(&output));
        assert_eq!(code, 0, "{err}");
        for path in &odd {
            assert!(path.symlink_metadata().is_ok(), "{} is gone", path.display());
            assert_eq!(err.matches(path.to_str().unwrap()).count(), 1, "{err}");
        }
        assert_eq!(err.matches("warning: localhost: cannot take for a mail").count(), odd.len());
        assert!(out.contains("views as they should be"), "{out}");
    }
    let credentials = fs::read_to_string(site.path("state/credentials")).unwrap();
    assert!(!credentials.contains("old"), "the expired account is removed");
    let left = fs::read_dir(site.path("state/staging")).unwrap().count();
    assert_eq!(left, odd.len(), "the mail without an account is deleted");
    assert_eq!(fs::read_to_string(site.path("pickup/target")).unwrap(), "not a mail");
}

#[test]
fn the_service_logs_the_name_and_goes_on() {
    let site = site();
    let odd = staging(&site, &mail_name());
    fs::create_dir(&odd).unwrap();
    let socket = format!("unix:{}", site.path("s").display());
    // What is never logged must not be waited for without end.
    let mut serve = Command::new("timeout");
    serve.args(["60", &PROGRAM]);
    serve.args(["serve", "--listen", &socket, "--config"]).arg(site.config());
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let (mut told, mut swept) = (false, false);
    for line in log {
        told |= line.contains("level=warn event=sweep") && line.contains(odd.to_str().unwrap());
        swept |= line.contains("level=info event=sweep") && line.contains("deleted=1 expired=1");
        if told && swept {
            break;
        }
    }
    let timeout = Pid::from_raw(serve.id().try_into().unwrap());
    kill(timeout, Signal::SIGTERM).unwrap();
    serve.wait().unwrap();
    assert!(told && swept, "the directory is named, the rest is done");
}
