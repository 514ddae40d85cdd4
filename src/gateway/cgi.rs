//! Stand-in until the CGI gateway is merged: it answers a request that says nothing.

use std::io::{self, Write};

use super::Handler;
use crate::http::{Body, Params, Request};

/// Answers one request.
pub fn run(handler: &dyn Handler) -> io::Result<()> {
    let mut bytes = Vec::new();
    let body = Body::Whole(Vec::new());
    let request = Request { params: Params::default(), whole: false, body };
    handler.handle(request).write_cgi(&mut bytes);
    io::stdout().write_all(&bytes)
}
