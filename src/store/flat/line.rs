//! A line of the credentials file: `user:realm:ha1:disabled:role:attributes`.

use chrono::{DateTime, Utc};

use crate::account::{Account, Attributes, Purpose, Status, Username, value_in};
use crate::secret::{Ha1, TokenId};
use crate::store::accounts::Standing;

/// The longest line that is written or looked up, in bytes, LF included. A line of ours stays below
/// half of it.
pub const LINE_MAX: usize = 8192;

/// The `disabled` byte of an account that may sign in. Whoever reads the file lets nobody else in.
pub const ENABLED: u8 = b'0';
const PENDING: u8 = b'1';
const DISABLED: u8 = b'2';
/// Of one that waits for the operator's approval.
const WAITING: u8 = b'3';
/// Of a name that rests: its account is gone, and nobody gets it before `expires`.
const RESTING: u8 = b'4';

/// What a stretch of bytes between two LFs is.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Dead space or an operator's comment, an empty line included.
    Comment,
    /// An account, or a resting name.
    Record(Record<'a>),
    /// Text that is no account: an operator's mistake, left where it is.
    Foreign,
    /// Bytes that no editor writes: what a power cut left of a page.
    Damaged,
}

/// A live line, taken apart but not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its name.
    pub user: &'a str,
    /// The realm of its HA1.
    pub realm: &'a str,
    /// The HA1's digits; they go into views and nowhere else.
    pub ha1: &'a str,
    /// See the constants above.
    disabled: u8,
    role: &'a str,
    attributes: &'a str,
}

impl<'a> Line<'a> {
    /// Takes the bytes before an LF apart. A CR before it is an editor's and does not count.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() || bytes[0] == b'#' {
            return Self::Comment;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !has_controls(bytes) => {
                Record::parse(text).map_or(Self::Foreign, Self::Record)
            }
            _ => Self::Damaged,
        }
    }
}

/// Whether a dead line, with or without its LF, is one of ours that only lost its first byte: its rest
/// is nobody's any more. A comment of an operator's has a blank after its `#`.
pub fn is_killed_record(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // Any first letter does: a name of one letter leaves nothing before the colon.
    let restored = line.strip_prefix(b"#").map(|rest| [b"x", rest].concat());
    restored.is_some_and(|line| matches!(Line::parse(&line), Line::Record(_)))
}

/// Whether there are control characters other than a tab.
fn has_controls(bytes: &[u8]) -> bool {
    any(bytes, |b| b.is_ascii_control() & (b != b'\t'))
}

/// Whether these are the 32 hex digits of a digest.
fn is_digest(text: &str) -> bool {
    text.len() == 32 && !any(text.as_bytes(), |b| !b.is_ascii_hexdigit())
}

/// Whether a byte is like that. All are looked at, and the answer is kept in a byte: the compiler
/// can then look at many at a time.
fn any(bytes: &[u8], is_one: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(0, |found, &b| found | u8::from(is_one(b))) != 0
}

impl<'a> Record<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text;
        let mut field = || {
            let (field, after) = rest.split_at_checked(memchr::memchr(b':', rest.as_bytes())?)?;
            rest = &after[1..];
            Some(field)
        };
        let (user, realm, ha1, disabled) = (field()?, field()?, field()?, field()?);
        let (role, attributes) = rest.split_once(':').unwrap_or((rest, ""));
        Username::check(user).ok()?;
        let &[disabled @ ENABLED..=RESTING] = disabled.as_bytes() else { return None };
        // A realm of `#` alone is that of a view's dead lines, whose HA1 everybody knows.
        let is_realm = any(realm.as_bytes(), |b| b != b'#');
        (is_digest(ha1) && is_realm).then_some(Self {
            user,
            realm,
            ha1,
            disabled,
            role,
            attributes,
        })
    }

    /// Whether it may sign in.
    pub fn is_enabled(&self) -> bool {
        self.disabled == ENABLED
    }

    /// Where the `disabled` byte stands within the line.
    pub fn disabled_at(&self) -> u64 {
        (self.user.len() + 1 + self.realm.len() + 1 + self.ha1.len() + 1) as u64
    }

    /// Whether it is a pending account or a resting name whose time is over by `now`.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        matches!(self.disabled, PENDING | RESTING)
            && self.expires().is_some_and(|expires| expires <= now)
    }

    fn expires(&self) -> Option<DateTime<Utc>> {
        let text = value_in(self.attributes, "expires")?;
        DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc())
    }

    /// The tokens that the index has to know.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + use<> {
        let list = match self.disabled {
            PENDING => value_in(self.attributes, Purpose::Activation.attribute()),
            _ => None,
        };
        let list = list.unwrap_or_default().into_owned();
        let ids: Vec<TokenId> = list.split(',').filter_map(TokenId::parse).collect();
        ids.into_iter()
    }

    /// What it says, as a value; `None` where it cannot be one, which a line that was parsed can.
    pub fn standing(&self) -> Option<Standing> {
        let status = match self.disabled {
            ENABLED => Status::Enabled,
            PENDING => Status::Pending,
            DISABLED => Status::Disabled,
            WAITING => Status::Waiting,
            _ => {
                let until = self.expires().unwrap_or(DateTime::<Utc>::MAX_UTC);
                return Some(Standing::Resting { until });
            }
        };
        Some(Standing::Is(Account {
            user: Username::parse(self.user).ok()?,
            realm: self.realm.to_owned(),
            ha1: Ha1::parse(self.ha1).ok()?,
            status,
            role: self.role.to_owned(),
            attributes: Attributes::from_text(self.attributes),
        }))
    }
}

/// The `disabled` byte of a status.
pub fn byte_of(status: Status) -> u8 {
    match status {
        Status::Enabled => ENABLED,
        Status::Pending => PENDING,
        Status::Disabled => DISABLED,
        Status::Waiting => WAITING,
    }
}

/// The line of an account, LF included.
pub fn line_of(account: &Account) -> String {
    let Account { user, realm, ha1, status, role, attributes } = account;
    let disabled = char::from(byte_of(*status));
    format!("{user}:{realm}:{}:{disabled}:{role}:{}\n", ha1.reveal(), attributes.as_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HA1: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let attributes = format!("name=J%C3%B6&expires=2027-01-15T08:00:00Z&activation={HA1}{HA1}");
        let account = Account {
            user: Username::parse("joe.d").unwrap(),
            realm: "My Host".into(),
            ha1: Ha1::parse(HA1).unwrap(),
            status: Status::Pending,
            role: "guest".into(),
            attributes: Attributes::from_text(attributes),
        };
        let line = line_of(&account);
        let Line::Record(record) = Line::parse(line.trim_end().as_bytes()) else { panic!() };
        assert_eq!(record.standing(), Some(Standing::Is(account.clone())));
        assert_eq!(line.as_bytes()[record.disabled_at() as usize], PENDING);
        assert!(record.tokens().eq(account.tokens(Purpose::Activation)));
        let end = account.expires().unwrap();
        assert!(record.is_expired(end) && !record.is_expired(end - chrono::TimeDelta::seconds(1)));
    }

    #[test]
    fn lines_are_told_apart() {
        let standing = |text: &str| match Line::parse(text.as_bytes()) {
            Line::Record(record) => record.standing(),
            _ => None,
        };
        assert!(standing(&format!("joe:r:{HA1}:0:guest:\r")).is_some());
        assert!(standing(&format!("joe:r:{HA1}:2:guest")).is_some());
        assert!(matches!(standing(&format!("joe:r:{HA1}:3:guest:")), Some(Standing::Is(_))));
        let resting = standing(&format!("joe:r:{HA1}:4::expires=2027-01-15T08:00:00Z"));
        assert!(matches!(resting, Some(Standing::Resting { .. })));
        for foreign in [
            "joe",
            &format!("joe:r:{HA1}"),
            &format!("joe:r:{HA1}:5:guest:"),
            &format!("joe:##:{HA1}:0:guest:"),
        ] {
            assert_eq!(Line::parse(foreign.as_bytes()), Line::Foreign);
        }
        for comment in ["", "\r", "# a note", "####"] {
            assert_eq!(Line::parse(comment.as_bytes()), Line::Comment);
        }
        for damaged in [&b"\0\0\0"[..], b"joe\xff", b"a\x1bb"] {
            assert_eq!(Line::parse(damaged), Line::Damaged);
        }
    }

    #[test]
    fn a_record_that_lost_its_first_byte_is_told_from_a_comment() {
        for dead in [format!("#oe:r:{HA1}:0:guest:a=b"), format!("#:r:{HA1}:1:guest:\r")] {
            assert!(is_killed_record(dead.as_bytes()), "{dead}");
        }
        for kept in [format!("# joe:r:{HA1}:0:guest:"), "#joe was here".into(), "##".into()] {
            assert!(!is_killed_record(kept.as_bytes()), "{kept}");
        }
    }
}
