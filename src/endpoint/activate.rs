//! `GET /activate.ashx?token=…`: enables the account, once. Where the tenant says
//! `activation = "click"`, GET shows a button instead and changes nothing, and POST with the token
//! in its body enables: mail scanners open links, but press no buttons.

use super::Call;
use crate::account::{Account, Purpose};
use crate::config::Activation;
use crate::error::{Error, Refusal};
use crate::http::{Form, FormError};
use crate::secret::Token;
use crate::store::accounts::{Key, Standing, Updated};
use crate::store::rules;

/// What an activation came to, for the account of this name.
#[derive(Debug)]
pub enum Activated {
    /// It may sign in from now on.
    Enabled(String),
    /// It is still shut; the button with this token enables it.
    ToConfirm(String, Token),
}

/// Follows a link.
pub fn get(call: &Call<'_>) -> Result<Activated, Error> {
    let token = token_of(Form::query(call.request.query(), ["token"])).ok_or(Refusal::Link)?;
    match call.tenant.config.activation {
        Activation::Get => enable(call, &token),
        Activation::Click => {
            let user = pending(call, &token)?.user.to_string();
            call.is_about(&user);
            Ok(Activated::ToConfirm(user, token))
        }
    }
}

/// Presses the button.
pub fn post(call: &Call<'_>) -> Result<Activated, Error> {
    let token = token_of(Form::read(call.request, ["token"])).ok_or(Refusal::Link)?;
    enable(call, &token)
}

/// Enables the account that the token belongs to: state S4.
fn enable(call: &Call<'_>, token: &Token) -> Result<Activated, Error> {
    // Whoever tries out links does not get as far as the lock.
    pending(call, token)?;
    let key = Key::Token(Purpose::Activation, token.id());
    match call.tenant.accounts.update(key, rules::activate(token.id(), call.now)) {
        Ok(Updated::Put(Standing::Is(account))) => {
            call.is_about(account.user.as_str());
            Ok(Activated::Enabled(account.user.to_string()))
        }
        Ok(_) => Err(Refusal::Link.into()),
        Err(failed) => Err(failed.fault().into()),
    }
}

/// The account that the token enables now.
fn pending(call: &Call<'_>, token: &Token) -> Result<Account, Error> {
    let found = call.tenant.accounts.by_token(Purpose::Activation, &token.id())?;
    let pending = found.filter(|account| rules::is_activated_by(account, &token.id(), call.now));
    pending.ok_or_else(|| Refusal::Link.into())
}

/// The token of a query or a form: one, and well-formed.
fn token_of(form: Result<Form<1>, FormError>) -> Option<Token> {
    let [token] = form.ok()?.into_values();
    Token::parse(token?.as_bytes())
}
