//! Filesystems that tests may fill up.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::TempDir;
use crate::direct::{Direct, Start};

/// A small filesystem in memory, unmounted when dropped.
#[derive(Debug)]
pub struct Volume(TempDir);

impl Volume {
    /// `None`, and the reason printed, where none can be had.
    pub fn mount(options: &str) -> Option<Self> {
        let dir = TempDir::new();
        let options = format!("{options},mode=0755");
        let args = ["-t", "tmpfs", "-o", &options, "none"];
        let output = Command::new("mount").args(args).arg(dir.path()).output().ok();
        if output.as_ref().is_some_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        let why = output.map_or("there is no mount(8)".into(), |output| {
            String::from_utf8_lossy(&output.stderr).into_owned()
        });
        println!("skipped, no filesystem can be mounted here: {}", why.trim());
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts the program on it.
    pub fn host(&self) -> Direct {
        let volume = Some(self.path().to_owned());
        Start { volume, top: "lock_wait = \"1s\"", ..Start::default() }.run()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Fills a filesystem up.
pub fn fill(file: &Path) {
    let mut size = 1 << 20;
    let mut content = Vec::new();
    while size > 0 {
        content.resize(content.len() + size, b'x');
        if fs::write(file, &content).is_err() {
            content.truncate(content.len() - size);
            size /= 2;
        }
    }
}
