//! Refusals and errors as answers: their statuses, codes and sentences.

use serde::Serialize;

use crate::error::Refusal;
use crate::http::Response;

/// A refusal's code, in answers and in the log.
pub fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::LostParameters | Refusal::Invalid(_) => "invalid_request",
        Refusal::UnknownPath => "not_found",
        Refusal::UnknownHost => "unknown_host",
        Refusal::Method(_) => "method_not_allowed",
        Refusal::TooLarge => "payload_too_large",
        Refusal::Captcha => "captcha_failed",
        Refusal::RateLimited(_) => "rate_limited",
        Refusal::Taken => "conflict",
        Refusal::Link => "link_refused",
        Refusal::Closed(_) => "signups_closed",
    }
}

/// The answer to a request that was refused.
pub fn refusal_json(refusal: &Refusal) -> Response {
    let (status, description) = match refusal {
        Refusal::LostParameters => (400, "The request's parameters did not arrive whole."),
        Refusal::UnknownPath => (404, "There is no such endpoint."),
        Refusal::UnknownHost => (421, "This host is not served here."),
        Refusal::Method(_) => (405, "This endpoint does not take this method."),
        Refusal::TooLarge => (413, "The body is larger than 16384 bytes."),
        Refusal::Invalid(why) => (400, why.as_ref()),
        Refusal::Captcha => (400, "The captcha is unknown, expired, used up, or its answer wrong."),
        Refusal::RateLimited(_) => (429, "Too many accounts from this address; try again later."),
        Refusal::Taken => (409, "This user name is taken."),
        Refusal::Link => (400, "Activation link is invalid or expired"),
        Refusal::Closed(_) => (503, "Sign-up is closed here at the moment."),
    };
    let response = error_json(status, code(refusal), description);
    match refusal {
        Refusal::Method(allow) => response.header("Allow", *allow),
        Refusal::RateLimited(wait) | Refusal::Closed(wait) => {
            response.header("Retry-After", wait.as_secs().to_string())
        }
        _ => response,
    }
}

/// An error as JSON.
pub fn error_json(status: u16, error: &str, error_description: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        error_description: &'a str,
    }
    Response::json(status, to_json(&Body { error, error_description }))
}

/// JSON of values that always have one: structures of text and flags.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
