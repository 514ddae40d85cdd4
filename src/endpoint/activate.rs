//! `GET /activate.ashx?token=…`: enables the account, once.

use super::Call;
use crate::error::{Error, Refusal};
use crate::http::Form;
use crate::secret::Token;

/// Enables the account that the link's token belongs to; its name.
pub fn get(call: &Call<'_>) -> Result<String, Error> {
    let token = token_of(call.request.query()).ok_or(Refusal::Link)?;
    let activated = call.tenant.credentials.activate(token.id(), call.now)?;
    let user = activated.ok_or(Refusal::Link)?;
    call.is_about(&user);
    Ok(user)
}

/// The token of a query: one, and well-formed.
fn token_of(query: &[u8]) -> Option<Token> {
    let [token] = Form::query(query, ["token"]).ok()?.into_values();
    Token::parse(token?.as_bytes())
}
