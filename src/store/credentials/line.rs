//! A line of the credentials file: `user:realm:ha1:disabled:role:attributes`.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use url::form_urlencoded;

use crate::account::{DisplayName, Email, Realm, Role, Username};
use crate::secret::{Ha1, TokenId};

/// The longest line that is written or looked up, in bytes, LF included. A line of ours stays below
/// half of it.
pub const LINE_MAX: usize = 8192;

/// The `disabled` byte of an account that may sign in.
pub const ENABLED: u8 = b'0';
/// Of one that waits for its activation.
pub const PENDING: u8 = b'1';
/// Of one that the operator shut.
pub const DISABLED: u8 = b'2';

/// What a stretch of bytes between two LFs is.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Dead space or an operator's comment, an empty line included.
    Comment,
    /// An account.
    Account(Account<'a>),
    /// Text that is no account: an operator's mistake, left where it is.
    Foreign,
    /// Bytes that no editor writes: what a power cut left of a page.
    Damaged,
}

/// An account's line, taken apart but not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// Its name.
    pub user: &'a str,
    /// The realm of its HA1.
    pub realm: &'a str,
    /// The HA1's digits; they go into views and nowhere else.
    pub ha1: &'a str,
    /// [`ENABLED`], [`PENDING`] or [`DISABLED`].
    pub disabled: u8,
    /// Its role.
    pub role: &'a str,
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
                Account::parse(text).map_or(Self::Foreign, Self::Account)
            }
            _ => Self::Damaged,
        }
    }
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

impl<'a> Account<'a> {
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
        let &[disabled @ (ENABLED | PENDING | DISABLED)] = disabled.as_bytes() else { return None };
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

    /// Where the `disabled` byte stands within the line.
    pub fn disabled_at(&self) -> u64 {
        (self.user.len() + 1 + self.realm.len() + 1 + self.ha1.len() + 1) as u64
    }

    /// Whether it waits for its activation.
    pub fn is_pending(&self) -> bool {
        self.disabled == PENDING
    }

    /// Whether it waited too long by `now`: nobody can activate it, and its name is free.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.is_pending()
            && self
                .attribute("expires")
                .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
                .is_some_and(|expires| expires <= now)
    }

    /// The tokens that activate it: one, or the last two after a resend.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + use<> {
        let list = self.attribute("activation").unwrap_or_default().into_owned();
        let ids: Vec<TokenId> = list.split(',').filter_map(TokenId::parse).collect();
        ids.into_iter()
    }

    /// An attribute's value.
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut pairs = form_urlencoded::parse(self.attributes.as_bytes());
        pairs.find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Its line with other values of some attributes (`None` takes one away), LF included; every
    /// other byte stays as it is.
    pub fn with_attributes(&self, changes: &[(&str, Option<&str>)]) -> String {
        let changed = |pair: &&str| {
            let name = form_urlencoded::parse(pair.as_bytes()).next();
            name.is_some_and(|(name, _)| changes.iter().any(|(changed, _)| name == *changed))
        };
        let kept = self.attributes.split('&').filter(|pair| !pair.is_empty() && !changed(pair));
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let new = changes.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        let new = new.map(|(name, value)| format!("{name}={}", encode(value)));
        let attributes: Vec<String> = kept.map(str::to_owned).chain(new).collect();
        let Self { user, realm, ha1, role, .. } = self;
        let disabled = char::from(self.disabled);
        format!("{user}:{realm}:{ha1}:{disabled}:{role}:{}\n", attributes.join("&"))
    }
}

/// A new, pending account.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// Its name.
    pub user: &'a Username,
    /// The tenant's realm.
    pub realm: &'a Realm,
    /// The credential.
    pub ha1: &'a Ha1,
    /// The tenant's role for new accounts.
    pub role: &'a Role,
    /// The name shown to people.
    pub name: &'a DisplayName,
    /// Where the activation mail goes.
    pub email: &'a Email,
    /// When it is made.
    pub created: DateTime<Utc>,
    /// Until when it can be activated.
    pub expires: DateTime<Utc>,
    /// What activates it.
    pub token: TokenId,
    /// The language of its mails.
    pub language: &'a str,
}

impl NewAccount<'_> {
    /// The line, LF included.
    pub fn line(&self) -> String {
        let mut attributes = form_urlencoded::Serializer::new(String::new());
        attributes
            .append_pair("name", self.name.as_str())
            .append_pair("email", self.email.as_str())
            .append_pair("created", &timestamp(self.created))
            .append_pair("expires", &timestamp(self.expires))
            .append_pair("activation", &self.token.hex())
            .append_pair("lang", self.language);
        format!(
            "{}:{}:{}:{}:{}:{}\n",
            self.user,
            self.realm,
            self.ha1.reveal(),
            char::from(PENDING),
            self.role.as_str(),
            attributes.finish()
        )
    }
}

/// RFC 3339, UTC, whole seconds.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HA1: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_new_account_reads_back_as_it_was_written() {
        let token = crate::secret::Token::random().unwrap().id();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let line = NewAccount {
            user: &Username::parse("joe.d").unwrap(),
            realm: &Realm::parse("My Host").unwrap(),
            ha1: &Ha1::parse(HA1).unwrap(),
            role: &Role::parse("guest").unwrap(),
            name: &DisplayName::parse("Jö:&=%\u{1f600}").unwrap(),
            email: &Email::parse("a@b.example").unwrap(),
            created: at(1_800_000_000),
            expires: at(1_800_000_100),
            token,
            language: "de",
        }
        .line();
        let Line::Account(account) = Line::parse(line.trim_end().as_bytes()) else { panic!() };
        assert_eq!((account.user, account.realm, account.ha1), ("joe.d", "My Host", HA1));
        assert_eq!(line.as_bytes()[account.disabled_at() as usize], PENDING);
        assert_eq!(account.attribute("name").unwrap(), "Jö:&=%\u{1f600}");
        assert!(account.tokens().eq([token]));
        assert!(!account.is_expired(at(1_800_000_099)) && account.is_expired(at(1_800_000_100)));
    }

    #[test]
    fn lines_are_told_apart() {
        let is_account = |text: &str| matches!(Line::parse(text.as_bytes()), Line::Account(_));
        assert!(is_account(&format!("joe:r:{HA1}:0:guest:\r")));
        assert!(is_account(&format!("joe:r:{HA1}:2:guest")));
        for foreign in [
            "joe",
            &format!("joe:r:{HA1}"),
            &format!("joe:r:{HA1}:3:guest:"),
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
}
