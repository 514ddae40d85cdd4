//! `preview`: a mail or a page as visitors would get it, written to a file. It opens no tenant and
//! runs as whoever started it: its file is his.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};

use super::cli::Preview;
use super::upkeep::choose;
use super::{Failure, exit};
use crate::account::{Email, Username};
use crate::config;
use crate::endpoint::page::Page;
use crate::error::Fault;
use crate::lang::Languages;
use crate::secret::Token;
use crate::store::mail::Composer;
use crate::template::{PageKind, Templates};

/// Who gets a mail that nobody gets.
const USER: &str = "alice";
const ADDRESS: &str = "alice@example.org";

/// Writes what `what` says in the language `lang`, else the tenant's, to the file `to`.
pub fn preview(
    config_file: &Path,
    host: Option<&str>,
    what: Preview,
    lang: Option<&str>,
    to: &Path,
) -> Result<(), Failure> {
    let config = config::load(config_file)?;
    let tenant = choose(&config.tenants, host)?;
    let broken = |error: &dyn std::fmt::Display| Failure::new(exit::CONFIG, error);
    let languages = Languages::built_in().map_err(|error| broken(&error))?;
    let templates = Templates::new(Arc::new(languages), tenant.templates.as_deref());
    let templates = Arc::new(templates.map_err(|fault| broken(&fault))?);
    let composer =
        Composer::new(templates.clone(), &tenant.mail_from, &tenant.base_url, &tenant.site_name)?;
    let lang = lang.unwrap_or(&tenant.language);
    let token = Token::random().map_err(|cause| Fault::pathless("draw a token", cause))?;
    let text = match page_kind(what) {
        Some(kind) => {
            let languages = &templates.languages;
            let language = languages.get(lang).unwrap_or(languages.default());
            let token = token.reveal();
            let about_somebody = matches!(kind, PageKind::Active | PageKind::Click);
            let user = Some(USER).filter(|_| about_somebody);
            let page = Page { kind, user, token: Some(&token) };
            page.html(tenant, &templates, &composer, language, "preview")?.into_bytes()
        }
        None => {
            let life = TimeDelta::from_std(tenant.activation_ttl).unwrap_or_default();
            mail(&composer, &token, Utc::now() + life, lang, to)?
        }
    };
    fs::write(to, text).map_err(|error| {
        Failure::new(exit::CANNOT_CREATE, format!("cannot write {}: {error}", to.display()))
    })
}

fn page_kind(what: Preview) -> Option<PageKind> {
    match what {
        Preview::Mail => None,
        Preview::Page => Some(PageKind::Active),
        Preview::ClickPage => Some(PageKind::Click),
        Preview::RefusedPage => Some(PageKind::Refused),
        Preview::FailedPage => Some(PageKind::Failed),
    }
}

/// The part that the file's name asks for, or the whole message.
fn mail(
    composer: &Composer,
    token: &Token,
    expires: chrono::DateTime<Utc>,
    lang: &str,
    to: &Path,
) -> Result<Vec<u8>, Failure> {
    let sample = |why| Failure::new(exit::DATA, format!("the sample {why}"));
    let user = Username::parse(USER).map_err(sample)?;
    let parts = composer.parts(&user, token, expires, lang)?;
    Ok(match to.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => parts.html.into_bytes(),
        Some("txt") => parts.text.into_bytes(),
        _ => {
            let address = Email::parse(ADDRESS).map_err(sample)?;
            composer.activation(&address, &user, token, expires, lang)?.formatted()
        }
    })
}
