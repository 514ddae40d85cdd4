//! Floods and slow peers: whoever else asks is served, and nothing grows.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codeb_signup::disk::RealDisk;
use codeb_signup::store::captcha::Captcha;
use harness::direct::{Start, Wire, params};
use harness::{TempDir, hold_still};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Slow connections at once, where the limit on descriptors lets us.
const SLOW: usize = 5_000;

/// Thousands of peers that send a byte a second: the others are served as if they were not there.
#[test]
fn five_thousand_slow_peers_keep_nobody_else_from_being_served() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap();
    let slow = SLOW.min((hard as usize).saturating_sub(500) / 2);
    let mut host = Start::default().run();
    let body = host.form("slow").urlencoded();
    let request =
        harness::fcgi::request(&params("10.99.0.1", "POST", "/signup.ashx", "", &body), &body);
    let mut peers: Vec<Wire> =
        (0..slow).map(|_| Wire::open(&host.path("sock")).expect("a slow peer")).collect();
    for (second, byte) in request.iter().take(4).enumerate() {
        let started = Instant::now();
        for peer in &mut peers {
            peer.write(&[*byte]).expect("a slow peer is not hung up on yet");
        }
        let user = format!("u{second}");
        assert_eq!(host.sign_up(&user).status, 200, "somebody else");
        for _ in 0..20 {
            host.captcha();
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(started.elapsed()));
    }
    // Those who send the rest at once are served too.
    for peer in peers.iter_mut().take(3) {
        peer.write(&request[4..]).unwrap();
    }
    let outcomes: Vec<String> =
        peers.iter_mut().take(3).map(|peer| peer.answer().outcome()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "200 -").count(), 1, "{outcomes:?}");
    println!("{slow} slow peers, everybody else was served");
    drop(peers);
    host.stop();
}

/// Name, length, blocks and time of change of everything below a directory.
fn inventory(dir: &Path) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(inventory(&path));
        }
        let times = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(path, (metadata.len(), metadata.blocks(), times.0, times.1));
    }
    found
}

#[test]
fn a_flood_of_captchas_writes_nothing() {
    let mut host = Start::default().run();
    assert_eq!(host.sign_up("joe").status, 200);
    let _still = hold_still(&host.state(""));
    let volume = host.volume();
    let before = (inventory(&volume.join("state")), inventory(&volume.join("pickup")), host.log());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let socket = host.path("sock");
            scope.spawn(move || {
                let mut wire = Wire::open(&socket).unwrap();
                for n in 0..2_500 {
                    let client = format!("10.{thread}.{}.{}", n / 250, n % 250);
                    assert_eq!(wire.ask(&client, "GET", "/captcha.ashx", b"").status, 200);
                }
            });
        }
    });
    let after = (inventory(&volume.join("state")), inventory(&volume.join("pickup")), host.log());
    assert_eq!(before, after, "10,000 captchas changed something on disk");
    host.stop();
}

/// Wrong answers, forged tokens and broken forms take no place and make no file grow without bound.
#[test]
fn a_flood_of_refusals_leaves_the_form_usable() {
    let mut host = Start::default().run();
    let _still = hold_still(&host.state(""));
    let good = host.form("joe");
    let spool = |name: &str| fs::metadata(host.state(name)).map_or(0, |m| m.blocks() * 512);
    let (client, rate) = (host.client(), spool("spool/rate"));
    let mut wire = Wire::open(&host.path("sock")).unwrap();
    for n in 0..500 {
        let form = match n % 3 {
            0 => host.form("eve").with("captcha_answer", "99"),
            1 => {
                good.clone().with("captcha_token", format!("{}.{}", "A".repeat(24), "B".repeat(32)))
            }
            _ => good.clone().with("email", "nobody"),
        };
        let reply = wire.ask(&client, "POST", "/signup.ashx", &form.urlencoded());
        assert_eq!(reply.status, 400);
    }
    assert!(spool("spool/captcha.spent") < 2 << 20, "a page for each presentation at most");
    assert_eq!(spool("spool/rate"), rate, "no refusal took a place");
    let reply = wire.ask(&client, "POST", "/signup.ashx", &good.urlencoded());
    assert_eq!(reply.outcome(), "200 -");
    drop(wire);
    host.stop();
}

/// What can be tested of "the token does not tell the answer": no bit of it goes with the answer.
#[test]
fn no_bit_of_a_token_goes_with_its_answer() {
    const TOKENS: usize = 20_000;
    /// Far beyond what chance gives among 336 bits (about 3.2 standard deviations).
    const LIMIT: f64 = 6.0;
    let dir = TempDir::new();
    let wait = Duration::from_secs(900);
    let captcha = Captcha::new(Arc::new(RealDisk), dir.path(), wait, wait);
    let mut ones = [[0_u32; 42 * 8]; 2];
    let mut drawn = [0_u32; 2];
    let mut answers = [0_u32; 19];
    for _ in 0..TOKENS {
        // One time for all, so that a clock's bits do not count.
        let issued = captcha.issue(1_700_000_000_000).unwrap();
        let answer: usize = issued.question.split(" + ").map(|n| n.parse::<usize>().unwrap()).sum();
        answers[answer] += 1;
        let class = usize::from(answer > 9);
        drawn[class] += 1;
        let bytes: Vec<u8> = issued
            .token
            .split('.')
            .flat_map(|part| data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap())
            .collect();
        assert_eq!(bytes.len(), 42);
        for (bit, count) in ones[class].iter_mut().enumerate() {
            *count += u32::from(bytes[bit / 8] >> (bit % 8) & 1);
        }
    }
    assert!(answers[2..].iter().all(|n| *n > 50), "every sum is asked for: {answers:?}");
    let mut worst = 0.0_f64;
    for (low, high) in ones[0].iter().zip(&ones[1]).map(|(l, h)| (f64::from(*l), f64::from(*h))) {
        let all = (low + high) / TOKENS as f64;
        let variance = all * (1.0 - all) * drawn.map(|n| 1.0 / f64::from(n)).iter().sum::<f64>();
        // A bit that is always the same has no variance, and tells nothing.
        if variance > 0.0 {
            let apart = low / f64::from(drawn[0]) - high / f64::from(drawn[1]);
            worst = worst.max(apart.abs() / variance.sqrt());
        }
    }
    assert!(worst < LIMIT, "a bit goes with the answer: {worst} standard deviations");
    println!("{TOKENS} tokens: the most telling bit is {worst:.1} standard deviations off");
}
