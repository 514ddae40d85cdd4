//! Every way to the program: both gateways, sockets handed over, CGI under two servers. Each runs
//! the same curl flow and the same table of raw bytes.

use std::process::{Command, Stdio};

use harness::host::{HOST, REALM};
use harness::visitor::{email, ha1};
use harness::{Captcha, Form, Host, Reply, Setup, Way, fcgi, raw};

/// Runs curl against the host; what it printed, the status code last.
fn curl(host: &Host, path: &str, arguments: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"])
        .args(["--header", &format!("Host: {HOST}")])
        .args(arguments)
        .arg(format!("http://{}{path}", host.address()))
        .output()
        .expect("curl; tests/run.sh installs it");
    let printed = String::from_utf8(output.stdout).unwrap();
    let (body, status) = printed.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

/// Captcha, HA1, sign-up, the link from the mail, activation: the account is enabled.
fn curl_flow(host: &Host) {
    let (status, body) = curl(host, "/captcha.ashx", &[]);
    assert_eq!(status, "200", "{body}");
    let reply = Reply { status: 200, headers: Vec::new(), body: body.into_bytes() };
    let captcha = Captcha::solve(&reply);
    let digest = ha1("joe", &captcha.realm, "a password");
    let fields = [
        "user=joe".to_owned(),
        "name=Jo Doe".to_owned(),
        format!("email={}", email("joe")),
        format!("ha1={digest}"),
        format!("captcha_token={}", captcha.token),
        format!("captcha_answer={}", captcha.answer),
    ];
    let arguments: Vec<&str> =
        fields.iter().flat_map(|field| ["--data-urlencode", field.as_str()]).collect();
    let (status, body) = curl(host, "/signup.ashx", &arguments);
    assert_eq!(status, "200", "{body}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json, serde_json::json!({"ok": true, "user": "joe"}));
    assert_eq!(host.account("joe").unwrap()[3], "1");
    let (status, _) = curl(host, "/signup.ashx", &arguments);
    assert_eq!(status, "400", "the captcha is spent");
    let token = host.mail_to(&email("joe")).token();
    let (status, _) = curl(host, "/activate.ashx", &["--head"]);
    assert_eq!(status, "200");
    let (status, body) = curl(host, &format!("/activate.ashx?token={token}"), &[]);
    assert_eq!(status, "200", "{body}");
    assert_eq!(host.account("joe").unwrap()[3], "0");
    assert_eq!(host.htdigest(), format!("joe:{REALM}:{digest}\n"));
    let (status, _) = curl(host, &format!("/activate.ashx?token={token}"), &[]);
    assert_eq!(status, "400", "the link is used");
}

/// The flow, then the same program with its limits against raw bytes.
fn works(way: Way) {
    curl_flow(&Setup::way(way).start());
    raw::table_holds(&Setup::way(way).start());
}

#[test]
fn the_own_gateway_works() {
    curl_flow(&Host::plain());
}

#[test]
fn the_published_crate_works_behind_its_adapter() {
    works(Way::FastcgiCrate);
}

#[test]
fn a_socket_on_descriptor_0_from_spawn_fcgi_works() {
    works(Way::SpawnFcgi);
}

#[test]
fn sockets_handed_over_by_listen_fds_work() {
    works(Way::ListenFds);
}

#[test]
fn cgi_under_lighttpd_works() {
    works(Way::LighttpdCgi);
}

#[test]
fn cgi_under_apache_works() {
    works(Way::ApacheCgi);
}

/// A query without `=` becomes arguments (RFC 3875 §4.4); none of them may reach the operator's
/// verbs.
#[test]
fn a_cgi_request_ignores_every_argument() {
    for way in [Way::ApacheCgi, Way::LighttpdCgi] {
        let host = Setup::way(way).start();
        for query in ["export+--format+csv", "check", "--help", "--version", "user+list"] {
            let (status, body) = curl(&host, &format!("/captcha.ashx?{query}"), &[]);
            assert_eq!(status, "200", "{way:?} {query}");
            assert!(body.starts_with("{\"question\""), "{way:?} {query}: {body}");
        }
    }
}

/// One request by the program itself, as a web server would run it.
fn cgi(host: &Host, arguments: &[&str], method: &str, script: &str, body: &[u8]) -> Reply {
    let mut child = Command::new(&*harness::PROGRAM)
        .args(arguments)
        .env_clear()
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("CODEB_SIGNUP_CONFIG", host.config())
        .env("REQUEST_METHOD", method)
        .env("SCRIPT_NAME", script)
        .env("REMOTE_ADDR", "192.0.2.9")
        .env("HTTP_HOST", HOST)
        .env("CONTENT_TYPE", "application/x-www-form-urlencoded")
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    use std::io::Write;
    // A request that needs no body may be answered before it is read.
    let _ = child.stdin.take().unwrap().write_all(body);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    fcgi::cgi_reply(&output.stdout)
}

#[test]
fn cgi_and_fastcgi_share_one_state_directory() {
    let host = Host::plain();
    let arguments = ["export", "--format", "csv"];
    let captcha = Captcha::solve(&cgi(&host, &arguments, "GET", "/captcha.ashx", b""));
    host.visitor().signed_up("taken");
    let form = Form::of("taken", &captcha);
    let reply = cgi(&host, &[], "POST", "/signup.ashx", &form.urlencoded());
    assert_eq!(reply.outcome(), "409 conflict");
    let form = Form::of("joe", &captcha);
    assert_eq!(host.visitor().post(&form).outcome(), "200 -", "a token of CGI at FastCGI");
    let reply = cgi(&host, &[], "POST", "/signup.ashx", &form.urlencoded());
    assert_eq!(reply.outcome(), "400 captcha_failed", "spent at FastCGI, spent at CGI");
    for user in ["a", "b", "c"] {
        let captcha = host.visitor().captcha();
        let reply = cgi(&host, &[], "POST", "/signup.ashx", &Form::of(user, &captcha).urlencoded());
        assert_eq!(reply.outcome(), "200 -");
    }
    let form = Form::of("d", &host.visitor().captcha());
    let reply = cgi(&host, &[], "POST", "/signup.ashx", &form.urlencoded());
    assert_eq!(reply.outcome(), "429 rate_limited");
}
