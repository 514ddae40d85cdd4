//! The verbs of an operator: accounts, sweep, compaction; and a start that waits.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use codeb_signup::disk::{LockFile, RealDisk};

use crate::site::{Site, code, err, out, program};

/// A line of `credentials`; `disabled` as it stands there.
fn account(user: &str, disabled: char) -> String {
    format!("{user}:localhost:0123456789abcdef0123456789abcdef:{disabled}:guest:name=N\n")
}

#[test]
fn an_operator_lets_in_shuts_out_and_removes() {
    let site = Site::new();
    let text = format!("# mine\n{}{}", account("joe", '1'), account("sue", '0'));
    fs::write(site.path("state/credentials"), &text).unwrap();
    let view = |user: &str| format!("{user}:localhost:0123456789abcdef0123456789abcdef\n");
    for (verb, user, line, says) in [
        ("enable", "joe", account("joe", '0'), "localhost: joe may sign in\n"),
        ("enable", "joe", account("joe", '0'), "localhost: joe may sign in\n"),
        ("disable", "joe", account("joe", '2'), "localhost: joe may not sign in any more\n"),
        ("enable", "joe", account("joe", '0'), "localhost: joe may sign in\n"),
    ] {
        let output = site.run(&["user", verb, user]);
        assert_eq!((code(&output), out(&output).as_str()), (0, says), "{}", err(&output));
        assert!(site.read("credentials").contains(&line));
        assert_eq!(site.read("htdigest").contains(&view(user)), line == account(user, '0'));
    }
    let output = site.run(&["user", "remove", "joe", "--tenant", "LocalHost"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(!site.read("credentials").contains("joe") && !site.read("htdigest").contains("joe"));
    assert!(site.read("htdigest").contains(&view("sue")), "nobody else is touched");

    let output = site.run(&["user", "remove", "joe"]);
    assert_eq!(code(&output), 67);
    assert!(out(&output).is_empty() && err(&output).contains("no account joe"));
    for args in [&["user", "enable", "Joe"][..], &["user", "enable", "sue", "--tenant", "b"]] {
        assert_eq!(code(&site.run(args)), 64, "{args:?}");
    }
}

#[test]
fn of_several_tenants_one_has_to_be_named() {
    let site = Site::new();
    let dir = site.path("other");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o710)).unwrap();
    let (state, pickup) = (dir.display(), site.path("pickup"));
    site.write(&format!(
        "[tenant.\"b.example\"]\nrealm = \"b\"\nbase_url = \"https://b.example\"\n\
         state = \"{state}\"\npickup = \"{}\"\nmail_from = \"a@b.example\"\n",
        pickup.display()
    ));
    fs::write(dir.join("credentials"), account("joe", '0')).unwrap();
    let output = site.run(&["user", "disable", "joe"]);
    assert_eq!(code(&output), 64);
    assert!(err(&output).contains("b.example, localhost"), "{}", err(&output));
    let output = site.run(&["user", "--tenant", "b.example", "disable", "joe"]);
    assert_eq!((code(&output), err(&output).contains("cannot")), (0, false), "{}", err(&output));
    assert_eq!(fs::read_to_string(dir.join("credentials")).unwrap(), account("joe", '2'));
}

#[test]
fn sweep_and_compact_say_what_they_did() {
    let site = Site::new();
    let expired = account("old", '1').replace("name=N", "expires=2001-01-01T00:00:00Z");
    fs::write(site.path("state/credentials"), format!("# mine\n{expired}{}", account("joe", '0')))
        .unwrap();
    let output = site.run(&["sweep"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(
        out(&output)
            .starts_with("localhost: mails released 0, mails deleted 0, accounts expired 1,")
    );
    let output = site.run(&["compact"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("lock held for"), "{}", out(&output));
    assert_eq!(site.read("credentials"), format!("# mine\n{}", account("joe", '0')));
    let again = out(&site.run(&["compact"]));
    assert_eq!(again.matches("nothing to drop").count(), 2, "{again}");
    let again = out(&site.run(&["sweep"]));
    assert!(again.contains("expired 0") && again.contains("views as they should be"), "{again}");
}

#[test]
fn run_as_root_the_verbs_leave_every_file_to_the_owner_of_the_state_directory() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    const OWNER: u32 = 65_534;
    let site = Site::new();
    let dead = format!("{}\n####\n", account("joe", '1').trim_end());
    fs::write(site.path("state/credentials"), dead).unwrap();
    for path in ["state", "state/credentials", "pickup"] {
        std::os::unix::fs::chown(site.path(path), Some(OWNER), Some(OWNER)).unwrap();
    }
    for args in
        [&["user", "enable", "joe"][..], &["sweep"], &["compact"], &["user", "remove", "joe"]]
    {
        let output = site.run(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", err(&output));
    }
    let mut directories = vec![site.path("state")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert_eq!(metadata.uid(), OWNER, "{}", path.display());
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
}

#[test]
fn a_start_that_waits_for_a_held_lock_says_who_holds_it() {
    use std::io::{BufRead, BufReader};
    let site = Site::new();
    let text = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("lock_wait = \"1s\"\n{text}")).unwrap();
    assert_eq!(code(&site.run(&["sweep"])), 0);
    let path = site.path("state/credentials.lock");
    let held = LockFile::new(&path, 0o600).lock(&RealDisk).unwrap();
    let socket = format!("unix:{}", site.path("s").display());
    let mut serve = program();
    serve.args(["serve", "--listen", &socket, "--config"]).arg(site.config());
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = log.find(|line| line.contains("event=start_waits")).unwrap();
    assert!(waits.contains(&format!("process {} holds it", std::process::id())), "{waits}");
    assert!(waits.contains("credentials.lock"), "{waits}");
    drop(held);
    assert!(log.any(|line| line.contains("event=start ")), "it goes on by itself");
    let pid = nix::unistd::Pid::from_raw(serve.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(serve.wait().unwrap().success());
}
