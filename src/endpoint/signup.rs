//! `POST /signup.ashx`: a pending account, and the mail that activates it.
//!
//! The states of an attempt are named where it reaches them; `src/lib.rs` has their table.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::{Call, malformed};
use crate::account::{
    Account, Attributes, DisplayName, Email, Purpose, Status, Username, timestamp,
};
use crate::error::{Error, Fault, Refusal};
use crate::secret::{Ha1, Token, TokenId};
use crate::store::accounts::{Key, SignedUp, Wish};
use crate::store::claims::{Reservation, Unsent};
use crate::store::outbox::Staged;
use crate::store::rules;

/// The fields of the form, in the order of the sentence that names them.
const FIELDS: [&str; 6] = ["user", "name", "email", "ha1", "captcha_token", "captcha_answer"];
const REQUIRED: &str = "user, name, email, ha1, captcha_token, captcha_answer required";

/// What a visitor filled in, each field in its right shape.
struct SignUp {
    user: Username,
    name: DisplayName,
    email: Email,
    ha1: Ha1,
    captcha_token: String,
    captcha_answer: String,
    /// The language of the mail.
    language: &'static str,
}

/// Makes the account; its name.
pub fn post(call: &Call<'_>) -> Result<Username, Error> {
    call.must_be_open()?;
    let sign_up = SignUp::read(call)?;
    let captcha = call.captcha(&sign_up.captcha_token, &sign_up.captcha_answer)?;
    let (token, expires) = (new_token()?, expiry(call));
    let account = sign_up.account(call, &token, expires);
    let wish = Wish { account, captcha, client: call.client, now: call.now };
    // S1 and S2 are reached in here: the mail is staged, then the account is durable.
    let mut stage = || stage_mail(call, &sign_up, &token, expires);
    match call.tenant.accounts.sign_up(wish, &mut stage)? {
        SignedUp::Captcha => Err(Refusal::Captcha.into()),
        SignedUp::Full(wait) => Err(Refusal::RateLimited(wait).into()),
        SignedUp::Taken => Err(Refusal::Taken.into()),
        SignedUp::Made(held) => {
            send_mail(call, &sign_up.user, token.id(), held)?;
            Ok(sign_up.user)
        }
    }
}

impl SignUp {
    fn read(call: &Call<'_>) -> Result<Self, Refusal> {
        let ([user, name, email, ha1, captcha_token, captcha_answer], language) =
            call.fields(FIELDS, REQUIRED)?;
        Ok(Self {
            user: call.username(&user)?,
            name: DisplayName::parse(&name).map_err(malformed("name"))?,
            email: Email::parse(&email).map_err(malformed("email"))?,
            ha1: Ha1::parse(&ha1).map_err(malformed("ha1"))?,
            captcha_token,
            captcha_answer,
            language: call.language(language.as_deref()).tag(),
        })
    }

    /// The account, which `token` activates until `expires`.
    fn account(&self, call: &Call<'_>, token: &Token, expires: DateTime<Utc>) -> Account {
        let Self { user, name, email, ha1, language, captcha_token: _, captcha_answer: _ } = self;
        let attributes = Attributes::default().with(&[
            ("name", Some(name.as_str())),
            ("email", Some(email.as_str())),
            ("created", Some(&timestamp(call.now))),
            ("expires", Some(&timestamp(expires))),
            (Purpose::Activation.attribute(), Some(&token.id().hex())),
            ("lang", Some(language)),
        ]);
        Account {
            user: user.clone(),
            realm: call.tenant.config.realm.to_string(),
            ha1: ha1.clone(),
            status: Status::Pending,
            role: call.tenant.config.role.as_str().to_owned(),
            attributes,
        }
    }
}

pub(super) fn new_token() -> Result<Token, Fault> {
    Token::random().map_err(|cause| Fault::pathless("draw an activation token", cause))
}

/// When the account's activation ends: whole seconds, as the file has them.
fn expiry(call: &Call<'_>) -> DateTime<Utc> {
    let life = TimeDelta::from_std(call.tenant.config.activation_ttl).unwrap_or(TimeDelta::MAX);
    let now = call.now.trunc_subsecs(0);
    now.checked_add_signed(life).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// State S1: the mail is whole and durable, but not yet where mails are taken from.
fn stage_mail(
    call: &Call<'_>,
    sign_up: &SignUp,
    token: &Token,
    expires: DateTime<Utc>,
) -> Result<Staged, Fault> {
    let composer = &call.tenant.composer;
    let (to, user) = (&sign_up.email, &sign_up.user);
    let mail = composer.activation(to, user, token, expires, sign_up.language)?;
    call.tenant.outbox.stage(&mail, token.id())
}

/// State S3: the mail is where the SMTP service takes it from. Where it cannot get there, the
/// account goes.
fn send_mail(
    call: &Call<'_>,
    user: &Username,
    token: TokenId,
    held: Reservation,
) -> Result<(), Fault> {
    let Err(unsent) = held.send() else { return Ok(()) };
    let (fault, held) = match *unsent {
        Unsent::Sent(fault) => return Err(fault),
        Unsent::Staged(fault, held) => (fault, held),
    };
    match call.tenant.accounts.update(Key::User(user.clone()), rules::take_back(token)) {
        Ok(_) => drop(held),
        // The account may stand: the sweep sends its mail.
        Err(_) => held.retain(),
    }
    Err(fault)
}
