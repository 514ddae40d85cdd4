//! Many requests at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Reply;
use crate::http::Ask;

/// Sends all requests at the same moment, each from a thread of its own; answers in their order.
pub fn at_once(asks: &[Ask]) -> Vec<Reply> {
    let start = Barrier::new(asks.len());
    thread::scope(|scope| {
        let threads: Vec<_> = (asks.iter())
            .map(|ask| {
                scope.spawn(|| {
                    start.wait();
                    ask.send()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("an answer")).collect()
    })
}

/// How often each outcome came, in the order of outcomes: `1 x 200 -, 15 x 409 conflict`.
pub fn tally(replies: &[Reply]) -> String {
    let mut outcomes: Vec<String> = replies.iter().map(Reply::outcome).collect();
    outcomes.sort();
    let mut lines = Vec::new();
    for group in outcomes.chunk_by(|a, b| a == b) {
        lines.push(format!("{} x {}", group.len(), group[0]));
    }
    lines.join(", ")
}

/// Runs `work` again and again on some threads while `meanwhile` runs; what each run returned.
pub fn during<T: Send>(
    threads: usize,
    work: impl Fn(usize) -> T + Sync,
    meanwhile: impl FnOnce(),
) -> Vec<T> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (stop, work) = (&stop, &work);
                scope.spawn(move || {
                    let mut results = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        results.push(work(number));
                    }
                    results
                })
            })
            .collect();
        // A failed check in `meanwhile` must end the load, or the test would never end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        let results = workers.into_iter().flat_map(|w| w.join().expect("a worker")).collect();
        if let Err(cause) = outcome {
            std::panic::resume_unwind(cause);
        }
        results
    })
}
