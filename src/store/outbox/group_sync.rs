//! One directory sync for all who wait for one.
//!
//! Whoever is about to sync lets other threads run first, which may be about to ask for the same:
//! where the processors are busy that makes few large groups of many small ones; where they are
//! not, it is one system call that returns at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

/// Syncs a directory; callers that arrive while a sync runs share the next one, since the running
/// one may have begun before their change.
#[derive(Debug)]
pub struct GroupSync {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether somebody syncs, or is about to.
    busy: bool,
    /// How many callers wait for the end of that.
    waiting: usize,
    /// How many syncs were begun, and ended.
    begun: u64,
    ended: u64,
    /// The last sync that failed, with its error's code.
    failed: u64,
    error: Option<i32>,
}

impl GroupSync {
    /// For the directory at `path`.
    pub fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_owned(), state: Mutex::default(), ended: Condvar::new() }
    }

    /// Returns when a sync that began after this call has ended. A failure counts for everybody who
    /// waited at that time, sometimes for one more: too careful, never too little.
    pub fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        let wanted = state.begun + 1;
        while state.ended < wanted {
            if state.busy {
                state.waiting += 1;
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                continue;
            }
            state.busy = true;
            drop(state);
            std::thread::yield_now();
            state = self.lock();
            state.begun += 1;
            let number = state.begun;
            drop(state);
            let result = self.disk.sync_dir(&self.path);
            state = self.lock();
            state.busy = false;
            state.ended = number;
            if let Err(error) = &result {
                state.failed = number;
                state.error = error.raw_os_error();
            }
            // Waking nobody would still cost a system call.
            if state.waiting > 0 {
                self.ended.notify_all();
            }
        }
        match state.failed >= wanted {
            true => {
                Err(state.error.map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error))
            }
            false => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_failure_reaches_its_callers_and_not_the_later_ones() {
        let dir = std::env::temp_dir().join(format!("codeb-sync-{}", std::process::id()));
        let _ = std::fs::remove_dir(&dir);
        let sync = GroupSync::new(Arc::new(RealDisk), &dir);
        assert!(sync.sync().is_err(), "the directory is missing");
        std::fs::create_dir(&dir).unwrap();
        assert!(sync.sync().is_ok());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| sync.sync().unwrap()));
            }
        });
        std::fs::remove_dir(dir).unwrap();
    }
}
