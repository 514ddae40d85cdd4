//! CONTRACT.md, "nothing leaks" and "tenant", as the shipped nginx configuration keeps them: every path
//! with `.ashx` in it is answered by the program or in its way, no log has a query, and the host that
//! nginx goes by is the host that the program goes by.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use harness::host::{HOST, REALM};
use harness::http::Connection;
use harness::visitor::URLENCODED;
use harness::{Captcha, Host, Reply, Setup};
use nix::sys::signal::Signal;

/// Stands for a token that is still good, in every request of these tests.
const SECRET: &str = "aVerySecretTokenThatIsStillGood";

/// One more server block, which the harness takes for its own when it is the first.
fn block(names: &str, file: &str, rule: &str) -> String {
    format!(
        "server {{ listen @ADDRESS@; server_name {names}; {rule}\ninclude {file};\n\
         location = /.ready {{ allow all; return 200 \"@MARKER@\"; }} }}\n"
    )
}

const SHIPPED: &str = "@REPOSITORY@/nginx/signup.conf";

/// Sends bytes as they are, and waits for the end of the connection: nginx has logged the request then.
fn send(host: &Host, bytes: &[u8]) -> Reply {
    let mut connection = Connection::open(host.address(), Ipv4Addr::LOCALHOST).unwrap();
    let reply = connection.ask(bytes);
    let reply = reply.unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(bytes)));
    assert!(connection.read(false).is_err(), "the connection was to be closed");
    reply
}

fn get(host: &Host, target: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    send(host, request.as_bytes())
}

/// An error of the program's form, whoever made it.
fn assert_error(reply: &Reply, outcome: &str, what: &str) {
    assert_eq!(reply.outcome(), outcome, "{what}: {}", reply.lossy());
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"), "{what}");
    assert_eq!(reply.header("Cache-Control"), Some("no-store"), "{what}");
    assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"), "{what}");
}

/// Nothing that was sent as a query stands in a log of nginx or of the program, at the level that
/// `real-host.conf` asks for.
fn assert_no_secret(host: &Host) {
    let logs = host.logs();
    let line = logs.lines().find(|line| line.contains(SECRET) && !line.contains(" [info] "));
    assert_eq!(line, None, "a query stands in a log");
}

/// Paths with `.ashx` in them that are no endpoint, before a query.
const UNKNOWN: [&str; 21] = [
    "/activate.ashx/",
    "/activate.ashx/x",
    "/activate.ashx/activate.ash",
    "/x/activate.ashx%20",
    "/activate.ashx%09",
    "/activate.ashx%0a",
    "/activate.ashx.",
    "/activate.ashx;jsessionid=1",
    "/activate.ashx%2fx",
    "/activate.ashx%c3%a9",
    "/activate.ashxx",
    "/captcha.ashx/x",
    "/CAPTCHA.ASHX/",
    "/signup.ashx/signup",
    "/nope.ashx",
    "/a.ashx/b.html",
    "/.ashx",
    "/codeb-signup-quiet/.ashx",
    // For nginx these are paths without `.ashx`.
    "/activate.ashx/../x",
    "/activate%2e%61%53hx/..",
    "/x#/activate.ashx",
];

#[test]
fn a_path_with_ashx_in_it_is_the_programs_404_and_its_query_in_no_log() {
    let host = Host::plain();
    for path in UNKNOWN.iter().chain(&["/codeb-signup-plain/captcha.ashx"]) {
        let reply = get(&host, &format!("{path}?token={SECRET}"));
        assert_error(&reply, "404 not_found", path);
        let head = format!("HEAD {path}?token={SECRET} HTTP/1.0\r\nHost: {HOST}\r\n\r\n");
        assert_eq!(send(&host, head.as_bytes()).status, 404, "HEAD {path}");
    }
    let encoded = format!("/activate.ashx%3Ftoken={SECRET}");
    assert_error(&get(&host, &encoded), "404 not_found", "an encoded question mark");
    for path in ["/activate.ashx", "//Activate.ASHX", "/x/activate%2eashx", "/x/../%61ctivate.ashx"]
    {
        let reply = get(&host, &format!("{path}?token={SECRET}"));
        assert_eq!(reply.status, 400, "{path}");
        assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"), "{path}");
    }
    assert_no_secret(&host);
}

#[test]
fn with_the_service_down_a_path_with_ashx_in_it_is_answered_in_json_and_its_query_in_no_log() {
    let mut host = Host::plain();
    host.responders.iter_mut().for_each(|process| process.crash());
    let endpoints = ["/captcha.ashx", "/signup.ashx", "/Resend.ashx", "/x//captcha%2eashx"];
    for path in UNKNOWN.iter().chain(&endpoints) {
        let reply = get(&host, &format!("{path}?token={SECRET}"));
        assert_error(&reply, "502 server_error", path);
        let large = host.ask("POST", &format!("{path}?token={SECRET}"));
        let large = large.body(URLENCODED, "x".repeat(70_000)).send();
        assert_error(&large, "413 payload_too_large", path);
    }
    assert_no_secret(&host);
    host.responders.clear();
}

/// What nginx refuses before it knows the location.
#[test]
fn a_request_that_is_not_well_formed_is_answered_in_json_and_its_query_in_no_log() {
    let host = Host::plain();
    let line = format!("GET /activate.ashx?token={SECRET}");
    let long = format!("{line}{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    let large = format!("Host: {HOST}\r\n{}", format!("X: {}\r\n", "x".repeat(4_000)).repeat(20));
    let refused = [
        ("no host", format!("{line} HTTP/1.1\r\n\r\n")),
        ("a host that is none", format!("{line} HTTP/1.1\r\nHost: a b\r\n\r\n")),
        ("two hosts", format!("{line} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")),
        ("a bad length", format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")),
        ("a URI that is too long", long),
        ("a header that is too large", format!("{line} HTTP/1.1\r\n{large}\r\n")),
    ];
    for (what, request) in &refused {
        let reply = send(&host, request.as_bytes());
        assert!([400, 414].contains(&reply.status), "{what}: {}", reply.status);
        assert_error(&reply, &format!("{} invalid_request", reply.status), what);
    }
    let trace = format!("TRACE /activate.ashx/?token={SECRET} HTTP/1.0\r\n\r\n");
    assert_error(&send(&host, trace.as_bytes()), "405 method_not_allowed", "TRACE");
    let null = format!("/a%00.ashx?token={SECRET}");
    assert_error(&get(&host, &null), "400 invalid_request", "a null byte");
    assert_no_secret(&host);
}

#[test]
fn captcha_and_sign_up_are_in_the_logs_without_a_query() {
    let mut host = Host::plain();
    assert_eq!(get(&host, "/captcha.ashx").status, 200);
    assert_eq!(get(&host, &format!("/captcha.ashx?token={SECRET}")).status, 200);
    let empty = format!("POST /signup.ashx HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(send(&host, empty.as_bytes()).status, 400);
    let referred = format!(
        "GET /signup.html HTTP/1.0\r\nReferer: http://{HOST}/Activate.ashx?token={SECRET}\r\n\r\n"
    );
    assert_eq!(send(&host, referred.as_bytes()).status, 200);
    let access = fs::read_to_string(host.path().join("access.log")).unwrap();
    let lines = |what: &str| access.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("\"GET /captcha.ashx HTTP/1.1\" 200 "), 2, "{access}");
    assert_eq!(lines("\"POST /signup.ashx HTTP/1.0\" 400 "), 1, "{access}");
    assert_eq!(lines("\"GET /signup.html HTTP/1.0\" 200 "), 1, "{access}");
    // An operator finds in the error log why the program cannot be reached.
    host.responders.iter_mut().for_each(|process| process.crash());
    assert_eq!(get(&host, &format!("/captcha.ashx?token={SECRET}")).status, 502);
    let errors = || fs::read_to_string(host.path().join("nginx-error.log")).unwrap();
    assert!(!errors().contains("connect() to unix:"), "{}", errors());
    assert_eq!(get(&host, "/captcha.ashx").status, 502);
    assert!(errors().contains("connect() to unix:"), "{}", errors());
    assert_no_secret(&host);
    host.responders.clear();
}

/// The page of nginx itself for a visitor who opens a link.
fn assert_page(reply: &Reply, status: u16) {
    use sha2::Digest;
    assert_eq!(reply.status, status, "{}", reply.lossy());
    assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(reply.header("Referrer-Policy"), Some("no-referrer"));
    let page = reply.text();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
    assert!(!page.contains(SECRET) && !page.contains("token"), "{page}");
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let sum = data_encoding::BASE64.encode(&sha2::Sha256::digest(style));
    let policy = reply.header("Content-Security-Policy").unwrap();
    assert!(policy.contains(&format!("style-src 'sha256-{sum}'")), "{policy}");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
}

/// `signup.conf` with a shorter wait for a program that hangs.
fn impatient(dir: &Path) {
    let shipped = fs::read_to_string(harness::repository("nginx/signup.conf")).unwrap();
    let short = shipped.replace("fastcgi_read_timeout 60s;", "fastcgi_read_timeout 500ms;");
    assert_ne!(short, shipped);
    fs::write(dir.join("impatient.conf"), short).unwrap();
}

#[test]
fn an_activation_while_the_service_is_down_or_hangs_is_answered_with_a_page() {
    let nginx_http = block("impatient.example", "@DIR@/impatient.conf", "");
    let setup = Setup { nginx_http, prepare: impatient, processes: 1, ..Setup::default() };
    let mut host = setup.start();
    let ask = |host: &Host, method: &str, path: &str| {
        host.ask(method, &format!("{path}?token={SECRET}")).host("impatient.example")
    };
    host.responders[0].freeze();
    let hangs = ["/activate.ashx", "/activate.ashx/"].map(|path| ask(&host, "GET", path).send());
    host.responders[0].signal(Signal::SIGCONT);
    assert_page(&hangs[0], 504);
    assert_error(&hangs[1], "504 server_error", "no endpoint");
    host.responders[0].crash();
    assert_page(&ask(&host, "GET", "/activate.ashx").send(), 502);
    assert_page(&ask(&host, "GET", "/x/ACTIVATE%2eashx").send(), 502);
    let pressed = ask(&host, "POST", "/activate.ashx").body(URLENCODED, format!("token={SECRET}"));
    assert_page(&pressed.send(), 502);
    let head = ask(&host, "HEAD", "/activate.ashx").send();
    assert_eq!(head.status, 502);
    assert_eq!(head.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_no_secret(&host);
    host.responders.clear();
}

/// Two server blocks, of which the second lets nobody in; each is a tenant of its own.
fn two_blocks() -> Host {
    let tenants = "[tenant.\"b.test\"]\nrealm = \"b.test\"\nbase_url = \"https://b.test\"\n\
         state = \"@DIR@/state-2\"\npickup = \"@DIR@/pickup-2\"\nmail_from = \"noreply@b.test\"\n"
        .into();
    let nginx_http = block("a.test", SHIPPED, "") + &block("b.test", SHIPPED, "deny all;");
    let tenant = "aliases = [\"a.test\"]".into();
    Setup { nginx_http, tenant, tenants, ..Setup::default() }.start()
}

fn realm(reply: &Reply) -> String {
    if reply.status == 200 { Captcha::solve(reply).realm } else { reply.status.to_string() }
}

#[test]
fn the_server_block_that_let_a_request_in_is_the_tenant_that_answers_it() {
    let host = two_blocks();
    let asked = |line: &str, header: &str| {
        realm(&send(&host, format!("GET {line}\r\n{header}Connection: close\r\n\r\n").as_bytes()))
    };
    assert_eq!(asked("/captcha.ashx HTTP/1.1", "Host: a.test\r\n"), REALM);
    assert_eq!(asked("/captcha.ashx HTTP/1.1", "Host: b.test\r\n"), "403");
    assert_eq!(asked("http://a.test/captcha.ashx HTTP/1.1", "Host: b.test\r\n"), REALM);
    assert_eq!(asked("http://b.test/captcha.ashx HTTP/1.1", "Host: a.test\r\n"), "403");
    assert_eq!(asked("http://A.test:99/captcha.ashx HTTP/1.0", "Host: b.test\r\n"), REALM);
    assert_eq!(asked("http://a.test./captcha.ashx?x HTTP/1.0", ""), REALM);
}

/// HTTP/1.0 knows no Host: the server block's own name chooses the tenant.
#[test]
fn a_request_without_a_host_is_the_tenant_of_the_server_blocks_name() {
    let nginx_http = block(&format!("{HOST} other.example"), SHIPPED, "");
    let host = Setup { nginx_http, ..Setup::default() }.start();
    assert_eq!(realm(&send(&host, b"GET /captcha.ashx HTTP/1.0\r\n\r\n")), REALM);
    let other = send(&host, b"GET /captcha.ashx HTTP/1.0\r\nHost: other.example\r\n\r\n");
    assert_eq!(other.outcome(), "421 unknown_host");
}
