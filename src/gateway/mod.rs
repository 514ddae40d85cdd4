//! The ways a web server hands over a request: our own FastCGI responder, the published crate, and
//! CGI. Each turns bytes into a [`Request`](crate::http::Request), asks the [`Handler`], and turns
//! the [`Response`](crate::http::Response) into bytes.

pub mod bulkhead;
pub mod cgi;
pub mod fastcgi;
pub mod fastcgi_crate;
mod guard;
pub mod listener;

pub use guard::report_panics;

pub use crate::http::Handler;
