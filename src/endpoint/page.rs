//! The pages of `activate.ashx`, in the visitor's language.

use data_encoding::BASE64;

use super::Call;
use crate::error::Fault;
use crate::http::Response;
use crate::secret::{Token, fill_random};
use crate::template::{PageKind, PageValues};

/// The page of an account that was just enabled; leads on to `login_page`.
pub fn activated(call: &Call<'_>, user: &str) -> Result<Response, Fault> {
    Page { kind: PageKind::Active, title: "page_active_title", user: Some(user), token: None }
        .render(call, 200)
}

/// The page with the button that enables the account of `token`.
pub fn click(call: &Call<'_>, user: &str, token: &Token) -> Result<Response, Fault> {
    let token = token.reveal();
    let (user, token) = (Some(user), Some(token.as_str()));
    Page { kind: PageKind::Click, title: "page_click_title", user, token }.render(call, 200)
}

/// The page of a link that does not work.
pub fn refused(call: &Call<'_>) -> Result<Response, Fault> {
    Page { kind: PageKind::Refused, title: "page_refused_title", user: None, token: None }
        .render(call, 400)
}

/// The page of an activation that failed through our fault.
pub fn failed(call: &Call<'_>) -> Result<Response, Fault> {
    Page { kind: PageKind::Failed, title: "page_failed_title", user: None, token: None }
        .render(call, 500)
}

/// The answer to HEAD: the headers of a page, and nothing to read.
pub fn head() -> Response {
    secured(Response::html(200, ""), "default-src 'none'")
}

struct Page<'a> {
    kind: PageKind,
    title: &'static str,
    user: Option<&'a str>,
    token: Option<&'a str>,
}

impl Page<'_> {
    fn render(self, call: &Call<'_>, status: u16) -> Result<Response, Fault> {
        let mut random = [0; 15];
        fill_random(&mut random).map_err(|cause| Fault::pathless("draw a nonce", cause))?;
        let nonce = BASE64.encode(&random);
        let tenant = call.tenant;
        let language = call.language(None);
        let title = language.text(self.title);
        let english = tenant.templates.languages.default().text(self.title);
        let html = tenant.templates.page(
            language,
            &PageValues {
                page: self.kind,
                title,
                english: Some(english).filter(|english| *english != title),
                host: tenant.composer.host(),
                user: self.user,
                login_page: &tenant.config.login_page,
                resend: tenant.config.resend,
                token: self.token,
                nonce: &nonce,
            },
        )?;
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        );
        Ok(secured(Response::html(status, html), policy).header("Content-Language", language.tag()))
    }
}

fn secured(response: Response, policy: impl Into<std::borrow::Cow<'static, str>>) -> Response {
    response.header("Referrer-Policy", "no-referrer").header("Content-Security-Policy", policy)
}
