//! CONTRACT.md, "Closed", through nginx.

use std::fs;

use harness::{Host, Setup};

/// A host that closes after `user` signed up, and the token of the link that is still out.
fn closed_after(user: &str) -> (Host, String) {
    let mut host = Host::plain();
    let token = host.visitor().token_of(user);
    let config = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), config.replace("realm = ", "signups = \"closed\"\nrealm = ")).unwrap();
    host.restart();
    (host, token)
}

#[test]
fn captcha_and_sign_up_answer_503_and_say_when_to_come_back() {
    let host = Setup { tenant: "signups = \"closed\"".into(), ..Setup::default() }.start();
    for (method, endpoint) in [("GET", "/captcha.ashx"), ("POST", "/signup.ashx")] {
        let reply = host.ask(method, endpoint).send();
        assert_eq!(reply.outcome(), "503 signups_closed", "{endpoint}");
        assert!(reply.header("Retry-After").unwrap().parse::<u32>().unwrap() > 0);
    }
    let head = host.ask("HEAD", "/captcha.ashx").send();
    assert_eq!((head.status, head.body.len()), (503, 0));
    assert!(!host.state("spool/captcha.key").exists(), "no captcha was made");
}

#[test]
fn what_is_checked_before_an_endpoint_is_checked_before_that() {
    let host = Setup { tenant: "signups = \"closed\"".into(), ..Setup::default() }.start();
    assert_eq!(host.ask("GET", "/nope.ashx").send().outcome(), "404 not_found");
    assert_eq!(host.ask("GET", "/signup.ashx").send().outcome(), "405 method_not_allowed");
    let elsewhere = host.ask("GET", "/captcha.ashx").host("other.example").send();
    assert_eq!(elsewhere.outcome(), "421 unknown_host");
}

#[test]
fn activation_goes_on() {
    let (host, token) = closed_after("joe");
    assert_eq!(host.visitor().ask("GET", "captcha.ashx").send().outcome(), "503 signups_closed");
    assert_eq!(host.visitor().activate(&token).status, 200);
    assert_eq!(host.account("joe").unwrap()[3], "0");
}
