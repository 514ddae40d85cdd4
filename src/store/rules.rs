//! What may become of an account: the decisions, for every engine the same, without any writing.
//!
//! Each function makes a [`Decide`] for [`super::accounts::Accounts::update`].

use chrono::{DateTime, TimeDelta, Utc};

use super::accounts::{Decide, Decision, Standing};
use crate::account::{Account, Email, Purpose, Status, timestamp};
use crate::secret::TokenId;

/// Between two activation mails to one account.
const APART: TimeDelta = TimeDelta::minutes(5);
/// The sliding window for [`PER_DAY`].
const DAY: TimeDelta = TimeDelta::days(1);
/// Activation mails to one account within a day, the sign-up's included.
const PER_DAY: usize = 5;

/// Who asks for a mail.
#[derive(Debug, Clone)]
pub enum AskedBy {
    /// A visitor, who has to know this address and may not ask too often.
    Visitor(Email),
    /// The operator.
    Operator,
}

/// A decision on an account; where there is none, nothing changes.
fn on_account(mut decide: impl FnMut(&Account) -> Option<Decision> + Send + 'static) -> Decide {
    Box::new(move |standing| match standing {
        Standing::Is(account) => decide(account).unwrap_or(Decision::Leave),
        Standing::Free | Standing::Resting { .. } => Decision::Leave,
    })
}

/// Makes an account where its name is vacant at `now`.
pub fn create(account: Account, now: DateTime<Utc>) -> Decide {
    Box::new(move |standing| match standing.is_vacant(now) {
        true => Decision::Put(account.clone()),
        false => Decision::Leave,
    })
}

/// Whether `token` enables the account at `now`.
pub fn is_activated_by(account: &Account, token: &TokenId, now: DateTime<Utc>) -> bool {
    account.status == Status::Pending && !account.is_expired(now) && has_token(account, token)
}

/// Enables the pending account of a token.
pub fn activate(token: TokenId, now: DateTime<Utc>) -> Decide {
    on_account(move |account| is_activated_by(account, &token, now).then(|| enabled(account)))
}

/// Leaves everything as it is: what stands is durable when the update returns.
pub fn confirm() -> Decide {
    Box::new(|_| Decision::Leave)
}

/// Takes back a pending account that this token would activate: its mail could not be sent.
pub fn take_back(token: TokenId) -> Decide {
    on_account(move |account| {
        (account.status == Status::Pending && has_token(account, &token))
            .then_some(Decision::Remove)
    })
}

/// Removes a pending account whose time is over by `now`, and a resting name.
pub fn expire(now: DateTime<Utc>) -> Decide {
    Box::new(move |standing| match standing {
        Standing::Free => Decision::Leave,
        expired if expired.is_vacant(now) => Decision::Remove,
        _ => Decision::Leave,
    })
}

/// An operator lets an account in.
pub fn enable() -> Decide {
    on_account(|account| Some(enabled(account)))
}

/// An operator shuts an account out.
pub fn disable() -> Decide {
    on_account(|account| {
        Some(Decision::Put(Account { status: Status::Disabled, ..account.clone() }))
    })
}

/// An operator removes an account, or gives a resting name free.
pub fn remove() -> Decide {
    Box::new(|standing| match standing {
        Standing::Free => Decision::Leave,
        _ => Decision::Remove,
    })
}

/// Whether one more activation mail may be made at `now`.
pub fn may_be_mailed(account: &Account, by: &AskedBy, now: DateTime<Utc>) -> bool {
    let Some(email) = account.email() else { return false };
    if account.status != Status::Pending || account.is_expired(now) || account.expires().is_none() {
        return false;
    }
    match by {
        AskedBy::Operator => true,
        AskedBy::Visitor(known) => {
            let within = |window| {
                // A time further in the future than a window was written before the clock was set
                // back, and does not count.
                mailed(account).into_iter().filter(|time| (now - *time).abs() < window).count()
            };
            known.as_str().eq_ignore_ascii_case(email.as_str())
                && within(APART) == 0
                && within(DAY) < PER_DAY
        }
    }
}

/// Lets `token` activate a pending account beside the token of the mail before, since mails arrive
/// out of order.
pub fn mail_again(by: AskedBy, token: TokenId, now: DateTime<Utc>) -> Decide {
    on_account(move |account| {
        may_be_mailed(account, &by, now).then(|| {
            let last = account.tokens(Purpose::Activation).pop();
            let tokens: Vec<String> = last.iter().chain([&token]).map(TokenId::hex).collect();
            let times = mailed(account).into_iter().filter(|time| (now - *time).abs() < DAY);
            let times: Vec<String> = times.chain([now]).map(timestamp).collect();
            let attributes = account.attributes.with(&[
                (Purpose::Activation.attribute(), Some(&tokens.join(","))),
                ("mailed", Some(&times.join(","))),
            ]);
            Decision::Put(Account { attributes, ..account.clone() })
        })
    })
}

/// Undoes [`mail_again`], where the mail with `token` could not be sent and `before` is what stood
/// there.
pub fn undo_mail(token: TokenId, before: Account) -> Decide {
    on_account(move |account| {
        let last = account.tokens(Purpose::Activation).pop();
        let is_last = last.is_some_and(|last| last.same(&token));
        (account.status == Status::Pending && is_last).then(|| {
            Decision::Put(Account { attributes: before.attributes.clone(), ..account.clone() })
        })
    })
}

fn enabled(account: &Account) -> Decision {
    Decision::Put(Account { status: Status::Enabled, ..account.clone() })
}

fn has_token(account: &Account, token: &TokenId) -> bool {
    account.tokens(Purpose::Activation).iter().any(|id| id.same(token))
}

/// When mails to the account were made: absent until the second, since `created` says it.
fn mailed(account: &Account) -> Vec<DateTime<Utc>> {
    let attributes = &account.attributes;
    let list = attributes.get("mailed").or_else(|| attributes.get("created")).unwrap_or_default();
    let times = list.split(',').filter_map(|text| DateTime::parse_from_rfc3339(text).ok());
    times.map(|time| time.to_utc()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Attributes, Username};
    use crate::secret::{Ha1, Token};

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(START + seconds, 0).unwrap()
    }

    fn token() -> TokenId {
        Token::random().unwrap().id()
    }

    fn joe(token: TokenId) -> Account {
        let attributes = format!(
            "note=%FFa+b&email=Joe%40b.example&created={}&expires={}&activation={}",
            timestamp(at(0)),
            timestamp(at(7 * 86400)),
            token.hex()
        );
        Account {
            user: Username::parse("joe").unwrap(),
            realm: "r".into(),
            ha1: Ha1::parse(&"0".repeat(32)).unwrap(),
            status: Status::Pending,
            role: "guest".into(),
            attributes: Attributes::from_text(attributes),
        }
    }

    fn put(account: &Account, mut decide: Decide) -> Option<Account> {
        match decide(&Standing::Is(account.clone())) {
            Decision::Put(account) => Some(account),
            _ => None,
        }
    }

    fn by(email: &str) -> AskedBy {
        AskedBy::Visitor(Email::parse(email).unwrap())
    }

    #[test]
    fn the_last_two_tokens_stay_and_nothing_else_changes() {
        let [a, b, c] = [0; 3].map(|_| token());
        let first = joe(a);
        let second = put(&first, mail_again(by("joe@b.example"), b, at(300))).unwrap();
        let third = put(&second, mail_again(by("joe@b.example"), c, at(600))).unwrap();
        assert_eq!(second.tokens(Purpose::Activation), [a, b]);
        assert_eq!(third.tokens(Purpose::Activation), [b, c]);
        assert!(third.attributes.as_text().starts_with("note=%FFa+b&email=Joe%40b.example&"));
        assert_eq!(put(&third, undo_mail(c, second.clone())).unwrap(), second);
        assert!(put(&third, undo_mail(b, second.clone())).is_none());
        assert_eq!(put(&second, undo_mail(b, first.clone())).unwrap(), first);
    }

    #[test]
    fn mails_are_five_minutes_apart_and_five_a_day() {
        let may = |account: &Account, email: &str, seconds| {
            may_be_mailed(account, &by(email), at(seconds))
        };
        let mut account = joe(token());
        for n in 1..5 {
            assert!(!may(&account, "joe@b.example", n * 300 - 1));
            assert!(may(&account, "joe@b.example", n * 300));
            account = put(&account, mail_again(AskedBy::Operator, token(), at(n * 300))).unwrap();
        }
        assert!(!may(&account, "joe@b.example", 86_399));
        assert!(may(&account, "joe@b.example", 86_400));
        assert!(may(&account, "joe@b.example", -86_400 * 30), "the clock was set back");
        assert!(!may(&account, "joe@c.example", 86_400), "another address");
        assert!(!may(&account, "joe@b.example", 7 * 86_400), "expired");
        assert!(may_be_mailed(&account, &AskedBy::Operator, at(1201)));
        account.status = Status::Enabled;
        assert!(!may_be_mailed(&account, &AskedBy::Operator, at(1201)), "it is active");
    }

    #[test]
    fn a_link_works_until_its_end_and_for_a_pending_account_alone() {
        let (a, other) = (token(), token());
        let account = joe(a);
        let enabled = put(&account, activate(a, at(7 * 86400 - 1))).unwrap();
        assert_eq!((enabled.status, &enabled.attributes), (Status::Enabled, &account.attributes));
        assert!(put(&account, activate(a, at(7 * 86400))).is_none());
        assert!(put(&account, activate(other, at(1))).is_none());
        for status in [Status::Enabled, Status::Disabled, Status::Waiting] {
            assert!(put(&Account { status, ..account.clone() }, activate(a, at(1))).is_none());
        }
    }

    #[test]
    fn a_name_is_vacant_when_its_account_or_its_rest_is_over() {
        let over = at(7 * 86400);
        assert!(Standing::Free.is_vacant(over));
        assert!(Standing::Is(joe(token())).is_vacant(over));
        assert!(!Standing::Is(joe(token())).is_vacant(at(1)));
        assert!(Standing::Resting { until: over }.is_vacant(over));
        let mut expire = expire(at(1));
        assert_eq!(expire(&Standing::Resting { until: over }), Decision::Leave);
        assert_eq!(expire(&Standing::Resting { until: at(1) }), Decision::Remove);
    }
}
