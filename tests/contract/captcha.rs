//! CONTRACT.md, "GET /captcha.ashx", through nginx.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use harness::host::REALM;
use harness::{Captcha, Form, Host, Setup};

/// Most tests here make more accounts than one address may.
fn generous() -> Setup {
    Setup { tenant: "signups_per_hour = 1000".into(), ..Setup::default() }
}

#[test]
fn it_answers_a_question_a_token_and_the_realm() {
    let host = Host::plain();
    for _ in 0..20 {
        let reply = host.get("/captcha.ashx");
        assert_eq!(reply.status, 200);
        let json = reply.json();
        let members: HashSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, HashSet::from(["question", "token", "realm"]));
        assert_eq!(json["realm"], REALM);
        let question = json["question"].as_str().unwrap();
        let (a, b) = question.split_once(" + ").expect("an addition");
        for number in [a, b] {
            let value: u32 = number.parse().expect("a small integer");
            assert!(value < 100 && number == value.to_string(), "{question}");
        }
        let token = json["token"].as_str().unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 2, "two parts with a dot between");
        for part in parts {
            let decoded = BASE64URL_NOPAD.decode(part.as_bytes()).expect("unpadded base64url");
            assert!(!decoded.is_empty());
        }
    }
}

#[test]
fn head_answers_as_get_without_a_body() {
    let host = Host::plain();
    let get = host.get("/captcha.ashx");
    let head = host.ask("HEAD", "/captcha.ashx").send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["Content-Type", "Cache-Control", "X-Content-Type-Options"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

/// That no offline trial of all answers succeeds cannot be seen from outside; what can be seen is
/// that no part of a token is readable, and that equal answers look different.
#[test]
fn the_token_does_not_show_the_answer() {
    let host = Host::plain();
    let mut seen = HashSet::new();
    for _ in 0..60 {
        let reply = host.get("/captcha.ashx");
        let captcha = Captcha::solve(&reply);
        assert!(seen.insert(captcha.token.clone()), "no token comes twice");
        let question = reply.json()["question"].as_str().unwrap().to_owned();
        for part in captcha.token.split('.') {
            let decoded = BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
            let readable = String::from_utf8_lossy(&decoded);
            assert!(!readable.contains(&question), "the question stands in the token");
            let printable = decoded.iter().filter(|b| b.is_ascii_graphic()).count();
            assert!(printable < decoded.len(), "a part of the token is plain text");
        }
    }
}

#[test]
fn its_key_is_its_own_and_readable_by_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::plain();
    host.get("/captcha.ashx");
    let mode = fs::metadata(host.state("spool/captcha.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = Host::plain();
    other.get("/captcha.ashx");
    let key = |host: &Host| fs::read(host.state("spool/captcha.key")).unwrap();
    assert!(key(&host) != key(&other), "two installations have two keys");
}

#[test]
fn a_token_of_another_installation_is_refused() {
    let (host, other) = (Host::plain(), Host::plain());
    let foreign = other.visitor().captcha();
    assert_eq!(host.visitor().post(&Form::of("joe", &foreign)).outcome(), "400 captcha_failed");
}

#[test]
fn a_token_makes_one_account_in_every_process() {
    let host = generous().start();
    let visitor = host.visitor();
    let captcha = visitor.captcha();
    let first = visitor.clone().at_process(0).post(&Form::of("first", &captcha));
    assert_eq!(first.outcome(), "200 -");
    for process in [0, 1] {
        let again = visitor.clone().at_process(process).post(&Form::of("second", &captcha));
        assert_eq!(again.outcome(), "400 captcha_failed", "process {process}");
    }
    assert!(host.account("second").is_none());
}

#[test]
fn a_spent_token_stays_spent_after_a_crash_and_after_a_restart() {
    let mut host = generous().start();
    let captcha = host.visitor().captcha();
    assert_eq!(host.visitor().post(&Form::of("first", &captcha)).outcome(), "200 -");
    for number in 0..2 {
        host.responders[number].crash();
        host.responders[number] = host.start_responder(number);
        host.wait_until_listening(number);
    }
    let again = host.visitor().post(&Form::of("second", &captcha));
    assert_eq!(again.outcome(), "400 captcha_failed", "after a crash");
    host.restart();
    let again = host.visitor().post(&Form::of("second", &captcha));
    assert_eq!(again.outcome(), "400 captcha_failed", "after a restart");
}

#[test]
fn an_unspent_token_outlives_a_restart() {
    let mut host = Host::plain();
    let captcha = host.visitor().captcha();
    host.restart();
    assert_eq!(host.visitor().post(&Form::of("joe", &captcha)).outcome(), "200 -");
}

#[test]
fn a_wrong_answer_leaves_the_token_usable_until_the_fifth_presentation() {
    let host = generous().start();
    let visitor = host.visitor();
    let captcha = visitor.captcha();
    let wrong = Form::of("joe", &captcha).with("captcha_answer", (captcha.answer + 1).to_string());
    for _ in 0..4 {
        assert_eq!(visitor.post(&wrong).outcome(), "400 captcha_failed");
    }
    assert_eq!(visitor.post(&Form::of("joe", &captcha)).outcome(), "200 -", "the fifth");
    let captcha = visitor.captcha();
    let wrong = wrong.with("captcha_token", &captcha.token);
    let wrong = wrong.with("captcha_answer", "-1");
    for turn in 0..5 {
        let at = visitor.clone().at_process(turn % 2);
        assert_eq!(at.post(&wrong).outcome(), "400 captcha_failed");
    }
    let late = visitor.post(&Form::of("jane", &captcha));
    assert_eq!(late.outcome(), "400 captcha_failed", "the sixth");
}

#[test]
fn a_conflict_leaves_the_token_usable_until_the_fifth_presentation() {
    let host = generous().start();
    let visitor = host.visitor();
    visitor.signed_up("joe");
    let captcha = visitor.captcha();
    for _ in 0..4 {
        assert_eq!(visitor.post(&Form::of("joe", &captcha)).outcome(), "409 conflict");
    }
    assert_eq!(visitor.post(&Form::of("jane", &captcha)).outcome(), "200 -");
}

#[test]
fn a_rate_limit_leaves_the_token_usable() {
    let host = Host::plain();
    let visitor = host.visitor();
    for user in ["a1", "a2", "a3"] {
        visitor.signed_up(user);
    }
    let captcha = visitor.captcha();
    for _ in 0..4 {
        assert_eq!(visitor.post(&Form::of("a4", &captcha)).outcome(), "429 rate_limited");
    }
    assert_eq!(host.visitor().post(&Form::of("a4", &captcha)).outcome(), "200 -");
}

#[test]
fn a_fault_leaves_the_token_usable() {
    let host = Host::plain();
    let captcha = host.visitor().captcha();
    fs::rename(host.pickup(), host.path().join("pickup.away")).unwrap();
    let reply = host.visitor().post(&Form::of("joe", &captcha));
    assert_eq!(reply.outcome(), "500 server_error");
    fs::rename(host.path().join("pickup.away"), host.pickup()).unwrap();
    assert_eq!(host.visitor().post(&Form::of("joe", &captcha)).outcome(), "200 -");
}

/// A request that fails before step 4, or that names a forged token, is no presentation.
#[test]
fn only_requests_that_reach_the_captcha_count_as_presentations() {
    let host = Host::plain();
    let visitor = host.visitor();
    let captcha = visitor.captcha();
    let good = Form::of("joe", &captcha);
    for _ in 0..6 {
        let reply = visitor.post(&good.clone().with("user", "Not A Name"));
        assert_eq!(reply.outcome(), "400 invalid_request");
        let reply = visitor.post(&good.clone().without("name"));
        assert_eq!(reply.outcome(), "400 invalid_request");
        let reply =
            visitor.post(&good.clone().with("captcha_token", format!("{}A", captcha.token)));
        assert_eq!(reply.outcome(), "400 captcha_failed");
    }
    assert_eq!(visitor.post(&good).outcome(), "200 -");
}

#[test]
fn issuing_writes_nothing_to_disk() {
    let host = Host::plain();
    // The first ones may make the key, in each process.
    for _ in 0..4 {
        host.get("/captcha.ashx");
    }
    let _still = harness::hold_still(&host.state(""));
    let before = listing(&host.path().join("state"));
    for _ in 0..300 {
        assert_eq!(host.get("/captcha.ashx").status, 200);
    }
    assert_eq!(listing(&host.path().join("state")), before);
}

/// Every file with its length and the time of its last change.
fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let data = entry.metadata().unwrap();
        all.push(format!("{:?} {} {:?}", entry.path(), data.len(), data.modified().unwrap()));
        if data.is_dir() {
            all.extend(listing(&entry.path()));
        }
    }
    all.sort();
    all
}

#[test]
fn without_a_key_it_is_unavailable_and_recovers() {
    let mut host = Setup { processes: 1, ..Setup::default() }.start();
    host.get("/captcha.ashx");
    host.responders[0].stop();
    // A directory in the key's place can neither be read nor replaced by a new key.
    fs::remove_file(host.state("spool/captcha.key")).unwrap();
    fs::create_dir_all(host.state("spool/captcha.key/in-the-way")).unwrap();
    host.responders[0] = host.start_responder(0);
    host.wait_until_listening(0);
    let reply = host.get("/captcha.ashx");
    assert_eq!(reply.outcome(), "503 captcha_unavailable");
    assert!(!reply.lossy().contains("captcha.key"), "no path reaches a client");
    assert!(host.program_log().contains("captcha.key"), "the log names the file");
    fs::remove_dir_all(host.state("spool/captcha.key")).unwrap();
    assert_eq!(host.get("/captcha.ashx").status, 200);
}
