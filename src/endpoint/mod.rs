//! The story of each request, readable from top to bottom: what is asked of the stores, in which
//! order, and what the client did wrong where it did.

pub mod activate;
pub mod captcha;
pub mod page;
pub mod resend;
pub mod signup;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::account::{Malformed, Username};
use crate::config::{Signups, TenantConfig};
use crate::error::{Error, Refusal};
use crate::http::{Form, FormError, Request};
use crate::lang::Language;
use crate::store::captcha::Presentation;
use crate::template::Templates;
use crate::tenant::Tenant;

/// When to ask again whether sign-up is open: nobody knows, so it is only not too often.
const CLOSED_FOR: Duration = Duration::from_secs(3600);

/// A request on its way through an endpoint, with what `route` found out about it.
#[derive(Debug)]
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request,
    /// The tenant that was asked.
    pub tenant: &'a Arc<Tenant>,
    /// The client's address.
    pub client: IpAddr,
    /// When the request came.
    pub now: DateTime<Utc>,
    /// The user name that the request turned out to be about, for the log.
    pub user: OnceCell<String>,
}

impl Call<'_> {
    /// Whether the tenant takes new accounts.
    fn must_be_open(&self) -> Result<(), Refusal> {
        match self.tenant.config.signups {
            Signups::Open => Ok(()),
            Signups::Closed => Err(Refusal::Closed(CLOSED_FOR)),
        }
    }

    /// The wanted fields of the body, each present, and the language that it names; `required` is
    /// the sentence for a form that lacks one.
    fn fields<const N: usize>(
        &self,
        names: [&str; N],
        required: &'static str,
    ) -> Result<([String; N], Option<String>), Refusal> {
        let form = Form::read(self.request, names).map_err(|error| match error {
            FormError::TooLarge => Refusal::TooLarge,
            FormError::Malformed(why) => Refusal::Invalid(why.into()),
        })?;
        let language = form.language().map(str::to_owned);
        let values = form.into_values().map(Option::unwrap_or_default);
        if values.iter().any(String::is_empty) {
            return Err(Refusal::Invalid(required.into()));
        }
        Ok((values, language))
    }

    /// The user name in a form's field, where people may have it.
    fn username(&self, text: &str) -> Result<Username, Refusal> {
        let user = Username::parse(text).map_err(malformed("user"))?;
        self.is_about(user.as_str());
        if self.tenant.is_reserved(&user) {
            return Err(malformed("user")(Malformed("is reserved")));
        }
        Ok(user)
    }

    /// The captcha that a form came with, before it is counted.
    fn captcha(&self, token: &str, answer: &str) -> Result<Presentation, Error> {
        let found = self.tenant.captcha.recognise(token, answer, self.now_ms())?;
        found.ok_or_else(|| Refusal::Captcha.into())
    }

    /// The language to answer in, where a form may name one.
    fn language(&self, named: Option<&str>) -> &Language {
        language(self.request, &self.tenant.config, &self.tenant.templates, named)
    }

    /// Remembers who the request is about; the first name counts.
    fn is_about(&self, user: &str) {
        let _ = self.user.set(user.to_owned());
    }

    /// When the request came, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now.timestamp_millis()).unwrap_or(0)
    }
}

/// The language to answer in: the one that a form names, else the browser's, else the tenant's.
fn language<'a>(
    request: &Request,
    tenant: &TenantConfig,
    templates: &'a Templates,
    named: Option<&str>,
) -> &'a Language {
    let accepted = request.params.text("HTTP_ACCEPT_LANGUAGE");
    templates.languages.pick(named, accepted, &tenant.language)
}

/// The refusal of a field of the wrong shape.
fn malformed(field: &'static str) -> impl Fn(Malformed) -> Refusal {
    move |why| Refusal::Invalid(format!("{field} {why}").into())
}
