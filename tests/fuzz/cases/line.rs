//! Lines of the credentials file.

use chrono::DateTime;
use codeb_signup::store::accounts::Standing;
use codeb_signup::store::flat::line::{Line, Record, line_of};

/// A line is told apart without a panic, and an account is what its bytes say.
pub fn line(data: &[u8]) {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for bytes in data.split(|&b| b == b'\n') {
        match Line::parse(bytes) {
            Line::Record(record) => check(&record, bytes, now),
            Line::Comment => {
                assert!(bytes.is_empty() || bytes == b"\r" || bytes[0] == b'#');
            }
            Line::Foreign => assert!(std::str::from_utf8(bytes).is_ok()),
            Line::Damaged => assert!(
                std::str::from_utf8(bytes).map_or(true, |t| t.bytes().any(|b| b < 32 || b == 127))
            ),
        }
    }
}

fn check(record: &Record<'_>, bytes: &[u8], now: DateTime<chrono::Utc>) {
    let (user, realm, ha1) = (record.user, record.realm, record.ha1);
    assert!(bytes.starts_with(format!("{user}:{realm}:{ha1}:").as_bytes()));
    let disabled = bytes[record.disabled_at() as usize];
    assert_eq!(record.is_enabled(), disabled == b'0');
    assert!(!realm.contains(':') && ha1.len() == 32);
    let _ = record.is_expired(now);
    assert!(record.tokens().count() <= bytes.len() / 64);
    match record.standing().expect("a record is something") {
        Standing::Is(account) => {
            let line = line_of(&account);
            let Line::Record(again) = Line::parse(line.trim_end_matches('\n').as_bytes()) else {
                panic!("an account is no line");
            };
            assert_eq!(again.standing(), Some(Standing::Is(account)));
        }
        Standing::Resting { .. } => assert_eq!(disabled, b'4'),
        Standing::Free => panic!("a record is free"),
    }
}
