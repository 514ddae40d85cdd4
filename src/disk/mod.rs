//! The only place with flock, fsync, rename and in-place writes. Everything above speaks to a
//! [`Disk`] and to the [`Handle`]s it opens, so that a test can put a disk under the program that
//! records each step and then plays every crash.

mod holder;
mod real;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use holder::lock_holder;
pub use real::RealDisk;

/// How a file is opened. A symlink, or a file that belongs to another user, is refused: nobody
/// else has business where our files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// For reading and writing; made with this mode where it is missing.
    Create(u32),
    /// For reading and writing; it must not exist yet, and is made with this mode.
    New(u32),
}

/// What a path or a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The filesystem.
    pub dev: u64,
    /// The file within it.
    pub ino: u64,
    /// Length in bytes.
    pub len: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime: i128,
    /// Last change of the content or of what is known of the file, in the same unit; nobody can set it.
    pub ctime: i128,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

impl Stat {
    /// Whether both stand for one file.
    pub fn same_file(&self, other: &Stat) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// A filesystem.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a regular file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn Handle>>;
    /// What stands at `path`; a symlink is not followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Replaces whatever stands at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a directory with this mode; one that exists is success.
    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// The kernel's id of this boot, where it tells one: another id means that what was not synced
    /// may be lost.
    fn boot_id(&self) -> Option<String> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = text.trim();
        let is_uuid = |id: &str| id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        (id.len() == 36 && is_uuid(id)).then(|| id.to_owned())
    }
}

/// An open file. Handles opened separately exclude each other by [`Handle::try_lock`], clones of
/// one `Arc` do not.
pub trait Handle: Send + Sync + fmt::Debug {
    /// Reads at `offset` until `buf` is full or the file ends; how many bytes.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at `offset` with one `pwrite`; a short one is an error of kind
    /// `StorageFull` or `WriteZero`, and the caller decides what becomes of the part.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// `fdatasync`: content and length are durable when this returns.
    fn sync(&self) -> io::Result<()>;
    /// What the handle stands for, whatever its path stands for by now.
    fn stat(&self) -> io::Result<Stat>;
    /// Waits for the exclusive flock, however long that takes.
    fn lock(&self) -> io::Result<()>;
    /// Takes the exclusive flock if it is free; whether it did.
    fn try_lock(&self) -> io::Result<bool>;
    /// Gives the flock back.
    fn unlock(&self) -> io::Result<()>;
    /// Gives the file to a group.
    fn set_group(&self, gid: u32) -> io::Result<()>;
    /// Sets the last change of the content to a time since 1970. A disk whose files have no writers
    /// and readers but this program may leave it out.
    fn set_mtime(&self, _since_1970: Duration) -> io::Result<()> {
        Ok(())
    }
    /// Sets the permission bits.
    fn set_mode(&self, mode: u32) -> io::Result<()>;
}

/// A held flock; dropping it gives it back.
#[derive(Debug)]
pub struct Locked {
    handle: Arc<dyn Handle>,
}

impl Locked {
    /// The flock on `handle`, where it is free.
    pub fn try_take(handle: &Arc<dyn Handle>) -> io::Result<Option<Self>> {
        Ok(handle.try_lock()?.then(|| Self { handle: handle.clone() }))
    }

    /// The locked file.
    pub fn handle(&self) -> &Arc<dyn Handle> {
        &self.handle
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the descriptor does so as well, unless a child that is just being started has it too.
        let _ = self.handle.unlock();
    }
}

/// A file that is there to be locked. It stays open between two locks, which keeps its inode number
/// from coming back.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    mode: u32,
    opened: Option<(Arc<dyn Handle>, Stat)>,
}

impl LockFile {
    /// The file at `path`, made with `mode` where missing.
    pub fn new(path: &Path, mode: u32) -> Self {
        Self { path: path.to_owned(), mode, opened: None }
    }

    /// Blocks until the lock is ours. What is locked in the end is what the path stands for then:
    /// whoever renamed another file there while we waited does not leave us with a dead one.
    pub fn lock(&mut self, disk: &dyn Disk) -> io::Result<Locked> {
        let locked = self.lock_by(disk, |handle| handle.lock().map(|()| true))?;
        locked.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Takes the lock where it is free: see [`LockFile::lock`].
    pub fn try_lock(&mut self, disk: &dyn Disk) -> io::Result<Option<Locked>> {
        self.lock_by(disk, |handle| handle.try_lock())
    }

    fn lock_by(
        &mut self,
        disk: &dyn Disk,
        take: impl Fn(&dyn Handle) -> io::Result<bool>,
    ) -> io::Result<Option<Locked>> {
        loop {
            let (handle, known) = match self.opened.take() {
                Some(opened) => opened,
                None => {
                    let handle = disk.open(&self.path, Open::Create(self.mode))?;
                    let stat = handle.stat()?;
                    (handle, stat)
                }
            };
            let taken = take(handle.as_ref())?;
            let locked = taken.then(|| Locked { handle: handle.clone() });
            match disk.stat(&self.path) {
                Ok(stat) if stat.same_file(&known) => {
                    self.opened = Some((handle, known));
                    return Ok(locked);
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
}

/// Locks the file at `path` once: see [`LockFile::lock`].
pub fn lock_path(disk: &dyn Disk, path: &Path, mode: u32) -> io::Result<Locked> {
    LockFile::new(path, mode).lock(disk)
}

/// Locks `handle` within `wait`, or fails with `TimedOut`. For files whose lock is held for
/// microseconds; where it is held for a sync, wait in [`Handle::lock`] instead, which the kernel
/// serves in turn.
pub fn lock_within(handle: &Arc<dyn Handle>, wait: Duration) -> io::Result<Locked> {
    const FIRST_PAUSE: Duration = Duration::from_micros(20);
    const LONGEST_PAUSE: Duration = Duration::from_millis(2);
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    while !handle.try_lock()? {
        if started.elapsed() > wait {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(Locked { handle: handle.clone() })
}

/// Removes the file at `path`; that there is none is success.
pub fn unlink_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Reads a whole file of at most `max` bytes; a longer one is an error of kind `FileTooLarge`.
pub fn read_small(handle: &dyn Handle, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max + 1];
    let read = handle.read_at(&mut bytes, 0)?;
    if read > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    bytes.truncate(read);
    Ok(bytes)
}
