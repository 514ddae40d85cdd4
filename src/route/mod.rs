//! From a request to its endpoint, and from what came of it to an answer: the only module with status
//! codes.
//!
//! Before any endpoint's own checks, in this order: lost parameters 400, path 404, host 421, method
//! 405, a tenant that is out 500.

mod errors;
mod table;

use std::cell::OnceCell;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use serde::Serialize;

use self::errors::{code, error_json, refusal_json, to_json};
use self::table::{Endpoint, Needs};
use crate::config::{Config, TenantConfig};
use crate::endpoint::activate::{self, Activated};
use crate::endpoint::{Call, captcha, page, resend, signup};
use crate::error::{Error, Fault, Refusal};
use crate::http::{Body, Handler, Method, Request, Response, Waits};
use crate::log::{self, Level};
use crate::service::{Service, Tenancy};

/// How long a browser may keep a preflight's answer, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";

/// Answers every request.
#[derive(Debug)]
pub struct Router {
    config: Config,
    service: Arc<Service>,
}

/// A request whose endpoint and tenant are known, be the tenant open or out.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    endpoint: Endpoint,
    request: &'a Request,
    client: IpAddr,
    tenancy: &'a Tenancy,
}

impl Router {
    /// Answers for the tenants of `service`.
    pub fn new(config: &Config, service: Arc<Service>) -> Self {
        Self { config: config.clone(), service }
    }

    /// The answer; where the request `may_wait` is unset, one that waits for no disk.
    fn answer(&self, request: &Request, may_wait: bool) -> Response {
        let arrived = request.whole && request.method().is_some();
        let Some(client) = request.client(&self.config.trusted_proxies).filter(|_| arrived) else {
            return refuse("request", None, None, Refusal::LostParameters);
        };
        let endpoint = Endpoint::of(request).filter(|found| self.is_on(*found));
        let host = request.host();
        let tenancy = self.service.for_host(&host);
        let response = match (endpoint, tenancy) {
            (None, _) => refuse("request", None, Some(client), Refusal::UnknownPath),
            (_, None) => {
                self.log_unknown_host(&host, client);
                refusal_json(&Refusal::UnknownHost)
            }
            (Some(Endpoint::Resend), Some(tenancy)) if !tenancy.config.resend => {
                refuse("request", Some(&tenancy.config), Some(client), Refusal::UnknownPath)
            }
            (Some(endpoint), Some(tenancy)) => {
                self.dispatch(Asked { endpoint, request, client, tenancy }, may_wait)
            }
        };
        // A page elsewhere must be able to read a 404 as well: it asks whether resend is on.
        match tenancy {
            Some(tenancy) => with_cors(response, request, &tenancy.config),
            None => response,
        }
    }

    /// Whether any tenant has this endpoint.
    fn is_on(&self, endpoint: Endpoint) -> bool {
        endpoint != Endpoint::Resend || self.service.any_resends()
    }

    fn dispatch(&self, asked: Asked<'_>, may_wait: bool) -> Response {
        let Asked { endpoint, request, client, tenancy } = asked;
        let (config, method) = (&tenancy.config, request.method());
        match (endpoint, method) {
            (Endpoint::Captcha | Endpoint::SignUp | Endpoint::Resend, Some(Method::Options))
                if allowed_origin(request, config).is_some() =>
            {
                return Response::empty(204)
                    .header("Access-Control-Allow-Methods", endpoint.methods(config))
                    .header("Access-Control-Allow-Headers", "Content-Type")
                    .header("Access-Control-Max-Age", PREFLIGHT_MAX_AGE);
            }
            _ if !endpoint.takes(method, config) => {
                let refusal = Refusal::Method(endpoint.methods(config));
                return refuse(endpoint.name(), Some(config), Some(client), refusal);
            }
            (Endpoint::Activate, Some(Method::Head)) => return page::head(),
            _ => {}
        }
        let tenant = match tenancy.tenant() {
            Ok(tenant) => tenant,
            Err(fault) => return self.fail_out(asked, fault),
        };
        let call =
            Call { request, tenant: &tenant, client, now: Utc::now(), user: OnceCell::new() };
        match (endpoint, method) {
            _ if !may_wait && endpoint.needs(method, config) != Needs::Nothing => {
                answer_at_once(endpoint, &call)
            }
            (Endpoint::Captcha, Some(Method::Head)) => captcha(&call).without_body(),
            (Endpoint::Captcha, _) => captcha(&call),
            (Endpoint::SignUp, _) => sign_up(&call),
            (Endpoint::Resend, _) => resend(&call),
            (Endpoint::Activate, Some(Method::Post)) => activate(&call, activate::post),
            (Endpoint::Activate, _) => activate(&call, activate::get),
        }
    }

    /// The answer of a tenant that is out, and its line in the log.
    fn fail_out(&self, asked: Asked<'_>, fault: Fault) -> Response {
        let Asked { endpoint, request, client, tenancy } = asked;
        let by = By { endpoint, config: &tenancy.config, client, user: None };
        match endpoint {
            Endpoint::Captcha => by.fail(Error::CaptchaUnavailable(fault)),
            Endpoint::SignUp | Endpoint::Resend => by.fail(fault.into()),
            Endpoint::Activate => {
                by.log("server_error", Some(&fault));
                page::out(request, &tenancy.config, &self.service.built_in)
                    .unwrap_or_else(|fault| by.fail(fault.into()))
            }
        }
    }

    fn log_unknown_host(&self, host: &str, client: IpAddr) {
        let event = log::event(Level::Warn, "request")
            .field("client", client)
            .field("outcome", "unknown_host")
            .field("host", host);
        let Some(tenant) = self.config.tenants.first() else { return event.emit() };
        let line = format!("{host:?} among the aliases of [tenant.{:?}]", tenant.host);
        event.field("to_serve_it", line).field("in", self.config.file.display()).emit();
    }
}

impl Handler for Router {
    fn waits(&self, request: &Request) -> Waits {
        // What did not arrive whole is refused before anything is looked for.
        let is_whole = request.whole && matches!(request.body, Body::Whole(_));
        let endpoint = Endpoint::of(request).filter(|_| is_whole);
        let tenancy = endpoint.and_then(|_| self.service.for_host(&request.host()));
        let (Some(endpoint), Some(tenancy)) = (endpoint, tenancy) else { return Waits::Never };
        let tenant = tenancy.number;
        match endpoint.needs(request.method(), &tenancy.config) {
            Needs::Nothing => Waits::Never,
            _ if !tenancy.is_open() => Waits::Never,
            Needs::Key => Waits::For { tenant, patient: !tenancy.has_captcha_key() },
            Needs::Disk => Waits::For { tenant, patient: true },
        }
    }

    fn handle(&self, request: Request) -> Response {
        self.answer(&request, true)
    }

    fn handle_without_place(&self, request: Request) -> Response {
        self.answer(&request, false)
    }

    fn finish(&self, deadline: Instant) {
        self.service.finish(deadline);
    }
}

/// Who is answered, and what for: what a line of the log says.
struct By<'a> {
    endpoint: Endpoint,
    config: &'a TenantConfig,
    client: IpAddr,
    user: Option<&'a String>,
}

impl<'a> By<'a> {
    fn call(endpoint: Endpoint, call: &'a Call<'_>) -> Self {
        Self { endpoint, config: &call.tenant.config, client: call.client, user: call.user.get() }
    }

    fn log(&self, outcome: &str, fault: Option<&Fault>) {
        let level = if fault.is_some() { Level::Error } else { Level::Info };
        log::event(level, self.endpoint.name())
            .field("tenant", &self.config.host)
            .maybe("user", self.user)
            .field("client", self.client)
            .field("outcome", outcome)
            .maybe("fault", fault)
            .emit();
    }

    /// The answer for a request that came to nothing, and its line in the log.
    fn fail(&self, error: Error) -> Response {
        match error {
            Error::Refused(refusal) => {
                self.log(code(&refusal), None);
                refusal_json(&refusal)
            }
            Error::Fault(fault) => {
                self.log("server_error", Some(&fault));
                error_json(500, "server_error", "The service failed; try again later.")
            }
            Error::CaptchaUnavailable(fault) => {
                self.log("captcha_unavailable", Some(&fault));
                error_json(503, "captcha_unavailable", "No captcha can be issued at the moment.")
            }
        }
    }
}

fn captcha(call: &Call<'_>) -> Response {
    match captcha::get(call) {
        Ok(answer) => Response::json(200, to_json(&answer)),
        Err(error) => By::call(Endpoint::Captcha, call).fail(error),
    }
}

fn sign_up(call: &Call<'_>) -> Response {
    #[derive(Serialize)]
    struct Made<'a> {
        ok: bool,
        user: &'a str,
    }
    match signup::post(call) {
        Ok(user) => {
            By::call(Endpoint::SignUp, call).log("ok", None);
            Response::json(200, to_json(&Made { ok: true, user: user.as_str() }))
        }
        Err(error) => By::call(Endpoint::SignUp, call).fail(error),
    }
}

fn resend(call: &Call<'_>) -> Response {
    #[derive(Serialize)]
    struct Accepted {
        ok: bool,
    }
    match resend::post(call) {
        Ok(after) => {
            By::call(Endpoint::Resend, call).log("ok", None);
            Response::json(200, to_json(&Accepted { ok: true })).after(after)
        }
        Err(error) => By::call(Endpoint::Resend, call).fail(error),
    }
}

fn activate(call: &Call<'_>, act: fn(&Call<'_>) -> Result<Activated, Error>) -> Response {
    let acted = act(call);
    let by = By::call(Endpoint::Activate, call);
    let page = match acted {
        Ok(Activated::Enabled(user)) => {
            by.log("ok", None);
            page::activated(call, &user)
        }
        Ok(Activated::ToConfirm(user, token)) => {
            by.log("shown", None);
            page::click(call, &user, &token)
        }
        Err(Error::Refused(refusal)) => {
            by.log(code(&refusal), None);
            page::refused(call)
        }
        Err(Error::Fault(fault) | Error::CaptchaUnavailable(fault)) => {
            by.log("server_error", Some(&fault));
            page::failed(call)
        }
    };
    page.unwrap_or_else(|fault| by.fail(fault.into()))
}

/// The answer to a request that may not wait for the tenant's disk: a captcha, where its key is in
/// memory, or that it failed.
fn answer_at_once(endpoint: Endpoint, call: &Call<'_>) -> Response {
    let by = By::call(endpoint, call);
    let cause = io::ErrorKind::TimedOut.into();
    let state = &call.tenant.config.state;
    let fault = Fault::new("get a worker within lock_wait for the disk under", state, cause)
        .way_out(
            "this tenant's requests hold its share of the workers: look for a hung or overloaded disk, \
             or a lock that nobody gives back",
        );
    match endpoint {
        Endpoint::Captcha => match captcha::get_from_memory(call) {
            Ok(Some(answer)) => Response::json(200, to_json(&answer)),
            Ok(None) => by.fail(Error::CaptchaUnavailable(fault)),
            Err(error) => by.fail(error),
        },
        Endpoint::SignUp | Endpoint::Resend => by.fail(fault.into()),
        Endpoint::Activate => {
            by.log("server_error", Some(&fault));
            page::failed(call).unwrap_or_else(|fault| by.fail(fault.into()))
        }
    }
}

/// The answer to a request that no endpoint takes, and its line in the log.
fn refuse(
    event: &str,
    tenant: Option<&TenantConfig>,
    client: Option<IpAddr>,
    refusal: Refusal,
) -> Response {
    log::event(Level::Info, event)
        .maybe("tenant", tenant.map(|tenant| &tenant.host))
        .maybe("client", client)
        .field("outcome", code(&refusal))
        .emit();
    refusal_json(&refusal)
}

/// The `Origin` of the request, where the tenant lists it.
fn allowed_origin(request: &Request, tenant: &TenantConfig) -> Option<String> {
    let origin = request.params.text("HTTP_ORIGIN")?;
    tenant.allowed_origins.iter().find(|allowed| *allowed == origin).cloned()
}

fn with_cors(response: Response, request: &Request, tenant: &TenantConfig) -> Response {
    if tenant.allowed_origins.is_empty() {
        return response;
    }
    let response = response.header("Vary", "Origin");
    match allowed_origin(request, tenant) {
        Some(origin) => response.header("Access-Control-Allow-Origin", origin),
        None => response,
    }
}
