//! `sweep`, `compact`, `user` and `resend`: the verbs that change a tenant's files. Run as root they work as
//! the state directories' owner (see [`super::become_owner`]).

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use chrono::Utc;

use super::{Failure, exit, tell};
use crate::account::Username;
use crate::config::TenantConfig;
use crate::endpoint::resend::{self, Mailed};
use crate::maintenance;
use crate::service::Tenancy;
use crate::store::accounts::{Failed, Key, Updated};
use crate::store::rules::{self, AskedBy};
use crate::tenant::Tenant;

/// Sweeps every tenant's files and says what it did.
pub fn sweep(tenancies: &[Arc<Tenancy>]) -> Result<(), Failure> {
    each(tenancies, |tenant| {
        let host = &tenant.config.host;
        let Some(report) = maintenance::sweep(tenant, Utc::now())? else {
            return say(format_args!("{host}: another process is sweeping"));
        };
        say(format_args!("{host}: {report}"))?;
        report.foreign.iter().for_each(|fault| tell("warning: ", &format!("{host}: {fault}")));
        let mut faults = report.faults.into_iter();
        let Some(first) = faults.next() else { return Ok(()) };
        faults.for_each(|fault| tell("", &format!("{host}: {fault}")));
        Err(first.into())
    })
}

/// Rewrites every tenant's accounts and views without their dead space and says what came of it.
pub fn compact(tenancies: &[Arc<Tenancy>]) -> Result<(), Failure> {
    each(tenancies, |tenant| {
        for done in maintenance::compact(tenant)? {
            let (path, before, after) = (done.path.display(), done.before, done.after);
            if done.pause.is_zero() {
                say(format_args!("{path}: {before} bytes, nothing to drop"))?;
            } else {
                let pause = done.pause.as_secs_f64() * 1000.0;
                say(format_args!(
                    "{path}: {before} bytes before, {after} after; lock held for {pause:.1} ms"
                ))?;
            }
        }
        Ok(())
    })
}

/// Does a work on every tenant, whatever becomes of it on the one before; the first failure, while
/// the others are said at once.
fn each(
    tenancies: &[Arc<Tenancy>],
    work: impl Fn(&Tenant) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut first = None;
    for tenancy in tenancies {
        let done = tenancy.check_and_open().map_err(Failure::from).and_then(|tenant| work(&tenant));
        let Err(mut failure) = done else { continue };
        failure.text = format!("{}: {}", tenancy.config.host, failure.text);
        match first {
            None => first = Some(failure),
            Some(_) => tell("", &failure.text),
        }
    }
    first.map_or(Ok(()), Err)
}

/// What an operator may do to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// It may sign in.
    Enabled,
    /// It may not.
    Disabled,
    /// It is gone and its name free.
    Removed,
}

/// Does to `user`'s account what an operator says.
pub fn set_user(tenancy: &Tenancy, user: &str, to: Setting) -> Result<(), Failure> {
    let user = username(user)?;
    let tenant = tenancy.check_and_open()?;
    let host = &tenant.config.host;
    let (decide, done) = match to {
        Setting::Enabled => (rules::enable(), "may sign in"),
        Setting::Disabled => (rules::disable(), "may not sign in any more"),
        Setting::Removed => (rules::remove(), "is removed, the name is free"),
    };
    match tenant.accounts.update(Key::User(user.clone()), decide).map_err(Failed::fault)? {
        Updated::Put(_) | Updated::Removed(_) => say(format_args!("{host}: {user} {done}")),
        Updated::Left(_) => {
            let text = format!(
                "{host}: there is no account {user} (look for it in the tenant's file `credentials`)"
            );
            Err(Failure::new(exit::NO_USER, text))
        }
    }
}

/// Sends the activation mail of `user`'s pending account again.
pub fn resend(tenancy: &Tenancy, user: &str) -> Result<(), Failure> {
    let user = username(user)?;
    let tenant = tenancy.check_and_open()?;
    let host = &tenant.config.host;
    match resend::mail_again(&tenant, &user, AskedBy::Operator, Utc::now())? {
        Mailed::Sent => say(format_args!("{host}: {user} gets another mail")),
        Mailed::Nothing => {
            let text = format!(
                "{host}: there is no pending account {user} (look for it in the tenant's file \
                 `credentials`; an active one needs no mail)"
            );
            Err(Failure::new(exit::NO_USER, text))
        }
    }
}

fn username(text: &str) -> Result<Username, Failure> {
    Username::parse(text).map_err(|why| Failure::new(exit::USAGE, format!("USER {why}")))
}

/// The tenant of this host, alias or not; without one, the only tenant.
pub fn choose<'t>(
    tenants: &'t [TenantConfig],
    host: Option<&str>,
) -> Result<&'t TenantConfig, Failure> {
    let names = || {
        let names: Vec<_> = tenants.iter().map(|tenant| tenant.host.as_str()).collect();
        names.join(", ")
    };
    let usage = |text: String| Failure::new(exit::USAGE, text);
    match (host, tenants) {
        (Some(host), _) => {
            let host = host.to_ascii_lowercase();
            let found =
                |tenant: &&TenantConfig| tenant.host == host || tenant.aliases.contains(&host);
            let tenant = tenants.iter().find(found);
            tenant.ok_or_else(|| usage(format!("no tenant {host:?} (there is: {})", names())))
        }
        (None, [tenant]) => Ok(tenant),
        (None, _) => {
            Err(usage(format!("several tenants (add --tenant HOST, one of: {})", names())))
        }
    }
}

fn say(line: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| Failure::new(exit::IO, format!("cannot print: {error}")))
}
