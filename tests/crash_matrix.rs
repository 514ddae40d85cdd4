//! Every crash of every operation: killed at each step, the power cut at each step, and again while
//! another process repairs it. A part of the states here, far more of them in `tests/all.sh`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crash::breakages;
use crash::matrix::{BOUNDED, Points, Recording, Scale, WHOLE};
use crash::operations::{ALL, Operation};
use crash::world::HA1;

/// The program's log goes to a file, which must not have learnt a secret when a test ends.
fn log() -> PathBuf {
    static LOG: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash-matrix.log");
        let _ = std::fs::remove_file(&path);
        codeb_signup::log::to_file(&path).unwrap();
        path
    };
    LOG.get_or_init(make).clone()
}

fn assert_that_the_log_keeps_secrets() {
    let text = std::fs::read_to_string(log()).unwrap();
    for secret in [HA1, "people.example", "token="] {
        assert!(!text.contains(secret), "a log line has a secret like {secret}");
    }
}

#[test]
fn no_crash_of_any_operation_loses_or_lets_in_anybody() {
    play(BOUNDED);
}

#[test]
#[ignore = "tests/all.sh"]
fn no_crash_of_any_operation_does_however_many_are_tried() {
    play(WHOLE);
}

/// Plays every operation, and fails where one state violates what must hold.
fn play(scale: Scale) {
    log();
    let queue: Mutex<Vec<&Operation>> = Mutex::new(ALL.iter().rev().collect());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // More than there are processors: a recovery that makes a view anew looks thrice before.
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(operation) = queue.lock().unwrap().pop() else { break };
                    let played = Recording::of(operation, None, scale).play();
                    results.lock().unwrap().push((operation.name, played));
                }
            });
        }
    });
    let mut all = Points::default();
    let mut violations = 0;
    for (name, played) in results.into_inner().unwrap() {
        match played {
            Ok(points) => {
                println!("{name}: {points:?}");
                all.steps += points.steps;
                all.kills += points.kills;
                all.cuts += points.cuts;
                all.second += points.second;
            }
            Err(why) => {
                violations += 1;
                println!("VIOLATION {why}");
            }
        }
    }
    let sum = all.kills + all.cuts + all.second;
    println!("crash matrix: {sum} points ({all:?}), {violations} violations");
    assert_eq!(violations, 0);
    assert_that_the_log_keeps_secrets();
}

#[test]
fn every_deliberate_mistake_in_the_order_of_steps_is_caught() {
    log();
    let mut missed = Vec::new();
    for (operation, breakage) in breakages::ALL {
        let operation = ALL.iter().find(|known| known.name == *operation).unwrap();
        let played = Recording::of(operation, Some(*breakage), BOUNDED).play();
        match played {
            Ok(points) => {
                println!("MISSED {}: {points:?}", breakage.name);
                missed.push(breakage.name);
            }
            Err(why) => println!("caught: {}; {why}", breakage.name),
        }
    }
    println!("{} deliberate mistakes, {} missed", breakages::ALL.len(), missed.len());
    assert!(missed.is_empty(), "{missed:?}");
}
