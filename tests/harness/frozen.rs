//! A filesystem whose disk can be made to hang: it lies in a file of another one, which is frozen.
//! What is written stays in memory; whoever waits for it to reach the disk waits for the thaw.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::TempDir;
use crate::server::is_root;

/// Unmounted when dropped.
#[derive(Debug)]
pub struct HangingDisk {
    dir: TempDir,
    mounted: Vec<PathBuf>,
}

/// Thawed when dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct Frozen(Option<Child>);

impl HangingDisk {
    /// `None`, and the reason printed, where none can be had.
    pub fn mount(test: &str) -> Option<Self> {
        if !is_root() {
            println!("skipped {test}: only root can mount and freeze filesystems");
            return None;
        }
        let mut disk = Self { dir: TempDir::new(), mounted: Vec::new() };
        let made = disk
            .add("outer", &disk.dir.path().join("outer.image"), 256)
            .and_then(|()| disk.add("inner", &disk.outer().join("inner.image"), 128))
            // The first freeze shows whether there can be one.
            .and_then(|()| run("fsfreeze", &["--freeze", &text(&disk.outer())]))
            .and_then(|()| run("fsfreeze", &["--unfreeze", &text(&disk.outer())]));
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                println!("skipped {test}: no filesystem in a file can be frozen here: {why}");
                None
            }
        }
    }

    fn add(&mut self, name: &str, image: &Path, megabytes: u64) -> Result<(), String> {
        let file = fs::File::create(image).map_err(|error| error.to_string())?;
        file.set_len(megabytes << 20).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", &text(image)])?;
        let at = self.dir.path().join(name);
        fs::create_dir(&at).map_err(|error| error.to_string())?;
        run("mount", &["-o", "loop", &text(image), &text(&at)])?;
        self.mounted.push(at);
        Ok(())
    }

    fn outer(&self) -> PathBuf {
        self.dir.path().join("outer")
    }

    /// The filesystem.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("inner")
    }

    /// Lets it hang.
    pub fn freeze(&self) -> Frozen {
        run("sync", &["--file-system", &text(&self.path())]).unwrap();
        // The shell thaws at the end of its standard input, which comes however this process ends, and
        // after a time, should this process hang on the disk itself.
        let script = "fsfreeze --freeze \"$0\" && echo frozen; timeout 200 cat; \
                      fsfreeze --unfreeze \"$0\"";
        let mut shell = Command::new("sh")
            .args(["-c", script, &text(&self.outer())])
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 7];
        let out = shell.stdout.as_mut().unwrap();
        std::io::Read::read_exact(out, &mut said).expect("the filesystem is frozen");
        Frozen(Some(shell))
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            // Whoever still has files open on it keeps it, and nobody else sees it.
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
    }
}

impl Frozen {
    /// Lets it go on; it must have hung until now.
    pub fn thaw(mut self) {
        let ended = self.0.as_mut().map(Child::try_wait);
        assert!(matches!(ended, Some(Ok(None))), "it went on by itself before");
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut shell) = self.0.take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.end();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).env("PATH", PATH).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("{program}: {said}"))
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
