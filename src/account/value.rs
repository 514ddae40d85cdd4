//! An account as a value, the same for every store.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use url::form_urlencoded;

use super::{Email, Username};
use crate::secret::{Ha1, TokenId};

/// Whether an account may sign in, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It may.
    Enabled,
    /// It waits for its activation.
    Pending,
    /// The operator shut it.
    Disabled,
    /// It was activated and waits for the operator's approval.
    Waiting,
}

/// What a token in a mail is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It enables a pending account.
    Activation,
}

impl Purpose {
    /// The attribute that holds the tokens' hashes.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Activation => "activation",
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub user: Username,
    /// The realm of its HA1. Not a [`super::Realm`]: an imported one may be written otherwise.
    pub realm: String,
    /// The credential.
    pub ha1: Ha1,
    /// Whether it may sign in.
    pub status: Status,
    /// What it may do, as the readers of the accounts call it.
    pub role: String,
    /// Everything else.
    pub attributes: Attributes,
}

impl Account {
    /// The tokens for this purpose, oldest first: of the last mail, and of the one before it.
    pub fn tokens(&self, purpose: Purpose) -> Vec<TokenId> {
        let list = self.attributes.get(purpose.attribute()).unwrap_or_default();
        list.split(',').filter_map(TokenId::parse).collect()
    }

    /// Whether it waited for its activation for too long by `now`: nobody can activate it, and its
    /// name is free.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.status == Status::Pending && self.expires().is_some_and(|expires| expires <= now)
    }

    /// Until when it can be activated.
    pub fn expires(&self) -> Option<DateTime<Utc>> {
        self.attributes.time("expires")
    }

    /// Where its mails go.
    pub fn email(&self) -> Option<Email> {
        Email::parse(&self.attributes.get("email")?).ok()
    }
}

/// Named texts, form-urlencoded. One that nobody here knows is kept as it was written.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Attributes(String);

/// They hold an address and hashes of tokens: a debug print must not put those into a log.
impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attributes(…)")
    }
}

impl Attributes {
    /// Takes form-urlencoded text as it is.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The form-urlencoded text.
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// An attribute's value.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        value_in(&self.0, name)
    }

    /// An attribute that is a time (RFC 3339).
    pub fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        let text = self.get(name)?;
        DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc())
    }

    /// The same with other values of some attributes (`None` takes one away); every other byte stays
    /// as it is.
    #[must_use]
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> Self {
        let is_changed = |pair: &&str| {
            let name = form_urlencoded::parse(pair.as_bytes()).next();
            name.is_some_and(|(name, _)| changes.iter().any(|(changed, _)| name == *changed))
        };
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let kept = self.0.split('&').filter(|pair| !pair.is_empty() && !is_changed(pair));
        let new = changes.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        let new = new.map(|(name, value)| format!("{name}={}", encode(value)));
        Self(kept.map(str::to_owned).chain(new).collect::<Vec<_>>().join("&"))
    }
}

/// The value of an attribute in form-urlencoded text.
pub fn value_in<'a>(text: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(text.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value)
}

/// RFC 3339, UTC, whole seconds: how every time in the accounts is written.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_attribute_leaves_every_other_byte() {
        let before = Attributes::from_text("note=%FFa+b&email=Joe%40b.example&lang=de");
        let after = before.with(&[("lang", Some("ö&")), ("none", None)]);
        assert_eq!(after.as_text(), "note=%FFa+b&email=Joe%40b.example&lang=%C3%B6%26");
        assert_eq!(after.get("lang").unwrap(), "ö&");
        assert_eq!(after.with(&[("email", None)]).get("email"), None);
        assert_eq!(format!("{before:?}"), "Attributes(…)");
    }
}
