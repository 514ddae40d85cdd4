//! `GET /captcha.ashx`: a question and its token.

use serde::Serialize;

use super::Call;
use crate::error::Error;

/// The answer's members. `realm` is what pages compute the HA1 with.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// An addition of two small integers.
    pub question: String,
    /// What comes back with the answer.
    pub token: String,
    /// The tenant's realm.
    pub realm: String,
}

/// Issues a captcha, where sign-up is open.
pub fn get(call: &Call<'_>) -> Result<Answer, Error> {
    call.must_be_open()?;
    let issued = call.tenant.captcha.issue(call.now_ms()).map_err(Error::CaptchaUnavailable)?;
    let realm = call.tenant.config.realm.to_string();
    Ok(Answer { question: issued.question, token: issued.token, realm })
}
