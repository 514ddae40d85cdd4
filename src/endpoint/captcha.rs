//! `GET /captcha.ashx`: a question and its token.

use serde::Serialize;

use super::Call;
use crate::error::Error;
use crate::store::captcha::Issued;

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
    Ok(answer(call, issued))
}

/// The same without a look at the disk: with the key that is in memory, where there is one.
pub fn get_from_memory(call: &Call<'_>) -> Result<Option<Answer>, Error> {
    call.must_be_open()?;
    let issued = call.tenant.captcha.issue_from_memory(call.now_ms());
    Ok(issued.map(|issued| answer(call, issued)))
}

fn answer(call: &Call<'_>, issued: Issued) -> Answer {
    let realm = call.tenant.config.realm.to_string();
    Answer { question: issued.question, token: issued.token, realm }
}
