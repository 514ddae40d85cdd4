//! The effective configuration as TOML: what [`super::load`] would read to the same effect, with
//! every default filled in.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::values::{ACTIVATIONS, GATEWAYS, SIGNUPS, show_duration, view_name, word_of};
use super::{Config, LogTarget, TenantConfig};

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let log = match &self.log {
            LogTarget::Stderr => "stderr".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        };
        maybe(f, "listen", self.listen.as_ref().map(|listen| quoted(&listen.to_string())))?;
        writeln!(f, "gateway = {}", quoted(word_of(GATEWAYS, &self.gateway)))?;
        writeln!(f, "workers = {}", self.workers)?;
        writeln!(f, "log = {}", quoted(&log))?;
        writeln!(f, "lock_wait = {}", quoted(&show_duration(self.lock_wait)))?;
        maybe(f, "default_tenant", self.default_tenant.as_deref().map(quoted))?;
        list(f, "trusted_proxies", self.trusted_proxies.iter().map(ToString::to_string))?;
        self.tenants.iter().try_for_each(|tenant| write!(f, "\n{tenant}"))
    }
}

impl Display for TenantConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| quoted(&path.display().to_string());
        writeln!(f, "[tenant.{}]", quoted(&self.host))?;
        list(f, "aliases", self.aliases.iter().cloned())?;
        writeln!(f, "realm = {}", quoted(self.realm.as_str()))?;
        writeln!(f, "base_url = {}", quoted(&self.base_url))?;
        writeln!(f, "state = {}", path(&self.state))?;
        writeln!(f, "staging = {}", path(&self.staging))?;
        writeln!(f, "pickup = {}", path(&self.pickup))?;
        writeln!(f, "mail_from = {}", quoted(&self.mail_from))?;
        list(f, "allowed_origins", self.allowed_origins.iter().cloned())?;
        writeln!(f, "role = {}", quoted(self.role.as_str()))?;
        writeln!(f, "login_page = {}", quoted(&self.login_page))?;
        writeln!(f, "captcha_ttl = {}", quoted(&show_duration(self.captcha_ttl)))?;
        writeln!(f, "activation_ttl = {}", quoted(&show_duration(self.activation_ttl)))?;
        writeln!(f, "signups_per_hour = {}", self.signups_per_hour)?;
        list(f, "reserved", self.reserved.iter().cloned())?;
        list(f, "views", self.views.iter().map(|view| view_name(*view).to_owned()))?;
        maybe(f, "view_group", self.view_group)?;
        maybe(f, "pickup_group", self.pickup_group)?;
        writeln!(f, "signups = {}", quoted(word_of(SIGNUPS, &self.signups)))?;
        writeln!(f, "activation = {}", quoted(word_of(ACTIVATIONS, &self.activation)))?;
        writeln!(f, "resend = {}", self.resend)?;
        writeln!(f, "language = {}", quoted(&self.language))?;
        maybe(f, "templates", self.templates.as_deref().map(path))?;
        writeln!(f, "site_name = {}", quoted(&self.site_name))?;
        maybe(f, "logo", self.logo.as_deref().map(quoted))?;
        writeln!(f, "html = {}", path(&self.html))
    }
}

/// A key without a default stands as a comment where it is not set.
fn maybe(f: &mut Formatter<'_>, key: &str, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => writeln!(f, "{key} = {value}"),
        None => writeln!(f, "# {key} is not set"),
    }
}

fn list(f: &mut Formatter<'_>, key: &str, items: impl Iterator<Item = String>) -> fmt::Result {
    let items: Vec<_> = items.map(|item| quoted(&item)).collect();
    writeln!(f, "{key} = [{}]", items.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
