//! Further mails to a pending account: whether one may be made, and what its line says then.
//!
//! Attributes: `mailed`, when the mails of the last day were made (RFC 3339, commas between; absent
//! until the second, since `created` says it); `activation`, the tokens of the last two mails, since
//! mails arrive out of order.

use chrono::{DateTime, TimeDelta, Utc};

use super::line::{Account, timestamp};
use crate::account::Email;
use crate::secret::TokenId;

/// Between two mails to one account.
const APART: TimeDelta = TimeDelta::minutes(5);
/// The sliding window for [`PER_DAY`].
const DAY: TimeDelta = TimeDelta::days(1);
/// Mails to one account within a day, the sign-up's included.
const PER_DAY: usize = 5;

/// A pending account that a mail can be made for.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Where its mails go.
    pub email: Email,
    /// Until when it can be activated.
    pub expires: DateTime<Utc>,
    /// The language of its mails, where its line has one.
    pub language: Option<String>,
    /// The attributes that one more mail changes, as they are without it.
    pub(super) before: Before,
}

/// See [`Pending`].
#[derive(Debug, Clone)]
pub(super) struct Before {
    activation: String,
    mailed: Option<String>,
}

/// Who asks for a mail.
#[derive(Debug, Clone)]
pub enum AskedBy {
    /// A visitor, who has to know this address and may not ask too often.
    Visitor(Email),
    /// The operator.
    Operator,
}

impl Pending {
    /// Reads it from a line, where a mail may be made for it at `now`.
    pub(super) fn of(account: &Account<'_>, by: &AskedBy, now: DateTime<Utc>) -> Option<Self> {
        let email = account.attribute("email")?;
        if !account.is_pending() || account.is_expired(now) {
            return None;
        }
        if let AskedBy::Visitor(known) = by
            && (!known.as_str().eq_ignore_ascii_case(&email) || !may_be_mailed(account, now))
        {
            return None;
        }
        let expires = DateTime::parse_from_rfc3339(&account.attribute("expires")?).ok()?;
        let owned = |name| account.attribute(name).map(std::borrow::Cow::into_owned);
        Some(Self {
            email: Email::parse(&email).ok()?,
            expires: expires.to_utc(),
            language: owned("lang"),
            before: Before { activation: owned("activation")?, mailed: owned("mailed") },
        })
    }
}

/// The line of an account that gets one more mail with this token, LF included.
pub(super) fn remailed(account: &Account<'_>, token: TokenId, now: DateTime<Utc>) -> String {
    let last = account.tokens().last();
    let tokens: Vec<String> = last.iter().chain([&token]).map(TokenId::hex).collect();
    let times = mailed(account).filter(|time| (now - *time).abs() < DAY).chain([now]);
    let times: Vec<String> = times.map(timestamp).collect();
    let (tokens, times) = (tokens.join(","), times.join(","));
    account.with_attributes(&[("activation", Some(&tokens)), ("mailed", Some(&times))])
}

/// The line as it was before [`remailed`], where `token` is the last that it has.
pub(super) fn restored(account: &Account<'_>, token: TokenId, before: &Before) -> Option<String> {
    let last = account.tokens().last()?;
    (account.is_pending() && last.same(&token)).then(|| {
        account.with_attributes(&[
            ("activation", Some(&before.activation)),
            ("mailed", before.mailed.as_deref()),
        ])
    })
}

/// Whether another mail would be neither too soon nor one too many. A time that is further in the
/// future than a window was written before the clock was set back, and does not count.
fn may_be_mailed(account: &Account<'_>, now: DateTime<Utc>) -> bool {
    let within = |window| mailed(account).filter(|time| (now - *time).abs() < window).count();
    within(APART) == 0 && within(DAY) < PER_DAY
}

/// When mails to the account were made.
fn mailed(account: &Account<'_>) -> impl Iterator<Item = DateTime<Utc>> + use<> {
    let list = account.attribute("mailed").or_else(|| account.attribute("created"));
    let list = list.unwrap_or_default().into_owned();
    let times: Vec<_> =
        list.split(',').filter_map(|t| DateTime::parse_from_rfc3339(t).ok()).collect();
    times.into_iter().map(|time| time.to_utc())
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::*;
    use crate::secret::Token;

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(START + seconds, 0).unwrap()
    }

    fn first_line(token: TokenId) -> String {
        format!(
            "joe:r:{}:1:guest:note=%FFa+b&email=Joe%40b.example&created={}&expires={}&lang=de&activation={}\n",
            "0".repeat(32),
            timestamp(at(0)),
            timestamp(at(7 * 86400)),
            token.hex()
        )
    }

    fn with<T>(line: &str, then: impl FnOnce(&Account<'_>) -> T) -> T {
        match Line::parse(line.trim_end().as_bytes()) {
            Line::Account(account) => then(&account),
            other => panic!("{other:?}"),
        }
    }

    fn pending(line: &str, email: &str, seconds: i64) -> Option<Pending> {
        let by = AskedBy::Visitor(Email::parse(email).unwrap());
        with(line, |account| Pending::of(account, &by, at(seconds)))
    }

    #[test]
    fn the_last_two_tokens_stay_and_nothing_else_changes() {
        let [a, b, c] = [0; 3].map(|_| Token::random().unwrap().id());
        let first = first_line(a);
        let second = with(&first, |account| remailed(account, b, at(300)));
        let third = with(&second, |account| remailed(account, c, at(600)));
        assert!(with(&second, |account| account.tokens().eq([a, b])));
        assert!(with(&third, |account| account.tokens().eq([b, c])));
        assert!(third.contains(":note=%FFa+b&email=Joe%40b.example&") && third.ends_with('\n'));
        let before = pending(&second, "joe@b.example", 600).unwrap().before;
        assert_eq!(with(&third, |account| restored(account, c, &before)).unwrap(), second);
        assert!(with(&third, |account| restored(account, b, &before)).is_none());
        let before = pending(&first, "joe@b.example", 600).unwrap().before;
        assert_eq!(with(&second, |account| restored(account, b, &before)).unwrap(), first);
    }

    #[test]
    fn mails_are_five_minutes_apart_and_five_a_day() {
        let token = || Token::random().unwrap().id();
        let mut line = first_line(token());
        for n in 1..5 {
            assert!(pending(&line, "joe@b.example", n * 300 - 1).is_none());
            assert!(pending(&line, "joe@b.example", n * 300).is_some());
            line = with(&line, |account| remailed(account, token(), at(n * 300)));
        }
        assert!(pending(&line, "joe@b.example", 86_399).is_none());
        assert!(pending(&line, "joe@b.example", 86_400).is_some());
        assert!(pending(&line, "joe@b.example", -86_400 * 30).is_some(), "the clock was set back");
        assert!(pending(&line, "joe@c.example", 86_400).is_none(), "another address");
        assert!(pending(&line, "joe@b.example", 7 * 86_400).is_none(), "expired");
        let by_operator = |a: &Account<'_>| Pending::of(a, &AskedBy::Operator, at(1201)).is_some();
        assert!(with(&line, by_operator));
        assert!(!with(&line.replace(":1:guest", ":0:guest"), by_operator), "it is active");
    }
}
