//! One tenant's hung disk or held lock beside another tenant that is served as ever. Needs root, for a
//! disk that hangs; a test says so by name where it cannot run.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use codeb_signup::disk::{LockFile, RealDisk};
use codeb_signup::secret::Token;
use harness::frozen::HangingDisk;
use harness::pair::{A, B, Pair};
use harness::{Reply, fcgi, wait_for};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The configured wait for a turn and for a lock.
const LOCK_WAIT: Duration = Duration::from_secs(4);
/// What is promised beside a tenant whose requests hold all that they may.
const PROMISED: Duration = Duration::from_secs(5);
/// How many hang.
const MANY: usize = 200;
/// Longer than a disk hangs here.
const PATIENCE: Duration = Duration::from_secs(120);

fn start(gateway: &str, home_of_a: Option<&Path>) -> Pair {
    let top = format!("lock_wait = \"{}s\"\ngateway = \"{gateway}\"", LOCK_WAIT.as_secs());
    let mut pair = Pair::lay_out(&top, home_of_a);
    pair.start();
    pair
}

/// A request under way.
struct Hanging {
    user: String,
    stream: UnixStream,
}

impl Hanging {
    /// Whether its answer comes within this time.
    fn is_answered_within(&self, time: Duration) -> bool {
        let mut watched = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        let millis = u16::try_from(time.as_millis()).unwrap();
        poll(&mut watched, PollTimeout::from(millis)).unwrap() > 0
    }

    fn answer(mut self) -> (String, Reply) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (self.user, fcgi::answer(&mut self.stream))
    }
}

/// Sends requests without waiting for their answers.
fn send(pair: &Pair, requests: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<Hanging> {
    let send = |(user, request): (String, Vec<u8>)| {
        let mut stream = UnixStream::connect(pair.path("sock")).unwrap();
        stream.write_all(&request).unwrap();
        Hanging { user, stream }
    };
    requests.into_iter().map(send).collect()
}

fn sign_ups(pair: &Pair, prefix: &str, count: usize) -> Vec<(String, Vec<u8>)> {
    let request = |n| {
        let user = format!("{prefix}{n}");
        let form = pair.form(A, &user).urlencoded();
        (user, pair.request(A, "POST", "/signup.ashx", "", &form))
    };
    (0..count).map(request).collect()
}

/// What no names began with so far.
fn new_prefix() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("more{}.", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn unknown_links(pair: &Pair, count: usize) -> Vec<(String, Vec<u8>)> {
    let request = |_| {
        let query = format!("token={}", Token::random().unwrap().reveal().as_str());
        (String::new(), pair.request(A, "GET", "/activate.ashx", &query, b""))
    };
    (0..count).map(request).collect()
}

/// How many requests were refused for want of a place.
fn refused(pair: &Pair) -> usize {
    pair.log().matches("cannot get a worker").count()
}

/// Waits until A's requests hold all the places that they may, and go on holding them: that is so when
/// every one of the newcomers is refused.
fn saturate(pair: &Pair, more: impl Fn() -> Vec<(String, Vec<u8>)>) -> Vec<Hanging> {
    let mut all = Vec::new();
    wait_for("a tenant that holds its share", PATIENCE, || {
        let before = refused(pair);
        let newcomers = send(pair, more());
        let sent = Instant::now();
        let in_time = |newcomer: &Hanging| {
            newcomer.is_answered_within(PROMISED.saturating_sub(sent.elapsed()))
        };
        let count = newcomers.iter().filter(|newcomer| in_time(newcomer)).count();
        let is_full = count == newcomers.len() && refused(pair) - before >= count;
        all.extend(newcomers);
        is_full.then_some(())
    });
    all
}

/// B is served as ever, and A's captchas are: none of them waits for anything that A waits for.
fn served_beside(pair: &Pair, name: &str) {
    let mut longest = Duration::ZERO;
    let mut timed = |ask: &dyn Fn() -> Reply| {
        let started = Instant::now();
        let reply = ask();
        longest = longest.max(started.elapsed());
        reply
    };
    assert_eq!(timed(&|| pair.captcha(B)).status, 200);
    let form = pair.form(B, name).urlencoded();
    let signed_up = timed(&|| pair.ask(B, "POST", "/signup.ashx", "", &form));
    assert_eq!(signed_up.outcome(), "200 -");
    let token = pair.mails_to(B, name)[0].token();
    assert_eq!(timed(&|| pair.activate(B, &token)).status, 200);
    assert_eq!(timed(&|| pair.captcha(A)).status, 200);
    println!("| {name} | b: captcha, sign-up, activation; a: captcha | at most {longest:?} |");
    assert!(longest < LOCK_WAIT, "{name}: {longest:?}");
}

/// A's next sign-up is refused in the time that is promised; its form.
fn next_is_refused(pair: &Pair, user: &str) -> Vec<u8> {
    let form = pair.form(A, user).urlencoded();
    let request = pair.request(A, "POST", "/signup.ashx", "", &form);
    let started = Instant::now();
    let sent = send(pair, [(user.to_owned(), request)]).remove(0);
    assert!(sent.is_answered_within(PROMISED), "{user}: it goes on waiting");
    println!("| {user} | a: the next sign-up | 500 after {:?} |", started.elapsed());
    assert_eq!(sent.answer().1.outcome(), "500 server_error");
    form
}

/// Every account whose sign-up was answered 200 is there, and every account is whole: one line and
/// one mail. What a hung disk left half, one sweep decides on.
fn nothing_is_half_or_lost(pair: &Pair, answers: Vec<(String, Reply)>) {
    assert!(pair.command(&["sweep"]).output().unwrap().status.success());
    let (mut made, mut left) = (0, 0);
    for (user, reply) in answers {
        let (lines, mails) = (pair.lines_of(A, &user), pair.mails_to(A, &user).len());
        match reply.outcome().as_str() {
            "200 -" => assert_eq!((lines, mails), (1, 1), "{user} was promised"),
            "500 server_error" => assert_eq!(lines, mails, "{user} is half"),
            other => panic!("{user}: {other}"),
        }
        made += usize::from(reply.status == 200);
        left += usize::from(reply.status != 200 && lines == 1);
    }
    assert_eq!(fs::read_dir(pair.state(A, "staging")).unwrap().count(), 0);
    println!("| after that | {made} made, and {left} though refused, all whole |");
}

#[ignore = "tests/all.sh"]
#[test]
fn sign_ups_on_a_hung_disk_harm_no_other_tenant_and_no_captcha() {
    let Some(disk) = HangingDisk::mount("sign_ups_on_a_hung_disk") else { return };
    let mut pair = start("own", Some(&disk.path()));
    assert_eq!(pair.sign_up(A, "early").status, 200);
    let requests = sign_ups(&pair, "hung", MANY);
    let frozen = disk.freeze();
    let mut hanging = send(&pair, requests);
    served_beside(&pair, "sign-ups-hang");
    hanging.extend(saturate(&pair, || sign_ups(&pair, &new_prefix(), 8)));
    served_beside(&pair, "sign-ups-go-on-hanging");
    let form = next_is_refused(&pair, "late");
    frozen.thaw();
    let answers: Vec<_> = hanging.into_iter().map(Hanging::answer).collect();
    assert!(answers.iter().any(|(_, reply)| reply.status == 500));
    nothing_is_half_or_lost(&pair, answers);
    // The very form that was refused works now.
    assert_eq!(pair.ask(A, "POST", "/signup.ashx", "", &form).outcome(), "200 -");
    pair.stop();
}

#[ignore = "tests/all.sh"]
#[test]
fn unknown_links_after_an_edit_on_a_hung_disk_harm_no_other_tenant_and_no_captcha() {
    let Some(disk) = HangingDisk::mount("unknown_links_on_a_hung_disk") else { return };
    let mut pair = start("own", Some(&disk.path()));
    assert_eq!(pair.sign_up(A, "early").status, 200);
    let frozen = disk.freeze();
    let (credentials, edited) = (pair.state(A, "credentials"), pair.state(A, "edited"));
    fs::copy(&credentials, &edited).unwrap();
    fs::rename(&edited, &credentials).unwrap();
    let mut hanging = send(&pair, unknown_links(&pair, MANY));
    served_beside(&pair, "links-hang");
    hanging.extend(saturate(&pair, || unknown_links(&pair, 8)));
    served_beside(&pair, "links-go-on-hanging");
    let form = next_is_refused(&pair, "late");
    frozen.thaw();
    for (_, reply) in hanging.into_iter().map(Hanging::answer) {
        assert!([400, 500].contains(&reply.status), "{}", reply.status);
        assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"));
    }
    assert_eq!(pair.lines_of(A, "early"), 1);
    assert_eq!(pair.ask(A, "POST", "/signup.ashx", "", &form).outcome(), "200 -");
    pair.stop();
}

#[test]
fn a_held_lock_harms_no_other_tenant_and_no_captcha() {
    for gateway in ["own", "fastcgi-crate"] {
        let mut pair = start(gateway, None);
        assert_eq!(pair.sign_up(A, "early").status, 200);
        let requests = sign_ups(&pair, "held", MANY);
        let path = pair.state(A, "credentials.lock");
        let lock = LockFile::new(&path, 0o600).lock(&RealDisk).unwrap();
        let hanging = send(&pair, requests);
        served_beside(&pair, &format!("a-lock-is-held.{gateway}"));
        let form = next_is_refused(&pair, "late");
        drop(lock);
        let answers: Vec<_> = hanging.into_iter().map(Hanging::answer).collect();
        assert!(answers.iter().any(|(_, reply)| reply.status == 500));
        nothing_is_half_or_lost(&pair, answers);
        assert_eq!(pair.ask(A, "POST", "/signup.ashx", "", &form).outcome(), "200 -");
        pair.stop();
    }
}
