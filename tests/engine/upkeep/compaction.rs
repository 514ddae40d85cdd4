//! Compaction while accounts are made, activated and removed, and while it is killed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use chrono::Utc;
use codeb_signup::maintenance;
use codeb_signup::store::rules;

use super::site::{Site, activate, create, line, set};
use super::start_child;

/// Compactions that go on beside the sign-ups.
const COMPACTIONS: usize = 12;

/// A file of comments, dead lines and accounts, about a megabyte of it.
fn fill(site: &Site) -> Vec<String> {
    let mut text = String::from("# the first line\n####\n#\n\n");
    for n in 0..6000 {
        text.push_str(&format!("# comment {n}: joe:not:an:account\n"));
        text.push_str(&line(&format!("kept{n}"), if n % 3 == 0 { '0' } else { '2' }));
        text.push_str(&format!("{}\n", "#".repeat(60 + n % 100)));
    }
    fs::write(site.credentials(), text).unwrap();
    fs::set_permissions(site.credentials(), fs::Permissions::from_mode(0o640)).unwrap();
    site.comments()
}

#[test]
fn a_compaction_among_sign_ups_loses_nothing_in_threads_and_processes() {
    let site = Site::new("compaction");
    let comments = fill(&site);
    let mut wanted = site.accounts();
    let tenant = site.tenant();
    let (mut child, lines) = start_child(&site);
    let acknowledged: Mutex<BTreeMap<String, char>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let reports = std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in lines {
                let mut acknowledged = acknowledged.lock().unwrap();
                match line.split_once(' ') {
                    Some(("made", user)) => drop(acknowledged.insert(user.to_owned(), '1')),
                    Some(("active", user)) => drop(acknowledged.insert(user.to_owned(), '0')),
                    _ => {}
                }
            }
        });
        for thread in 0..3 {
            let (tenant, acknowledged, stop) = (&tenant, &acknowledged, &stop);
            scope.spawn(move || {
                let now = Utc::now();
                for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let user = format!("t{thread}.{n}");
                    let token = create(tenant, &user, now).unwrap();
                    acknowledged.lock().unwrap().insert(user.clone(), '1');
                    if n % 3 > 0 {
                        assert!(activate(tenant, token, now).is_some());
                        acknowledged.lock().unwrap().insert(user.clone(), '0');
                    }
                    if n % 3 > 1 {
                        assert!(set(tenant, &user, rules::remove()));
                        acknowledged.lock().unwrap().remove(&user);
                    }
                }
            });
        }
        let other = site.tenant();
        let mut reports = Vec::new();
        for _ in 0..COMPACTIONS {
            reports.extend(maintenance::compact(&other).unwrap());
            // Some accounts of the beginning go, so that old segments change as well.
            let n = reports.len();
            set(&other, &format!("kept{}", n * 3), rules::remove());
            wanted.remove(&format!("kept{}", n * 3));
        }
        stop.store(true, Ordering::Relaxed);
        child.kill().unwrap();
        child.wait().unwrap();
        reports
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    let made = acknowledged.len();
    let pause = reports.iter().map(|report| report.pause).max().unwrap();
    println!("{made} accounts beside {} files compacted, longest pause {pause:?}", reports.len());
    assert!(made > 0 && acknowledged.keys().any(|user| user.starts_with("child")));

    maintenance::compact(&tenant).unwrap();
    maintenance::compact(&tenant).unwrap();
    assert!(!site.has_dead_lines());
    assert_eq!(site.comments(), comments);
    let mut accounts = site.accounts();
    // The child was killed: its last account may be there without an acknowledgement.
    let unacknowledged = |user: &str| user.starts_with("child") && !acknowledged.contains_key(user);
    let last: Vec<_> = accounts.keys().filter(|user| unacknowledged(user)).cloned().collect();
    assert!(last.len() <= 1, "{last:?}");
    accounts.retain(|user, _| !unacknowledged(user));
    wanted.extend(acknowledged.clone());
    for (user, disabled) in &mut wanted {
        // Its activation may have come through without an acknowledgement.
        if user.starts_with("child") && accounts.get(user) == Some(&'0') {
            *disabled = '0';
        }
    }
    assert_eq!(accounts, wanted);
    site.assert_view();
}

#[test]
fn compaction_keeps_mode_and_owner_and_does_nothing_the_second_time() {
    let site = Site::new("rights");
    fill(&site);
    let tenant = site.tenant();
    let before = fs::metadata(site.credentials()).unwrap();
    let reports = maintenance::compact(&tenant).unwrap();
    let after = fs::metadata(site.credentials()).unwrap();
    assert!(reports[0].after < reports[0].before && after.len() == reports[0].after);
    assert_ne!(before.ino(), after.ino());
    let rights = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid());
    assert_eq!(rights(&before), rights(&after));
    let again = maintenance::compact(&tenant).unwrap();
    assert_eq!((again[0].before, again[0].after), (after.len(), after.len()));
    assert_eq!(fs::metadata(site.credentials()).unwrap().ino(), after.ino());
}

#[test]
fn a_compaction_that_is_killed_at_any_moment_leaves_the_accounts_right() {
    let site = Site::new("kills");
    let comments = fill(&site);
    let tenant = site.tenant();
    let mut wanted = site.accounts();
    let started = Instant::now();
    assert!(site.program("compact").stdout(Stdio::null()).status().unwrap().success());
    let whole = started.elapsed();
    let mut replaced = 0;
    for n in 0..30 {
        // Something to drop, at the beginning of the file and at its end.
        for user in [format!("kept{n}"), format!("kept{}", 5999 - n)] {
            set(&tenant, &user, rules::remove());
            wanted.remove(&user);
        }
        let inode = fs::metadata(site.credentials()).unwrap().ino();
        let mut compact = site.program("compact").stdout(Stdio::null()).spawn().unwrap();
        let user = format!("new{n}");
        let token = create(&tenant, &user, Utc::now()).unwrap();
        activate(&tenant, token, Utc::now()).unwrap();
        wanted.insert(user, '0');
        // Not a wait for anything: the moment of the kill.
        std::thread::sleep(whole.mul_f64(rand::random::<f64>() * 1.2));
        let _ = compact.kill();
        compact.wait().unwrap();
        replaced += u32::from(fs::metadata(site.credentials()).unwrap().ino() != inode);
        assert_eq!(site.accounts(), wanted, "kill {n}");
        site.assert_view();
    }
    println!("30 kills within {whole:?}; {replaced} times the file had been replaced by then");
    let report = maintenance::sweep(&tenant, Utc::now()).unwrap().unwrap();
    assert!(report.faults.is_empty() && !report.views_rebuilt);
    assert!(!site.names_in("state").iter().any(|name| name.ends_with(".compact")));
    maintenance::compact(&tenant).unwrap();
    assert_eq!((site.accounts(), site.comments()), (wanted, comments));
    assert!(!site.has_dead_lines());
}
