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
use crate::store::accounts::{Failed, Key, Updated};
use crate::store::rules::{self, AskedBy};
use crate::tenant::Tenant;
use crate::upkeep;

/// Sweeps every tenant's files and says what it did.
pub fn sweep(tenants: &[Arc<Tenant>]) -> Result<(), Failure> {
    let mut first = None;
    for tenant in tenants {
        let host = &tenant.config.host;
        let Some(report) = upkeep::sweep(tenant, Utc::now())? else {
            say(format_args!("{host}: another process is sweeping"))?;
            continue;
        };
        say(format_args!("{host}: {report}"))?;
        report.foreign.iter().for_each(|fault| tell("warning: ", &format!("{host}: {fault}")));
        report.faults.iter().for_each(|fault| tell("", &format!("{host}: {fault}")));
        first = first.or(report.faults.into_iter().next());
    }
    first.map_or(Ok(()), |fault| Err(fault.into()))
}

/// Rewrites every tenant's accounts and views without their dead space and says what came of it.
pub fn compact(tenants: &[Arc<Tenant>]) -> Result<(), Failure> {
    for tenant in tenants {
        for done in upkeep::compact(tenant)? {
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
    }
    Ok(())
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
pub fn set_user(
    tenants: &[Arc<Tenant>],
    host: Option<&str>,
    user: &str,
    to: Setting,
) -> Result<(), Failure> {
    let user = username(user)?;
    let tenant = choose(tenants, host, |tenant| &tenant.config)?;
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
pub fn resend(tenants: &[Arc<Tenant>], host: Option<&str>, user: &str) -> Result<(), Failure> {
    let user = username(user)?;
    let tenant = choose(tenants, host, |tenant| &tenant.config)?;
    let host = &tenant.config.host;
    match resend::mail_again(tenant, &user, AskedBy::Operator, Utc::now())? {
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
pub(super) fn choose<'t, T>(
    tenants: &'t [T],
    host: Option<&str>,
    config: impl Fn(&T) -> &TenantConfig,
) -> Result<&'t T, Failure> {
    let names = || {
        let names: Vec<_> = tenants.iter().map(|tenant| config(tenant).host.as_str()).collect();
        names.join(", ")
    };
    let usage = |text: String| Failure::new(exit::USAGE, text);
    match (host, tenants) {
        (Some(host), _) => {
            let host = host.to_ascii_lowercase();
            let is_his =
                |tenant: &&T| config(tenant).host == host || config(tenant).aliases.contains(&host);
            let found = tenants.iter().find(is_his);
            found.ok_or_else(|| usage(format!("no tenant {host:?} (there is: {})", names())))
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
