//! Sign-ups in a file of 100 MB of comments and dead lines. Figures are printed, none is asserted.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use chrono::Utc;
use codeb_signup::maintenance;

use super::site::{Site, create, line};

const SIGN_UPS: u32 = 200;

/// Writes `megabytes` of comments, as many of dead lines, and a thousand accounts among them.
fn fill(site: &Site, megabytes: usize) {
    let mut file = BufWriter::new(File::create(site.credentials()).unwrap());
    let comment = format!("# {}\n", "an operator's note ".repeat(13));
    let dead = format!("{}\n", "#".repeat(comment.len() - 1));
    let pairs = megabytes * 1_000_000 / comment.len();
    for n in 0..pairs {
        file.write_all(comment.as_bytes()).unwrap();
        file.write_all(dead.as_bytes()).unwrap();
        if n % (pairs / 1000).max(1) == 0 {
            file.write_all(line(&format!("old{n}"), '0').as_bytes()).unwrap();
        }
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

/// Sign-ups in turn: the middle one's time and the longest.
fn sign_ups(site: &Site, prefix: &str) -> (Duration, Duration) {
    let tenant = site.tenant();
    let mut times: Vec<Duration> = (0..SIGN_UPS)
        .map(|n| {
            let started = Instant::now();
            create(&tenant, &format!("{prefix}{n}"), Utc::now()).unwrap();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
fn dead_space_does_not_slow_sign_ups_and_compaction_brings_the_size_back() {
    let site = Site::new("speed");
    println!("empty file: {:?} (median, longest)", sign_ups(&site, "a"));
    fill(&site, 50);
    let started = Instant::now();
    let tenant = site.tenant();
    println!("100 MB read at start in {:?}", started.elapsed());
    println!("100 MB file: {:?}", sign_ups(&site, "b"));
    let accounts = site.accounts();
    let comments = site.comments().len();
    let started = Instant::now();
    let reports = maintenance::compact(&tenant).unwrap();
    println!("compacted in {:?}: {:?}", started.elapsed(), reports[0]);
    assert!(reports[0].before > 100_000_000 && reports[0].after < 51_000_000);
    println!("compacted file: {:?}", sign_ups(&site, "c"));
    println!("another empty file: {:?}", sign_ups(&Site::new("speed-again"), "d"));
    assert_eq!(site.comments().len(), comments);
    assert_eq!(site.accounts().len(), accounts.len() + SIGN_UPS as usize);
    site.assert_view();
}
