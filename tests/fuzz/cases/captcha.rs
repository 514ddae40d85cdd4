//! Captcha tokens that nobody issued.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use codeb_signup::disk::RealDisk;
use codeb_signup::store::captcha::Captcha;

const NOW: u64 = 1_700_000_000_000;
const TTL: Duration = Duration::from_secs(900);

/// A scratch directory of this process, in memory where there is such a place.
pub fn scratch(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    // What processes left that are no more.
    let own = |file: &str| file.starts_with("codeb-signup-fuzz-");
    for entry in fs::read_dir(&base).unwrap().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let pid = file.rsplit('-').next().unwrap_or_default();
        if own(&file) && !PathBuf::from("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let dir = base.join(format!("codeb-signup-fuzz-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

struct Fixture {
    captcha: Captcha,
    genuine: String,
}

static FIXTURE: LazyLock<Mutex<Fixture>> = LazyLock::new(|| {
    let captcha = Captcha::new(Arc::new(RealDisk), &scratch("captcha"), TTL, TTL);
    let genuine = captcha.issue(NOW).unwrap().token;
    Mutex::new(Fixture { captcha, genuine })
});

/// No text but an issued token is right, whatever the answer; not even one that differs from an
/// issued token in a single place.
pub fn captcha(data: &[u8]) {
    let fixture = FIXTURE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Fixture { captcha, genuine } = &*fixture;
    let text = String::from_utf8_lossy(data);
    let (token, answer) = text.split_once('|').unwrap_or((&text, "9"));
    let found = captcha.recognise(token, answer, NOW + 1).unwrap();
    assert!(found.is_none() || token == genuine, "a forged token");
    if let &[place, with, ..] = data {
        let mut bytes = genuine.clone().into_bytes();
        let place = usize::from(place) % bytes.len();
        bytes[place] = with;
        let forged = String::from_utf8_lossy(&bytes).into_owned();
        if forged == *genuine {
            return;
        }
        for answer in 2..=18 {
            let found = captcha.recognise(&forged, &answer.to_string(), NOW + 1).unwrap();
            assert!(found.is_none(), "a forged token: {place} {with}");
        }
    }
}
