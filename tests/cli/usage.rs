//! Arguments, help, and the verb `ha1`.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::PROGRAM;

use crate::site::{code, err, out, run, run_with_input};

#[test]
fn help_and_version_are_answers_and_everything_unclear_is_a_usage_error() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["ha1", "-h"]] {
        let output = run(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    for args in [
        &[][..],
        &["--config", "/x"],
        &["brew"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--port", "1"],
        &["ha1", "joe"],
        &["ha1", "joe", "a", "secret"],
        &["ha1", "Joe", "a"],
        &["ha1", "joe", "a:b"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 64, "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_teaches_each_verb_with_an_example() {
    for help in [out(&run(&["--help"])), err(&run(&[]))] {
        for example in [
            "codeb-signup serve --listen",
            "codeb-signup check",
            "codeb-signup ha1 joe",
            "codeb-signup user disable joe",
            "codeb-signup sweep",
            "codeb-signup compact",
        ] {
            assert!(help.contains(example), "no {example} in {help}");
        }
    }
    for verb in ["serve", "check", "ha1", "user", "sweep", "compact"] {
        assert!(out(&run(&[verb, "--help"])).contains("Example:"), "{verb}");
    }
    for verb in ["enable", "disable", "remove"] {
        assert!(out(&run(&["user", verb, "--help"])).contains("Example:"), "{verb}");
    }
}

#[test]
fn ha1_from_standard_input_is_what_md5sum_says() {
    let output = run_with_input(&["ha1", "joe", "My Host"], b"s\xc3\xbc\xc3\x9f e:s\n");
    assert_eq!(code(&output), 0);
    let sum = Command::new("sh")
        .args(["-c", "printf 'joe:My Host:s\\303\\274\\303\\237 e:s' | md5sum | cut -c1-32"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, sum.stdout);
    assert_eq!(sum.stdout.len(), 33);
}

#[test]
fn ha1_refuses_what_is_no_password_and_never_shows_it() {
    for input in [&b""[..], b"\n", b"secret1\nsecret2\n", b"secret\xff\n"] {
        let output = run_with_input(&["ha1", "joe", "a"], input);
        assert_eq!(code(&output), 65, "{input:?}");
        assert!(output.stdout.is_empty() && !err(&output).contains("secret"));
    }
}

/// The prompt comes a moment before the echo goes: nobody types that fast, but this test does.
fn until_echo_is_off(terminal: &str) {
    let started = Instant::now();
    loop {
        let settings = Command::new("stty").args(["-F", terminal, "-a"]).output().unwrap();
        if out(&settings).split_whitespace().any(|setting| setting == "-echo") {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the terminal still echoes");
    }
}

#[test]
fn at_a_terminal_ha1_asks_twice_and_shows_nothing() {
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("tty; '{}' ha1 joe localhost", *PROGRAM), "/dev/null"]);
    for (again, ending) in [("secret", 0), ("sacred", 65)] {
        let piped = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.env_remove("GATEWAY_INTERFACE").spawn().unwrap();
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = Vec::new();
        let mut wait_for = |end: &str| {
            while !shown.ends_with(end.as_bytes()) {
                let mut byte = [0];
                screen.read_exact(&mut byte).unwrap();
                shown.extend(byte);
            }
            String::from_utf8(shown.clone()).unwrap()
        };
        let terminal = wait_for("\n").trim().to_owned();
        for (prompt, typed) in [("Password: ", "secret"), ("Again: ", again)] {
            wait_for(prompt);
            until_echo_is_off(&terminal);
            writeln!(keys, "{typed}").unwrap();
        }
        screen.read_to_end(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(ending), "{shown}");
        assert_eq!(shown.contains("f897f26c85b7233cdeb56487e136c754"), ending == 0, "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("sacred"), "{shown}");
    }
}
