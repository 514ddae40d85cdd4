//! CONTRACT.md, "POST /signup.ashx": the order of the checks, the rate limit, taken names, faults
//! and what a success leaves behind; through nginx.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use harness::host::REALM;
use harness::visitor::{URLENCODED, email, ha1, password};
use harness::{Form, Host, Setup, Visitor};

#[test]
fn a_success_leaves_one_pending_account_and_one_mail() {
    let host = Host::plain();
    let visitor = host.visitor();
    let reply = visitor.sign_up("joe");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json(), serde_json::json!({"ok": true, "user": "joe"}));
    let account = host.account("joe").unwrap();
    let expected = ["joe", REALM, &ha1("joe", REALM, &password("joe")), "1", "guest"];
    assert_eq!(account[..5], expected);
    assert_eq!(host.attribute("joe", "name").unwrap(), "Jo Doe");
    assert_eq!(host.attribute("joe", "email").unwrap(), email("joe"));
    let mails = host.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].file.ends_with(".eml"));
    assert_eq!(host.htdigest(), "", "a pending account is in no view");
    // Only the token's SHA-256 is on disk.
    let token = mails[0].token();
    let stored = host.attribute("joe", "activation").unwrap();
    use sha2::{Digest, Sha256};
    let raw = data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
    assert_eq!(stored, data_encoding::HEXLOWER.encode(&Sha256::digest(&raw)));
    assert_eq!(fs::read_dir(host.state("staging")).unwrap().count(), 0, "nothing stays staged");
}

#[test]
fn a_tenant_may_give_another_role() {
    let host = Setup { tenant: "role = \"member\"".into(), ..Setup::default() }.start();
    host.visitor().signed_up("joe");
    assert_eq!(host.account("joe").unwrap()[4], "member");
}

/// Each request has two things wrong; the one that comes earlier in the contract answers.
#[test]
fn the_first_check_that_fails_answers() {
    let host = Host::plain();
    let visitor = host.visitor();
    for user in ["a", "b", "c"] {
        visitor.signed_up(user);
    }
    let large = "x".repeat(16_385);
    // 1 before 2
    let reply = visitor.ask("PUT", "signup.ashx").body(URLENCODED, &large).send();
    assert_eq!(reply.outcome(), "405 method_not_allowed");
    // within 2: too large before a wrong content type
    let reply = visitor.ask("POST", "signup.ashx").body("text/plain", &large).send();
    assert_eq!(reply.outcome(), "413 payload_too_large");
    // 2 before 3: given twice, and another one missing
    let form = visitor.form("joe");
    let twice = form.clone().and("user", "joe").without("email");
    let sentence = "user, name, email, ha1, captcha_token, captcha_answer required";
    assert_ne!(visitor.post(&twice).description(), sentence);
    // 3 before 4: a wrong shape, and a wrong captcha
    let reply = visitor.post(&form.clone().with("ha1", "x").with("captcha_token", "x"));
    assert_eq!(reply.outcome(), "400 invalid_request");
    let reply = visitor.post(&form.clone().with("user", "root").with("captcha_answer", "-1"));
    assert_eq!(reply.outcome(), "400 invalid_request");
    // 4 before 5: a wrong captcha from a client without a place
    let reply = visitor.post(&form.clone().with("captcha_token", "x"));
    assert_eq!(reply.outcome(), "400 captcha_failed");
    // 4 before 6: a wrong captcha and a taken name
    let reply = host.visitor().post(&form.clone().with("user", "a").with("captcha_answer", "-1"));
    assert_eq!(reply.outcome(), "400 captcha_failed");
    // 5 before 6: no place, and a taken name
    assert_eq!(visitor.sign_up("a").outcome(), "429 rate_limited");
    // 6 before 7: a taken name on a broken disk
    fs::rename(host.pickup(), host.path().join("away")).unwrap();
    let reply = host.visitor().sign_up("a");
    fs::rename(host.path().join("away"), host.pickup()).unwrap();
    assert_eq!(reply.outcome(), "409 conflict");
}

#[test]
fn three_accounts_an_hour_and_a_true_retry_after() {
    let host = Host::plain();
    let visitor = host.visitor();
    for user in ["a", "b", "c"] {
        visitor.signed_up(user);
    }
    for process in [0, 1] {
        let reply = visitor.clone().at_process(process).sign_up("d");
        assert_eq!(reply.outcome(), "429 rate_limited", "process {process}");
        let seconds: u64 = reply.header("Retry-After").unwrap().parse().expect("seconds");
        assert!((3500..=3600).contains(&seconds), "{seconds}");
    }
    assert_eq!(host.visitor().sign_up("d").outcome(), "200 -", "another client");
}

#[test]
fn a_tenant_may_set_the_rate() {
    let host = Setup { tenant: "signups_per_hour = 1".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    visitor.signed_up("a");
    assert_eq!(visitor.sign_up("b").outcome(), "429 rate_limited");
}

#[test]
fn the_rate_outlives_a_crash_and_a_restart() {
    let mut host = Host::plain();
    let address = host.fresh_address();
    for user in ["a", "b", "c"] {
        Visitor::new(&host, address).signed_up(user);
    }
    for number in 0..2 {
        host.responders[number].crash();
        host.responders[number] = host.start_responder(number);
        host.wait_until_listening(number);
    }
    assert_eq!(Visitor::new(&host, address).sign_up("d").outcome(), "429 rate_limited");
    host.restart();
    assert_eq!(Visitor::new(&host, address).sign_up("d").outcome(), "429 rate_limited");
}

/// Only accounts count: each kind of refusal, many times, and then three accounts still.
#[test]
fn a_refusal_of_any_kind_gives_its_place_back() {
    let host = Host::plain();
    host.visitor().signed_up("taken");
    let visitor = host.visitor();
    for _ in 0..5 {
        assert_eq!(visitor.sign_up("taken").outcome(), "409 conflict");
        let form = visitor.form("a");
        let wrong = form.clone().with("captcha_answer", "-1");
        assert_eq!(visitor.post(&wrong).outcome(), "400 captcha_failed");
        assert_eq!(visitor.post(&form.with("user", "A")).outcome(), "400 invalid_request");
    }
    fs::rename(host.pickup(), host.path().join("away")).unwrap();
    for _ in 0..5 {
        assert_eq!(visitor.sign_up("a").outcome(), "500 server_error");
    }
    fs::rename(host.path().join("away"), host.pickup()).unwrap();
    for user in ["a", "b", "c"] {
        assert_eq!(visitor.sign_up(user).outcome(), "200 -");
    }
    assert_eq!(visitor.sign_up("d").outcome(), "429 rate_limited");
}

#[test]
fn a_name_is_held_by_a_pending_and_by_an_active_account_in_every_process() {
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    for process in [0, 1] {
        let reply = host.visitor().at_process(process).sign_up("joe");
        assert_eq!(reply.outcome(), "409 conflict", "pending, process {process}");
    }
    assert_eq!(host.get(&format!("/activate.ashx?token={token}")).status, 200);
    for process in [0, 1] {
        let reply = host.visitor().at_process(process).sign_up("joe");
        assert_eq!(reply.outcome(), "409 conflict", "active, process {process}");
    }
    assert_eq!(host.mails().len(), 1);
}

/// After a fault nothing of the attempt remains, and the same form works once it is gone.
fn fault_and_recovery(host: &Host, what: &str, break_it: &dyn Fn(), mend_it: &dyn Fn()) {
    let visitor = host.visitor();
    let user = what.replace(' ', "-");
    let form = visitor.form(&user);
    break_it();
    let reply = visitor.post(&form);
    let again = visitor.post(&form);
    mend_it();
    assert_eq!(reply.outcome(), "500 server_error", "{what}");
    assert_eq!(again.outcome(), "500 server_error", "{what}");
    assert!(host.account(&user).is_none(), "{what}: an account remains");
    assert!(host.mails().iter().all(|m| m.header("To") != Some(email(&user).as_str())), "{what}");
    let staged = fs::read_dir(host.state("staging")).unwrap().count();
    assert_eq!(staged, 0, "{what}: a staged mail remains");
    assert_eq!(visitor.post(&form).outcome(), "200 -", "{what}: the same form, mended");
    for user in ["x", "y"] {
        let reply = visitor.sign_up(&format!("{user}.{}", what.replace(' ', "-")));
        assert_eq!(reply.outcome(), "200 -", "{what}: the places that are left");
    }
}

#[test]
fn a_fault_leaves_nothing_and_the_same_form_works_afterwards() {
    let host = Setup { top: "lock_wait = \"1s\"".into(), ..Setup::default() }.start();
    let away = host.path().join("away");
    let moved = |path: std::path::PathBuf| {
        let (from, to) = (path.clone(), away.clone());
        (move || fs::rename(&from, &to).unwrap(), {
            let away = away.clone();
            move || fs::rename(&away, &path).unwrap()
        })
    };
    let (break_it, mend_it) = moved(host.pickup());
    fault_and_recovery(&host, "no pickup", &break_it, &mend_it);
    let (break_it, mend_it) = moved(host.state("staging"));
    fault_and_recovery(&host, "no staging", &break_it, &mend_it);
    // A file where the directory was.
    let pickup = host.pickup();
    let break_it = || {
        fs::rename(&pickup, &away).unwrap();
        fs::write(&pickup, "").unwrap();
    };
    let mend_it = || {
        fs::remove_file(&pickup).unwrap();
        fs::rename(&away, &pickup).unwrap();
    };
    fault_and_recovery(&host, "a file for pickup", &break_it, &mend_it);
}

#[test]
fn a_lock_that_nobody_gives_back_is_a_fault_after_lock_wait() {
    let host = Setup { top: "lock_wait = \"1s\"".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    visitor.signed_up("first");
    let form = visitor.form("joe");
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let started = Instant::now();
    let reply = visitor.post(&form);
    assert_eq!(reply.outcome(), "500 server_error");
    assert!(started.elapsed() < Duration::from_secs(5), "the wait is bounded");
    assert!(host.program_log().contains("credentials.lock"), "the log names the file");
    drop(lock);
    assert_eq!(visitor.post(&form).outcome(), "200 -");
    assert_eq!(host.mails().len(), 2);
}

#[test]
fn the_same_form_sent_twice_makes_one_account() {
    let host = Host::plain();
    let visitor = host.visitor();
    let form = Form::of("joe", &visitor.captcha());
    assert_eq!(visitor.post(&form).outcome(), "200 -");
    assert_eq!(visitor.post(&form).outcome(), "400 captcha_failed");
    assert_eq!(host.mails().len(), 1);
}
