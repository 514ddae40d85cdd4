//! Closed and open loops of work, and what they came to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What one run of a loop came to.
#[derive(Debug, Clone)]
pub struct Sample {
    /// How often the work was done in a second.
    pub per_second: f64,
    /// How long each took, in order of length.
    pub took: Vec<Duration>,
}

impl Sample {
    /// How long the shortest of the longest `1 - share` took.
    pub fn quantile(&self, share: f64) -> Duration {
        let at = (self.took.len() as f64 * share) as usize;
        self.took.get(at.min(self.took.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Does `work` on `clients` threads, each again as soon as it is done, for `time`, or until it says
/// that there is no more.
pub fn closed<S>(
    clients: usize,
    time: Duration,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S) -> bool + Sync,
) -> Sample {
    let all = Mutex::new(Vec::new());
    let end = Instant::now() + time;
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let (mut state, mut took) = (begin(), Vec::new());
                while Instant::now() < end {
                    let start = Instant::now();
                    if !work(&mut state) {
                        break;
                    }
                    took.push(start.elapsed());
                }
                all.lock().unwrap().append(&mut took);
            });
        }
    });
    summed_up(all.into_inner().unwrap(), started.elapsed())
}

/// Does `work` `rate` times a second on up to `clients` threads, whether the earlier ones are done
/// or not; the time counts from when it was due.
pub fn open<S>(
    clients: usize,
    time: Duration,
    rate: f64,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S) + Sync,
) -> Sample {
    let all = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    let most = (time.as_secs_f64() * rate) as u64;
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let (mut state, mut took) = (begin(), Vec::new());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= most {
                        break;
                    }
                    let due = started + Duration::from_secs_f64(number as f64 / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    work(&mut state);
                    took.push(due.elapsed());
                }
                all.lock().unwrap().append(&mut took);
            });
        }
    });
    summed_up(all.into_inner().unwrap(), started.elapsed())
}

fn summed_up(mut took: Vec<Duration>, time: Duration) -> Sample {
    took.sort_unstable();
    Sample { per_second: took.len() as f64 / time.as_secs_f64(), took }
}
