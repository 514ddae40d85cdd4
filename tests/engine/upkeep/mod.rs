//! Sweep and compaction on real files: what killed requests left is decided on, and nothing is lost
//! while requests go on, in other threads and in other processes.

mod compaction;
mod site;
mod speed;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use codeb_signup::disk::LockFile;
use codeb_signup::maintenance;
use codeb_signup::secret::Token;
use codeb_signup::store::claims::Place;

use site::{Site, activate, create, create_with, stage, tenant_in};

/// Set for a copy of this program that works on the directory in it.
const CHILD_DIR: &str = "CODEB_UPKEEP_TEST_DIR";

/// A second process: makes and activates accounts until it is killed, and prints what was
/// acknowledged; `leaver` leaves a promised mail and one without an account, and hangs.
#[test]
fn second_process() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let tenant = tenant_in(Path::new(&dir));
    let now = Utc::now();
    let mut out = std::io::stdout();
    if Path::new(&dir).join("leaver").exists() {
        let token = Token::random().unwrap().id();
        let _promised = stage(&tenant, token);
        create_with(&tenant, "joe", now, token).unwrap();
        let _lonely = stage(&tenant, Token::random().unwrap().id());
        writeln!(out, "\nready").unwrap();
        loop {
            std::thread::park();
        }
    }
    for n in 0.. {
        let user = format!("child{n}");
        let token = create(&tenant, &user, now).unwrap();
        writeln!(out, "\nmade {user}").unwrap();
        if n % 2 == 0 {
            assert_eq!(activate(&tenant, token, now), Some(user.clone()));
            writeln!(out, "\nactive {user}").unwrap();
        }
    }
}

/// Starts the second process; its output is read line by line.
fn start_child(site: &Site) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "upkeep::second_process", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, site.dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

#[test]
fn a_staged_mail_is_released_where_its_account_is_pending_and_deleted_where_not() {
    let site = Site::new("mails");
    let tenant = site.tenant();
    let now = Utc::now();
    let promised = create(&tenant, "joe", now).unwrap();
    stage(&tenant, promised).leave();
    let activated = create(&tenant, "sue", now).unwrap();
    activate(&tenant, activated, now).unwrap();
    stage(&tenant, activated).leave();
    stage(&tenant, Token::random().unwrap().id()).leave();
    let held = stage(&tenant, Token::random().unwrap().id());

    let report = maintenance::sweep(&site.tenant(), now).unwrap().unwrap();
    assert_eq!((report.released, report.deleted, report.faults.len()), (1, 2, 0), "{report}");
    assert_eq!(site.names_in("pickup"), [format!("{}.eml", promised.hex())]);
    assert_eq!(site.names_in("state/staging").len(), 1, "a running request keeps its mail");
    drop(held);
    assert!(maintenance::sweep(&tenant, now).unwrap().unwrap().is_empty());
}

#[test]
fn a_killed_process_leaves_nothing_half_after_the_sweep() {
    let site = Site::new("killed");
    std::fs::write(site.dir().join("leaver"), "").unwrap();
    let (mut child, mut lines) = start_child(&site);
    assert!(lines.any(|line| line == "ready"));
    let tenant = site.tenant();
    let before = maintenance::sweep(&tenant, Utc::now()).unwrap().unwrap();
    assert!(before.is_empty(), "it is alive: {before}");
    child.kill().unwrap();
    child.wait().unwrap();
    let after = maintenance::sweep(&tenant, Utc::now()).unwrap().unwrap();
    assert_eq!((after.released, after.deleted), (1, 1), "{after}");
    assert_eq!((site.names_in("pickup").len(), site.names_in("state/staging").len()), (1, 0));
    assert_eq!(site.accounts().into_iter().collect::<Vec<_>>(), [("joe".to_owned(), '1')]);
}

#[test]
fn an_expired_account_goes_with_its_mail_and_its_name_is_free() {
    let site = Site::new("expired");
    let tenant = site.tenant();
    let then = Utc::now() - TimeDelta::days(8);
    for n in 0..50 {
        create(&tenant, &format!("old{n}"), then).unwrap();
    }
    let late = create(&tenant, "late", then).unwrap();
    stage(&tenant, late).leave();
    let active = create(&tenant, "active", then).unwrap();
    activate(&tenant, active, then).unwrap();
    create(&tenant, "young", Utc::now()).unwrap();

    assert!(
        maintenance::sweep(&tenant, then).unwrap().unwrap().released == 1,
        "in time it is sent"
    );
    stage(&tenant, late).leave();
    let report = maintenance::sweep(&tenant, Utc::now()).unwrap().unwrap();
    assert_eq!((report.expired, report.deleted, report.released), (51, 1, 0), "{report}");
    let left: Vec<_> = site.accounts().into_iter().collect();
    assert_eq!(left, [("active".to_owned(), '0'), ("young".to_owned(), '1')]);
    let text = std::fs::read_to_string(site.credentials()).unwrap();
    assert!(!text.contains("old"), "nothing personal stays");
    site.assert_view();
    create(&tenant, "old7", Utc::now()).unwrap();
    assert!(create(&tenant, "old7", Utc::now()).is_none(), "taken");
}

#[test]
fn a_view_that_lacks_an_account_or_has_one_too_many_is_made_anew() {
    let site = Site::new("views");
    let tenant = site.tenant();
    let now = Utc::now();
    for user in ["joe", "sue"] {
        let token = create(&tenant, user, now).unwrap();
        activate(&tenant, token, now).unwrap();
    }
    let view = site.dir().join("state/htdigest");
    let whole = std::fs::read_to_string(&view).unwrap();
    let evil = format!("{whole}evil:{}:{}\n", site::REALM, site::HA1);
    for wrong in ["", &evil, &whole.replace("joe", "jim"), &format!("{whole}{whole}")] {
        std::fs::write(&view, wrong).unwrap();
        assert!(maintenance::sweep(&tenant, now).unwrap().unwrap().views_rebuilt, "{wrong:?}");
        site.assert_view();
    }
    std::fs::remove_file(&view).unwrap();
    maintenance::sweep(&tenant, now).unwrap().unwrap();
    site.assert_view();
    assert!(maintenance::sweep(&tenant, now).unwrap().unwrap().is_empty());
}

#[test]
fn serve_sweeps_at_its_start() {
    let site = Site::new("serve");
    let tenant = site.tenant();
    let promised = create(&tenant, "joe", Utc::now()).unwrap();
    stage(&tenant, promised).leave();
    let socket = format!("unix:{}", site.dir().join("socket").display());
    let mut serve = site.program("serve").args(["--listen", &socket]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while site.names_in("pickup").is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert_eq!(site.names_in("pickup"), [format!("{}.eml", promised.hex())]);
}

#[test]
fn one_process_sweeps_at_a_time() {
    let site = Site::new("turn");
    let tenant = site.tenant();
    let lock = site.dir().join("state/sweep.lock");
    let held = LockFile::new(&lock, 0o600).lock(tenant.disk.as_ref()).unwrap();
    assert!(maintenance::sweep(&tenant, Utc::now()).unwrap().is_none());
    drop(held);
    assert!(maintenance::sweep(&tenant, Utc::now()).unwrap().is_some());
}

#[test]
fn a_spool_file_is_emptied_once_nothing_in_it_counts() {
    let site = Site::new("spool");
    let tenant = site.tenant();
    let now = Utc::now();
    let now_ms = now.timestamp_millis() as u64;
    match tenant.claims.take_place("192.0.2.1".parse().unwrap(), now_ms).unwrap() {
        Place::Taken(claim) => claim.keep(),
        Place::Full(_) => panic!("full"),
    }
    let file = site.dir().join("state/spool/rate");
    let len = || std::fs::metadata(&file).unwrap().len();
    assert!(len() > 4096);
    for (hours, emptied) in [(0, 0), (1, 1), (2, 0)] {
        let at = now + TimeDelta::hours(hours) + TimeDelta::seconds(hours);
        assert_eq!(maintenance::sweep(&tenant, at).unwrap().unwrap().emptied, emptied, "{hours} h");
    }
    assert_eq!(len(), 4096);
}

#[test]
fn what_a_killed_compaction_left_is_deleted() {
    let site = Site::new("leftover");
    let tenant = site.tenant();
    for name in ["credentials.compact", "credentials.rewritten", "htdigest.new"] {
        std::fs::write(site.dir().join("state").join(name), "joe").unwrap();
    }
    // What an operator prepares before he takes the lock is his.
    std::fs::write(site.dir().join("state/credentials.new"), "joe").unwrap();
    maintenance::sweep(&tenant, Utc::now()).unwrap().unwrap();
    let names = site.names_in("state");
    let left = |end: &str| names.iter().any(|name| name.ends_with(end));
    assert!(!left(".compact") && !left(".rewritten") && !left("htdigest.new"), "{names:?}");
    assert!(left("credentials.new"), "{names:?}");
}
