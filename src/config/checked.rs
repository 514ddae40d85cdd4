//! From tables to [`Config`]: the keys, their defaults and ranges, and what two of them may not
//! say together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::problem::{ConfigError, Wrong};
use super::raw::{Keys, Section, Source};
use super::{Activation, Config, Gateway, LogTarget, Signups, TenantConfig, View, places, values};
use crate::account::{Realm, Role};
use crate::lang;

const TOP_KEYS: [&str; 8] = [
    "listen",
    "gateway",
    "workers",
    "log",
    "lock_wait",
    "default_tenant",
    "trusted_proxies",
    "tenant",
];

const TENANT_KEYS: [&str; 25] = [
    "realm",
    "base_url",
    "state",
    "pickup",
    "mail_from",
    "aliases",
    "allowed_origins",
    "staging",
    "role",
    "login_page",
    "captcha_ttl",
    "activation_ttl",
    "signups_per_hour",
    "reserved",
    "views",
    "view_group",
    "pickup_group",
    "signups",
    "activation",
    "resend",
    "language",
    "templates",
    "site_name",
    "logo",
    "html",
];

/// Worker threads: 64 by default, at least two, since at most half of them wait for one tenant.
const WORKERS: (u32, u32, u32) = (2, 64, 4096);

/// Where the pages are, unless a tenant says otherwise.
pub const HTML: &str = "/usr/share/codeb-signup/html";

/// Accounts for each client and hour.
const SIGNUPS_PER_HOUR: (u32, u32, u32) = (1, 3, 10_000);

/// How long a request waits for the lock. The longest leaves the web server's own time-out (nginx:
/// 60 s) to the rest of the request, so that a client gets our 500 and not its 504.
const LOCK_WAIT: [Duration; 3] = [secs(1), secs(5), secs(30)];

/// How long a captcha may be answered. The shortest is more than the longest wait for the lock:
/// no captcha expires while its sign-up waits.
const CAPTCHA_TTL: [Duration; 3] = [secs(60), secs(15 * 60), secs(3600)];

/// How long an activation link works. The shortest is as much as the longest captcha's life, and
/// leaves a slow mail server time to deliver.
const ACTIVATION_TTL: [Duration; 3] = [secs(3600), secs(7 * 86400), secs(365 * 86400)];

const _: () = assert!(LOCK_WAIT[2].as_secs() < CAPTCHA_TTL[0].as_secs());
const _: () = assert!(CAPTCHA_TTL[2].as_secs() <= ACTIVATION_TTL[0].as_secs());

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Reads and checks the configuration at `path`. The error names everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let bytes = fs::read(path).map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "write it, or name another with --config or CODEB_SIGNUP_CONFIG"
            }
            std::io::ErrorKind::PermissionDenied => "let the service's user read it",
            _ => "name a file with --config or CODEB_SIGNUP_CONFIG",
        };
        ConfigError::at(path, 0, "", format!("cannot be read: {error}"), fix)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + valid.filter(|byte| **byte == b'\n').count();
        ConfigError::at(path, line, "", "is not UTF-8", "save it with that encoding")
    })?;
    parse(path, &text)
}

/// Checks the text of a configuration; `file` stands in messages.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let source = Source::new(file, text);
    let document = source.document()?;
    let config = top(&source, file, &document);
    source.finish()?;
    Ok(config)
}

fn top(source: &Source<'_>, file: &Path, document: &DeTable<'_>) -> Config {
    let section = Section::top(source, document, &TOP_KEYS, &TENANT_KEYS);
    let keys = Keys { name: "tenant", known: &TENANT_KEYS, above: &TOP_KEYS };
    let tables = section.tables(keys);
    if tables.is_empty() && section.lines.at("tenant") == 0 {
        let fix = "write a [tenant.\"a.example\"] table for each host";
        section.refuse("tenant", Wrong::new("is missing: nobody would be served", fix));
    }
    let count = tables.len();
    let mut tenants: Vec<_> = tables
        .into_iter()
        .filter_map(|(name, line, section)| match places::host(&name) {
            Ok(host) => tenant(host, section),
            Err(wrong) => {
                source.refuse(line, format!("tenant.{name:?}"), wrong);
                None
            }
        })
        .collect();
    tenants.sort_by_cached_key(|tenant| (tenant.host.clone(), tenant.lines.header));
    one_owner_each(source, &tenants);
    let default_tenant = match tenants.len() == count {
        true => section.get("default_tenant", values::text(|text| one_of(&tenants, text))),
        // A tenant that was refused may be the one.
        false => None,
    };
    let [shortest, lock_wait, longest] = LOCK_WAIT;
    Config {
        file: file.to_owned(),
        listen: section.get("listen", values::text(places::listen)),
        gateway: section.or("gateway", Gateway::Own, values::word(values::GATEWAYS)),
        workers: number(&section, "workers", WORKERS) as usize,
        log: section.or("log", LogTarget::Stderr, values::text(places::log_target)),
        lock_wait: section.or("lock_wait", lock_wait, values::duration(shortest..=longest)),
        default_tenant,
        trusted_proxies: section.list("trusted_proxies", places::network).unwrap_or_default(),
        tenants,
        lines: section.lines,
    }
}

/// The tenant that `text`, its host or an alias of it, names.
fn one_of(tenants: &[TenantConfig], text: &str) -> Result<String, Wrong> {
    let host = places::alias(text)?;
    let known = tenants.iter().find(|t| t.host == host || t.aliases.contains(&host));
    known.map(|tenant| tenant.host.clone()).ok_or_else(|| {
        let hosts: Vec<_> = tenants.iter().map(|t| format!("{:?}", t.host)).collect();
        let fix = format!("write one of {}, or remove the line", hosts.join(", "));
        Wrong::new(format!("is {text:?}, which is no tenant here"), fix)
    })
}

/// A whole number with its lowest value, its default and its highest.
fn number(section: &Section<'_, '_>, key: &'static str, range: (u32, u32, u32)) -> u32 {
    let (lowest, default, highest) = range;
    section.or(key, default, values::number(lowest..=highest))
}

fn tenant(host: String, section: Section<'_, '_>) -> Option<TenantConfig> {
    let required = required(&host, &section);
    let ttl = |key, [shortest, default, longest]: [Duration; 3]| {
        section.or(key, default, values::duration(shortest..=longest))
    };
    let aliases = section.list("aliases", places::alias).unwrap_or_default();
    let allowed_origins = section.list("allowed_origins", places::origin).unwrap_or_default();
    let staging = section.get("staging", values::text(places::path));
    let role = section.get("role", values::text(values::role));
    let login_page = section.get("login_page", values::text(places::login_page));
    let captcha_ttl = ttl("captcha_ttl", CAPTCHA_TTL);
    let activation_ttl = ttl("activation_ttl", ACTIVATION_TTL);
    let signups_per_hour = number(&section, "signups_per_hour", SIGNUPS_PER_HOUR);
    let reserved = section.list("reserved", values::reserved).unwrap_or_default();
    let mut views = section.list("views", values::view).unwrap_or_else(|| vec![View::Htdigest]);
    views.dedup();
    let view_group = section.get("view_group", values::group);
    let pickup_group = section.get("pickup_group", values::group);
    let signups = section.or("signups", Signups::Open, values::word(values::SIGNUPS));
    let activation = section.or("activation", Activation::Get, values::word(values::ACTIVATIONS));
    let resend = section.or("resend", false, values::boolean);
    let language = section.get("language", values::text(values::language));
    let templates = section.get("templates", values::text(places::path));
    let site_name = section.get("site_name", values::text(values::site_name));
    let logo = section.get("logo", values::text(places::logo));
    let html = section.get("html", values::text(places::path));
    let Required { realm, base_url, state, pickup, mail_from } = required?;
    let tenant = TenantConfig {
        site_name: site_name.unwrap_or_else(|| host.clone()),
        host,
        aliases,
        realm,
        base_url,
        staging: staging.unwrap_or_else(|| state.join("staging")),
        state,
        pickup,
        mail_from,
        allowed_origins,
        role: role.or_else(|| Role::parse("guest").ok())?,
        login_page: login_page.unwrap_or_else(|| "/login.html".into()),
        captcha_ttl,
        activation_ttl,
        signups_per_hour,
        reserved,
        views,
        view_group,
        pickup_group,
        signups,
        activation,
        resend,
        language: language.unwrap_or_else(|| lang::DEFAULT.into()),
        templates,
        logo,
        html: html.unwrap_or_else(|| HTML.into()),
        lines: section.lines.clone(),
    };
    one_use_each(&section, &tenant);
    Some(tenant)
}

/// What a tenant cannot be without.
struct Required {
    realm: Realm,
    base_url: String,
    state: PathBuf,
    pickup: PathBuf,
    mail_from: String,
}

fn required(host: &str, section: &Section<'_, '_>) -> Option<Required> {
    let example = |text: &str| format!("\"{}\"", text.replace("HOST", host));
    let path = |key, at: &str| section.required(key, &example(at), values::text(places::path));
    let url = example("https://HOST");
    let from = example("noreply@HOST");
    let realm = section.required("realm", &example("HOST"), values::text(values::realm));
    let base_url = section.required("base_url", &url, values::text(places::base_url));
    let state = path("state", "/var/lib/codeb-signup/HOST");
    let pickup = path("pickup", "/var/spool/codeb-signup/pickup");
    let mail_from = section.required("mail_from", &from, values::text(values::mail_from));
    let (realm, base_url, state) = (realm?, base_url?, state?);
    Some(Required { realm, base_url, state, pickup: pickup?, mail_from: mail_from? })
}

/// Each directory of a tenant has one use: what stands in it is handled by its name alone.
fn one_use_each(section: &Section<'_, '_>, tenant: &TenantConfig) {
    for (key, path, other, same) in [
        ("pickup", &tenant.pickup, "state", &tenant.state),
        ("pickup", &tenant.pickup, "staging", &tenant.staging),
        ("staging", &tenant.staging, "state", &tenant.state),
    ] {
        if path == same {
            let why = format!("is the directory of {other}");
            section.refuse(key, Wrong::new(why, "write a directory of its own"));
        }
    }
}

/// No host, state directory or staging directory belongs to two tenants; a pickup may.
fn one_owner_each(source: &Source<'_>, tenants: &[TenantConfig]) {
    let refuse = |tenant: &TenantConfig, key: &str, what: &str, owner: &str| {
        let why = format!("{what}, which belongs to tenant.{owner:?}");
        let own = owner == tenant.host;
        let fix = if own { "remove it" } else { "give each tenant its own" };
        source.refuse(tenant.lines.at(key), tenant.key(key), Wrong::new(why, fix));
    };
    let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
    for tenant in tenants {
        if hosts.insert(&tenant.host, &tenant.host).is_some() {
            let wrong = Wrong::new("has two tables", "write all of its keys into one of them");
            source.refuse(tenant.lines.header, format!("tenant.{:?}", tenant.host), wrong);
        }
    }
    let mut directories: BTreeMap<&Path, &str> = BTreeMap::new();
    for tenant in tenants {
        for alias in &tenant.aliases {
            if let Some(owner) = hosts.insert(alias, &tenant.host) {
                refuse(tenant, "aliases", &format!("contains {alias:?}"), owner);
            }
        }
        for (key, path) in [("state", &tenant.state), ("staging", &tenant.staging)] {
            if let Some(owner) = directories.insert(path, &tenant.host) {
                refuse(tenant, key, &format!("is {path:?}"), owner);
                // The default of staging follows, and needs no word of its own.
                break;
            }
        }
    }
    for tenant in tenants {
        let owner = directories.get(tenant.pickup.as_path());
        if let Some(owner) = owner.filter(|owner| **owner != tenant.host) {
            refuse(tenant, "pickup", &format!("is {:?}", tenant.pickup), owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: &str = r#"
        [tenant."A.example"]
        realm = "a.example"
        base_url = "https://a.example/"
        state = "/var/lib//codeb-signup/./a"
        pickup = "/var/spool/pickup"
        mail_from = "noreply@a.example"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        super::parse(Path::new("config.toml"), text)
    }

    #[test]
    fn the_required_keys_alone_give_what_the_contract_says() {
        let config = parse(REQUIRED).unwrap();
        assert_eq!((config.workers, config.lock_wait), (64, secs(5)));
        let tenant = &config.tenants[0];
        assert_eq!(tenant.host, "a.example");
        assert_eq!(tenant.base_url, "https://a.example");
        assert_eq!(tenant.staging.to_str(), Some("/var/lib/codeb-signup/a/staging"));
        assert_eq!(tenant.login_page, "/login.html");
        assert_eq!((tenant.captcha_ttl, tenant.activation_ttl), (secs(900), secs(604_800)));
        assert_eq!(tenant.signups_per_hour, 3);
        assert_eq!(tenant.views, [View::Htdigest]);
        assert_eq!((tenant.signups, tenant.activation), (Signups::Open, Activation::Get));
        assert!(!tenant.resend && tenant.templates.is_none());
        assert_eq!((tenant.site_name.as_str(), &tenant.logo), ("a.example", &None));
        assert_eq!(tenant.html.to_str(), Some("/usr/share/codeb-signup/html"));
        assert_eq!((tenant.lines.at("realm"), tenant.lines.at("views")), (3, 2));
    }

    #[test]
    fn what_is_shown_reads_back_to_the_same() {
        let text = format!(
            "listen = \"unix:/run/s\"\ndefault_tenant = \"b.example\"\nlog = \"/var/log/s\"\n\
             gateway = \"fastcgi-crate\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n{REQUIRED}\n\
             aliases = [\"b.example\", \"[::1]\"]\nviews = []\nview_group = 0\nsignups = \"closed\"\n\
             activation = \"click\"\nresend = true\ntemplates = \"/etc/t\"\nreserved = [\"boss\"]\n\
             site_name = \"Ours\"\nlogo = \"/l.svg\"\nhtml = \"/srv/html\"\n"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.default_tenant.as_deref(), Some("a.example"));
        let shown = config.to_string();
        assert_eq!(parse(&shown).unwrap().to_string(), shown);
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once_in_the_order_of_lines() {
        let text = REQUIRED.replace("a.example/", "a.example/?x").replace("\"noreply", "\"");
        let error = parse(&format!("worker = 1\n{text}")).unwrap_err();
        let lines: Vec<_> = error.problems().iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 5, 8]);
    }
}
