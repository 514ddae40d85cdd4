//! The configuration that is in effect: what `check` and `serve` say of it, and where it comes from, a
//! web server's request included.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::site::{Site, code, err, out, program};

#[test]
fn check_prints_what_is_in_effect_and_reads_it_back() {
    let site = Site::new();
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
    for line in
        ["workers = 64", "captcha_ttl = \"15m\"", "views = [\"htdigest\"]", "# listen is not set"]
    {
        assert!(out(&output).lines().any(|l| l == line), "no {line} in {}", out(&output));
    }
    fs::write(site.config(), out(&output)).unwrap();
    assert_eq!(out(&site.check()), out(&output));
    assert!(fs::read_dir(site.path("pickup")).unwrap().next().is_none(), "the probe left a name");
}

#[test]
fn check_warns_of_what_works_but_is_not_meant() {
    let site = Site::new();
    let quiet = err(&site.check());
    // A test that is run as root owns the directory as root, which is worth a warning of its own.
    assert!(quiet.lines().all(|line| line.contains("belongs to root")), "{quiet}");
    fs::set_permissions(site.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    let text = fs::read_to_string(site.config()).unwrap();
    let text = text.replace("http://localhost", "http://a.example");
    fs::write(site.config(), format!("listen = \"0.0.0.0:9000\"\n{text}")).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 0);
    let warnings = err(&output);
    let config = site.config();
    for (line, key, why) in [
        (1, "listen", "is 0.0.0.0:9000"),
        (4, "tenant.\"localhost\".base_url", "is \"http://a.example\""),
        (5, "tenant.\"localhost\".state", "has mode 0755"),
    ] {
        let start = format!("codeb-signup: warning: {}:{line}: {key}: {why}", config.display());
        assert!(warnings.lines().any(|l| l.starts_with(&start)), "no {start} in {warnings}");
    }
}

#[test]
fn a_wrong_configuration_ends_check_and_serve_with_78_and_its_line() {
    let site = Site::new();
    site.write("colour = \"red\"\n");
    for verb in ["check", "serve"] {
        let output = program().arg("--config").arg(site.config()).arg(verb).output().unwrap();
        assert_eq!(code(&output), 78, "{verb}");
        let start = format!("codeb-signup: {}:7: ", site.config().display());
        assert!(err(&output).starts_with(&start), "{}", err(&output));
        assert!(output.stdout.is_empty());
    }
    site.write("");
    fs::remove_dir(site.path("pickup")).unwrap();
    for verb in ["check", "serve"] {
        let output = program().arg("--config").arg(site.config()).arg(verb).output().unwrap();
        assert_eq!(code(&output), 78, "{verb}");
        assert!(err(&output).contains("pickup\", which does not exist"), "{}", err(&output));
    }
}

#[test]
fn the_flag_outranks_the_environment() {
    let site = Site::new();
    let mut command = program();
    command.arg("check").env("CODEB_SIGNUP_CONFIG", site.config());
    assert_eq!(code(&command.output().unwrap()), 0);
    let output = command.args(["--config", "/nonexistent.toml"]).output().unwrap();
    assert_eq!(code(&output), 78);
    assert!(err(&output).contains("/nonexistent.toml: cannot be read"));
}

/// Only root can see this: whatever root's check finds is what the directories' owner would.
#[test]
fn as_root_check_looks_with_the_eyes_of_the_state_directorys_owner() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const NOBODY: u32 = 65534;
    let site = Site::new();
    std::os::unix::fs::chown(site.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 78);
    let reason = format!("pickup\", which uid {NOBODY} may not read and write");
    assert!(err(&output).contains(&reason), "{}", err(&output));
    std::os::unix::fs::chown(site.path("pickup"), Some(NOBODY), None).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
}

/// Runs the binary as a web server would: a request in the environment.
fn cgi(config: &Path, args: &[&str]) -> Output {
    program()
        .args(args)
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("REQUEST_METHOD", "GET")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("SERVER_NAME", "localhost")
        .env("SCRIPT_NAME", "/nothing.ashx")
        .env("QUERY_STRING", args.join("+"))
        .env("CODEB_SIGNUP_CONFIG", config)
        .output()
        .unwrap()
}

#[test]
fn a_cgi_request_ignores_every_argument() {
    let site = Site::new();
    let plain = cgi(&site.config(), &[]);
    assert_eq!(code(&plain), 0, "{}", err(&plain));
    assert!(out(&plain).starts_with("Status: 404 "), "{}", out(&plain));
    for args in [
        &["export", "--format", "csv"][..],
        &["--help"],
        &["check"],
        &["--config", "/nonexistent.toml"],
        &["/srv/www/signup.ashx"],
    ] {
        let output = cgi(&site.config(), args);
        assert_eq!((code(&output), out(&output)), (0, out(&plain)), "{args:?}");
    }
}

#[test]
fn a_cgi_program_without_configuration_answers_500_and_tells_only_the_operator_why() {
    let output = cgi(Path::new("/nonexistent.toml"), &[]);
    let answer = out(&output);
    assert!(answer.starts_with("Status: 500 "), "{answer}");
    assert!(answer.contains("Content-Type: application/json; charset=utf-8"));
    let body = r#"{"error":"server_error","error_description":"The service is not configured."}"#;
    assert!(answer.ends_with(body) && !answer.contains("nonexistent"));
    assert!(err(&output).contains("/nonexistent.toml: cannot be read"));
}
