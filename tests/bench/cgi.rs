//! The program as CGI: a process a request.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::{HOST, form, solve};
use crate::site::PROGRAM;

/// How long a captcha and a sign-up take from start to end, in a directory with a `config.toml`.
pub fn once(dir: &Path, number: u32) -> (Duration, Duration) {
    let (captcha, took) = run(dir, "GET", "captcha.ashx", number, "");
    let json = captcha.split_once("\r\n\r\n").expect("a CGI answer").1;
    let (token, answer) = solve(json.as_bytes());
    let user = format!("by-cgi-{number}");
    let body = form(Some(&user), number, &token, answer);
    let (made, sign_up) = run(dir, "POST", "signup.ashx", number, &body);
    assert!(made.starts_with("Status: 200"), "{made}");
    (took, sign_up)
}

fn run(dir: &Path, method: &str, path: &str, number: u32, body: &str) -> (String, Duration) {
    let [_, a, b, c] = number.to_be_bytes();
    let started = Instant::now();
    let mut child = Command::new(PROGRAM)
        .env_clear()
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("CODEB_SIGNUP_CONFIG", dir.join("config.toml"))
        .env("CODEB_SIGNUP_PARAMS", "whole")
        .env("REQUEST_METHOD", method)
        .env("SCRIPT_NAME", format!("/{path}"))
        .env("REMOTE_ADDR", format!("11.{a}.{b}.{c}"))
        .env("HTTP_HOST", HOST)
        .env("CONTENT_TYPE", "application/x-www-form-urlencoded")
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The request without a body has its answer before this.
    let _ = child.stdin.take().unwrap().write_all(body.as_bytes());
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), started.elapsed())
}
