//! The pages of `activate.ashx`, in the visitor's language.

use std::sync::Arc;

use data_encoding::BASE64;

use super::{Call, language};
use crate::config::TenantConfig;
use crate::error::Fault;
use crate::http::{Request, Response};
use crate::lang::Language;
use crate::secret::{Token, fill_random};
use crate::store::mail::Composer;
use crate::template::{PageKind, PageValues, Templates};
use crate::tenant::Tenant;

/// One page.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Which.
    pub kind: PageKind,
    /// Whose account it is about.
    pub user: Option<&'a str>,
    /// What its button sends.
    pub token: Option<&'a str>,
}

/// The page of an account that was just enabled; leads on to `login_page`.
pub fn activated(call: &Call<'_>, user: &str) -> Result<Response, Fault> {
    Page { kind: PageKind::Active, user: Some(user), token: None }.answer(call, 200)
}

/// The page with the button that enables the account of `token`.
pub fn click(call: &Call<'_>, user: &str, token: &Token) -> Result<Response, Fault> {
    let token = token.reveal();
    Page { kind: PageKind::Click, user: Some(user), token: Some(&token) }.answer(call, 200)
}

/// The page of a link that does not work.
pub fn refused(call: &Call<'_>) -> Result<Response, Fault> {
    Page { kind: PageKind::Refused, user: None, token: None }.answer(call, 400)
}

/// The page of an activation that failed through our fault.
pub fn failed(call: &Call<'_>) -> Result<Response, Fault> {
    Page { kind: PageKind::Failed, user: None, token: None }.answer(call, 500)
}

/// The same where the tenant is out: with the templates that come with the program.
pub fn out(
    request: &Request,
    tenant: &TenantConfig,
    templates: &Arc<Templates>,
) -> Result<Response, Fault> {
    let composer =
        Composer::new(templates.clone(), &tenant.mail_from, &tenant.base_url, &tenant.site_name)?;
    let language = language(request, tenant, templates, None);
    let page = Page { kind: PageKind::Failed, user: None, token: None };
    page.response(tenant, templates, &composer, language, 500)
}

/// The answer to HEAD: the headers of a page, and nothing to read.
pub fn head() -> Response {
    secured(Response::html(200, ""), "default-src 'none'")
}

impl Page<'_> {
    /// The page as HTML; its style and script bear `nonce`.
    pub fn html(
        self,
        tenant: &TenantConfig,
        templates: &Templates,
        composer: &Composer,
        language: &Language,
        nonce: &str,
    ) -> Result<String, Fault> {
        let key = match self.kind {
            PageKind::Active => "page_active_title",
            PageKind::Click => "page_click_title",
            PageKind::Refused => "page_refused_title",
            PageKind::Failed => "page_failed_title",
        };
        let (title, english) = (language.text(key), templates.languages.default().text(key));
        let values = PageValues {
            page: self.kind,
            title,
            english: Some(english).filter(|english| *english != title),
            host: composer.host(),
            site: &tenant.site_name,
            user: self.user,
            login_page: &tenant.login_page,
            resend: tenant.resend,
            token: self.token,
            nonce,
        };
        templates.page(language, &values)
    }

    fn answer(self, call: &Call<'_>, status: u16) -> Result<Response, Fault> {
        let Tenant { config, templates, composer, .. } = &**call.tenant;
        self.response(config, templates, composer, call.language(None), status)
    }

    fn response(
        self,
        tenant: &TenantConfig,
        templates: &Templates,
        composer: &Composer,
        language: &Language,
        status: u16,
    ) -> Result<Response, Fault> {
        let mut random = [0; 15];
        fill_random(&mut random).map_err(|cause| Fault::pathless("draw a nonce", cause))?;
        let nonce = BASE64.encode(&random);
        let html = self.html(tenant, templates, composer, language, &nonce)?;
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
