//! The filesystem of the machine.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Disk, Handle, Open, Stat};

/// The filesystem of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn Handle>> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::Create(mode) => options.write(true).create(true).truncate(false).mode(mode),
            Open::New(mode) => options.write(true).create_new(true).mode(mode),
        };
        let file = options.open(path).map_err(|error| told_of_symlink(error, path))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let user = nix::unistd::geteuid().as_raw();
        if metadata.uid() != user {
            let owner = metadata.uid();
            let text = format!("it belongs to uid {owner}, this process runs as uid {user}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Arc::new(RealHandle(file)))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        std::fs::symlink_metadata(path).map(|metadata| stat_of(&metadata))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|e| e.file_name())).collect()
    }

    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }
}

/// The kernel's word for a symlink that must not be followed is `ELOOP`, which says nothing of it.
fn told_of_symlink(error: io::Error, path: &Path) -> io::Error {
    let is_symlink = error.raw_os_error() == Some(Errno::ELOOP as i32)
        && std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    match is_symlink {
        true => io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a symbolic link, which is not followed",
        ),
        false => error,
    }
}

fn stat_of(metadata: &std::fs::Metadata) -> Stat {
    Stat {
        dev: metadata.dev(),
        ino: metadata.ino(),
        len: metadata.len(),
        mtime: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        ctime: i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        is_dir: metadata.is_dir(),
        is_file: metadata.is_file(),
    }
}

#[derive(Debug)]
struct RealHandle(File);

impl Handle for RealHandle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buf.len() {
            match self.0.read_at(&mut buf[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        match self.0.write_at(data, offset)? {
            n if n == data.len() => Ok(()),
            // A regular file takes a part only where there is no room for the rest.
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn stat(&self) -> io::Result<Stat> {
        self.0.metadata().map(|metadata| stat_of(&metadata))
    }

    fn lock(&self) -> io::Result<()> {
        loop {
            match fs2::FileExt::lock_exclusive(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        match fs2::FileExt::try_lock_exclusive(&self.0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        fs2::FileExt::unlock(&self.0)
    }

    fn set_group(&self, gid: u32) -> io::Result<()> {
        std::os::unix::fs::fchown(&self.0, None, Some(gid))
    }

    fn set_mtime(&self, since_1970: Duration) -> io::Result<()> {
        self.0.set_modified(UNIX_EPOCH + since_1970)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.0.set_permissions(std::fs::Permissions::from_mode(mode))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LockFile, lock_holder};
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("codeb-disk-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_symlink_is_never_opened() {
        let dir = scratch("symlink");
        std::fs::write(dir.join("real"), "x").unwrap();
        std::os::unix::fs::symlink(dir.join("real"), dir.join("link")).unwrap();
        assert!(RealDisk.open(&dir.join("link"), Open::Write).is_err());
        assert!(RealDisk.open(&dir.join("real"), Open::Write).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn separately_opened_handles_exclude_each_other_and_the_holder_is_named() {
        let dir = scratch("lock");
        let path = dir.join("credentials.lock");
        let mut file = LockFile::new(&path, 0o600);
        let held = file.lock(&RealDisk).unwrap();
        let other = RealDisk.open(&path, Open::Write).unwrap();
        assert!(!other.try_lock().unwrap());
        assert_eq!(lock_holder(&path), Some(std::process::id()));
        drop(held);
        assert!(other.try_lock().unwrap());
        other.unlock().unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(file.lock(&RealDisk).unwrap());
        assert!(path.exists(), "what is locked is what the path stands for");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
