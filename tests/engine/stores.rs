//! The stores under faults that a disk or a stopped process makes, each named by what went wrong.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use codeb_signup::account::{Account, Attributes, Purpose, Status, Username, timestamp};
use codeb_signup::disk::{Disk, Handle, LockFile, Open, RealDisk, Stat};
use codeb_signup::secret::{Ha1, Token, TokenId};
use codeb_signup::store::accounts::{Accounts, Failed, Key, Standing, Updated};
use codeb_signup::store::flat::{FlatAccounts, FlatClaims};
use codeb_signup::store::outbox::Outbox;
use codeb_signup::store::rules;

/// A directory of its own for a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("codeb-stores-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn accounts(&self, lock_wait: Duration) -> FlatAccounts {
        self.accounts_for(None, lock_wait)
    }

    fn accounts_for(&self, group: Option<u32>, lock_wait: Duration) -> FlatAccounts {
        let disk = Arc::new(RealDisk) as Arc<dyn Disk>;
        let life = Duration::from_secs(900);
        let claims = Arc::new(FlatClaims::new(&disk, &self.0.join("spool"), life, 3, life));
        let views = ["htdigest"];
        let accounts = FlatAccounts::new(disk, &self.0, &views, group, claims, lock_wait);
        accounts.open().unwrap();
        accounts
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
fn create(accounts: &FlatAccounts, token: TokenId, now: DateTime<Utc>) {
    let attributes = Attributes::default().with(&[
        ("email", Some("joe@b.example")),
        ("expires", Some(&timestamp(now + TimeDelta::days(7)))),
        ("activation", Some(&token.hex())),
    ]);
    let account = Account {
        user: joe(),
        realm: "a.example".into(),
        ha1: Ha1::parse("0123456789abcdef0123456789abcdef").unwrap(),
        status: Status::Pending,
        role: "guest".into(),
        attributes,
    };
    let made = accounts.update(Key::User(joe()), rules::create(account, now)).unwrap();
    assert!(matches!(made, Updated::Put(_)));
}

fn owner(accounts: &FlatAccounts, token: &TokenId) -> Option<Username> {
    accounts.by_token(Purpose::Activation, token).unwrap().map(|account| account.user)
}

fn new_token() -> TokenId {
    Token::random().unwrap().id()
}

/// Whoever no leader takes while another process has the lock gives up in time; nothing of it is done
/// later.
#[test]
fn a_change_that_waited_in_vain_was_not_made_when_the_lock_came() {
    let scratch = Scratch::new("withdrawn");
    let accounts = scratch.accounts(Duration::from_millis(300));
    let (token, now) = (new_token(), Utc::now());
    create(&accounts, token, now);
    let lock = scratch.0.join("credentials.lock");
    let held = LockFile::new(&lock, 0o600).lock(&RealDisk).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match accounts.update(Key::User(joe()), rules::remove()) {
                Err(Failed::Undone(fault)) => {
                    assert_eq!(fault.cause().kind(), io::ErrorKind::TimedOut, "{fault}");
                }
                other => panic!("{other:?}"),
            });
        }
    });
    // The thread that waits for the lock has it in a moment.
    drop(held);
    let wait = Duration::from_secs(20);
    let updated = harness::wait_for("the lock", wait, || {
        accounts.update(Key::User(joe()), rules::confirm()).ok()
    });
    assert!(matches!(updated, Updated::Left(Standing::Is(_))), "joe is still there");
    assert_eq!(owner(&accounts, &token), Some(joe()));
}

/// Another process had read the line that an undone write took back; the next try's line began with
/// the same bytes in the same place, so that its token was never read.
#[test]
fn a_line_in_the_place_of_an_undone_one_is_read() {
    let scratch = Scratch::new("undone");
    let wait = Duration::from_secs(5);
    let (writer, reader) = (scratch.accounts(wait), scratch.accounts(wait));
    let (undone, token, now) = (new_token(), new_token(), Utc::now());
    create(&writer, undone, now);
    assert_eq!(owner(&reader, &undone), Some(joe()));
    RealDisk.open(&scratch.0.join("credentials"), Open::Write).unwrap().set_len(0).unwrap();
    create(&writer, token, now);
    assert_eq!(owner(&reader, &token), Some(joe()));
    let key = Key::Token(Purpose::Activation, token);
    assert!(matches!(reader.update(key, rules::activate(token, now)), Ok(Updated::Put(_))));
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
    let pickup = Arc::new(Outbox::new(disk.clone(), &staging, &out, None));
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
    drop(scratch.accounts(Duration::from_secs(5)));
    let view = || std::fs::metadata(scratch.0.join("htdigest")).unwrap();
    // Whoever is not root can give a file to a group of his alone.
    let root = nix::unistd::geteuid().is_root();
    let others = nix::unistd::getgroups().unwrap();
    let other = others.iter().map(|gid| gid.as_raw()).find(|gid| *gid != view().gid());
    let Some(group) = other.or(root.then_some(4711)) else { return };
    drop(scratch.accounts_for(Some(group), Duration::from_secs(5)));
    assert_eq!((view().gid(), view().mode() & 0o777), (group, 0o640));
}

/// Squid reads a view anew where its time of change is another second than before.
#[test]
fn two_changes_of_a_view_within_a_second_are_seen_a_second_later() {
    let scratch = Scratch::new("view-mtime");
    let accounts = scratch.accounts(Duration::from_secs(5));
    let path = scratch.0.join("htdigest");
    let at = |millis| std::time::UNIX_EPOCH + Duration::from_millis(millis);
    let changed = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let look = |millis| {
        let now = DateTime::from_timestamp_millis(millis).unwrap();
        accounts.tick(now).unwrap();
        changed()
    };
    std::fs::File::open(&path).unwrap().set_modified(at(1_800_000_000_250)).unwrap();
    assert_eq!(look(1_800_000_000_999), at(1_800_000_000_250), "more may come in this second");
    assert_eq!(look(1_800_000_001_100), at(1_800_000_001_000));
    assert_eq!(look(1_800_000_009_100), at(1_800_000_001_000), "once");
}
