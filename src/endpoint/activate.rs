//! `GET /activate.ashx?token=…`: enables the account, once. Where the tenant says
//! `activation = "click"`, GET shows a button instead and changes nothing, and POST with the token
//! in its body enables: mail scanners open links, but press no buttons.

use super::Call;
use crate::config::Activation;
use crate::error::{Error, Refusal};
use crate::http::{Form, FormError};
use crate::secret::Token;

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
            let pending = call.tenant.credentials.find_pending(&token.id(), call.now)?;
            let user = pending.ok_or(Refusal::Link)?;
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

/// Enables the account that the token belongs to.
fn enable(call: &Call<'_>, token: &Token) -> Result<Activated, Error> {
    let user = call.tenant.credentials.activate(token.id(), call.now)?.ok_or(Refusal::Link)?;
    call.is_about(&user);
    Ok(Activated::Enabled(user))
}

/// The token of a query or a form: one, and well-formed.
fn token_of(form: Result<Form<1>, FormError>) -> Option<Token> {
    let [token] = form.ok()?.into_values();
    Token::parse(token?.as_bytes())
}
