//! A request as it came over CGI or FastCGI, the answer to it, and the forms in its body.

mod form;
mod multipart;
mod request;
mod response;

use std::time::Instant;

pub use form::{Form, FormError};
pub use request::{Body, Method, Params, Request};
pub use response::{After, Response};

/// The largest request body that is read, in bytes; a larger one is 413.
pub const BODY_MAX: usize = 16 * 1024;
/// The largest sum of a request's parameters (names and values), in bytes. nginx itself stops at
/// 65,535.
pub const PARAMS_MAX: usize = 64 * 1024;

/// What answers requests; `route` is the one that does.
pub trait Handler: Send + Sync {
    /// Answers one request. It does not panic and does not take longer than the configured waits.
    fn handle(&self, request: Request) -> Response;

    /// Waits for the work behind the answers, which goes on in threads of its own, but not longer
    /// than until `deadline`. Called when all answers are out, before the process ends.
    fn finish(&self, _deadline: Instant) {}
}
