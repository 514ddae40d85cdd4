//! `tests/CONTRACT.md` names tests that exist, and a test for every line.

use std::collections::HashSet;
use std::fs;

use harness::repository;

/// The tests of a module, as `engine::upkeep`: functions that `#[test]` stands above.
fn tests_of(module: &str) -> HashSet<String> {
    let path = repository("tests").join(module.replace("::", "/"));
    let (file, directory) = (path.with_extension("rs"), path.join("mod.rs"));
    let path = if file.exists() { file } else { directory };
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let name = |pair: &[&str]| {
        let rest = pair[1].strip_prefix("fn ").filter(|_| pair[0] == "#[test]")?;
        Some(rest.split('(').next()?.to_owned())
    };
    lines.windows(2).filter_map(name).collect()
}

/// The rows of the table: a line of the contract, and the tests that it names.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(repository("tests/CONTRACT.md")).unwrap();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| line ")) {
        let (promise, tests) = line.trim_matches(['|', ' ']).rsplit_once(" | ").unwrap();
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        rows.push((promise.to_owned(), tests));
    }
    rows
}

#[test]
fn every_line_names_tests_that_exist() {
    let rows = rows();
    assert!(rows.len() > 60, "{} rows were read", rows.len());
    for (promise, tests) in rows {
        assert!(!tests.is_empty(), "no test for: {promise}");
        for test in tests {
            let (module, name) = test.rsplit_once("::").expect("module::test");
            assert!(tests_of(module).contains(name), "{test} does not exist, for: {promise}");
        }
    }
}

#[test]
fn every_contract_test_is_in_the_table() {
    let named: HashSet<String> = rows().into_iter().flat_map(|(_, tests)| tests).collect();
    for entry in fs::read_dir(repository("tests/contract")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        if file == "table" {
            continue;
        }
        let module = format!("contract::{file}");
        for test in tests_of(&module) {
            assert!(named.contains(&format!("{module}::{test}")), "{module}::{test} is in no row");
        }
    }
}
