//! The stores under faults that a disk or a stopped process makes, each named by what went wrong.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use codeb_signup::account::{DisplayName, Email, Realm, Role, Username};
use codeb_signup::disk::{Disk, Handle, LockFile, Open, RealDisk, Stat};
use codeb_signup::secret::{Ha1, Token, TokenId};
use codeb_signup::store::credentials::{Credentials, Luggage, NewAccount};
use codeb_signup::store::pickup::Pickup;

/// A directory of its own for a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("codeb-stores-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn credentials(&self, lock_wait: Duration, waiters: usize) -> Credentials {
        let disk = Arc::new(RealDisk);
        let credentials = Credentials::new(disk, &self.0, &["htdigest"], None, lock_wait, waiters);
        credentials.open().unwrap();
        credentials
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn joe() -> Username {
    Username::parse("joe").unwrap()
}

/// Makes joe's account.
fn create(credentials: &Credentials, token: TokenId, now: DateTime<Utc>) {
    let account = NewAccount {
        user: &joe(),
        realm: &Realm::parse("a.example").unwrap(),
        ha1: &Ha1::parse("0123456789abcdef0123456789abcdef").unwrap(),
        role: &Role::parse("guest").unwrap(),
        name: &DisplayName::parse("Joe").unwrap(),
        email: &Email::parse("joe@b.example").unwrap(),
        created: now,
        expires: now + TimeDelta::days(7),
        token,
        language: "en",
    };
    credentials.create(&account, ()).unwrap();
}

fn new_token() -> TokenId {
    Token::random().unwrap().id()
}

/// Tells what became of it.
struct Bag(Option<Sender<&'static str>>);

impl Luggage for Bag {
    fn leave(mut self: Box<Self>) {
        self.0.take().unwrap().send("left").unwrap();
    }
}

impl Drop for Bag {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send("dropped");
        }
    }
}

/// The account stayed, its mail was deleted and its places were given back.
#[test]
fn a_withdrawal_was_turned_away_like_a_new_caller_while_the_lock_was_stuck() {
    let scratch = Scratch::new("withdraw");
    let credentials = scratch.credentials(Duration::from_millis(600), 0);
    let (token, now) = (new_token(), Utc::now());
    create(&credentials, token, now);
    let lock = scratch.0.join("credentials.lock");
    let held = LockFile::new(&lock, 0o600).lock(&RealDisk).unwrap();
    let (sender, told) = channel();
    std::thread::scope(|scope| {
        // The first one makes the committer wait; the second one meets a queue that is stuck.
        scope.spawn(|| assert!(credentials.settle().is_err()));
        scope.spawn(|| {
            while credentials.settle().is_ok() {}
            let bag = Bag(Some(sender));
            assert!(credentials.withdraw(&joe(), token, bag).is_err(), "it takes too long");
        });
    });
    assert!(told.try_recv().is_err(), "nothing is known of the account yet");
    drop(held);
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("dropped"));
    assert_eq!(credentials.find_pending(&token, now).unwrap(), None);
}

/// Another process had read the line that an undone write took back; the next try's line began with
/// the same bytes in the same place, so that its token was never read.
#[test]
fn a_line_in_the_place_of_an_undone_one_is_read() {
    let scratch = Scratch::new("undone");
    let wait = Duration::from_secs(5);
    let (writer, reader) = (scratch.credentials(wait, 8), scratch.credentials(wait, 8));
    let (undone, token, now) = (new_token(), new_token(), Utc::now());
    create(&writer, undone, now);
    assert_eq!(reader.find_pending(&undone, now).unwrap().as_deref(), Some("joe"));
    RealDisk.open(&scratch.0.join("credentials"), Open::Write).unwrap().set_len(0).unwrap();
    create(&writer, token, now);
    assert_eq!(reader.find_pending(&token, now).unwrap().as_deref(), Some("joe"));
    assert_eq!(reader.activate(token, now).unwrap().as_deref(), Some("joe"));
}

/// The real disk, but directories do not become durable while the flag is set.
#[derive(Debug, Default)]
struct NoDirectorySync(AtomicBool);

impl Disk for NoDirectorySync {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn Handle>> {
        RealDisk.open(path, how)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        RealDisk.stat(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealDisk.unlink(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("input/output error")),
            false => RealDisk.sync_dir(path),
        }
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(path)
    }
    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealDisk.make_dir(path, mode)
    }
}

/// The mail was deleted before the account was withdrawn: a kill between the two left an account
/// that nobody could activate.
#[test]
fn a_mail_whose_release_is_not_durable_is_staged_again() {
    let scratch = Scratch::new("release");
    let (staging, out) = (scratch.0.join("staging"), scratch.0.join("pickup"));
    std::fs::create_dir(&staging).unwrap();
    std::fs::create_dir(&out).unwrap();
    let disk = Arc::new(NoDirectorySync::default());
    let pickup = Arc::new(Pickup::new(disk.clone(), &staging, &out, None));
    let message = lettre::Message::builder()
        .from("a@a.example".parse().unwrap())
        .to("n@b.example".parse().unwrap())
        .body(String::from("link"))
        .unwrap();
    let staged = pickup.stage(&message, new_token()).unwrap();
    let count = |directory: &Path| std::fs::read_dir(directory).unwrap().count();
    disk.0.store(true, Ordering::Relaxed);
    let (_, staged) = *staged.release().unwrap_err();
    assert_eq!((count(&staging), count(&out)), (1, 0));
    disk.0.store(false, Ordering::Relaxed);
    drop(staged);
    assert_eq!((count(&staging), count(&out)), (0, 0));
}

#[test]
fn a_view_that_is_older_than_its_group_is_given_to_it() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new("view-group");
    drop(scratch.credentials(Duration::from_secs(5), 8));
    let view = || std::fs::metadata(scratch.0.join("htdigest")).unwrap();
    // Whoever is not root can give a file to a group of his alone.
    let root = nix::unistd::geteuid().is_root();
    let others = nix::unistd::getgroups().unwrap();
    let other = others.iter().map(|gid| gid.as_raw()).find(|gid| *gid != view().gid());
    let Some(group) = other.or(root.then_some(4711)) else { return };
    let (disk, wait) = (Arc::new(RealDisk), Duration::from_secs(5));
    let later = Credentials::new(disk, &scratch.0, &["htdigest"], Some(group), wait, 8);
    later.open().unwrap();
    assert_eq!((view().gid(), view().mode() & 0o777), (group, 0o640));
}

/// Squid reads a view anew where its time of change is another second than before.
#[test]
fn two_changes_of_a_view_within_a_second_are_seen_a_second_later() {
    let scratch = Scratch::new("view-mtime");
    let credentials = scratch.credentials(Duration::from_secs(5), 8);
    let path = scratch.0.join("htdigest");
    let at = |millis| std::time::UNIX_EPOCH + Duration::from_millis(millis);
    let changed = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let look = |millis| {
        let now = DateTime::from_timestamp_millis(millis).unwrap();
        credentials.show_view_changes(now).unwrap();
        changed()
    };
    std::fs::File::open(&path).unwrap().set_modified(at(1_800_000_000_250)).unwrap();
    assert_eq!(look(1_800_000_000_999), at(1_800_000_000_250), "more may come in this second");
    assert_eq!(look(1_800_000_001_100), at(1_800_000_001_000));
    assert_eq!(look(1_800_000_009_100), at(1_800_000_001_000), "once");
}
