//! Every crash of every operation: killed at each step, the power cut at each step, and again while
//! another process repairs it. A part of the states here, far more of them in `tests/all.sh`.

use std::sync::Mutex;

use crate::crash::matrix::{BOUNDED, Points, Recording, Scale, WHOLE};
use crate::crash::operations::{ALL, Operation};
use crate::crash::{breakages, log, traces};

#[test]
fn no_crash_of_any_operation_loses_or_lets_in_anybody() {
    play(BOUNDED);
}

#[test]
#[ignore = "tests/all.sh"]
fn no_crash_of_any_operation_does_however_many_are_tried() {
    play(WHOLE);
}

/// What becomes of each item. More threads than there are processors: a recovery that makes a view
/// anew looks thrice before.
fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let (queue, results) = (Mutex::new(items), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(item) = queue.lock().unwrap().pop() else { break };
                    let result = work(item);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

/// Plays every operation, and fails where one state violates what must hold.
fn play(scale: Scale) {
    log::begin();
    let mut all = Points::default();
    let mut violations = 0;
    let operations = ALL.iter().chain(traces::ALL).rev().collect();
    for (operation, played) in each(operations, |operation: &Operation| {
        (operation, Recording::of(operation, None, scale).play())
    }) {
        match played {
            Ok(points) => {
                println!("{}: {points:?}", operation.name);
                all.steps += points.steps;
                all.kills += points.kills;
                all.cuts += points.cuts;
                all.second += points.second;
            }
            Err(why) => {
                println!("VIOLATION {why}");
                violations += 1;
            }
        }
    }
    let sum = all.kills + all.cuts + all.second;
    println!("crash matrix: {sum} points ({all:?}), {violations} violations");
    assert_eq!(violations, 0);
    log::assert_that_it_keeps_secrets();
}

#[test]
fn every_deliberate_mistake_in_the_order_of_steps_is_caught() {
    log::begin();
    let mut missed = Vec::new();
    for (breakage, played) in each(breakages::ALL.to_vec(), |(name, breakage)| {
        let operation = ALL.iter().find(|known| known.name == name).unwrap();
        (breakage, Recording::of(operation, Some(breakage), BOUNDED).play())
    }) {
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
