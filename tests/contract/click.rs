//! CONTRACT.md, the option `activation = "click"`, and what mail scanners do, through nginx.

use harness::visitor::URLENCODED;
use harness::{Host, Reply, Setup, Visitor};

const INVALID: &str = "Activation link is invalid or expired";

fn clicked() -> Host {
    Setup { tenant: "activation = \"click\"".into(), ..Setup::default() }.start()
}

/// What a filter in front of a mailbox does with every link, some of them several times.
fn scan(visitor: &Visitor<'_>, token: &str) {
    for method in ["HEAD", "GET", "HEAD", "GET", "GET"] {
        let target = format!("activate.ashx?token={token}");
        let reply = visitor.ask(method, &target).header("User-Agent", "Scanner/1.0").send();
        assert_eq!(reply.status, 200, "{method}");
    }
}

fn press(visitor: &Visitor<'_>, token: &str) -> Reply {
    let body = format!("token={token}");
    visitor.ask("POST", "activate.ashx").body(URLENCODED, body).send()
}

/// The form of the page: where it goes, and the token in it.
fn form_of(page: &str) -> (String, String) {
    let form = page.split_once("<form ").expect("a form").1.split_once("</form>").unwrap().0;
    assert!(form.contains("method=\"post\"") && form.contains("<button"), "{form}");
    let attribute = |name: &str| {
        let start = form.split_once(&format!("{name}=\"")).expect("an attribute").1;
        start.split('"').next().unwrap().to_owned()
    };
    assert!(form.contains("name=\"token\""));
    (attribute("action"), attribute("value"))
}

#[test]
fn a_scanner_that_opens_everything_first_leaves_the_link_to_its_owner() {
    let host = clicked();
    let visitor = host.visitor();
    let token = visitor.token_of("joe");
    let before = host.credentials();
    scan(&visitor, &token);
    assert_eq!(host.credentials(), before, "opening changes nothing");
    assert_eq!(host.htdigest(), "");

    let page = visitor.activate(&token);
    let (action, hidden) = form_of(page.text());
    assert_eq!((action.as_str(), hidden.as_str()), ("activate.ashx", token.as_str()));
    assert!(page.text().contains("joe"));
    assert!(!page.text().contains("<script"), "nothing runs that could press the button");
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    assert!(page.header("Content-Security-Policy").unwrap().contains("form-action 'self'"));

    let pressed = press(&visitor, &token);
    assert_eq!(pressed.status, 200);
    assert!(pressed.text().contains("joe") && pressed.text().contains("/login.html"));
    assert_eq!(host.account("joe").unwrap()[3], "0");
    assert!(host.htdigest().starts_with("joe:"));
}

#[test]
fn where_links_activate_a_scanner_activates_and_the_owner_is_told_to_sign_in() {
    let host = Host::plain();
    let visitor = host.visitor();
    let token = visitor.token_of("joe");
    assert_eq!(visitor.ask("HEAD", &format!("activate.ashx?token={token}")).send().status, 200);
    assert_eq!(host.account("joe").unwrap()[3], "1", "HEAD consumes nothing");
    assert_eq!(visitor.activate(&token).status, 200);
    let owner = visitor.activate(&token);
    assert_eq!(owner.status, 400);
    assert!(owner.text().contains(INVALID) && owner.text().contains("href=\"/login.html\""));
}

#[test]
fn a_bad_token_is_refused_by_get_and_by_post() {
    let host = clicked();
    let visitor = host.visitor();
    let token = visitor.token_of("joe");
    let other = "A".repeat(43);
    for bad in ["", "x", other.as_str(), &format!("{token}&token={token}"), &token[1..]] {
        for reply in [visitor.activate(bad), press(&visitor, bad)] {
            assert_eq!(reply.status, 400, "{bad}");
            assert!(reply.text().contains(INVALID));
        }
    }
    let target = format!("activate.ashx?token={token}");
    let in_query = visitor.ask("POST", &target).body(URLENCODED, "").send();
    assert_eq!(in_query.status, 400, "the token belongs into the body");
    assert_eq!(host.account("joe").unwrap()[3], "1");
    assert_eq!(press(&visitor, &token).status, 200);
    for used in [visitor.activate(&token), press(&visitor, &token)] {
        assert_eq!(used.status, 400);
    }
}

#[test]
fn of_simultaneous_presses_one_activates() {
    let host = clicked();
    let token = host.visitor().token_of("joe");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let (host, token) = (&host, &token);
        let press = |n: usize| scope.spawn(move || press(&host.visitor().at_process(n % 2), token));
        let threads: Vec<_> = (0..8).map(press).collect();
        threads.into_iter().map(|t| t.join().unwrap().status).collect()
    });
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| **s == 400).count(), 7, "{statuses:?}");
}

#[test]
fn the_methods_are_those_of_the_option() {
    for (host, allowed) in [(clicked(), "GET, HEAD, POST"), (Host::plain(), "GET, HEAD")] {
        let reply = host.ask("PUT", "/activate.ashx").send();
        assert_eq!(reply.outcome(), "405 method_not_allowed");
        assert_eq!(reply.header("Allow"), Some(allowed));
    }
    let host = Host::plain();
    let token = host.visitor().token_of("joe");
    let reply = press(&host.visitor(), &token);
    assert_eq!(reply.outcome(), "405 method_not_allowed");
    assert_eq!(host.account("joe").unwrap()[3], "1");
}
