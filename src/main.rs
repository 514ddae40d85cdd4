//! Arguments → run → exit code. A CGI request is recognised before any argument is looked at:
//! web servers turn a query into arguments (RFC 3875 §4.4).

use std::process::ExitCode;
use std::sync::Arc;

use codeb_signup::admin::{self, Cli, Failure, Unconfigured, Verb, exit};
use codeb_signup::config::{self, Config, Listen, LogTarget};
use codeb_signup::disk::RealDisk;
use codeb_signup::route::Router;
use codeb_signup::{gateway, log, premises, serve};

fn main() -> ExitCode {
    // Files are made readable for at most their group, whatever started us.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    if gateway::cgi::is_wanted() {
        return admin::finish(cgi());
    }
    let cli = match Cli::read(std::env::args_os(), serve::has_listener()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let file = config::default_path(cli.config.as_deref());
    admin::finish(match cli.verb {
        None => config::load(&file).map_err(Failure::from).and_then(|c| serve(&c, None)),
        Some(Verb::Serve { listen }) => {
            config::load(&file).map_err(Failure::from).and_then(|c| serve(&c, listen))
        }
        Some(Verb::Check) => admin::check(&file),
        Some(Verb::Ha1 { user, realm }) => admin::ha1(&user, &realm),
    })
}

/// Serves until SIGTERM.
fn serve(config: &Config, listen: Option<Listen>) -> Result<(), Failure> {
    admin::warn(&admin::become_owner(config)?);
    premises::check(config, &RealDisk)?;
    let router = open(config)?;
    router.warm_up()?;
    serve::run(config, listen, Arc::new(router))
        .map_err(|error| Failure::new(error.exit_code(), error))
}

/// Answers one request; where the configuration does not allow that, with a 500.
fn cgi() -> Result<(), Failure> {
    let answer = |handler: &dyn gateway::Handler| {
        gateway::cgi::run(handler)
            .map_err(|error| Failure::new(exit::IO, format!("cannot answer: {error}")))
    };
    let config = config::load(&config::default_path(None)).map_err(Failure::from);
    let router = config.and_then(|config| {
        let router = open(&config)?;
        router.found()?;
        Ok(router)
    });
    match router {
        Ok(router) => answer(&router),
        Err(failure) => answer(&Unconfigured).and(Err(failure)),
    }
}

/// The log's target and the tenants.
fn open(config: &Config) -> Result<Router, Failure> {
    if let LogTarget::File(path) = &config.log {
        log::to_file(path).map_err(|error| {
            let text = format!("cannot append to the log {}: {error}", path.display());
            Failure::new(exit::CANNOT_CREATE, text)
        })?;
    }
    Ok(Router::open(config)?)
}
