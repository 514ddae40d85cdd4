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
    /// Whether answering may wait for a disk or for a lock on it. Waits for neither itself.
    fn waits(&self, _: &Request) -> Waits {
        Waits::Never
    }

    /// Answers one request. It does not panic, and waits no longer than is configured for what has a
    /// time-out.
    fn handle(&self, request: Request) -> Response;

    /// Answers a request that may wait and has no place for that: as well as it goes at once.
    fn handle_without_place(&self, request: Request) -> Response {
        self.handle(request)
    }

    /// Waits for the work behind the answers, which goes on in threads of its own, but not longer
    /// than until `deadline`. Called when all answers are out, before the process ends.
    fn finish(&self, _deadline: Instant) {}
}

/// Whether a request may wait for a disk, and thus needs one of the places for that: see
/// `gateway::bulkhead`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// It is answered from memory.
    Never,
    /// It may wait for the disk of one tenant.
    For {
        /// The tenant's number.
        tenant: usize,
        /// Whether it waits for a place; otherwise it is answered without one at once.
        patient: bool,
    },
}
