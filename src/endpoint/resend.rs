//! `POST /resend.ashx`: another activation mail for a pending account.
//!
//! The answer is the same whether there is such an account or not, and it is out before anybody looks
//! for one, so that its time tells nothing either.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::signup::new_token;
use super::{Call, malformed};
use crate::account::{Email, Username};
use crate::error::{Error, Fault, Refusal};
use crate::http::After;
use crate::log::{self, Level};
use crate::secret::Token;
use crate::store::accounts::{Key, Standing, Updated};
use crate::store::claims::{Reservation, Unsent};
use crate::store::rules::{self, AskedBy};
use crate::tenant::Tenant;

/// The fields of the form, in the order of the sentence that names them.
const FIELDS: [&str; 4] = ["user", "email", "captcha_token", "captcha_answer"];
const REQUIRED: &str = "user, email, captcha_token, captcha_answer required";

/// What became of a wish for a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailed {
    /// It is where mails are taken from.
    Sent,
    /// There is no such pending account, or it had its mails.
    Nothing,
}

/// Takes the wish; what is returned is to be done after the answer.
pub fn post(call: &Call<'_>) -> Result<After, Error> {
    let ([user, email, captcha_token, captcha_answer], _) = call.fields(FIELDS, REQUIRED)?;
    let user = call.username(&user)?;
    let email = Email::parse(&email).map_err(malformed("email"))?;
    let captcha = call.captcha(&captcha_token, &captcha_answer)?;
    let claim = call.tenant.claims.present(&captcha, call.now_ms())?;
    claim.ok_or(Refusal::Captcha)?.keep();
    let (tenant, now): (Arc<Tenant>, _) = (call.tenant.clone(), call.now);
    Ok(Box::new(move || {
        let mailed = mail_again(&tenant, &user, AskedBy::Visitor(email), now);
        log_mail(&tenant, &user, &mailed);
    }))
}

/// Makes and sends the mail, where one may be made. Its link works beside that of the mail before.
pub fn mail_again(
    tenant: &Tenant,
    user: &Username,
    by: AskedBy,
    now: DateTime<Utc>,
) -> Result<Mailed, Fault> {
    let standing = tenant.accounts.get(user)?;
    let token = new_token()?;
    let account = match standing {
        Standing::Is(account) if rules::may_be_mailed(&account, &by, now) => account,
        _ => {
            if let AskedBy::Visitor(email) = &by {
                compose_for_nobody(tenant, user, email, &token, now)?;
            }
            return Ok(Mailed::Nothing);
        }
    };
    let (Some(to), Some(expires)) = (account.email(), account.expires()) else {
        return Ok(Mailed::Nothing);
    };
    let language = account.attributes.get("lang");
    let language = language.as_deref().unwrap_or(&tenant.config.language);
    let mail = tenant.composer.activation(&to, user, &token, expires, language)?;
    let held = Reservation::new(tenant.outbox.stage(&mail, token.id())?, Vec::new());
    let key = Key::User(user.clone());
    match tenant.accounts.update(key.clone(), rules::mail_again(by, token.id(), now)) {
        Ok(Updated::Put(_)) => {}
        Ok(_) => return Ok(Mailed::Nothing),
        Err(failed) => return Err(failed.settle(held)),
    }
    let (fault, held) = match held.send() {
        Ok(()) => return Ok(Mailed::Sent),
        Err(Unsent::Sent(fault)) => return Err(fault),
        Err(Unsent::Staged(fault, held)) => (fault, held),
    };
    match tenant.accounts.update(key, rules::undo_mail(token.id(), account)) {
        Ok(_) => drop(held),
        // Its token may stand: the sweep sends the mail.
        Err(_) => held.retain(),
    }
    Err(fault)
}

/// The processor's share of a mail, which is most of it: the next request, which may have to wait for
/// that, must not tell either whether there was a mail to make.
fn compose_for_nobody(
    tenant: &Tenant,
    user: &Username,
    email: &Email,
    token: &Token,
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    let mail = tenant.composer.activation(email, user, token, now, &tenant.config.language)?;
    std::hint::black_box(mail.formatted());
    Ok(())
}

fn log_mail(tenant: &Tenant, user: &Username, mailed: &Result<Mailed, Fault>) {
    let (level, outcome, fault) = match mailed {
        Ok(Mailed::Sent) => (Level::Info, "sent", None),
        Ok(Mailed::Nothing) => (Level::Info, "nothing_to_send", None),
        Err(fault) => (Level::Error, "failed", Some(fault)),
    };
    log::event(level, "resend_mail")
        .field("tenant", &tenant.config.host)
        .field("user", user)
        .field("outcome", outcome)
        .maybe("fault", fault)
        .emit();
}
