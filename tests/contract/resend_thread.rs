//! The mail that was asked for again is made in another thread than those that answer.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::direct::{Start, Wire};
use harness::host::REALM;
use harness::visitor::{URLENCODED, email};
use harness::{Captcha, Form, Host, Setup, Visitor, Way, wait_for};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// The line of a pending account whose last mail is long ago.
fn pending(user: &str) -> String {
    format!(
        "{user}:{REALM}:{ha1}:1:guest:email={email}&expires=2100-01-01T00:00:00Z&activation={id}\n",
        ha1 = "0".repeat(32),
        email = email(user).replace('@', "%40"),
        id = "0".repeat(64),
    )
}

/// Makes the file of accounts, its owner the state directory's.
fn write_accounts(state: &Path, lines: &str) {
    let file = state.join("credentials");
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(state).unwrap();
    std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// A host of as few workers as there can be, two, with the pending account joe.
fn host(way: Way) -> Host {
    Setup {
        way,
        processes: 1,
        top: "workers = 2\nlock_wait = \"30s\"".into(),
        tenant: "resend = true".into(),
        prepare: |dir| write_accounts(&dir.join("state"), &pending("joe")),
        ..Setup::default()
    }
    .start()
}

/// The form of a visitor who wants the mail again.
fn form(user: &str, captcha: &Captcha) -> Form {
    let answer = captcha.answer.to_string();
    let fields = [
        ("user", user),
        ("email", &email(user)),
        ("captcha_token", &captcha.token),
        ("captcha_answer", &answer),
    ];
    Form(fields.iter().map(|(name, v)| ((*name).to_owned(), v.as_bytes().to_vec())).collect())
}

fn ask_again(visitor: &Visitor<'_>, user: &str) {
    let form = form(user, &visitor.captcha());
    let reply = visitor.ask("POST", "resend.ashx").body(URLENCODED, form.urlencoded()).send();
    assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"));
}

/// Holds the lock on the accounts, which a mail has to wait for, as another process would.
fn hold_up(host: &Host) -> File {
    // Whatever the first request makes is there then.
    host.visitor().signed_up("first");
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

fn has_mail(host: &Host) -> bool {
    host.mails().iter().any(|mail| mail.header("To") == Some(&email("joe")))
}

/// The answers are whole, and others are answered, while as many mails wait as there are workers.
fn others_are_answered(way: Way) {
    let host = host(way);
    let lock = hold_up(&host);
    (0..2).for_each(|_| ask_again(&host.visitor(), "joe"));
    host.visitor().captcha();
    assert!(!has_mail(&host), "{way:?}: it waits");
    drop(lock);
    wait_for("the mail", PATIENCE, || {
        // It kills a program three seconds after the answer; then the visitor asks once more.
        if way.is_apache() {
            ask_again(&host.visitor(), "joe");
        }
        has_mail(&host).then_some(())
    });
}

#[test]
fn the_own_gateway_answers_others_while_a_mail_waits() {
    others_are_answered(Way::Own);
}

#[test]
fn the_published_crate_answers_others_while_a_mail_waits() {
    others_are_answered(Way::FastcgiCrate);
}

/// The program lets go of its standard output, whose end the web server waits for.
#[test]
fn cgi_under_lighttpd_answers_while_the_mail_waits() {
    others_are_answered(Way::LighttpdCgi);
}

#[test]
fn cgi_under_apache_answers_while_the_mail_waits() {
    others_are_answered(Way::ApacheCgi);
}

/// Which waits for the end of standard error, too.
#[test]
fn cgi_under_apache_without_its_daemon_answers_while_the_mail_waits() {
    others_are_answered(Way::ApacheModCgi);
}

#[test]
fn a_stop_waits_for_the_mails_that_were_asked_for() {
    for way in [Way::Own, Way::FastcgiCrate] {
        let mut host = host(way);
        let lock = hold_up(&host);
        ask_again(&host.visitor(), "joe");
        host.responders[0].signal(Signal::SIGTERM);
        let socket = host.socket(0);
        wait_for("the stop to begin", PATIENCE, || (!socket.exists()).then_some(()));
        drop(lock);
        assert!(host.responders[0].wait(PATIENCE).success());
        assert!(has_mail(&host), "{way:?}");
    }
}

#[test]
fn mails_for_which_there_is_no_room_are_dropped_with_a_line_in_the_log() {
    let host = host(Way::Own);
    let lock = hold_up(&host);
    let visitor = host.visitor();
    let line = |log: &str| log.lines().find(|l| l.contains("outcome=dropped")).map(str::to_owned);
    // One is under way and a thousand wait, each for as long as it takes.
    let line = (0..2000).find_map(|_| {
        ask_again(&visitor, "joe");
        line(&host.program_log())
    });
    let line = line.expect("a line in the log");
    assert!(line.contains(" event=resend_mail "), "{line}");
    assert!(line.ends_with(" user=joe outcome=dropped reason=\"1000 wait already\""), "{line}");
    drop(lock);
}

/// How long the answer takes, and the request that follows at once on another connection, where there
/// is such a pair and where there is none, in turns. It is for a person to read.
#[test]
#[ignore = "tests/all.sh"]
fn the_times_of_answers() {
    const TRIES: usize = 200;
    let mut host = Start { tenant: "resend = true".into(), ..Start::default() }.lay_out();
    let accounts: String = (0..TRIES).map(|n| pending(&format!("joe{n}"))).collect();
    write_accounts(&host.volume().join("state"), &accounts);
    host.start();
    let mut wires = [0; 2].map(|_| Wire::open(&host.path("sock")).unwrap());
    let kinds = ["a pair", "no pair"];
    let mut times = [const { [const { Vec::<Duration>::new() }; 2] }; 2];
    for n in 0..2 * TRIES {
        let kind = (n + n / 2) % 2;
        let user = format!("{}{}", ["joe", "nobody"][kind], n / 2);
        let form = form(&user, &host.captcha()).urlencoded();
        let started = Instant::now();
        assert_eq!(wires[0].ask("10.9.9.9", "POST", "/resend.ashx", &form).status, 200);
        let answered = Instant::now();
        assert_eq!(wires[1].ask("10.9.9.9", "GET", "/captcha.ashx", b"").status, 200);
        times[kind][0].push(answered - started);
        times[kind][1].push(answered.elapsed());
        // Else the work of one would meet the next ones.
        let done = || host.log().matches("event=resend_mail").count() == n + 1;
        wait_for("the work", PATIENCE, || done().then_some(()));
    }
    assert_eq!(host.mails().len(), TRIES, "each pair got its mail");
    for (at, what) in ["the answer", "the next request"].into_iter().enumerate() {
        let medians = [0, 1].map(|kind| {
            let times = &mut times[kind][at];
            times.sort();
            let [least, median, most] = [0, TRIES / 2, TRIES - 1].map(|n| times[n]);
            println!("{what}, {}: {least:?} / {median:?} / {most:?}", kinds[kind]);
            median.as_secs_f64()
        });
        println!("{what}: ratio of the medians {:.2}", medians[0] / medians[1]);
    }
    drop(wires);
    host.stop();
}
