//! CONTRACT.md, "Common to all endpoints": the form of JSON and HTML answers, what leaks nowhere,
//! and what the shipped nginx configuration answers by itself.

use std::fs;

use harness::process::Process;
use harness::visitor::{URLENCODED, email, ha1, password};
use harness::{Form, Host, Reply, Setup};

fn assert_json(reply: &Reply, what: &str) {
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"), "{what}");
    assert_eq!(reply.header("Cache-Control"), Some("no-store"), "{what}");
    assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"), "{what}");
}

fn assert_error(reply: &Reply, what: &str) {
    assert_json(reply, what);
    let json = reply.json();
    let members: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(members, ["error", "error_description"], "{what}");
    let description = json["error_description"].as_str().unwrap();
    assert!(!description.is_empty() && !description.contains('\n'), "{what}: one sentence");
}

#[test]
fn every_json_answer_has_its_headers_and_every_error_its_two_members() {
    let host = Host::plain();
    let visitor = host.visitor();
    assert_json(&host.get("/captcha.ashx"), "captcha");
    assert_json(&visitor.sign_up("joe"), "sign-up");
    let refusals = [
        ("405", host.get("/signup.ashx")),
        ("413", host.ask("POST", "/signup.ashx").body(URLENCODED, "x".repeat(16_385)).send()),
        ("400", host.ask("POST", "/signup.ashx").body(URLENCODED, "").send()),
        ("captcha", visitor.post(&visitor.form("jim").with("captcha_answer", "no"))),
        ("409", visitor.sign_up("joe")),
        ("404", host.get("/nope.ashx")),
        ("421", host.ask("GET", "/captcha.ashx").host("x.example").send()),
    ];
    for (what, reply) in &refusals {
        assert_error(reply, what);
    }
    for user in ["b", "c"] {
        visitor.signed_up(user);
    }
    assert_error(&visitor.sign_up("d"), "429");
    fs::rename(host.pickup(), host.path().join("away")).unwrap();
    assert_error(&host.visitor().sign_up("e"), "500");
}

#[test]
fn every_html_answer_has_its_headers() {
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    let good = host.get(&format!("/activate.ashx?token={token}"));
    let bad = host.get("/activate.ashx?token=no");
    assert_eq!((good.status, bad.status), (200, 400));
    for reply in [&good, &bad] {
        assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(reply.header("Referrer-Policy"), Some("no-referrer"));
        let policy = reply.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("default-src") && !policy.contains("unsafe-inline"), "{policy}");
    }
}

#[test]
fn values_from_outside_are_escaped_in_pages() {
    let tenant = "login_page = \"/in.html?a=1&b='x'\"".into();
    let host = Setup { tenant, ..Setup::default() }.start();
    let hostile = "%3Cscript%3Ealert(1)%3C/script%3E%22'";
    let reply = host.get(&format!("/activate.ashx?token={hostile}"));
    assert_eq!(reply.status, 400);
    assert!(!reply.lossy().contains("alert(1)") && !reply.lossy().contains("%3C"));
    let visitor = host.visitor();
    let form = visitor.form("joe").with("name", "<b>Jo & \"Co\"</b>");
    assert_eq!(visitor.post(&form).outcome(), "200 -");
    let page = visitor.activate(&host.mail_to(&email("joe")).token());
    assert_eq!(page.status, 200);
    let page = page.lossy();
    assert!(!page.contains("<b>Jo"), "a display name makes no markup");
    assert!(!page.contains("&b='x'") && !page.contains("a=1&b"), "{page}");
}

/// Answers name no file of ours and no address; logs no secret and no address.
#[test]
fn nothing_secret_reaches_a_log_and_nothing_internal_an_answer() {
    let host = Host::plain();
    let visitor = host.visitor();
    let mut answers = String::new();
    let token = visitor.token_of("joe");
    answers += &visitor.sign_up("joe").lossy();
    let captcha = visitor.captcha();
    let spent = Form::of("jane", &captcha);
    answers += &visitor.post(&spent.clone().with("captcha_answer", "x")).lossy();
    answers += &visitor.activate(&token).lossy();
    answers += &visitor.activate(&token).lossy();
    let second = host.visitor().token_of("jane");
    // The program is away: nginx answers, and may not log the query either.
    let mut host = host;
    for process in &mut host.responders {
        process.crash();
    }
    assert_eq!(host.get(&format!("/activate.ashx?token={second}")).status, 502);
    host.responders.clear();
    for number in 0..host.setup.processes {
        let process: Process = host.start_responder(number);
        host.responders.push(process);
    }
    host.wait_until_responders_listen();
    fs::rename(host.pickup(), host.path().join("away")).unwrap();
    let visitor = host.visitor();
    let fault = visitor.sign_up("june");
    assert_eq!(fault.outcome(), "500 server_error");
    answers += &fault.lossy();
    fs::rename(host.path().join("away"), host.pickup()).unwrap();

    let directory = host.path().to_string_lossy().into_owned();
    for internal in [directory.as_str(), "pickup", "staging", "os error", "src/", "credentials"] {
        assert!(!answers.contains(internal), "an answer names {internal}");
    }
    let logs = host.logs();
    assert!(logs.contains("june"), "the logs that were searched are those of the program");
    let key = fs::read_to_string(host.state("spool/captcha.key")).unwrap();
    let digest = |user: &str| ha1(user, harness::host::REALM, &password(user));
    let secrets = [token, second, captcha.token, digest("joe"), digest("june")];
    for secret in secrets.iter().map(String::as_str).chain(key.split_whitespace()) {
        if secret.len() >= 20 {
            assert!(!logs.contains(secret), "a secret stands in a log");
        }
    }
    assert!(!logs.contains("people.example"), "a mail address stands in a log");
    assert!(!logs.contains("token="), "the query of an activation stands in a log");
}

#[test]
fn nginx_refuses_in_json_too() {
    let mut host = Host::plain();
    let large = host.ask("POST", "/signup.ashx").body(URLENCODED, "x".repeat(70_000)).send();
    assert_error(&large, "nginx's 413");
    assert_eq!(large.outcome(), "413 payload_too_large");
    for process in &mut host.responders {
        process.crash();
    }
    for target in ["/captcha.ashx", "/signup.ashx", "/activate.ashx/"] {
        let away = host.get(target);
        assert_error(&away, target);
        assert_eq!(away.outcome(), "502 server_error", "{target}");
    }
    host.responders.clear();
}

/// The shipped `limits.conf` in front of the captcha.
#[test]
fn nginx_limits_captchas_in_json() {
    let limits = harness::repository("nginx/limits.conf");
    let nginx_http = format!("include {};", limits.display());
    let host = Setup { nginx_http, ..Setup::default() }.start();
    let visitor = host.visitor();
    let ask = visitor.ask("GET", "captcha.ashx");
    let mut replies = (0..400).map(|_| ask.send());
    assert!(replies.by_ref().take(100).all(|reply| reply.status == 200), "a burst of 100 passes");
    let refused = replies.find(|reply| reply.status != 200).expect("a refusal");
    assert_error(&refused, "nginx's 429");
    assert_eq!(refused.outcome(), "429 rate_limited");
    assert_eq!(host.get("/captcha.ashx").status, 200, "another address is served");
}

/// A program that accepts and never answers: nginx gives up after the shipped `fastcgi_read_timeout`,
/// cut short here by a location that includes the shipped answers of `signup.conf`.
#[test]
fn nginx_answers_a_hanging_program_in_json() {
    let host = Setup {
        nginx_server: "location = /slow/captcha.ashx { fastcgi_pass codeb_signup;\n\
             fastcgi_read_timeout 500ms; fastcgi_param REQUEST_METHOD GET;\n\
             error_page 504 \"/codeb-signup-refused/json?error=server_error&why=It hangs.\"; }\n"
            .into(),
        processes: 1,
        ..Setup::default()
    }
    .start();
    let shipped = fs::read_to_string(harness::repository("nginx/signup.conf")).unwrap();
    let answers_504 =
        |line: &&str| line.trim_start().starts_with("error_page") && line.contains(" 504 ");
    assert!(shipped.lines().filter(answers_504).count() >= 2, "each location answers a 504");
    host.responders[0].freeze();
    let reply = host.get("/slow/captcha.ashx");
    host.responders[0].signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(reply.outcome(), "504 server_error");
    assert_error(&reply, "504");
}
