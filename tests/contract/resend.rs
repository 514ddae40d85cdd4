//! CONTRACT.md, "POST /resend.ashx", through nginx.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use harness::visitor::{URLENCODED, email};
use harness::{Form, Host, Mail, Reply, Setup, Visitor, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

fn resending() -> Host {
    Setup { tenant: "resend = true".into(), faketime: true, ..Setup::default() }.start()
}

/// The form of a visitor who wants the mail again.
fn form(visitor: &Visitor<'_>, user: &str, email: &str) -> Form {
    let captcha = visitor.captcha();
    let answer = captcha.answer.to_string();
    let fields = [
        ("user", user),
        ("email", email),
        ("captcha_token", &captcha.token),
        ("captcha_answer", &answer),
    ];
    Form(fields.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect())
}

fn post(visitor: &Visitor<'_>, form: &Form) -> Reply {
    visitor.ask("POST", "resend.ashx").body(URLENCODED, form.urlencoded()).send()
}

fn ask_again(host: &Host, user: &str, email: &str) {
    let visitor = host.visitor();
    let reply = post(&visitor, &form(&visitor, user, email));
    assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"));
}

/// How many wishes the program has dealt with.
fn dealt_with(host: &Host) -> usize {
    host.program_log().matches("event=resend_mail").count()
}

/// Asks for a mail and waits until the program has dealt with that; the mails that came of it.
fn mails_of(host: &Host, user: &str, email: &str) -> Vec<Mail> {
    let (seen, done) = (files(host), dealt_with(host));
    ask_again(host, user, email);
    wait_for("the work behind the answer", PATIENCE, || (dealt_with(host) > done).then_some(()));
    host.mails().into_iter().filter(|mail| !seen.contains(&mail.file)).collect()
}

fn files(host: &Host) -> HashSet<String> {
    host.mails().into_iter().map(|mail| mail.file).collect()
}

/// One mail more, and its token.
fn token_of_another(host: &Host, user: &str) -> String {
    let mails = mails_of(host, user, &email(user));
    assert_eq!(mails.len(), 1, "one mail");
    assert_eq!(mails[0].header("To"), Some(email(user).as_str()));
    mails[0].token()
}

#[test]
fn it_is_off_until_configured() {
    let host = Host::plain();
    for method in ["GET", "POST", "HEAD"] {
        assert_eq!(host.ask(method, "/resend.ashx").send().status, 404, "{method}");
    }
    let unknown = host.ask("POST", "/resend.ashx").host("other.example").send();
    assert_eq!(unknown.outcome(), "404 not_found", "an unknown path comes before the host");
}

#[test]
fn a_static_page_can_ask_whether_it_is_on() {
    let host = resending();
    let reply = host.get("/Resend.ashx");
    assert_eq!(reply.outcome(), "405 method_not_allowed");
    assert_eq!(reply.header("Allow"), Some("POST"));
    let unknown = host.ask("POST", "/resend.ashx").host("other.example").send();
    assert_eq!(unknown.outcome(), "421 unknown_host");
}

#[test]
fn the_links_of_the_last_two_mails_work_and_the_third_last_does_not() {
    for pick in [0, 1, 2] {
        let host = resending();
        let first = host.visitor().token_of("joe");
        let expires = host.attribute("joe", "expires");
        host.move_clock("+301s");
        let second = token_of_another(&host, "joe");
        host.move_clock("+602s");
        let third = token_of_another(&host, "joe");
        assert_eq!(host.attribute("joe", "expires"), expires, "`expires` stays");
        let tokens = [&first, &second, &third];
        let works = [400, 200, 200][pick];
        assert_eq!(host.visitor().activate(tokens[pick]).status, works, "link {pick}");
        let enabled = if works == 200 { "0" } else { "1" };
        assert_eq!(host.account("joe").unwrap()[3], enabled);
        for token in tokens.into_iter().filter(|_| works == 200) {
            assert_eq!(host.visitor().activate(token).status, 400, "all are used up");
        }
    }
}

#[test]
fn mails_are_five_minutes_apart_and_five_a_day_and_nobody_is_told() {
    let host = resending();
    host.visitor().signed_up("joe");
    assert_eq!(mails_of(&host, "joe", &email("joe")).len(), 0, "the sign-up's mail counts");
    for n in 1..5 {
        host.move_clock(&format!("+{}s", n * 301));
        assert_eq!(mails_of(&host, "joe", &email("joe")).len(), 1, "mail {n}");
        assert_eq!(mails_of(&host, "joe", &email("joe")).len(), 0, "too soon");
    }
    host.move_clock("+12h");
    assert_eq!(mails_of(&host, "joe", &email("joe")).len(), 0, "five a day");
    host.move_clock("+86500s");
    assert_eq!(mails_of(&host, "joe", &email("joe")).len(), 1, "the first is a day old");
}

#[test]
fn nothing_is_sent_for_what_is_not_pending_and_the_answer_is_the_same() {
    let host = resending();
    host.visitor().signed_up("joe");
    host.visitor().joined("jane");
    host.move_clock("+301s");
    for (user, address) in [
        ("joe", "stranger@people.example"),
        ("jane", email("jane").as_str()),
        ("nobody-here", email("joe").as_str()),
    ] {
        assert_eq!(mails_of(&host, user, address).len(), 0, "{user} {address}");
    }
    let upper = email("joe").to_uppercase();
    assert_eq!(mails_of(&host, "joe", &upper).len(), 1, "an address in other letters is his");
    host.move_clock("+8d");
    assert_eq!(mails_of(&host, "joe", &email("joe")).len(), 0, "expired");
}

#[test]
fn the_first_check_that_fails_answers() {
    let host = resending();
    let visitor = host.visitor();
    visitor.signed_up("joe");
    let right = || form(&visitor, "joe", &email("joe"));
    let required = "user, email, captcha_token, captcha_answer required";
    for field in ["user", "email", "captcha_token", "captcha_answer"] {
        for form in [right().without(field), right().with(field, "")] {
            let reply =
                post(&visitor, &form.with("email", if field == "email" { "" } else { "x" }));
            assert_eq!(reply.outcome(), "400 invalid_request");
            assert_eq!(reply.description(), required);
        }
    }
    for (field, value) in [("user", "Joe"), ("user", "root"), ("email", "x")] {
        let reply = post(&visitor, &right().with(field, value).with("captcha_token", "forged"));
        assert_eq!(reply.outcome(), "400 invalid_request");
        assert!(reply.description().starts_with(field));
    }
    assert_eq!(
        post(&visitor, &right().with("captcha_answer", "99")).outcome(),
        "400 captcha_failed"
    );
    let twice = post(&visitor, &right().and("user", "joe"));
    assert_eq!(twice.outcome(), "400 invalid_request");
    let large = post(&visitor, &right().and("x", "x".repeat(16_384)));
    assert_eq!(large.outcome(), "413 payload_too_large");
}

#[test]
fn the_200_spends_the_captcha() {
    let host = resending();
    let visitor = host.visitor();
    let form = form(&visitor, "joe", &email("joe"));
    assert_eq!(post(&visitor, &form).status, 200);
    for process in [0, 1] {
        let again = post(&host.visitor().at_process(process), &form);
        assert_eq!(again.outcome(), "400 captcha_failed");
    }
}

#[test]
fn a_mail_that_cannot_be_sent_leaves_the_account_as_it_was() {
    let host = resending();
    let token = host.visitor().token_of("joe");
    let before = host.credentials();
    host.move_clock("+301s");
    // Where the pickup directory was, nothing can be renamed to.
    let (pickup, aside) = (host.pickup(), host.path().join("pickup-aside"));
    fs::rename(&pickup, &aside).unwrap();
    let done = dealt_with(&host);
    ask_again(&host, "joe", &email("joe"));
    wait_for("the fault in the log", PATIENCE, || (dealt_with(&host) > done).then_some(()));
    fs::rename(&aside, &pickup).unwrap();
    assert!(host.program_log().contains("outcome=failed"));
    let live = |text: &str| {
        let mut attributes: Vec<String> = (text.lines().filter(|l| l.starts_with("joe:")))
            .flat_map(|line| line.split(['&', ':']).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        attributes.sort();
        attributes
    };
    assert_eq!(live(&host.credentials()), live(&before));
    assert_eq!(fs::read_dir(host.state("staging")).unwrap().count(), 0, "no mail is left behind");
    assert_eq!(token_of_another(&host, "joe").len(), 43, "nothing of the try counts");
    assert_eq!(host.visitor().activate(&token).status, 200);
}

#[test]
fn the_second_mail_is_in_the_language_of_the_first() {
    let host = resending();
    let visitor = host.visitor();
    let reply = visitor.post(&visitor.form("joe").and("lang", "fr"));
    assert_eq!(reply.status, 200);
    host.move_clock("+301s");
    let mails = mails_of(&host, "joe", &email("joe"));
    assert_eq!(mails[0].header("Content-Language"), Some("fr"));
}

#[test]
fn many_wishes_at_once_make_one_mail() {
    let host = resending();
    host.visitor().signed_up("joe");
    host.move_clock("+301s");
    let (seen, done) = (files(&host), dealt_with(&host));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| ask_again(&host, "joe", &email("joe")));
        }
    });
    wait_for("all wishes", PATIENCE, || (dealt_with(&host) >= done + 8).then_some(()));
    assert_eq!(files(&host).len(), seen.len() + 1);
}

/// A process that dies between the line and the mail leaves a mail that the sweep sends.
#[test]
fn what_a_killed_process_leaves_of_a_resend_is_finished_by_the_sweep() {
    use std::sync::Arc;

    use codeb_signup::account::Username;
    use codeb_signup::disk::{Disk, RealDisk};
    use codeb_signup::secret::Token;
    use codeb_signup::service::Service;
    use codeb_signup::store::accounts::{Key, Standing, Updated};
    use codeb_signup::store::rules::{self, AskedBy};

    let host = resending();
    let first = host.visitor().token_of("joe");
    let seen = files(&host);
    let config = codeb_signup::config::load(&host.config()).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let tenant = &Service::new(&config, &disk).unwrap().tenancies()[0].open().unwrap();
    let (user, by, now) = (Username::parse("joe").unwrap(), AskedBy::Operator, chrono::Utc::now());
    let Standing::Is(pending) = tenant.accounts.get(&user).unwrap() else { panic!("no joe") };
    // One that died before the line, one that died after it.
    let [unpromised, promised] = [0; 2].map(|_| Token::random().unwrap());
    let stage = |token: &Token| {
        let (to, until) = (pending.email().unwrap(), pending.expires().unwrap());
        let mail = tenant.composer.activation(&to, &user, token, until, "en").unwrap();
        tenant.outbox.stage(&mail, token.id()).unwrap()
    };
    stage(&unpromised).leave();
    let staged = stage(&promised);
    let decide = rules::mail_again(by, promised.id(), now);
    let updated = tenant.accounts.update(Key::User(user.clone()), decide).unwrap();
    assert!(matches!(updated, Updated::Put(_)), "a new token");
    staged.leave();
    // As long as a process is at the sweep of its start, this one has nothing to say.
    wait_for("a sweep that finds both mails", PATIENCE, || {
        let mut sweep = std::process::Command::new(&*harness::PROGRAM);
        let swept = sweep.args(["sweep", "--config"]).arg(host.config()).status();
        assert!(swept.unwrap().success());
        (fs::read_dir(host.state("staging")).unwrap().count() == 0).then_some(())
    });
    let mails: Vec<Mail> =
        host.mails().into_iter().filter(|mail| !seen.contains(&mail.file)).collect();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].token(), promised.reveal());
    assert_eq!(host.visitor().activate(&unpromised.reveal()).status, 400);
    assert_eq!(host.visitor().activate(&first).status, 200);
}
