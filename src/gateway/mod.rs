//! The ways a web server hands over a request: our own FastCGI responder, the published crate, and
//! CGI. Each turns bytes into a [`Request`], asks the [`Handler`], and turns the [`Response`] into
//! bytes.

pub mod cgi;
pub mod fastcgi;
pub mod fastcgi_crate;
mod guard;
pub mod listener;

pub use guard::report_panics;

use crate::http::{Request, Response};

/// What answers requests; `route` is the one that does.
pub trait Handler: Send + Sync {
    /// Answers one request. It does not panic and does not take longer than the configured waits.
    fn handle(&self, request: Request) -> Response;
}
