//! `POST /signup.ashx`: a pending account, and the mail that activates it.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::{Call, malformed};
use crate::account::{DisplayName, Email, Username};
use crate::error::{Error, Fault, Refusal};
use crate::secret::{Ha1, Token, TokenId};
use crate::store::Claim;
use crate::store::credentials::{Luggage, NewAccount, NotMade};
use crate::store::pickup::Staged;
use crate::store::rate_limit::Place;

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

/// What has to be given back when no account comes of it: the captcha, the place within the rate
/// limit, the staged mail. Dropping gives back, in this order.
struct Attempt {
    staged: Staged,
    captcha: Claim,
    place: Claim,
}

impl Luggage for Attempt {
    /// The account may be there: its mail waits for the sweep, and it counts.
    fn leave(self: Box<Self>) {
        self.staged.leave();
        self.captcha.keep();
        self.place.keep();
    }
}

/// Makes the account; its name.
pub fn post(call: &Call<'_>) -> Result<Username, Error> {
    call.must_be_open()?;
    let sign_up = SignUp::read(call)?;
    let captcha = call.present_captcha(&sign_up.captcha_token, &sign_up.captcha_answer)?;
    let place = take_place(call)?;
    if call.tenant.credentials.is_taken(&sign_up.user, call.now)? {
        return Err(Refusal::Taken.into());
    }
    let token = new_token()?;
    let expires = expiry(call);
    let staged = stage_mail(call, &sign_up, &token, expires)?;
    let attempt = Attempt { staged, captcha, place };
    let attempt = append_account(call, &sign_up, token.id(), expires, attempt)?;
    release_mail(call, &sign_up.user, token.id(), attempt)?;
    Ok(sign_up.user)
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
}

fn take_place(call: &Call<'_>) -> Result<Claim, Error> {
    match call.tenant.rate_limit.take(call.client, call.now_ms())? {
        Place::Taken(claim) => Ok(claim),
        Place::Full(wait) => Err(Refusal::RateLimited(wait).into()),
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
    call.tenant.pickup.stage(&mail, token.id())
}

/// State S2: the account is durable.
fn append_account(
    call: &Call<'_>,
    sign_up: &SignUp,
    token: TokenId,
    expires: DateTime<Utc>,
    attempt: Attempt,
) -> Result<Attempt, Error> {
    let account = NewAccount {
        user: &sign_up.user,
        realm: &call.tenant.config.realm,
        ha1: &sign_up.ha1,
        role: &call.tenant.config.role,
        name: &sign_up.name,
        email: &sign_up.email,
        created: call.now,
        expires,
        token,
        language: sign_up.language,
    };
    call.tenant.credentials.create(&account, attempt).map_err(|not_made| match not_made {
        NotMade::Taken => Refusal::Taken.into(),
        NotMade::Fault(fault) => fault.into(),
    })
}

/// State S3: the mail is where the SMTP service takes it from. Where it cannot get there, the
/// account goes.
fn release_mail(
    call: &Call<'_>,
    user: &Username,
    token: TokenId,
    attempt: Attempt,
) -> Result<(), Fault> {
    let Attempt { staged, captcha, place } = attempt;
    match staged.release() {
        Ok(()) => {
            captcha.keep();
            place.keep();
            Ok(())
        }
        Err(failed) => {
            let (fault, staged) = *failed;
            let stays = !staged.is_here();
            let attempt = Attempt { staged, captcha, place };
            if stays {
                Box::new(attempt).leave();
            } else {
                call.tenant.credentials.withdraw(user, token, attempt)?;
            }
            Err(fault)
        }
    }
}
