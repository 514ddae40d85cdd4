//! Files of ours that were damaged, or written by somebody else: nothing panics, nothing hangs, and
//! what is served afterwards keeps its rules.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use chrono::DateTime;
use codeb_signup::account::{DisplayName, Email, Realm, Role, Username};
use codeb_signup::disk::RealDisk;
use codeb_signup::secret::{Ha1, Token};
use codeb_signup::store::captcha::{Captcha, Presented};
use codeb_signup::store::credentials::{Credentials, NewAccount, NotMade, Setting};
use codeb_signup::store::pickup::Pickup;
use codeb_signup::store::rate_limit::{Place, RateLimit};

use super::captcha::scratch;

const NOW: u64 = 1_700_000_000_000;
const WAIT: Duration = Duration::from_secs(20);

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
    let limit = RateLimit::new(Arc::new(RealDisk), &dir.join("rate"), 3, WAIT);
    let client: IpAddr = [192, 0, 2, 1].into();
    let mut kept = 0;
    for _ in 0..4 {
        if let Place::Taken(claim) = limit.take(client, NOW).unwrap() {
            claim.keep();
            kept += 1;
        }
    }
    assert!(kept <= 3, "rubbish opened the limit");
    // Reading a whole file takes long.
    let prunes = which >= 250;
    if prunes {
        limit.prune(NOW).unwrap();
        captcha_of(dir).prune(NOW).unwrap();
    }
    assert!(matches!(limit.take(client, NOW).unwrap(), Place::Full(_)), "a place was forgotten");
    let captcha = captcha_of(dir);
    let issued = captcha.issue(NOW).unwrap();
    let sum: u8 = issued.question.split(" + ").map(|n| n.parse::<u8>().unwrap()).sum();
    let mut right = 0;
    for _ in 0..2 {
        match captcha.present(&issued.token, &sum.to_string(), NOW).unwrap() {
            Presented::Right(claim) => {
                claim.keep();
                right += 1;
            }
            Presented::Wrong => {}
        }
    }
    assert_eq!(right, 1, "a captcha is good for exactly one account");
}

fn captcha_of(dir: &Path) -> Captcha {
    Captcha::new(Arc::new(RealDisk), dir, Duration::from_secs(900), WAIT)
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

/// A state directory: `credentials`, its journal and a view, divided by bytes 0xfe; opened, used and
/// opened again.
pub fn state(data: &[u8]) {
    let dir = STATE.as_path();
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("staging")).unwrap();
    let mut parts = data.splitn(3, |&b| b == 0xfe);
    for name in ["credentials", "credentials.journal", "htdigest"] {
        if let Some(part) = parts.next() {
            fs::write(dir.join(name), part).unwrap();
        }
    }
    let open = || {
        let credentials = Credentials::new(Arc::new(RealDisk), dir, &["htdigest"], None, WAIT, 8);
        credentials.open().unwrap();
        credentials
    };
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let user = Username::parse("joe").unwrap();
    let token = Token::random().unwrap().id();
    let credentials = open();
    let made = credentials.create(&account(&user, token), ());
    let taken = matches!(made, Err(NotMade::Taken));
    assert!(made.is_ok() || taken, "{:?}", made.err());
    if !taken {
        assert_eq!(credentials.activate(token, now).unwrap().as_deref(), Some("joe"));
        assert_eq!(credentials.activate(token, now).unwrap(), None, "a used token");
        let again = credentials.create(&account(&user, Token::random().unwrap().id()), ());
        assert!(matches!(again, Err(NotMade::Taken)), "a name was given twice");
    }
    drop(credentials);
    let lines_in_view = || {
        let view = fs::read(dir.join("htdigest")).unwrap();
        view.split(|&b| b == b'\n').filter(|line| line.starts_with(b"joe:")).count()
    };
    let in_view = lines_in_view();
    let credentials = open();
    let again = credentials.create(&account(&user, token), ());
    assert!(matches!(again, Err(NotMade::Taken)), "a name was forgotten");
    if !taken {
        assert_eq!(in_view, 1, "an enabled account is once in the view");
    }
    credentials.set(&user, Setting::Disabled).unwrap();
    assert_eq!(lines_in_view(), 0, "shut, but in");
    let pickup = Arc::new(Pickup::new(Arc::new(RealDisk), &dir.join("staging"), dir, None));
    fs::write(dir.join("staging").join(format!("{}.eml", token.hex())), data).unwrap();
    let later = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(pickup.orphans(later).unwrap().filter_map(Result::ok).count(), 1);
    // Rewriting and syncing whole files takes long.
    if data.len().is_multiple_of(16) {
        credentials.compact().unwrap();
    }
    credentials.expire_all(now).unwrap();
    let again = credentials.create(&account(&user, token), ());
    assert!(matches!(again, Err(NotMade::Taken)), "a compaction lost a name");
}

fn account(user: &Username, token: codeb_signup::secret::TokenId) -> NewAccount<'_> {
    static REALM: LazyLock<Realm> = LazyLock::new(|| Realm::parse("r").unwrap());
    static ROLE: LazyLock<Role> = LazyLock::new(|| Role::parse("guest").unwrap());
    static HA1: LazyLock<Ha1> = LazyLock::new(|| Ha1::parse(&"0".repeat(32)).unwrap());
    static NAME: LazyLock<DisplayName> = LazyLock::new(|| DisplayName::parse("Joe").unwrap());
    static EMAIL: LazyLock<Email> = LazyLock::new(|| Email::parse("joe@b.example").unwrap());
    NewAccount {
        user,
        realm: &REALM,
        ha1: &HA1,
        role: &ROLE,
        name: &NAME,
        email: &EMAIL,
        created: DateTime::from_timestamp(1_799_999_000, 0).unwrap(),
        expires: DateTime::from_timestamp(1_800_000_100, 0).unwrap(),
        token,
        language: "en",
    }
}
