//! What the integration tests share: a whole host (our program behind a real web server) in a
//! directory of its own, visitors with addresses of their own, and readers for mails and files.
//! Everything listens on loopback, and everything that was started is stopped when its owner is
//! dropped, in a panic too.

pub mod direct;
pub mod fcgi;
pub mod frozen;
pub mod host;
pub mod http;
pub mod load;
pub mod mail;
pub mod pair;
pub mod process;
pub mod raw;
pub mod server;
pub mod visitor;
pub mod volume;
pub mod way;

pub use host::{Host, Setup};
pub use http::{Ask, Reply};
pub use mail::Mail;
pub use visitor::{Captcha, Form, Visitor, ha1};
pub use way::Way;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The program under test. Cargo builds it before the tests, into the directory above theirs.
pub static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("the path of this test");
    let program = test.ancestors().nth(2).expect("two directories").join("codeb-signup");
    program.into_os_string().into_string().expect("a path in UTF-8")
});

/// A path inside the repository.
pub fn repository(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two directories");
    root.join(path)
}

/// Asks again and again until `found` has an answer; a test fails where that takes too long.
pub fn wait_for<T>(what: &str, limit: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a program that was just started has done to the files in `state` what it does by itself:
/// the first sweep, and a second after that the sweep's thread gives the new view a time of change
/// without a fraction. No sweep begins while the returned lock is held, so whatever changes from now
/// on, requests change.
pub fn hold_still(state: &Path) -> File {
    let lock = state.join("sweep.lock");
    let file = wait_for("the end of the first sweep", Duration::from_secs(30), || {
        File::open(&lock).ok().filter(|file| file.metadata().is_ok_and(|data| data.len() > 0))
    });
    file.lock().unwrap();
    wait_for("a whole second as the view's time of change", Duration::from_secs(30), || {
        (std::fs::metadata(state.join("htdigest")).unwrap().mtime_nsec() == 0).then_some(())
    });
    file
}

/// Text of a page with the entities undone that templates write.
pub fn unescaped(page: &str) -> String {
    let entities =
        [("&#x2f;", "/"), ("&#x27;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">")];
    let mut text = page.to_owned();
    for (entity, plain) in entities {
        text = text.replace(entity, plain);
    }
    text.replace("&amp;", "&")
}

/// A directory of one test, removed when it is dropped unless the test failed.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new directory that every local user may enter.
    #[allow(clippy::new_without_default, reason = "it writes to the disk, which no default should")]
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "codeb-signup-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        // What stands there belongs to a dead process that bore our number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("make a temporary directory");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the test's files are kept in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
