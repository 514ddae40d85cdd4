//! What the README shows is what the program does: its curl lines are run, and its table of keys is
//! compared with the sample configuration.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use harness::{Setup, TempDir, repository};

fn readme() -> String {
    std::fs::read_to_string(repository("README.md")).unwrap()
}

/// The shell block that has `needle`.
fn shell_block(needle: &str) -> String {
    let readme = readme();
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.into_iter().find(|block| block.contains(needle)).unwrap().to_owned()
}

/// Runs the README's curl lines against another address; `options` are bash's.
fn run_curl_lines(options: &str, address: impl std::fmt::Display) -> Output {
    let lines = shell_block("captcha.ashx");
    let here = format!("HOST=http://{address}");
    let script = lines.replacen("HOST=http://127.0.0.1:8080", &here, 1);
    assert_ne!(script, lines, "the block names the demo's address");
    Command::new("bash").args([options, &script]).output().unwrap()
}

#[test]
fn the_curl_lines_of_the_readme_make_an_account() {
    let tenant = "aliases = [\"127.0.0.1\"]".to_owned();
    let host = Setup { tenant, ..Setup::default() }.start();
    let output = run_curl_lines("-euc", host.address());
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed, "{\"ok\":true,\"user\":\"alice\"}");
    let token = host.mail_to("alice@example.org").token();
    assert_eq!(host.visitor().activate(&token).status, 200);
    assert!(host.htdigest().starts_with("alice:"));
}

/// A server whose captchas hold a shell command where bash's arithmetic would run it.
#[test]
fn the_curl_lines_of_the_readme_run_nothing_that_a_server_says() {
    let scratch = TempDir::new();
    let mark = scratch.path().join("was-run");
    let touch = format!("touch {}", mark.display());
    let hostile = [
        format!("a[$({touch})] + 1"),
        format!("1 + a[$({touch})]"),
        format!("a[`{touch}`]"),
        format!("1 + 2)); {touch}; ((1"),
    ];
    for text in hostile {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let body = format!("{{\"question\":\"{text}\",\"token\":\"{text}\",\"realm\":\"{text}\"}}");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        });
        // As they are pasted, each line whatever became of the one before. The sign-up finds nobody
        // who listens.
        run_curl_lines("-c", address);
        server.join().unwrap().unwrap();
        assert!(!mark.exists(), "{text}");
    }
}

/// The keys in the first column of the README's configuration tables.
fn keys_of_the_readme() -> BTreeSet<String> {
    let readme = readme();
    let chapter = readme.split("\n## Configuration\n").nth(1).unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| row.split(" | ").next().unwrap().split(", "))
        .map(|key| key.trim_matches('`').to_owned())
        .collect()
}

/// The keys that the sample configuration names, commented out or not.
fn keys_of_the_sample() -> BTreeSet<String> {
    let sample = std::fs::read_to_string(repository("deploy/config.toml")).unwrap();
    let keys = sample.lines().filter_map(|line| line.split_once(" = "));
    let keys = keys.map(|(key, _)| key.trim_start_matches('#').to_owned());
    keys.filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).collect()
}

#[test]
fn the_readme_and_the_sample_configuration_name_the_same_keys() {
    assert_eq!(keys_of_the_readme(), keys_of_the_sample());
}

#[test]
fn the_sample_configuration_is_accepted_with_every_line_taken_in() {
    let sample = std::fs::read_to_string(repository("deploy/config.toml")).unwrap();
    let whole: String = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // A default that stands commented out; prose has a blank behind its `#`. Groups differ
            // from machine to machine.
            Some(key) if !key.starts_with(' ') && !key.contains("_group") => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let parsed = codeb_signup::config::parse("config.toml".as_ref(), &whole);
    assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
}
