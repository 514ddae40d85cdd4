//! CONTRACT.md, "Common to all endpoints": dispatch, lost parameters, bad methods; through nginx,
//! whose own locations here leave out or replace parameters as a broken configuration would.

use harness::visitor::URLENCODED;
use harness::{Host, Reply, Setup, fcgi};

/// A location that sends just these parameters, `NAME VALUE;` each.
fn location(path: &str, params: &str) -> String {
    let params: String = params
        .split(';')
        .filter(|p| !p.trim().is_empty())
        .map(|p| format!("fastcgi_param {};\n", p.trim()))
        .collect();
    format!(
        "location = {path} {{ fastcgi_pass codeb_signup; fastcgi_keep_conn on;\n{params}\
         fastcgi_param CODEB_SIGNUP_PARAMS whole;\n}}\n"
    )
}

const METHOD: &str = "REQUEST_METHOD $request_method;";
const CLIENT: &str = "REMOTE_ADDR $remote_addr;";
const HOST: &str = "HTTP_HOST accounts.example;";
const BODY: &str = "CONTENT_TYPE $content_type; CONTENT_LENGTH $content_length;";

#[test]
fn the_last_segment_of_the_path_chooses_in_any_case() {
    let host = Host::plain();
    for path in ["/captcha.ashx", "/CAPTCHA.ASHX", "/a/b/Captcha.ashx", "/signup.ashx/captcha.ashx"]
    {
        assert_eq!(host.get(path).status, 200, "{path}");
    }
    let visitor = host.visitor();
    let form = visitor.form("joe");
    let reply = visitor.ask("POST", "Signup.ashx").body(URLENCODED, form.urlencoded()).send();
    assert_eq!(reply.outcome(), "200 -");
    let token = host.mail_to(&harness::visitor::email("joe")).token();
    assert_eq!(host.get(&format!("/Activate.ashx?token={token}")).status, 200);
}

#[test]
fn script_name_counts_before_document_uri_before_request_uri() {
    let common = format!("{METHOD}{CLIENT}{HOST}");
    let nginx_server = [
        location(
            "/s",
            &format!("{common} SCRIPT_NAME /captcha.ashx; DOCUMENT_URI /x; REQUEST_URI /y"),
        ),
        location("/d", &format!("{common} DOCUMENT_URI /b/captcha.ashx; REQUEST_URI /y")),
        location("/e", &format!("{common} SCRIPT_NAME \"\"; DOCUMENT_URI /captcha.ashx")),
        location("/r", &format!("{common} REQUEST_URI /a/captcha.ashx?x=/nope.ashx")),
        location("/n", &format!("{common} SCRIPT_NAME /nope; DOCUMENT_URI /captcha.ashx")),
    ]
    .concat();
    let host = Setup { nginx_server, ..Setup::default() }.start();
    for path in ["/s", "/d", "/e", "/r"] {
        assert_eq!(host.get(path).outcome(), "200 -", "{path}");
    }
    assert_eq!(host.get("/n").outcome(), "404 not_found");
}

#[test]
fn an_unknown_path_is_404_and_so_is_resend_while_it_is_off() {
    let host = Host::plain();
    for path in ["/nope.ashx", "/resend.ashx", "/captcha.ashx.ashx", "/a/.ashx"] {
        for method in ["GET", "POST"] {
            let reply = host.ask(method, path).header("Content-Length", "0").send();
            assert_eq!(reply.outcome(), "404 not_found", "{method} {path}");
        }
    }
}

/// Lost parameters, then path, then host, then method: of two things wrong the earlier answers.
#[test]
fn the_first_thing_wrong_answers() {
    let nginx_server = [
        location("/lost-and-path", &format!("{METHOD}{HOST} SCRIPT_NAME /nope.ashx")),
        location(
            "/lost-and-host",
            &format!("{CLIENT} HTTP_HOST x.example; SCRIPT_NAME /signup.ashx"),
        ),
    ]
    .concat();
    let host = Setup { nginx_server, ..Setup::default() }.start();
    assert_eq!(host.get("/lost-and-path").outcome(), "400 invalid_request");
    assert_eq!(host.get("/lost-and-host").outcome(), "400 invalid_request");
    let strange = |method: &str, path: &str| host.ask(method, path).host("x.example").send();
    assert_eq!(strange("GET", "/nope.ashx").outcome(), "404 not_found");
    assert_eq!(strange("GET", "/signup.ashx").outcome(), "421 unknown_host");
    assert_eq!(strange("DELETE", "/activate.ashx").outcome(), "421 unknown_host");
    assert_eq!(host.get("/signup.ashx").outcome(), "405 method_not_allowed");
}

#[test]
fn html_comes_from_activation_alone() {
    let nginx_server = location("/lost", &format!("{METHOD}{HOST} SCRIPT_NAME /activate.ashx"));
    let host = Setup { nginx_server, ..Setup::default() }.start();
    let html = |reply: &Reply| reply.header("Content-Type").unwrap().starts_with("text/html");
    assert!(html(&host.get("/activate.ashx")), "a refusal of activation itself");
    let before_activation = [
        host.get("/lost"),
        host.ask("GET", "/activate.ashx").host("x.example").send(),
        host.ask("DELETE", "/activate.ashx").send(),
        host.get("/nope.ashx"),
    ];
    for reply in before_activation {
        assert!(!html(&reply), "{}", reply.lossy());
        assert!(reply.json()["error"].is_string());
    }
}

#[test]
fn a_bad_method_is_405_with_allow() {
    let host = Host::plain();
    let cases = [
        ("captcha.ashx", "GET, HEAD", vec!["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get"]),
        ("signup.ashx", "POST", vec!["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"]),
        ("activate.ashx", "GET, HEAD", vec!["POST", "PUT", "DELETE", "OPTIONS"]),
    ];
    for (endpoint, allow, methods) in cases {
        for method in methods {
            let reply =
                host.ask(method, &format!("/{endpoint}")).header("Content-Length", "0").send();
            // nginx itself refuses a method in lower case as no HTTP.
            if method == "get" {
                assert_eq!(reply.status, 400);
                continue;
            }
            assert_eq!(reply.status, 405, "{method} {endpoint}");
            assert_eq!(reply.header("Allow"), Some(allow), "{method} {endpoint}");
            if method != "HEAD" {
                assert_eq!(reply.outcome(), "405 method_not_allowed", "{method} {endpoint}");
            }
        }
    }
}

#[test]
fn lost_parameters_are_refused_and_change_nothing() {
    let script = "SCRIPT_NAME /signup.ashx;";
    let nginx_server = [
        location("/no-method", &format!("{CLIENT}{HOST}{BODY}{script}")),
        location("/no-client", &format!("{METHOD}{HOST}{BODY}{script}")),
        location("/bad-client", &format!("{METHOD}{HOST}{BODY}{script} REMOTE_ADDR unix:")),
        location("/empty-client", &format!("{METHOD}{HOST}{BODY}{script} REMOTE_ADDR \"\"")),
        location("/whole", &format!("{METHOD}{CLIENT}{HOST}{BODY}{script}")),
    ]
    .concat();
    let host = Setup { nginx_server, ..Setup::default() }.start();
    let visitor = host.visitor();
    let form = visitor.form("joe").urlencoded();
    for path in ["/no-method", "/no-client", "/bad-client", "/empty-client"] {
        // More often than a client may make accounts, and a token may be presented.
        for _ in 0..6 {
            let reply = host.ask("POST", path).body(URLENCODED, &form).send();
            assert_eq!(reply.outcome(), "400 invalid_request", "{path}");
        }
    }
    assert_eq!((host.credentials().as_str(), host.mails().len()), ("", 0));
    let reply = host.ask("POST", "/whole").body(URLENCODED, &form).send();
    assert_eq!(reply.outcome(), "200 -", "the token is as good as new");
}

/// Straight at the socket: nginx does not cut its parameters short.
#[test]
fn parameters_that_did_not_arrive_whole_are_refused() {
    let host = Host::plain();
    let form = host.visitor().form("joe").urlencoded();
    let length = form.len().to_string();
    let params = [
        fcgi::pair("REQUEST_METHOD", b"POST"),
        fcgi::pair("REMOTE_ADDR", b"192.0.2.1"),
        fcgi::pair("HTTP_HOST", b"accounts.example"),
        fcgi::pair("SCRIPT_NAME", b"/signup.ashx"),
        fcgi::pair("CONTENT_TYPE", URLENCODED.as_bytes()),
        fcgi::pair("CONTENT_LENGTH", length.as_bytes()),
        fcgi::pair("SERVER_SOFTWARE", b"a test"),
    ]
    .concat();
    for cut in 1..21 {
        let bytes = fcgi::request(&params[..params.len() - cut], &form);
        let reply = fcgi::exchange(&host.socket(0), &bytes);
        assert_eq!(reply.outcome(), "400 invalid_request", "{cut} bytes missing");
    }
    assert_eq!(host.credentials(), "");
    let reply = fcgi::exchange(&host.socket(0), &fcgi::request(&params, &form));
    assert_eq!(reply.outcome(), "200 -");
}
