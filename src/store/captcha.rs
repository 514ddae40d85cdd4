//! Captcha tokens: stateless when issued, counted when presented (see [`super::claims`]).
//!
//! A token is `base64url(payload).base64url(tag)`. The payload is the time of issue (milliseconds
//! since 1970, 6 bytes) and 12 random bytes; the tag is HMAC-SHA256 over it, cut to 24 bytes. The
//! two summands of the question are a second HMAC over the same payload: without the key neither
//! decoding nor trying all answers tells them.
//!
//! On disk: `spool/captcha.key` (`1 BOOT-ID KEY`, one line). The key is valid only while the machine
//! runs, so that what was spent needs no sync; where the kernel tells no boot id, the key stays.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::flat::NO_DIRECTORY;
use crate::disk::{self, Disk, Open, Stat};
use crate::error::Fault;
use crate::secret::Key;

/// How often a token may be presented; the last presentation may still succeed.
pub const PRESENTATIONS: u8 = 5;
const PAYLOAD: usize = 18;
const TAG: usize = 24;
/// The longest key file: version, boot id, key.
const KEY_FILE_MAX: usize = 256;
/// How long a key is used without a look whether its file is still the same. Nobody but an operator
/// changes it while the machine runs.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Issues captchas for one tenant, and recognises them.
#[derive(Debug)]
pub struct Captcha {
    disk: Arc<dyn Disk>,
    key_file: PathBuf,
    boot_id: Option<String>,
    lifetime: u64,
    wait: Duration,
    in_use: Mutex<Option<InUse>>,
    /// Held while the key file is read or made.
    reading: Mutex<()>,
}

/// The key as it was last read, the file that it was read from, and when that was last looked at.
#[derive(Clone)]
struct InUse {
    stat: Stat,
    looked: Instant,
    tag: Hmac<Sha256>,
    question: Hmac<Sha256>,
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InUse(…)")
    }
}

/// A captcha for a visitor.
#[derive(Debug)]
pub struct Issued {
    /// An addition, as people write it: `3 + 5`.
    pub question: String,
    /// What comes back with the answer.
    pub token: String,
}

/// A genuine token that came back before its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presentation {
    /// What it is counted by.
    pub id: [u8; PAYLOAD],
    /// When it expires, in milliseconds since 1970.
    pub until: u64,
    /// Whether its answer is right.
    pub is_right: bool,
}

impl Captcha {
    /// The key in `spool`; `wait` bounds the wait for its file's lock.
    pub fn new(disk: Arc<dyn Disk>, spool: &Path, lifetime: Duration, wait: Duration) -> Self {
        Self {
            boot_id: disk.boot_id(),
            disk,
            key_file: spool.join("captcha.key"),
            lifetime: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
            wait,
            in_use: Mutex::new(None),
            reading: Mutex::new(()),
        }
    }

    /// A new captcha. Writes nothing to disk, once there is a key.
    pub fn issue(&self, now: u64) -> Result<Issued, Fault> {
        Ok(issue(&self.key()?, now))
    }

    /// The same from memory alone, with the key as it was last read; `None` where it was not.
    pub fn issue_from_memory(&self, now: u64) -> Option<Issued> {
        self.in_use().as_ref().map(|key| issue(key, now))
    }

    /// Has a key in memory, read or made.
    pub fn load_key(&self) -> Result<(), Fault> {
        self.key().map(drop)
    }

    /// Whether there is a key in memory.
    pub fn has_key(&self) -> bool {
        self.in_use().is_some()
    }

    /// What `token` and `answer` amount to, before it is counted; `None` for a token that is unknown,
    /// forged or expired.
    pub fn recognise(
        &self,
        token: &str,
        answer: &str,
        now: u64,
    ) -> Result<Option<Presentation>, Fault> {
        let key = self.key()?;
        let Some(id) = genuine(&key, token) else { return Ok(None) };
        let issued = id[..6].iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
        let until = issued.saturating_add(self.lifetime);
        if issued > now || now >= until {
            return Ok(None);
        }
        let (a, b) = summands(&key, &id);
        let answer = answer.trim_matches(|c: char| c.is_ascii_whitespace()).parse::<i64>();
        Ok(Some(Presentation { id, until, is_right: answer == Ok(i64::from(a) + i64::from(b)) }))
    }

    /// The key in use, read again soon after its file changed.
    fn key(&self) -> Result<InUse, Fault> {
        if let Some(key) = self.current_key() {
            return Ok(key);
        }
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.current_key() {
            return Ok(key);
        }
        let read = self.read_or_make_key();
        *self.in_use() = read.as_ref().ok().cloned();
        read.map_err(|cause| {
            let kind = cause.kind();
            let fault = Fault::new("read or make the captcha key", &self.key_file, cause);
            match kind {
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => fault.way_out(
                    "let the service's user read and write it, or delete it: it is made anew",
                ),
                // The file itself would be made.
                io::ErrorKind::NotFound => fault.way_out(NO_DIRECTORY),
                _ => fault,
            }
        })
    }

    /// The key in memory, where its file is still the same. Only the thread that looks waits for a
    /// disk that hangs; the others have the key meanwhile.
    fn current_key(&self) -> Option<InUse> {
        let key = {
            let mut in_use = self.in_use();
            let key = in_use.as_mut()?;
            if key.looked.elapsed() < LOOK_AGAIN {
                return Some(key.clone());
            }
            key.looked = Instant::now();
            key.clone()
        };
        if self.disk.stat(&self.key_file).is_ok_and(|stat| stat == key.stat) {
            return Some(key);
        }
        self.in_use().take_if(|known| known.stat == key.stat);
        None
    }

    fn in_use(&self) -> MutexGuard<'_, Option<InUse>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_or_make_key(&self) -> io::Result<InUse> {
        let handle = self.disk.open(&self.key_file, Open::Create(0o600))?;
        let locked = disk::lock_within(&handle, self.wait)?;
        let text = disk::read_small(handle.as_ref(), KEY_FILE_MAX).unwrap_or_default();
        let boot_id = self.boot_id.as_deref().unwrap_or("-");
        let key = match parse_key(&text, boot_id) {
            Some(key) => key,
            None => {
                let key = Key::random()?;
                let line = zeroize::Zeroizing::new(format!("1 {boot_id} {}\n", key.reveal()));
                handle.set_len(0)?;
                handle.write_at(line.as_bytes(), 0)?;
                if self.boot_id.is_none() {
                    handle.sync()?;
                    self.key_file.parent().map_or(Ok(()), |spool| self.disk.sync_dir(spool))?;
                }
                key
            }
        };
        let stat = locked.handle().stat()?;
        Ok(InUse {
            stat,
            looked: Instant::now(),
            tag: keyed(&key, b"tag"),
            question: keyed(&key, b"question"),
        })
    }
}

fn issue(key: &InUse, now: u64) -> Issued {
    let mut payload = [0; PAYLOAD];
    payload[..6].copy_from_slice(&now.to_be_bytes()[2..]);
    rand::rng().fill(&mut payload[6..]);
    let (a, b) = summands(key, &payload);
    let token = [BASE64URL_NOPAD.encode(&payload), BASE64URL_NOPAD.encode(&tag(key, &payload))];
    Issued { question: format!("{a} + {b}"), token: token.join(".") }
}

/// The key in a key file's text, where the file is whole and of this boot.
fn parse_key(text: &[u8], boot_id: &str) -> Option<Key> {
    let line = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let mut parts = line.split(' ');
    let (version, boot, key) = (parts.next()?, parts.next()?, parts.next()?);
    (version == "1" && boot == boot_id && parts.next().is_none()).then(|| Key::parse(key))?
}

/// An HMAC with the key and a purpose already in it.
fn keyed(key: &Key, purpose: &[u8]) -> Hmac<Sha256> {
    // HMAC fills a short key up with zeros to the hash's block (RFC 2104 §2).
    let mut block = zeroize::Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key.bytes());
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(purpose);
    mac
}

fn tag(key: &InUse, payload: &[u8; PAYLOAD]) -> [u8; TAG] {
    let whole = key.tag.clone().chain_update(payload).finalize().into_bytes();
    std::array::from_fn(|at| whole[at])
}

/// The question's summands, 1 to 9 each.
fn summands(key: &InUse, payload: &[u8; PAYLOAD]) -> (u8, u8) {
    let bytes = key.question.clone().chain_update(payload).finalize().into_bytes();
    (bytes[0] % 9 + 1, bytes[1] % 9 + 1)
}

/// The payload of a token that this key made.
fn genuine(key: &InUse, token: &str) -> Option<[u8; PAYLOAD]> {
    let (payload, given) = token.split_once('.')?;
    let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
    let payload: [u8; PAYLOAD] = payload.as_slice().try_into().ok()?;
    let given = BASE64URL_NOPAD.decode(given.as_bytes()).ok()?;
    bool::from(tag(key, &payload).as_slice().ct_eq(&given)).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    const NOW: u64 = 1_700_000_000_000;
    const TTL: Duration = Duration::from_secs(900);

    fn captcha(name: &str) -> (Captcha, PathBuf) {
        let dir = std::env::temp_dir().join(format!("codeb-captcha-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        (Captcha::new(Arc::new(RealDisk), &dir, TTL, TTL), dir)
    }

    fn solve(question: &str) -> String {
        let (a, b) = question.split_once(" + ").unwrap();
        (a.parse::<i32>().unwrap() + b.parse::<i32>().unwrap()).to_string()
    }

    fn is_right(captcha: &Captcha, token: &str, answer: &str, now: u64) -> bool {
        captcha.recognise(token, answer, now).unwrap().is_some_and(|found| found.is_right)
    }

    #[test]
    fn forged_expired_and_future_tokens_are_wrong() {
        let (captcha, dir) = captcha("forged");
        let issued = captcha.issue(NOW).unwrap();
        let answer = solve(&issued.question);
        let flipped = issued.token.replace(issued.token.chars().last().unwrap(), "_");
        for token in ["", ".", "a.b", &flipped, &issued.token[1..], "ü.ü"] {
            assert!(!is_right(&captcha, token, &answer, NOW), "{token}");
        }
        assert!(!is_right(&captcha, &issued.token, &answer, NOW + 900_000));
        assert!(!is_right(&captcha, &issued.token, &answer, NOW - 1));
        assert!(is_right(&captcha, &issued.token, &answer, NOW + 899_999));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_damaged_key_is_made_anew_and_a_whole_one_survives_a_restart() {
        let (captcha, dir) = captcha("key");
        let issued = captcha.issue(NOW).unwrap();
        let restarted = Captcha::new(Arc::new(RealDisk), &dir, TTL, TTL);
        let answer = solve(&issued.question);
        assert!(is_right(&restarted, &issued.token, &answer, NOW));
        std::fs::write(dir.join("captcha.key"), "").unwrap();
        std::thread::sleep(LOOK_AGAIN);
        assert!(!is_right(&captcha, &issued.token, &answer, NOW));
        assert!(captcha.issue(NOW).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
