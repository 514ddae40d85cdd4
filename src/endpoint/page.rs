//! The pages of `activate.ashx`.

use data_encoding::BASE64;
use serde::Serialize;

use crate::error::Fault;
use crate::http::Response;
use crate::secret::fill_random;
use crate::template::Templates;

#[derive(Serialize)]
struct Values<'a> {
    title: &'a str,
    sentences: &'a [String],
    leads_to: Option<&'a str>,
    nonce: &'a str,
}

/// The page of an account that was just enabled; leads on to `login_page`.
pub fn activated(templates: &Templates, user: &str, login_page: &str) -> Result<Response, Fault> {
    let sentences = [format!("Welcome, {user}. You can sign in now.")];
    render(templates, 200, "Your account is active", &sentences, Some(login_page))
}

/// The page of a link that does not work.
pub fn refused(templates: &Templates) -> Result<Response, Fault> {
    let sentences = [
        "A link works once, and only for a limited time.".to_owned(),
        "If you have used it already, just sign in. If not, sign up again.".to_owned(),
    ];
    render(templates, 400, "Activation link is invalid or expired", &sentences, None)
}

/// The page of an activation that failed through our fault.
pub fn failed(templates: &Templates) -> Result<Response, Fault> {
    let sentences = ["Your link is still good. Please open it again in a few minutes.".to_owned()];
    render(templates, 500, "Something went wrong here", &sentences, None)
}

/// The answer to HEAD: the headers of a page, and nothing to read.
pub fn head() -> Response {
    secured(Response::html(200, ""), "default-src 'none'")
}

fn render(
    templates: &Templates,
    status: u16,
    title: &str,
    sentences: &[String],
    leads_to: Option<&str>,
) -> Result<Response, Fault> {
    let mut random = [0; 15];
    fill_random(&mut random).map_err(|cause| Fault::pathless("draw a nonce", cause))?;
    let nonce = BASE64.encode(&random);
    let page =
        templates.render("page.html", Values { title, sentences, leads_to, nonce: &nonce })?;
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    Ok(secured(Response::html(status, page), policy))
}

fn secured(response: Response, policy: impl Into<std::borrow::Cow<'static, str>>) -> Response {
    response.header("Referrer-Policy", "no-referrer").header("Content-Security-Policy", policy)
}
