//! Raw bytes, lying lengths and huge heads through nginx to our own responder, exactly; the same
//! table goes through the other ways in `ways.rs`.

use std::time::Duration;

use harness::http::Connection;
use harness::visitor::URLENCODED;
use harness::{Captcha, Host, Setup, raw, wait_for};

#[test]
fn the_raw_byte_table_holds_with_the_own_gateway() {
    raw::table_holds(&Host::plain());
}

/// Our responder takes parameters as the bytes they are: raw ones change nothing.
#[test]
fn the_own_gateway_serves_requests_with_raw_bytes() {
    let host = Host::plain();
    for target in [&b"/captcha.ashx?\xff"[..], b"/x%FF/captcha.ashx", b"/captcha.ashx?%FF"] {
        let visitor = host.visitor();
        let mut connection = Connection::open(host.address(), visitor.address).unwrap();
        let line = [b"GET ", target, b" HTTP/1.1\r\nHost: accounts.example\r\n"].concat();
        let rest = b"User-Agent: \xff\xfe\r\nContent-Type: \xff\r\nConnection: close\r\n\r\n";
        let reply = connection.ask(&[line.as_slice(), rest].concat()).unwrap();
        Captcha::solve(&reply);
    }
}

/// With header buffers far beyond the defaults, so that nginx passes on what it can.
#[test]
fn parameters_over_64_kib_are_refused_in_json() {
    let nginx_server = "large_client_header_buffers 8 128k;".into();
    let host = Setup { nginx_server, ..Setup::default() }.start();
    let visitor = host.visitor();
    for length in [30_000, 40_000, 70_000, 100_000] {
        let target = format!("captcha.ashx?{}", "x".repeat(length));
        let reply = visitor.ask("GET", &target).send();
        match reply.outcome().as_str() {
            "200 -" => assert!(length < 65_536),
            // The query stands in several parameters, so half of the limit is enough.
            "400 invalid_request" | "500 server_error" => assert!(length > 30_000, "{length}"),
            other => panic!("{length}: {other}"),
        }
        visitor.captcha();
    }
}

#[test]
fn several_requests_on_one_connection_are_kept_apart() {
    let host = Host::plain();
    let visitor = host.visitor();
    let mut connection = Connection::open(host.address(), visitor.address).unwrap();
    for user in ["a", "b", "c"] {
        let captcha = visitor.ask("GET", "captcha.ashx").bytes(true);
        let captcha = Captcha::solve(&connection.ask(&captcha).unwrap());
        let form = harness::Form::of(user, &captcha);
        let large = "x".repeat(20_000);
        let large = visitor.ask("POST", "signup.ashx").body(URLENCODED, large).bytes(true);
        assert_eq!(connection.ask(&large).unwrap().status, 413);
        let reply = connection.ask(&visitor.posting(&form).bytes(true)).unwrap();
        assert_eq!(reply.outcome(), "200 -");
    }
}

/// A body that never comes: nginx answers or closes by itself, and the program is not troubled.
#[test]
fn a_request_that_never_ends_holds_nobody_up() {
    let host = Host::plain();
    let visitor = host.visitor();
    let mut slow = Connection::open(host.address(), visitor.address).unwrap();
    slow.write(
        b"POST /signup.ashx HTTP/1.1\r\nHost: accounts.example\r\nContent-Length: 99\r\n\r\nx",
    )
    .unwrap();
    wait_for("a sign-up beside it", Duration::from_secs(5), || {
        (visitor.sign_up("joe").outcome() == "200 -").then_some(())
    });
}
