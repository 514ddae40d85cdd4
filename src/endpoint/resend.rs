//! `POST /resend.ashx`: another activation mail for a pending account.
//!
//! The answer is the same whether there is such an account or not, and it is out before anybody looks
//! for one, in another thread than those that answer: neither its time nor the next answer's tells.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::signup::new_token;
use super::{Call, malformed};
use crate::account::{Email, Username};
use crate::error::{Error, Fault, Refusal};
use crate::http::After;
use crate::log::{self, Event, Level};
use crate::secret::Token;
use crate::store::accounts::{Key, Standing, Updated};
use crate::store::claims::{Reservation, Unsent};
use crate::store::rules::{self, AskedBy};
use crate::tenant::Tenant;

/// The fields of the form, in the order of the sentence that names them.
const FIELDS: [&str; 4] = ["user", "email", "captcha_token", "captcha_answer"];
const REQUIRED: &str = "user, email, captcha_token, captcha_answer required";

/// How long a mail waits, and by how much longer at most, by chance: the answer has reached the client
/// by then, and no request of the client's meets the work for certain.
const PAUSE: Duration = Duration::from_millis(50);
const JITTER: Duration = Duration::from_millis(100);

/// What became of a wish for a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailed {
    /// It is where mails are taken from.
    Sent,
    /// There is no such pending account, or it had its mails.
    Nothing,
}

/// Takes the wish; what is returned hands it over to the tenant's thread, after the answer.
pub fn post(call: &Call<'_>) -> Result<After, Error> {
    let ([user, email, captcha_token, captcha_answer], _) = call.fields(FIELDS, REQUIRED)?;
    let user = call.username(&user)?;
    let email = Email::parse(&email).map_err(malformed("email"))?;
    let captcha = call.captcha(&captcha_token, &captcha_answer)?;
    let claim = call.tenant.claims.present(&captcha, call.now_ms())?;
    claim.ok_or(Refusal::Captcha)?.keep();
    let (tenant, now): (Arc<Tenant>, _) = (call.tenant.clone(), call.now);
    Ok(Box::new(move || {
        let dropped = event(&tenant, &user, Level::Warn, "dropped");
        let of = tenant.clone();
        let due = Instant::now() + PAUSE + JITTER.mul_f64(rand::random());
        let make = move || match mail_again(&of, &user, AskedBy::Visitor(email), now) {
            Ok(Mailed::Sent) => event(&of, &user, Level::Info, "sent"),
            Ok(Mailed::Nothing) => event(&of, &user, Level::Info, "nothing_to_send"),
            Err(fault) => event(&of, &user, Level::Error, "failed").field("fault", fault),
        };
        let job = move || {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            make().emit();
        };
        if let Err(refused) = tenant.background.submit(Box::new(job)) {
            dropped.field("reason", refused).emit();
        }
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
    let Err(unsent) = held.send() else { return Ok(Mailed::Sent) };
    let (fault, held) = match *unsent {
        Unsent::Sent(fault) => return Err(fault),
        Unsent::Staged(fault, held) => (fault, held),
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

/// A visitor's wish in the log.
fn event(tenant: &Tenant, user: &Username, level: Level, outcome: &str) -> Event {
    log::event(level, "resend_mail")
        .field("tenant", &tenant.config.host)
        .field("user", user)
        .field("outcome", outcome)
}
