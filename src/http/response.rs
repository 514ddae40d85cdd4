//! An answer, and its bytes as CGI and FastCGI want them (RFC 3875 §6).

use std::borrow::Cow;
use std::fmt;

/// What is done when the answer is out. It must be short, since the next request may wait for it:
/// longer work it hands over to a thread.
pub type After = Box<dyn FnOnce() + Send>;

/// One answer.
pub struct Response {
    /// The status code (RFC 9110 §15).
    pub status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Vec<u8>,
    after: Option<After>,
}

impl Response {
    /// A JSON answer with the headers that the contract gives every JSON answer.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.into())
    }

    /// An HTML answer with the headers that the contract gives every page.
    pub fn html(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/html; charset=utf-8", body.into())
    }

    /// An answer without a body, for a preflight.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), after: None }
    }

    fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![
            ("Content-Type", content_type.into()),
            ("Cache-Control", "no-store".into()),
            ("X-Content-Type-Options", "nosniff".into()),
        ];
        Self { status, headers, body, after: None }
    }

    /// Adds a header. The value is ours, never a client's.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Drops the body, as the answer to HEAD.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body = Vec::new();
        self
    }

    /// Adds what is to be done after the answer.
    #[must_use]
    pub fn after(mut self, work: After) -> Self {
        self.after = Some(work);
        self
    }

    /// Takes what is to be done after the answer; the gateway does it once the last byte is out.
    pub fn take_after(&mut self) -> Option<After> {
        self.after.take()
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_ref()))
    }

    /// Appends the answer as a CGI document response: `Status`, header fields, a blank line, body.
    pub fn write_cgi(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Status: ");
        out.extend_from_slice(self.status.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(self.body.len().to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The reason phrases of RFC 9110 §15 for the statuses that are given here.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
