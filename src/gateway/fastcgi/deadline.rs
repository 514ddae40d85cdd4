//! When to give up on a peer, in monotonic time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// In milliseconds since the responder's start; 0 for never.
#[derive(Debug, Default)]
pub struct Deadline(AtomicU64);

impl Deadline {
    /// Gives up `after` this time from now.
    pub fn set(&self, started: Instant, after: Duration) {
        self.0.store(millis(started.elapsed() + after), Ordering::Release);
    }

    /// Does not give up.
    pub fn clear(&self) {
        // A plain load is much cheaper than a store where there is nothing to clear.
        if self.is_set() {
            self.0.store(0, Ordering::Release);
        }
    }

    /// Whether it gives up ever.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Whether the time has come.
    pub fn is_over(&self, started: Instant) -> bool {
        let at = self.0.load(Ordering::Acquire);
        at != 0 && at < millis(started.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
