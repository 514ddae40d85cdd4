//! Files of ours that were damaged, or written by somebody else: nothing panics, nothing hangs, and
//! what is served afterwards keeps its rules.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use chrono::DateTime;
use codeb_signup::account::{Account, Attributes, Purpose, Status, Username, timestamp};
use codeb_signup::disk::{Disk, RealDisk};
use codeb_signup::secret::{Ha1, Token, TokenId};
use codeb_signup::store::accounts::{Accounts, Key, Standing, Updated};
use codeb_signup::store::captcha::Captcha;
use codeb_signup::store::claims::{Claims, Place};
use codeb_signup::store::flat::{FlatAccounts, FlatClaims};
use codeb_signup::store::outbox::Outbox;
use codeb_signup::store::rules;

use super::captcha::scratch;

const NOW: u64 = 1_700_000_000_000;
const WAIT: Duration = Duration::from_secs(20);
const LIFE: Duration = Duration::from_secs(900);

static SPOOL: LazyLock<PathBuf> = LazyLock::new(|| scratch("spool"));

/// The key file, the spent captchas and the rate file.
pub fn spool(data: &[u8]) {
    let dir = SPOOL.as_path();
    let Some((&which, content)) = data.split_first() else { return };
    for name in ["rate", "captcha.key", "captcha.spent"] {
        let _ = fs::remove_file(dir.join(name));
    }
    match which % 4 {
        0 => fs::write(dir.join("rate"), content).unwrap(),
        1 => fs::write(dir.join("captcha.key"), content).unwrap(),
        2 => fs::write(dir.join("captcha.spent"), content).unwrap(),
        _ => whole_of_slots(content),
    }
    let claims = claims_of(dir);
    let client: IpAddr = [192, 0, 2, 1].into();
    let mut kept = 0;
    for _ in 0..4 {
        if let Place::Taken(claim) = claims.take_place(client, NOW).unwrap() {
            claim.keep();
            kept += 1;
        }
    }
    assert!(kept <= 3, "rubbish opened the limit");
    // Reading a whole file takes long.
    let prunes = which >= 250;
    if prunes {
        claims.prune(NOW).unwrap();
    }
    assert!(
        matches!(claims.take_place(client, NOW).unwrap(), Place::Full(_)),
        "a place was forgotten"
    );
    let captcha = Captcha::new(Arc::new(RealDisk), dir, LIFE, WAIT);
    let issued = captcha.issue(NOW).unwrap();
    let sum: u8 = issued.question.split(" + ").map(|n| n.parse::<u8>().unwrap()).sum();
    let mut right = 0;
    for _ in 0..2 {
        let found = captcha.recognise(&issued.token, &sum.to_string(), NOW).unwrap();
        if let Some(claim) = claims.present(&found.expect("its own token"), NOW).unwrap() {
            claim.keep();
            right += 1;
        }
    }
    assert_eq!(right, 1, "a captcha is good for exactly one account");
}

fn claims_of(spool: &Path) -> FlatClaims {
    FlatClaims::new(&(Arc::new(RealDisk) as Arc<dyn Disk>), spool, LIFE, 3, WAIT)
}

/// A rate file whose header is right and whose every bucket is filled with the input's slots.
fn whole_of_slots(content: &[u8]) {
    const PAGE: usize = 4096;
    let mut file = b"codeb-claims 1\n\0".to_vec();
    file.extend_from_slice(&[0; 16]);
    file.resize(PAGE, 0);
    let mut page = content.to_vec();
    page.resize(PAGE, 0);
    // The client's bucket under this salt is one of the first few or none; zeros lie behind.
    for _ in 0..4 {
        file.extend_from_slice(&page);
    }
    fs::write(SPOOL.join("captcha.spent"), &file).unwrap();
    fs::write(SPOOL.join("rate"), &file).unwrap();
}

static STATE: LazyLock<PathBuf> = LazyLock::new(|| scratch("state"));

/// A state directory: `credentials`, the journal of versions before this one, a view and the block,
/// divided by bytes 0xfe; opened, used and opened again.
pub fn state(data: &[u8]) {
    let dir = STATE.as_path();
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("staging")).unwrap();
    let mut parts = data.splitn(4, |&b| b == 0xfe);
    for name in ["credentials", "credentials.journal", "htdigest", "credentials.block"] {
        if let Some(part) = parts.next() {
            fs::write(dir.join(name), part).unwrap();
        }
    }
    let open = || {
        let (disk, claims) = (Arc::new(RealDisk), Arc::new(claims_of(&dir.join("spool"))));
        let accounts = FlatAccounts::new(disk, dir, &["htdigest"], None, claims, WAIT);
        accounts.open().unwrap();
        accounts
    };
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let user = Username::parse("joe").unwrap();
    let token = Token::random().unwrap().id();
    let accounts = open();
    let key = Key::User(user.clone());
    let create = |accounts: &FlatAccounts, token| {
        let updated = accounts.update(key.clone(), rules::create(account(&user, token), now));
        matches!(updated.unwrap(), Updated::Put(_))
    };
    let made = create(&accounts, token);
    if made {
        let by_token = Key::Token(Purpose::Activation, token);
        let activate = || accounts.update(by_token.clone(), rules::activate(token, now));
        assert!(matches!(activate().unwrap(), Updated::Put(_)));
        assert!(matches!(activate().unwrap(), Updated::Left(_)), "a used token");
        assert!(!create(&accounts, Token::random().unwrap().id()), "a name was given twice");
    }
    drop(accounts);
    let lines_in_view = || {
        let view = fs::read(dir.join("htdigest")).unwrap();
        view.split(|&b| b == b'\n').filter(|line| line.starts_with(b"joe:")).count()
    };
    let in_view = lines_in_view();
    let accounts = open();
    assert!(!create(&accounts, token), "a name was forgotten");
    if made {
        assert_eq!(in_view, 1, "an enabled account is once in the view");
    }
    accounts.update(key.clone(), rules::disable()).unwrap();
    assert_eq!(lines_in_view(), 0, "shut, but in");
    let outbox = Arc::new(Outbox::new(Arc::new(RealDisk), &dir.join("staging"), dir, None));
    fs::write(dir.join("staging").join(format!("{}.eml", token.hex())), data).unwrap();
    let later = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(outbox.orphans(later).unwrap().filter_map(Result::ok).count(), 1);
    // Rewriting and syncing whole files takes long.
    if data.len().is_multiple_of(16) {
        accounts.compact().unwrap();
    }
    accounts.maintain(now).unwrap();
    assert!(!create(&accounts, token), "a compaction lost a name");
    let standing = accounts.get(&user).unwrap();
    assert!(!matches!(standing, Standing::Free), "a compaction lost an account");
}

fn account(user: &Username, token: TokenId) -> Account {
    let expires = DateTime::from_timestamp(1_800_000_100, 0).unwrap();
    let attributes = Attributes::default().with(&[
        ("email", Some("joe@b.example")),
        ("expires", Some(&timestamp(expires))),
        ("activation", Some(&token.hex())),
    ]);
    Account {
        user: user.clone(),
        realm: "r".into(),
        ha1: Ha1::parse(&"0".repeat(32)).unwrap(),
        status: Status::Pending,
        role: "guest".into(),
        attributes,
    }
}
