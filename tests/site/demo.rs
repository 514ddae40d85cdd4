//! deploy/demo.sh as somebody meets it who has just cloned the repository: the README's own curl lines
//! end in an enabled account. As root, both tests run in a copy of this machine that is thrown away
//! (tests/site/demo/machine.sh). Without root, or in a container that grants no mounts, there is no such copy:
//! the one that installs nginx says so and passes, and the other clones into a temporary directory, as
//! whoever runs the tests. A clone has what is committed.

use std::io::Write;
use std::process::Command;

use harness::server::{free_port, is_root};
use harness::{TempDir, repository};

/// How long one way may take: a build of all crates on busy cores, and an installation.
const LIMIT: &str = "480";

/// A command that is ended with all that it started when it takes too long; it has to print `enabled`.
fn ends_in_an_enabled_account(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}, {}:\n{said}", command, output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "enabled\n", "{said}");
}

/// Tells why a test does less. cargo captures what is printed, and shows nothing of a test that passes.
fn say(why: &str) {
    let line = format!("tests/site/demo.rs: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Runs `tests/site/demo/machine.sh HOW`, and says whether it could.
fn in_a_copy_of_this_machine(how: &str) -> bool {
    // The end of `unshare` is the end of everything in its process namespace.
    let apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"];
    let may = Command::new(apart[0]).args(&apart[1..]).arg("true").output().unwrap();
    if !is_root() || !may.status.success() {
        let why = String::from_utf8_lossy(&may.stderr);
        say(&format!("no copy of this machine, which only root may make: {}", why.trim()));
        return false;
    }
    let scratch = TempDir::new();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=30", LIMIT]).args(apart);
    command.arg(repository("tests/site/demo/machine.sh"));
    command.arg(how).arg(scratch.path()).arg(free_port().to_string());
    ends_in_an_enabled_account(command);
    true
}

#[test]
fn an_ordinary_user_with_nginx_gets_from_a_fresh_clone_to_an_enabled_account() {
    if in_a_copy_of_this_machine("user") {
        return;
    }
    let scratch = TempDir::new();
    let clone = scratch.path().join("codeb-signup");
    let cloned =
        Command::new("git").args(["clone", "--quiet"]).arg(repository("")).arg(&clone).status();
    assert!(cloned.unwrap().success(), "git clone of {}", repository("").display());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=30", LIMIT]).arg(clone.join("tests/site/demo/flow.sh"));
    command.arg(free_port().to_string()).env_remove("CARGO_TARGET_DIR");
    ends_in_an_enabled_account(command);
}

#[test]
fn root_without_nginx_gets_it_installed_and_from_a_fresh_clone_to_an_enabled_account() {
    if !in_a_copy_of_this_machine("root") {
        say("skipped: whether the demo installs nginx");
    }
}

#[test]
fn an_unknown_option_is_named() {
    for unknown in ["--prot", "--prot=8081", "8081", ""] {
        let output = Command::new(repository("deploy/demo.sh")).arg(unknown).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert_eq!(said, format!("demo: there is no option '{unknown}' (see --help)\n"));
    }
}
