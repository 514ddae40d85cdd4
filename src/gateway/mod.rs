//! The ways a web server hands over a request: our own FastCGI responder, the published crate, and
//! CGI. Each turns bytes into a [`crate::http::Request`], asks the [`Handler`], and turns the
//! [`crate::http::Response`] into bytes.

pub mod cgi;

pub use crate::http::Handler;
