//! Arguments → run → exit code. A CGI request is recognised before any argument is looked at:
//! web servers turn a query into arguments (RFC 3875 §4.4).

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use codeb_signup::admin::{self, Cli, Failure, Unconfigured, Verb, exit};
use codeb_signup::config::{self, Config, Listen, LogTarget, TenantConfig};
use codeb_signup::disk::{Disk, RealDisk};
use codeb_signup::error::Fault;
use codeb_signup::route::Router;
use codeb_signup::service::{Service, Tenancy};
use codeb_signup::{gateway, log, maintenance, premises, serve};

/// How long the end of the service waits for a log that hangs: what comes on top of the time of a stop.
const SERVICE_LOG_WAIT: Duration = Duration::from_secs(1);
/// How long a verb or a CGI request does, which lives too short for lines to be lost otherwise.
const LOG_WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // Files are made readable for at most their group, whatever started us.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    if gateway::cgi::is_wanted() {
        let _log = log::FlushAtEnd(LOG_WAIT);
        return admin::finish(cgi());
    }
    let cli = match Cli::read(std::env::args_os(), serve::has_listener()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let is_service = matches!(cli.verb, None | Some(Verb::Serve { .. }));
    let _log = log::FlushAtEnd(if is_service { SERVICE_LOG_WAIT } else { LOG_WAIT });
    let file = config::default_path(cli.config.as_deref());
    admin::finish(match cli.verb {
        None => config::load(&file).map_err(Failure::from).and_then(|c| serve(&c, None)),
        Some(Verb::Serve { listen }) => {
            config::load(&file).map_err(Failure::from).and_then(|c| serve(&c, listen))
        }
        Some(Verb::Check) => admin::check(&file),
        Some(Verb::Ha1 { user, realm }) => admin::ha1(&user, &realm),
        Some(Verb::User { verb, tenant }) => with_tenant(&file, tenant.as_deref(), |tenancy| {
            let (user, to) = verb.parts();
            admin::set_user(tenancy, user, to)
        }),
        Some(Verb::Resend { user, tenant }) => {
            with_tenant(&file, tenant.as_deref(), |tenancy| admin::resend(tenancy, &user))
        }
        Some(Verb::Preview { what, lang, to, tenant }) => {
            admin::preview(&file, tenant.as_deref(), what, lang.as_deref(), &to)
        }
        Some(Verb::Pages { to, tenant }) => admin::pages(&file, tenant.as_deref(), &to),
        Some(Verb::Sweep) => with_tenants(&file, admin::sweep),
        Some(Verb::Compact) => with_tenants(&file, admin::compact),
    })
}

/// Serves until SIGTERM.
fn serve(config: &Config, listen: Option<Listen>) -> Result<(), Failure> {
    let tenants: Vec<&TenantConfig> = config.tenants.iter().collect();
    let service = Arc::new(service_as_owner(config, &tenants)?);
    maintenance::start(&service)?;
    serve::run(config, listen, Arc::new(Router::new(config, service)))
        .map_err(|error| Failure::new(error.exit_code(), error))
}

/// Does an operator's work on every tenant of the configuration at `file`.
fn with_tenants(
    file: &Path,
    work: impl FnOnce(&[Arc<Tenancy>]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = config::load(file)?;
    let tenants: Vec<&TenantConfig> = config.tenants.iter().collect();
    work(service_as_owner(&config, &tenants)?.tenancies())
}

/// Does an operator's work on one tenant: that of `host`, or the only one.
fn with_tenant(
    file: &Path,
    host: Option<&str>,
    work: impl FnOnce(&Tenancy) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = config::load(file)?;
    let tenant = admin::choose(&config.tenants, host)?;
    let service = service_as_owner(&config, &[tenant])?;
    service.for_host(&tenant.host).map_or(Ok(()), |tenancy| work(tenancy))
}

/// The tenants, for a process that makes no file which the service could not use: where it is root it
/// becomes the owner of these tenants' directories.
fn service_as_owner(config: &Config, tenants: &[&TenantConfig]) -> Result<Service, Failure> {
    admin::warn(&admin::become_owner(&config.file, tenants)?);
    premises::check_log(config).map_err(config::ConfigError::from)?;
    open_log(config).map_err(|fault| Failure::new(exit::CANNOT_CREATE, fault))?;
    Ok(Service::new(config, &real_disk())?)
}

fn real_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Answers one request; where the configuration cannot be used, with a 500. A disk that fails is the
/// request's own matter, and a log that cannot be made does not stop it.
fn cgi() -> Result<(), Failure> {
    let answer = |handler: &dyn gateway::Handler| {
        gateway::cgi::run(handler)
            .map_err(|error| Failure::new(exit::IO, format!("cannot answer: {error}")))
    };
    let router = config::load(&config::default_path(None)).map_err(Failure::from).and_then(|c| {
        if let Err(fault) = open_log(&c) {
            log::event(log::Level::Error, "log").field("fault", fault).emit();
        }
        Ok(Router::new(&c, Arc::new(Service::for_one_request(&c, &real_disk())?)))
    });
    match router {
        Ok(router) => answer(&router),
        Err(failure) => answer(&Unconfigured).and(Err(failure)),
    }
}

fn open_log(config: &Config) -> Result<(), Fault> {
    let LogTarget::File(path) = &config.log else { return Ok(()) };
    log::to_file(path).map_err(|error| Fault::new("append to the log", path, error))
}
