//! Building when there is nothing to build.

use std::process::Command;

use harness::repository;

/// What cargo says of the program's package; `Fresh` where it has nothing to do.
fn build() -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output =
        cargo.args(["build", "--locked", "--verbose"]).current_dir(repository("")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_second_build_has_nothing_to_do() {
    build();
    let said = build();
    assert!(said.contains("Fresh codeb-signup "), "{said}");
    assert!(!said.contains("Running "), "{said}");
}
