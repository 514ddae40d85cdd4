//! What the three gateways share: a handler that panics is a 500 and a log line, and the body is
//! held against its announced length.

use std::panic::{self, AssertUnwindSafe};

use crate::http::{After, BODY_MAX, Body, Params, Request, Response};
use crate::log::{self, Level};

/// Asks the handler; a panic is answered 500. The panic hook logs it: see [`report_panics`].
pub fn answer(ask: impl FnOnce() -> Response) -> Response {
    panic::catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| {
        let body = r#"{"error":"server_error","error_description":"the server failed to answer"}"#;
        Response::json(500, body)
    })
}

/// Does what is for after the answer, where there is anything. A panic ends that and nothing else.
pub fn run_after(after: Option<After>) {
    let Some(work) = after else { return };
    // The panic hook has logged it.
    let _ = panic::catch_unwind(AssertUnwindSafe(work));
}

/// From now on a panic is one log line that names its place. Only a literal message is written: a
/// composed one might hold what must not reach a log.
pub fn report_panics() {
    panic::set_hook(Box::new(|info| {
        log::event(Level::Error, "panic")
            .maybe("place", info.location())
            .maybe("message", info.payload().downcast_ref::<&'static str>())
            .emit();
    }));
}

/// The announced length of the body: `Ok(None)` where none is announced, `Err` where it is no
/// number.
pub fn content_length(params: &Params) -> Result<Option<u64>, ()> {
    let Some(text) = params.present("CONTENT_LENGTH") else { return Ok(None) };
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    let text = std::str::from_utf8(text).map_err(drop)?;
    // Digits alone that do not fit are a length that no body reaches.
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

/// Whether the body that is announced is over [`BODY_MAX`].
pub fn announces_too_much(params: &Params) -> bool {
    content_length(params).is_ok_and(|length| length.is_some_and(|n| n > BODY_MAX as u64))
}

/// The request of these parts. `bytes` is at most one byte longer than [`BODY_MAX`]; bytes beyond
/// the announced length are not the body's (RFC 3875 §4.2).
pub fn request(params: Params, whole: bool, mut bytes: Vec<u8>) -> Request {
    let announced = content_length(&params);
    let body = match announced {
        _ if announces_too_much(&params) => Body::TooLarge,
        Ok(Some(length)) if length > bytes.len() as u64 => Body::Truncated,
        Ok(Some(length)) => {
            // No longer than `bytes`, so it fits.
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Body::Whole(bytes)
        }
        _ if bytes.len() > BODY_MAX => Body::TooLarge,
        _ => Body::Whole(bytes),
    };
    Request { params, whole: whole && announced.is_ok(), body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(announced: &str, bytes: usize) -> (Body, bool) {
        let params = [(b"CONTENT_LENGTH".to_vec(), announced.as_bytes().to_vec())];
        let request = request(params.into_iter().collect(), true, vec![b'x'; bytes]);
        (request.body, request.whole)
    }

    #[test]
    fn the_body_is_held_against_its_announced_length() {
        assert!(matches!(body("5", 5), (Body::Whole(b), true) if b.len() == 5));
        assert!(matches!(body("3", 5), (Body::Whole(b), true) if b.len() == 3));
        assert!(matches!(body("6", 5), (Body::Truncated, true)));
        assert!(matches!(body("", 5), (Body::Whole(b), true) if b.len() == 5));
        assert!(matches!(body("16384", BODY_MAX), (Body::Whole(_), true)));
        assert!(matches!(body("16385", 0), (Body::TooLarge, true)));
        assert!(matches!(body("", BODY_MAX + 1), (Body::TooLarge, true)));
        assert!(matches!(body("99999999999999999999999", 0), (Body::TooLarge, true)));
        assert!(!body("-1", 5).1 && !body("+5", 5).1 && !body("5 ", 5).1);
    }
}
