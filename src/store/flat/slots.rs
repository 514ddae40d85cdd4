//! A spool file of claims, shared by every process under the file's own flock.
//!
//! On disk: a header page, then [`BUCKETS`] buckets of one 4 KiB page, each of 256 slots of 16
//! bytes. A claim lives in the bucket that its id points to. The file is sparse, is changed in
//! place, never grows beyond 64 MiB and a page, and needs no pruning: an expired slot is a free one.
//!
//! | bytes | slot |
//! |---|---|
//! | 0–7 | id; 0 is no claim |
//! | 8–13 | when it expires, in milliseconds since 1970, big endian |
//! | 14 | uses: how often it was claimed |
//! | 15 | 1 while a claim holds it (or after one was kept), else 0 |
//!
//! Not promised: that a claim survives a power cut (what a process wrote survives its kill). A
//! killed process leaves its claims held; they end when they expire.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::{self, Disk, Handle, Locked, Open, Stat};
use crate::error::Fault;
use crate::store::claims::Claim;

/// Size of a bucket and of the header: a page, so that a slot never spans two.
const PAGE: usize = 4096;
/// Size of a slot.
const SLOT: usize = 16;
/// Buckets in a file.
const BUCKETS: u64 = 16 * 1024;
/// Pages that are read at once where the whole file is looked through.
const PAGES_AT_ONCE: usize = 64;
/// Two changes within this time may leave the same time of change: kernels take it from a clock
/// that ticks every few milliseconds.
const UNCERTAIN: Duration = Duration::from_secs(1);
/// Begins the header; a salt of 16 bytes follows.
const MAGIC: [u8; 16] = *b"codeb-claims 1\n\0";
/// How far beyond the longest life of a claim an expiry may lie before it is implausible: a
/// clock that was stepped back by a day must not free what is held.
const CLOCK_STEP: Duration = Duration::from_secs(25 * 3600);

/// What to do where a file cannot even be made because its directory is missing.
pub const NO_DIRECTORY: &str = "restart the service: it makes the directory again";

/// One spool file.
#[derive(Debug)]
pub struct Slots {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    longest_life: Duration,
    wait: Duration,
    synced: bool,
    open: Mutex<Option<Opened>>,
    /// Claims that could not be given back yet.
    pending_releases: Mutex<Vec<Release>>,
}

/// A file that was opened, and what it is; while it is open, its inode number does not come back.
type Opened = (Arc<dyn Handle>, Stat);

/// One slot, as its bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Whose it is.
    pub id: u64,
    /// When it expires, in milliseconds since 1970.
    pub until: u64,
    /// How often it was claimed.
    pub uses: u8,
    /// Whether it is held.
    pub held: bool,
}

impl Slot {
    fn decode(bytes: &[u8]) -> Self {
        let number = |part: &[u8]| part.iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
        Self {
            id: number(&bytes[..8]),
            until: number(&bytes[8..14]),
            uses: bytes[14],
            held: bytes[15] != 0,
        }
    }

    fn encode(self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..14].copy_from_slice(&self.until.to_be_bytes()[2..]);
        bytes[14] = self.uses;
        bytes[15] = u8::from(self.held);
        bytes
    }
}

/// The bucket of one id while its file is locked.
pub struct Bucket {
    slots: Vec<Slot>,
    now: u64,
    implausible_after: u64,
    offset: u64,
    locked: Locked,
    synced: bool,
}

impl Bucket {
    /// The live slots of `id`, with their numbers.
    pub fn of(&self, id: u64) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter(move |(_, slot)| slot.id == id && self.is_live(slot))
    }

    /// The number of a slot that is free.
    pub fn free(&self) -> Option<usize> {
        self.slots.iter().position(|slot| !self.is_live(slot))
    }

    /// Writes a slot.
    pub fn put(&mut self, number: usize, slot: Slot) -> io::Result<()> {
        let handle = self.locked.handle();
        handle.write_at(&slot.encode(), self.offset + (number * SLOT) as u64)?;
        self.slots[number] = slot;
        if self.synced { handle.sync() } else { Ok(()) }
    }

    fn is_live(&self, slot: &Slot) -> bool {
        slot.id != 0 && self.now < slot.until && slot.until < self.implausible_after
    }
}

/// The error for a bucket without a free slot.
pub fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "every place for this client is in use")
}

impl Slots {
    /// `longest_life` is the longest time to expiry that a slot is given, `wait` how long the
    /// file's lock is waited for; `synced` makes every change durable before it counts.
    pub fn new(
        disk: Arc<dyn Disk>,
        path: &Path,
        longest_life: Duration,
        wait: Duration,
        synced: bool,
    ) -> Self {
        let (open, pending_releases) = Default::default();
        Self { disk, path: path.to_owned(), longest_life, wait, synced, open, pending_releases }
    }

    /// A fault about this file.
    pub fn fault(&self, doing: &'static str, cause: io::Error) -> Fault {
        let fault = Fault::new(doing, &self.path, cause);
        match fault.cause().kind() {
            io::ErrorKind::TimedOut => match disk::lock_holder(&self.path) {
                Some(pid) => fault.way_out(format!("process {pid} holds its lock")),
                None => fault.way_out("another process holds its lock"),
            },
            io::ErrorKind::NotFound => fault.way_out(NO_DIRECTORY),
            io::ErrorKind::StorageFull => fault.way_out(
                "free space on its filesystem; where there is enough, its claims run out by themselves",
            ),
            _ => fault,
        }
    }

    /// Calls `change` with the bucket that `key` falls into, and with the key's id, while the file
    /// is locked. `now` is in milliseconds since 1970. What could not be given back
    /// before is given back first.
    pub fn with<T>(
        &self,
        key: &[u8],
        now: u64,
        change: impl FnOnce(&mut Bucket, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let Some(pending) = self.pending_releases().pop() else { break };
            if let Err(error) = pending.release(self) {
                self.pending_releases().push(pending);
                return Err(error);
            }
        }
        self.change(key, now, change)
    }

    /// Holds `held`, which stands at `number` in the bucket of `key`; given back it becomes
    /// `given_back`, or free. Where that fails, the next claim in this process tries again first.
    pub fn claim(
        self: &Arc<Self>,
        key: &[u8],
        number: usize,
        held: Slot,
        given_back: Option<Slot>,
    ) -> Claim {
        let (slots, key) = (self.clone(), key.to_vec());
        Claim::new(move || {
            let release = Release { key, number, held, given_back };
            if let Err(cause) = release.release(&slots) {
                slots.pending_releases().push(release);
                let fault = slots.fault("give a claim back in", cause);
                crate::log::event(crate::log::Level::Error, "spool").field("fault", fault).emit();
            }
        })
    }

    fn pending_releases(&self) -> MutexGuard<'_, Vec<Release>> {
        self.pending_releases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(
        &self,
        key: &[u8],
        now: u64,
        change: impl FnOnce(&mut Bucket, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        // Threads exclude each other here, processes by flock: threads that share a descriptor
        // would all hold its lock.
        let called = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = self.lock(&mut open, called)?;
        // Read each time: two processes with two salts would not see each other's claims.
        let id = id_of(&salt(locked.handle().as_ref())?, key);
        let offset = PAGE as u64 * (1 + id % BUCKETS);
        let mut page = [0; PAGE];
        // A bucket behind the end of the file is one that nobody wrote: zeros.
        locked.handle().read_at(&mut page, offset)?;
        let slots = page.chunks_exact(SLOT).map(Slot::decode).collect();
        let life = self.longest_life + CLOCK_STEP;
        let implausible_after =
            now.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        let mut bucket =
            Bucket { slots, now, implausible_after, offset, locked, synced: self.synced };
        change(&mut bucket, id)
    }

    /// Empties the file where no claim in it is live any more; whether it did. `now` is in
    /// milliseconds since 1970. The file is read without its lock; under it is only made sure that
    /// nobody wrote meanwhile, as far as the file's time of change tells that.
    pub fn prune(&self, now: u64) -> io::Result<bool> {
        let (handle, before) = {
            let called = Instant::now();
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let locked = self.lock(&mut open, called)?;
            (locked.handle().clone(), locked.handle().stat()?)
        };
        let settled = i128::from(now) * 1_000_000 - before.mtime > UNCERTAIN.as_nanos() as i128;
        if before.len <= PAGE as u64 || !settled || any_live(handle.as_ref(), before.len, now)? {
            return Ok(false);
        }
        let called = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = self.lock(&mut open, called)?;
        if locked.handle().stat()? != before {
            return Ok(false);
        }
        locked.handle().set_len(PAGE as u64)?;
        Ok(true)
    }

    /// The file, opened and locked; opened anew where the path stands for another one by now. What
    /// a caller waited for other threads since `called` is taken off its wait: where somebody sits
    /// on the lock, they would else wait one after the other.
    fn lock(&self, open: &mut Option<Opened>, called: Instant) -> io::Result<Locked> {
        loop {
            let (handle, known) = match open {
                Some(opened) => opened,
                None => {
                    let handle = self.disk.open(&self.path, Open::Create(0o600))?;
                    let stat = handle.stat()?;
                    open.insert((handle, stat))
                }
            };
            let locked = disk::lock_within(handle, self.wait.saturating_sub(called.elapsed()))?;
            match self.disk.stat(&self.path) {
                Ok(stat) if stat.same_file(known) => return Ok(locked),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => *open = None,
            }
        }
    }
}

/// Whether a claim in the file is live at `now`.
fn any_live(handle: &dyn Handle, len: u64, now: u64) -> io::Result<bool> {
    let mut pages = vec![0; PAGES_AT_ONCE * PAGE];
    let mut offset = PAGE as u64;
    while offset < len {
        let read = handle.read_at(&mut pages, offset)?;
        let slots = pages.get(..read).unwrap_or_default().chunks_exact(SLOT).map(Slot::decode);
        if slots.into_iter().any(|slot| slot.id != 0 && now < slot.until) {
            return Ok(true);
        }
        if read == 0 {
            break;
        }
        offset += read as u64;
    }
    Ok(false)
}

/// The salt in the file's header; a file without a whole header begins anew.
fn salt(handle: &dyn Handle) -> io::Result<[u8; 16]> {
    let mut head = [0; 32];
    handle.read_at(&mut head, 0)?;
    let mut salt = [0; 16];
    if head[..16] == MAGIC {
        salt.copy_from_slice(&head[16..]);
        return Ok(salt);
    }
    crate::secret::fill_random(&mut salt)?;
    handle.set_len(0)?;
    head[..16].copy_from_slice(&MAGIC);
    head[16..].copy_from_slice(&salt);
    handle.write_at(&head, 0)?;
    Ok(salt)
}

/// A claim's id: a salted hash, so that nobody can choose clients that fall into one bucket.
fn id_of(salt: &[u8; 16], key: &[u8]) -> u64 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new().chain_update(salt).chain_update(key).finalize();
    let id = hash.iter().take(8).fold(0, |sum, &b| sum << 8 | u64::from(b));
    id.max(1)
}

/// How a claim is given back.
#[derive(Debug)]
struct Release {
    key: Vec<u8>,
    number: usize,
    held: Slot,
    /// What the slot becomes; `None` frees it.
    given_back: Option<Slot>,
}

impl Release {
    fn release(&self, slots: &Slots) -> io::Result<()> {
        // A time at which every slot is live: what was written must be found again.
        slots.change(&self.key, 0, |bucket, _| {
            let Some(&slot) = bucket.slots.get(self.number) else { return Ok(()) };
            if slot.id != self.held.id || slot.until != self.held.until {
                return Ok(());
            }
            let empty = Slot { id: 0, until: 0, uses: 0, held: false };
            let uses = slot.uses;
            let slot = self.given_back.map_or(empty, |slot| Slot { uses, ..slot });
            bucket.put(self.number, slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    const WAIT: Duration = Duration::from_millis(300);

    fn slots(name: &str) -> (Slots, PathBuf) {
        let dir = std::env::temp_dir().join(format!("codeb-slots-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        (Slots::new(Arc::new(RealDisk), &dir.join("rate"), WAIT, WAIT, false), dir)
    }

    #[test]
    fn threads_do_not_wait_one_after_the_other_for_a_lock_that_somebody_sits_on() {
        let (slots, dir) = slots("stuck");
        slots.with(b"a", 1, |_, _| Ok(())).unwrap();
        let holder = RealDisk.open(&dir.join("rate"), Open::Write).unwrap();
        assert!(holder.try_lock().unwrap());
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let stuck = slots.with(b"a", 1, |_, _| Ok(())).unwrap_err();
                    assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
                });
            }
        });
        assert!(started.elapsed() < 8 * WAIT, "a bound that sixteen waits in a row exceed");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn processes_agree_on_a_file_that_somebody_emptied_in_place() {
        let (one, dir) = slots("emptied");
        let id = |slots: &Slots| slots.with(b"client", 1, |_, id| Ok(id)).unwrap();
        let before = id(&one);
        std::fs::write(dir.join("rate"), "").unwrap();
        let later = Slots::new(Arc::new(RealDisk), &dir.join("rate"), WAIT, WAIT, false);
        assert_eq!(id(&later), id(&one));
        assert_ne!(id(&one), before, "its salt went with the rest");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
