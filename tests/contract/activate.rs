//! CONTRACT.md, "GET /activate.ashx", through nginx.

use std::fs::{self, File};

use harness::host::REALM;
use harness::visitor::{email, ha1, password};
use harness::{Host, Reply, Setup, unescaped};

const INVALID: &str = "Activation link is invalid or expired";

fn assert_refused(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 400, "{what}");
    assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"), "{what}");
    assert!(reply.lossy().contains(INVALID), "{what}: {}", reply.lossy());
}

#[test]
fn the_first_get_enables_the_account_and_consumes_the_token() {
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    assert_eq!(token.len(), 43);
    assert_eq!(data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).unwrap().len(), 32);
    let reply = host.get(&format!("/activate.ashx?token={token}"));
    assert_eq!(reply.status, 200);
    let account = host.account("joe").unwrap();
    assert_eq!(account[3], "0");
    let line = format!("joe:{REALM}:{}\n", ha1("joe", REALM, &password("joe")));
    assert_eq!(host.htdigest(), line);
    for process in [0, 1] {
        let again = host.get(&format!("/process{process}/activate.ashx?token={token}"));
        assert_refused(&again, "used");
    }
    assert_eq!(host.htdigest(), line);
}

#[test]
fn the_page_leads_on_to_the_login_page() {
    let host = Host::plain();
    let page = host.visitor();
    let token = page.token_of("joe");
    let reply = page.activate(&token);
    leads_to(&reply, "/login.html");
    let tenant = "login_page = \"https://www.example/members/in?from=mail\"".into();
    let host = Setup { tenant, ..Setup::default() }.start();
    let token = host.visitor().token_of("joe");
    let reply = host.get(&format!("/activate.ashx?token={token}"));
    leads_to(&reply, "https://www.example/members/in?from=mail");
}

/// By meta refresh and by a script, which the policy that comes along must let run.
fn leads_to(reply: &Reply, target: &str) {
    let page = unescaped(reply.text());
    let refresh = page.split("<meta").find(|tag| tag.contains("http-equiv=\"refresh\""));
    assert!(refresh.expect("a meta refresh").contains(target), "{page}");
    let script = page.split("<script").nth(1).expect("a script");
    let opening = script.split('>').next().unwrap();
    let policy = reply.header("Content-Security-Policy").unwrap();
    let allowed = if opening.contains("src=") {
        policy.contains("script-src 'self'") || policy.contains("default-src 'self'")
    } else if let Some((_, rest)) = opening.split_once("nonce=\"") {
        policy.contains(&format!("'nonce-{}'", rest.split('"').next().unwrap()))
    } else {
        use sha2::{Digest, Sha256};
        let code = script.split_once('>').unwrap().1.split("</script>").next().unwrap();
        let hash = data_encoding::BASE64.encode(&Sha256::digest(code.as_bytes()));
        policy.contains(&format!("'sha256-{hash}'"))
    };
    assert!(allowed, "{policy} forbids the page's own script {opening}");
}

#[test]
fn a_bad_token_of_any_kind_gets_one_page() {
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    let (almost, other) = token.split_at(42);
    let changed = if other == "A" { "E" } else { "A" };
    let cases = [
        ("missing", "/activate.ashx".to_owned()),
        ("an empty query", "/activate.ashx?".to_owned()),
        ("empty", "/activate.ashx?token=".to_owned()),
        ("given twice", format!("/activate.ashx?token={token}&token={token}")),
        ("given twice, differing", format!("/activate.ashx?token={token}&token=")),
        ("another name", format!("/activate.ashx?Token={token}")),
        ("short", format!("/activate.ashx?token={almost}")),
        ("long", format!("/activate.ashx?token={token}A")),
        ("padded", format!("/activate.ashx?token={token}=")),
        ("a blank behind", format!("/activate.ashx?token={token}%20")),
        ("standard base64", format!("/activate.ashx?token={}", "+/".repeat(21) + "+")),
        ("unknown", format!("/activate.ashx?token={almost}{changed}")),
        ("random", format!("/activate.ashx?token={}", "A".repeat(43))),
        (
            "the hash",
            format!("/activate.ashx?token={}", host.attribute("joe", "activation").unwrap()),
        ),
        ("not UTF-8", "/activate.ashx?token=%ff%fe".to_owned()),
        ("huge", format!("/activate.ashx?token={}", "A".repeat(4000))),
    ];
    let mut pages = Vec::new();
    for (what, target) in &cases {
        let reply = host.get(target);
        assert_refused(&reply, what);
        pages.push(reply.lossy());
    }
    pages.dedup_by(|a, b| without_nonce(a) == without_nonce(b));
    assert_eq!(pages.len(), 1, "the reasons look alike");
    assert_eq!(host.account("joe").unwrap()[3], "1");
    assert_eq!(host.get(&format!("/activate.ashx?x=1&token={token}&y=%ff")).status, 200);
}

fn without_nonce(page: &str) -> String {
    let mut pieces = page.split("nonce=\"");
    let first = pieces.next().unwrap().to_owned();
    first + &pieces.map(|p| p.split_once('"').unwrap().1).collect::<String>()
}

#[test]
fn the_link_of_an_account_that_is_gone_is_refused() {
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    fs::write(host.state("credentials.new"), "# the operator took the account out\n").unwrap();
    fs::rename(host.state("credentials.new"), host.state("credentials")).unwrap();
    drop(lock);
    for process in [0, 1] {
        let reply = host.get(&format!("/process{process}/activate.ashx?token={token}"));
        assert_refused(&reply, "gone");
    }
    assert_eq!(host.htdigest(), "");
}

#[test]
fn head_consumes_nothing_and_tells_nothing() {
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    let head = |token: &str| host.ask("HEAD", &format!("/activate.ashx?token={token}")).send();
    let mut headers = Vec::new();
    for token in [token.as_str(), "no", "", &"A".repeat(43)] {
        let reply = head(token);
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        let mut told = reply.headers.clone();
        told.retain(|(name, _)| name != "Date" && name != "Content-Security-Policy");
        headers.push(told);
    }
    headers.dedup();
    assert_eq!(headers.len(), 1, "{headers:?}");
    assert_eq!(host.account("joe").unwrap()[3], "1");
    assert_eq!(host.get(&format!("/activate.ashx?token={token}")).status, 200);
    let after = head(&token);
    assert_eq!(after.status, 200);
}

#[test]
fn a_fault_answers_no_success_and_the_link_stays_good() {
    let host = Setup { top: "lock_wait = \"1s\"".into(), ..Setup::default() }.start();
    let token = host.visitor().token_of("joe");
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let reply = host.get(&format!("/activate.ashx?token={token}"));
    assert_eq!(reply.status, 500, "{}", reply.lossy());
    assert!(!reply.lossy().contains("credentials"));
    drop(lock);
    assert_eq!(host.account("joe").unwrap()[3], "1");
    assert_eq!(host.get(&format!("/activate.ashx?token={token}")).status, 200);
    assert_eq!(host.account("joe").unwrap()[3], "0");
}

/// A mail program leaves such a name alone; the page shows it instead.
#[test]
fn a_name_with_a_dot_is_shown_by_the_page_and_not_by_the_mail() {
    let host = Host::plain();
    let visitor = host.visitor();
    visitor.signed_up("www.evil.example");
    let mail = host.mail_to(&email("www.evil.example"));
    for part in &mail.parts {
        assert!(!part.text.contains("evil"), "{}", part.text);
    }
    let page = visitor.activate(&mail.token());
    assert_eq!(page.status, 200);
    assert!(page.lossy().contains("www.evil.example"), "{}", page.lossy());
}
