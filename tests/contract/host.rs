//! CONTRACT.md, "Common to all endpoints": tenants by host, other origins, the client's address;
//! through nginx, which plays a proxy with its real-ip module where addresses matter.

use std::net::Ipv4Addr;

use harness::host::{ALIAS, BASE_URL, HOST, REALM};
use harness::visitor::{URLENCODED, email};
use harness::{Captcha, Form, Host, Setup, Visitor};

const SECOND: &str = "[tenant.\"second.example\"]\nrealm = \"second.example\"\n\
    base_url = \"https://second.example\"\nstate = \"@DIR@/state-2\"\npickup = \"@DIR@/pickup-2\"\n\
    mail_from = \"noreply@second.example\"\n";

/// Two tenants, the first with aliases.
fn two_tenants(top: &str) -> Host {
    let tenant = format!("aliases = [\"{ALIAS}\", \"127.0.0.1\"]");
    Setup { top: top.into(), tenant, tenants: SECOND.into(), ..Setup::default() }.start()
}

fn realm_at(host: &Host, asked: &str) -> String {
    let reply = host.ask("GET", "/captcha.ashx").host(asked).send();
    match reply.status {
        200 => Captcha::solve(&reply).realm,
        _ => reply.outcome(),
    }
}

#[test]
fn the_host_chooses_the_tenant_exactly() {
    let host = two_tenants("");
    for asked in [HOST, "ACCOUNTS.Example", "accounts.example:8443", "accounts.example.", ALIAS] {
        assert_eq!(realm_at(&host, asked), REALM, "{asked}");
    }
    assert_eq!(realm_at(&host, "127.0.0.1:99"), REALM);
    assert_eq!(realm_at(&host, "second.example"), "second.example");
    for asked in [
        "example",
        "x.accounts.example",
        "accounts.example.evil.example",
        "xaccounts.example",
        "accounts.example..",
        "localhost",
    ] {
        let realm = realm_at(&host, asked);
        // nginx refuses two dots by itself.
        let refused = ["421 unknown_host", "400 invalid_request"].contains(&realm.as_str());
        assert!(refused && (realm.starts_with("421") || asked.ends_with("..")), "{asked}: {realm}");
    }
}

#[test]
fn a_421_line_in_the_log_names_the_host() {
    let host = Host::plain();
    assert_eq!(realm_at(&host, "who.example"), "421 unknown_host");
    assert!(host.program_log().contains("who.example"));
}

#[test]
fn without_a_host_header_the_server_name_chooses() {
    let nginx_server = "location = /by-name { fastcgi_pass codeb_signup; fastcgi_keep_conn on;\n\
        fastcgi_param REQUEST_METHOD GET; fastcgi_param REMOTE_ADDR $remote_addr;\n\
        fastcgi_param SCRIPT_NAME /captcha.ashx; fastcgi_param SERVER_NAME Accounts.Example;\n\
        fastcgi_param CODEB_SIGNUP_PARAMS whole; }\n"
        .into();
    let host = Setup { nginx_server, ..Setup::default() }.start();
    assert_eq!(Captcha::solve(&host.get("/by-name")).realm, REALM);
}

#[test]
fn a_default_tenant_serves_unknown_hosts() {
    let host = two_tenants("default_tenant = \"second.example\"");
    assert_eq!(realm_at(&host, "who.example"), "second.example");
    assert_eq!(realm_at(&host, HOST), REALM);
}

#[test]
fn tenants_share_nothing() {
    let host = two_tenants("");
    let visitor = host.visitor();
    let captcha = visitor.captcha();
    let elsewhere = visitor.clone().asking("second.example");
    let foreign = elsewhere.post(&Form::of("joe", &captcha));
    assert_eq!(foreign.outcome(), "400 captcha_failed", "a captcha counts for its tenant alone");
    visitor.joined("joe");
    elsewhere.signed_up("joe");
    let second = std::fs::read_to_string(host.path().join("state-2/credentials")).unwrap();
    assert!(second.starts_with("joe:second.example:"));
    assert!(!host.credentials().contains("second.example"));
}

#[test]
fn a_link_is_built_from_base_url_whatever_the_request_says() {
    let host = two_tenants("");
    let visitor = host.visitor().asking(ALIAS);
    let form = visitor.form("joe");
    let reply = (visitor.posting(&form))
        .header("X-Forwarded-Host", "evil.example")
        .header("Forwarded", "host=evil.example")
        .header("Origin", "https://evil.example")
        .header("Referer", "https://evil.example/")
        .send();
    assert_eq!(reply.outcome(), "200 -");
    let mail = host.mail_to(&email("joe"));
    let link = mail.link();
    assert!(link.starts_with(&format!("{BASE_URL}/activate.ashx?token=")));
    let raw = String::from_utf8(mail.raw.clone()).unwrap();
    assert!(!raw.contains("evil") && !raw.contains(ALIAS));
}

#[test]
fn no_cors_header_unless_configured() {
    let host = Host::plain();
    let asks = [host.ask("GET", "/captcha.ashx"), host.ask("OPTIONS", "/signup.ashx")];
    for ask in asks {
        let reply = ask
            .header("Origin", "https://www.example")
            .header("Access-Control-Request-Method", "POST")
            .send();
        let cors =
            |(name, _): &(String, String)| name.to_ascii_lowercase().starts_with("access-control-");
        assert!(!reply.headers.iter().any(cors), "{:?}", reply.headers);
    }
}

#[test]
fn allowed_origins_alone_may_call() {
    let tenant = "allowed_origins = [\"https://www.example\", \"http://b.example:8080\"]".into();
    let host = Setup { tenant, ..Setup::default() }.start();
    let asked = |method: &str, origin: &str| {
        let mut ask = host.ask(method, "/captcha.ashx").header("Origin", origin);
        if method == "OPTIONS" {
            ask = ask.header("Access-Control-Request-Method", "GET");
        }
        ask.send()
    };
    let allow = "Access-Control-Allow-Origin";
    for origin in ["https://www.example", "http://b.example:8080"] {
        let reply = asked("GET", origin);
        assert_eq!((reply.status, reply.header(allow)), (200, Some(origin)));
        assert_eq!(reply.header("Vary"), Some("Origin"));
    }
    for origin in
        ["https://www.example.evil", "http://www.example", "null", "https://WWW.example:1"]
    {
        let reply = asked("GET", origin);
        assert_eq!((reply.status, reply.header(allow)), (200, None), "{origin}");
        assert_eq!(reply.header("Vary"), Some("Origin"), "a cache must know all the same");
    }
    let none = host.get("/captcha.ashx");
    assert_eq!((none.header(allow), none.header("Vary")), (None, Some("Origin")));
    let refusal = (host.ask("POST", "/signup.ashx"))
        .header("Origin", "https://www.example")
        .body(URLENCODED, "")
        .send();
    assert_eq!(refusal.outcome(), "400 invalid_request");
    assert_eq!(refusal.header(allow), Some("https://www.example"), "a page must read refusals");
    let off = host.ask("GET", "/resend.ashx").header("Origin", "https://www.example").send();
    assert_eq!((off.status, off.header(allow)), (404, Some("https://www.example")));
    let preflight = asked("OPTIONS", "https://www.example");
    assert!((200..300).contains(&preflight.status), "{}", preflight.status);
    assert_eq!(preflight.header(allow), Some("https://www.example"));
    assert_eq!(preflight.header("Vary"), Some("Origin"));
    let methods = preflight.header("Access-Control-Allow-Methods").unwrap();
    assert!(methods.contains("GET"), "{methods}");
    assert_eq!(asked("OPTIONS", "https://no.example").header(allow), None);
}

/// `X-Test-Client` names the address that nginx's real-ip module passes on.
fn behind_real_ip(top: &str) -> Host {
    let nginx_server = "set_real_ip_from 127.0.0.0/8; real_ip_header X-Test-Client;".into();
    Setup { top: top.into(), nginx_server, ..Setup::default() }.start()
}

/// Signs up from an address as nginx sees it, with an `X-Forwarded-For`.
fn sign_up_from(host: &Host, user: &str, client: &str, forwarded: &str) -> String {
    let visitor = Visitor::new(host, Ipv4Addr::new(127, 9, 9, 9));
    let form = visitor.form(user);
    let mut ask = visitor.posting(&form).header("X-Test-Client", client);
    if !forwarded.is_empty() {
        ask = ask.header("X-Forwarded-For", forwarded);
    }
    ask.send().outcome()
}

/// Uses up one client's three places, then tells whether another address is the same client.
fn same_client(host: &Host, name: &str, first: (&str, &str), second: (&str, &str)) -> bool {
    for n in 0..3 {
        let outcome = sign_up_from(host, &format!("{name}{n}"), first.0, first.1);
        assert_eq!(outcome, "200 -", "{name}: {first:?}");
    }
    match sign_up_from(host, &format!("{name}x"), second.0, second.1).as_str() {
        "429 rate_limited" => true,
        "200 -" => false,
        other => panic!("{name}: {other}"),
    }
}

#[test]
fn x_forwarded_for_is_not_read() {
    let host = behind_real_ip("");
    assert!(same_client(&host, "a", ("192.0.2.1", "198.51.100.1"), ("192.0.2.1", "198.51.100.2")));
    assert!(!same_client(&host, "b", ("192.0.2.2", "198.51.100.9"), ("192.0.2.3", "198.51.100.9")));
    // Nor from the machine itself, where a program may believe its peers by mistake.
    let plain = Host::plain();
    assert!(same_client(&plain, "c", ("", "198.51.100.1"), ("", "198.51.100.2")));
}

#[test]
fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
    let host = behind_real_ip("");
    let same = |name, a, b| same_client(&host, name, (a, ""), (b, ""));
    assert!(!same("a", "192.0.2.1", "192.0.2.2"));
    assert!(same("b", "2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
    assert!(!same("c", "2001:db8:0:2::1", "2001:db8:0:3::1"));
}

/// nginx's real-ip module drops what it cannot use, so the mapped form is given as a parameter.
#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address() {
    let nginx_server = "location = /mapped { fastcgi_pass codeb_signup; fastcgi_keep_conn on;\n\
        fastcgi_param REQUEST_METHOD POST; fastcgi_param REMOTE_ADDR ::ffff:$remote_addr;\n\
        fastcgi_param SCRIPT_NAME /signup.ashx; fastcgi_param HTTP_HOST $http_host;\n\
        fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;\n\
        fastcgi_param CODEB_SIGNUP_PARAMS whole; }\n"
        .into();
    let host = Setup { nginx_server, ..Setup::default() }.start();
    let visitor = host.visitor();
    for user in ["a", "b", "c"] {
        visitor.signed_up(user);
    }
    let mapped = |user: &str| {
        let form = visitor.form(user);
        host.ask("POST", "/mapped").body(URLENCODED, form.urlencoded())
    };
    assert_eq!(mapped("d").from(visitor.address).send().outcome(), "429 rate_limited");
    assert_eq!(mapped("e").send().outcome(), "200 -", "not one client for all mapped ones");
}

#[test]
fn a_trusted_proxys_forwarded_address_counts() {
    let host = behind_real_ip("trusted_proxies = [\"10.0.0.0/8\", \"2001:db8:ffff::/48\"]");
    let same = |name, a, b| same_client(&host, name, a, b);
    assert!(same("a", ("10.0.0.1", "198.51.100.1"), ("10.0.0.2", "6.6.6.6, 198.51.100.1")));
    assert!(!same("b", ("10.0.0.1", "198.51.100.2"), ("10.0.0.1", "198.51.100.2, 198.51.100.3")));
    assert!(same("c", ("10.0.0.1", "198.51.100.4, 10.9.9.9"), ("198.51.100.4", "")));
    assert!(same("d", ("192.0.2.1", "198.51.100.5"), ("192.0.2.1", "198.51.100.6")));
}
