//! What a CGI program answers when it has no configuration to work with: the web server waits for
//! an answer, and the reason belongs in its error log, not in the client's.

use crate::gateway::Handler;
use crate::http::{Request, Response};

/// Answers every request with 500.
#[derive(Debug, Clone, Copy)]
pub struct Unconfigured;

impl Handler for Unconfigured {
    fn handle(&self, _: Request) -> Response {
        let body =
            r#"{"error":"server_error","error_description":"The service is not configured."}"#;
        Response::json(500, body)
    }
}
