//! Lines of the credentials file.

use chrono::DateTime;
use codeb_signup::store::credentials::line::{Account, Line};

/// A line is told apart without a panic, and an account is what its bytes say.
pub fn line(data: &[u8]) {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for bytes in data.split(|&b| b == b'\n') {
        match Line::parse(bytes) {
            Line::Account(account) => check(&account, bytes, now),
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

fn check(account: &Account<'_>, bytes: &[u8], now: DateTime<chrono::Utc>) {
    assert_eq!(bytes[account.disabled_at() as usize], account.disabled);
    let start = format!(
        "{}:{}:{}:{}:{}",
        account.user,
        account.realm,
        account.ha1,
        char::from(account.disabled),
        account.role
    );
    assert!(bytes.starts_with(start.as_bytes()));
    assert!(!account.realm.contains(':') && account.ha1.len() == 32);
    let _ = account.is_expired(now);
    for name in ["name", "email", "created", "expires", "activation", ""] {
        let _ = account.attribute(name);
    }
    assert!(account.tokens().count() <= bytes.len() / 64);
}
