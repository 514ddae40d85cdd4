//! Closed and open loops of work, and what they came to.

use std::fs;
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
    /// How long the machine's processors were busy for each, with whatever else they did.
    pub busy: Duration,
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
    let before = busy();
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
    let time = started.elapsed();
    summed_up(all.into_inner().unwrap(), time, busy().saturating_sub(before))
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
    let before = busy();
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
    let time = started.elapsed();
    summed_up(all.into_inner().unwrap(), time, busy().saturating_sub(before))
}

fn summed_up(mut took: Vec<Duration>, time: Duration, busy: Duration) -> Sample {
    took.sort_unstable();
    let busy = busy / u32::try_from(took.len().max(1)).unwrap();
    Sample { per_second: took.len() as f64 / time.as_secs_f64(), took, busy }
}

/// How long the processors were busy since the machine started: proc(5), the first line of
/// `/proc/stat`, all but `idle` and `iowait`, in hundredths of a second.
fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_ascii_whitespace().skip(1).take(8).enumerate();
    let busy = ticks.filter(|(at, _)| !matches!(at, 3 | 4));
    Duration::from_millis(busy.filter_map(|(_, n)| n.parse::<u64>().ok()).sum::<u64>() * 10)
}
