//! From a request to its endpoint, and from what came of it to an answer: the only file with status
//! codes.
//!
//! Before any endpoint's own checks, in this order: lost parameters 400, path 404, host 421, method
//! 405.

use std::cell::OnceCell;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use serde::Serialize;

use crate::config::{Activation, Config, Signups, TenantConfig};
use crate::disk::{Disk, RealDisk};
use crate::endpoint::activate::{self, Activated};
use crate::endpoint::{Call, captcha, page, resend, signup};
use crate::error::{Error, Fault, Refusal};

use crate::http::{Body, Handler, Method, Request, Response, Waits};
use crate::lang::Languages;
use crate::log::{self, Level};
use crate::tenant::{Tenant, Tenants};

/// How long a browser may keep a preflight's answer, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";

/// Answers every request.
#[derive(Debug)]
pub struct Router {
    config: Config,
    tenants: Tenants,
    /// Whether a tenant's directories and files are made by the request that asks for it.
    creates_files: bool,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Captcha,
    SignUp,
    Activate,
    Resend,
}

/// What a request needs that may keep it waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: it is answered from memory.
    Nothing,
    /// The captcha key: a look whether its file is still the same, which is left out where that might
    /// have to wait for a place; where no key is in memory, the file itself.
    Key,
    /// The tenant's disk, and the locks on it.
    Disk,
}

impl Endpoint {
    fn of(request: &Request) -> Option<Self> {
        match request.endpoint().as_slice() {
            b"captcha.ashx" => Some(Self::Captcha),
            b"signup.ashx" => Some(Self::SignUp),
            b"activate.ashx" => Some(Self::Activate),
            b"resend.ashx" => Some(Self::Resend),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Captcha => "captcha",
            Self::SignUp => "signup",
            Self::Activate => "activate",
            Self::Resend => "resend",
        }
    }

    /// What answering a request with this method may wait for.
    fn needs(self, method: Option<Method>, tenant: &TenantConfig) -> Needs {
        let is_closed = tenant.signups == Signups::Closed;
        match (self, method) {
            (Self::Captcha | Self::SignUp, _) if is_closed => Needs::Nothing,
            (Self::Resend, _) if !tenant.resend => Needs::Nothing,
            (Self::Captcha, Some(Method::Get | Method::Head)) => Needs::Key,
            (Self::SignUp | Self::Resend, Some(Method::Post)) => Needs::Disk,
            (Self::Activate, Some(Method::Get | Method::Post)) => Needs::Disk,
            _ => Needs::Nothing,
        }
    }

    /// The `Allow` header of a 405.
    fn methods(self, tenant: &Tenant) -> &'static str {
        match (self, tenant.config.activation) {
            (Self::SignUp | Self::Resend, _) => "POST",
            (Self::Activate, Activation::Click) => "GET, HEAD, POST",
            (Self::Captcha | Self::Activate, _) => "GET, HEAD",
        }
    }
}

impl Router {
    /// Opens every tenant's stores on the machine's disk.
    pub fn open(config: &Config) -> Result<Self, Fault> {
        Self::open_on(config, &(Arc::new(RealDisk) as Arc<dyn Disk>))
    }

    /// For a process that answers one request (CGI): what the disk refuses is that request's fault,
    /// answered and logged like any other.
    pub fn for_one_request(config: &Config) -> Result<Self, Fault> {
        let disk = Arc::new(RealDisk) as Arc<dyn Disk>;
        Ok(Self { creates_files: true, ..Self::build(config, &disk)? })
    }

    /// Opens every tenant's stores on `disk`.
    pub fn open_on(config: &Config, disk: &Arc<dyn Disk>) -> Result<Self, Fault> {
        let router = Self::build(config, disk)?;
        router.tenants.all().try_for_each(|tenant| tenant.make_directories())?;
        Ok(router)
    }

    fn build(config: &Config, disk: &Arc<dyn Disk>) -> Result<Self, Fault> {
        let languages = Languages::built_in().map_err(|broken| {
            Fault::pathless("read the languages", std::io::Error::other(broken))
        })?;
        let tenants = Tenants::new(config, disk, &Arc::new(languages))?;
        Ok(Self { config: config.clone(), tenants, creates_files: false })
    }

    /// Every tenant once, in the order of their hosts.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        let mut tenants: Vec<_> = self.tenants.all().cloned().collect();
        tenants.sort_by(|a, b| a.config.host.cmp(&b.config.host));
        tenants
    }

    /// Reads every tenant's accounts and finishes what a crash left, so that the first request does
    /// not wait for it.
    pub fn warm_up(&self) -> Result<(), Fault> {
        self.tenants.all().try_for_each(|tenant| tenant.accounts.open())
    }

    /// Makes what the tenant's stores need, where nobody did before the request came.
    fn create_if_missing(&self, tenant: &Tenant) -> Result<(), Fault> {
        if self.creates_files { tenant.create_if_missing() } else { Ok(()) }
    }

    fn answer(&self, request: &Request, may_wait: bool) -> Response {
        let arrived = request.whole && request.method().is_some();
        let Some(client) = request.client(&self.config.trusted_proxies).filter(|_| arrived) else {
            return self.refuse("request", None, None, Refusal::LostParameters);
        };
        let endpoint = Endpoint::of(request).filter(|found| self.is_on(*found));
        let host = request.host();
        let tenant = self.tenants.for_host(&host);
        let response = match (endpoint, tenant) {
            (None, _) => self.refuse("request", None, Some(client), Refusal::UnknownPath),
            (_, None) => {
                self.log_unknown_host(&host, client);
                refusal_json(&Refusal::UnknownHost)
            }
            (Some(Endpoint::Resend), Some(tenant)) if !tenant.config.resend => {
                self.refuse("request", Some(tenant), Some(client), Refusal::UnknownPath)
            }
            (Some(endpoint), Some(tenant)) => {
                let call = Call { request, tenant, client, now: Utc::now(), user: OnceCell::new() };
                match endpoint.needs(request.method(), &tenant.config) {
                    Needs::Disk | Needs::Key if !may_wait => self.answer_at_once(endpoint, &call),
                    _ => self.dispatch(endpoint, &call),
                }
            }
        };
        // A page elsewhere must be able to read a 404 as well: it asks whether resend is on.
        match tenant {
            Some(tenant) => with_cors(response, request, tenant),
            None => response,
        }
    }

    /// Whether any tenant has this endpoint.
    fn is_on(&self, endpoint: Endpoint) -> bool {
        endpoint != Endpoint::Resend || self.tenants.any_resends()
    }

    fn dispatch(&self, endpoint: Endpoint, call: &Call<'_>) -> Response {
        match (endpoint, call.request.method()) {
            (Endpoint::Captcha, Some(Method::Get)) => self.captcha(call),
            (Endpoint::Captcha, Some(Method::Head)) => self.captcha(call).without_body(),
            (Endpoint::SignUp, Some(Method::Post)) => self.sign_up(call),
            (Endpoint::Activate, Some(Method::Get)) => self.activate(call, activate::get),
            (Endpoint::Activate, Some(Method::Post)) if is_clicked(call.tenant) => {
                self.activate(call, activate::post)
            }
            (Endpoint::Activate, Some(Method::Head)) => page::head(),
            (Endpoint::Resend, Some(Method::Post)) => self.resend(call),
            (Endpoint::Captcha | Endpoint::SignUp | Endpoint::Resend, Some(Method::Options))
                if allowed_origin(call.request, call.tenant).is_some() =>
            {
                Response::empty(204)
                    .header("Access-Control-Allow-Methods", endpoint.methods(call.tenant))
                    .header("Access-Control-Allow-Headers", "Content-Type")
                    .header("Access-Control-Max-Age", PREFLIGHT_MAX_AGE)
            }
            _ => self.refuse(
                endpoint.name(),
                Some(call.tenant),
                Some(call.client),
                Refusal::Method(endpoint.methods(call.tenant)),
            ),
        }
    }

    /// The answer to a request that may not wait for the tenant's disk: a captcha, where its key is in
    /// memory, or that it failed.
    fn answer_at_once(&self, endpoint: Endpoint, call: &Call<'_>) -> Response {
        let state = &call.tenant.config.state;
        let cause = io::ErrorKind::TimedOut.into();
        let fault = Fault::new("get a worker within lock_wait for the disk under", state, cause)
            .way_out(
                "this tenant's requests hold its share of the workers: look for a hung or overloaded \
                 disk, or a lock that nobody gives back",
            );
        match endpoint {
            Endpoint::Captcha => match captcha::get_from_memory(call) {
                Ok(Some(answer)) => Response::json(200, to_json(&answer)),
                Ok(None) => self.fail(endpoint, call, Error::CaptchaUnavailable(fault)),
                Err(error) => self.fail(endpoint, call, error),
            },
            Endpoint::Activate => self.fail_page(call, &fault),
            Endpoint::SignUp | Endpoint::Resend => self.fail(endpoint, call, fault.into()),
        }
    }

    fn captcha(&self, call: &Call<'_>) -> Response {
        match self
            .create_if_missing(call.tenant)
            .map_err(Error::CaptchaUnavailable)
            .and_then(|()| captcha::get(call))
        {
            Ok(answer) => Response::json(200, to_json(&answer)),
            Err(error) => self.fail(Endpoint::Captcha, call, error),
        }
    }

    fn sign_up(&self, call: &Call<'_>) -> Response {
        #[derive(Serialize)]
        struct Made<'a> {
            ok: bool,
            user: &'a str,
        }
        match self
            .create_if_missing(call.tenant)
            .map_err(Error::from)
            .and_then(|()| signup::post(call))
        {
            Ok(user) => {
                self.log(Endpoint::SignUp, call, "ok", None);
                Response::json(200, to_json(&Made { ok: true, user: user.as_str() }))
            }
            Err(error) => self.fail(Endpoint::SignUp, call, error),
        }
    }

    fn resend(&self, call: &Call<'_>) -> Response {
        #[derive(Serialize)]
        struct Accepted {
            ok: bool,
        }
        match self
            .create_if_missing(call.tenant)
            .map_err(Error::from)
            .and_then(|()| resend::post(call))
        {
            Ok(after) => {
                self.log(Endpoint::Resend, call, "ok", None);
                Response::json(200, to_json(&Accepted { ok: true })).after(after)
            }
            Err(error) => self.fail(Endpoint::Resend, call, error),
        }
    }

    fn activate(
        &self,
        call: &Call<'_>,
        act: fn(&Call<'_>) -> Result<Activated, Error>,
    ) -> Response {
        let ready = self.create_if_missing(call.tenant).map_err(Error::from);
        let page = match ready.and_then(|()| act(call)) {
            Ok(Activated::Enabled(user)) => {
                self.log(Endpoint::Activate, call, "ok", None);
                page::activated(call, &user)
            }
            Ok(Activated::ToConfirm(user, token)) => {
                self.log(Endpoint::Activate, call, "shown", None);
                page::click(call, &user, &token)
            }
            Err(Error::Refused(refusal)) => {
                self.log(Endpoint::Activate, call, code(&refusal), None);
                page::refused(call)
            }
            Err(Error::Fault(fault) | Error::CaptchaUnavailable(fault)) => {
                return self.fail_page(call, &fault);
            }
        };
        page.unwrap_or_else(|fault| self.fail(Endpoint::Activate, call, fault.into()))
    }

    /// The page for an activation that failed through our fault, and its line in the log.
    fn fail_page(&self, call: &Call<'_>, fault: &Fault) -> Response {
        self.log(Endpoint::Activate, call, "server_error", Some(fault));
        let page = page::failed(call);
        page.unwrap_or_else(|fault| self.fail(Endpoint::Activate, call, fault.into()))
    }

    /// The answer for a request that came to nothing, and its line in the log.
    fn fail(&self, endpoint: Endpoint, call: &Call<'_>, error: Error) -> Response {
        match error {
            Error::Refused(refusal) => {
                self.log(endpoint, call, code(&refusal), None);
                refusal_json(&refusal)
            }
            Error::Fault(fault) => {
                self.log(endpoint, call, "server_error", Some(&fault));
                error_json(500, "server_error", "The service failed; try again later.")
            }
            Error::CaptchaUnavailable(fault) => {
                self.log(endpoint, call, "captcha_unavailable", Some(&fault));
                error_json(503, "captcha_unavailable", "No captcha can be issued at the moment.")
            }
        }
    }

    fn refuse(
        &self,
        event: &str,
        tenant: Option<&Tenant>,
        client: Option<IpAddr>,
        refusal: Refusal,
    ) -> Response {
        log::event(Level::Info, event)
            .maybe("tenant", tenant.map(|tenant| &tenant.config.host))
            .maybe("client", client)
            .field("outcome", code(&refusal))
            .emit();
        refusal_json(&refusal)
    }

    fn log(&self, endpoint: Endpoint, call: &Call<'_>, outcome: &str, fault: Option<&Fault>) {
        let level = if fault.is_some() { Level::Error } else { Level::Info };
        log::event(level, endpoint.name())
            .field("tenant", &call.tenant.config.host)
            .maybe("user", call.user.get())
            .field("client", call.client)
            .field("outcome", outcome)
            .maybe("fault", fault)
            .emit();
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
        let tenant = endpoint.and_then(|_| self.tenants.for_host(&request.host()));
        let (Some(endpoint), Some(tenant)) = (endpoint, tenant) else { return Waits::Never };
        let number = tenant.number;
        match endpoint.needs(request.method(), &tenant.config) {
            Needs::Nothing => Waits::Never,
            Needs::Key => Waits::For { tenant: number, patient: !tenant.captcha.has_key() },
            Needs::Disk => Waits::For { tenant: number, patient: true },
        }
    }

    fn handle(&self, request: Request) -> Response {
        self.answer(&request, true)
    }

    fn handle_without_place(&self, request: Request) -> Response {
        self.answer(&request, false)
    }

    fn finish(&self, deadline: Instant) {
        self.tenants.all().for_each(|tenant| tenant.finish(deadline));
    }
}

/// Whether a button activates here, and not the link itself.
fn is_clicked(tenant: &Tenant) -> bool {
    tenant.config.activation == Activation::Click
}

/// The `Origin` of the request, where the tenant lists it.
fn allowed_origin(request: &Request, tenant: &Tenant) -> Option<String> {
    let origin = request.params.text("HTTP_ORIGIN")?;
    tenant.config.allowed_origins.iter().find(|allowed| *allowed == origin).cloned()
}

fn with_cors(response: Response, request: &Request, tenant: &Tenant) -> Response {
    if tenant.config.allowed_origins.is_empty() {
        return response;
    }
    let response = response.header("Vary", "Origin");
    match allowed_origin(request, tenant) {
        Some(origin) => response.header("Access-Control-Allow-Origin", origin),
        None => response,
    }
}

/// A refusal's code, in answers and in the log.
fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::LostParameters | Refusal::Invalid(_) => "invalid_request",
        Refusal::UnknownPath => "not_found",
        Refusal::UnknownHost => "unknown_host",
        Refusal::Method(_) => "method_not_allowed",
        Refusal::TooLarge => "payload_too_large",
        Refusal::Captcha => "captcha_failed",
        Refusal::RateLimited(_) => "rate_limited",
        Refusal::Taken => "conflict",
        Refusal::Link => "link_refused",
        Refusal::Closed(_) => "signups_closed",
    }
}

fn refusal_json(refusal: &Refusal) -> Response {
    let (status, description) = match refusal {
        Refusal::LostParameters => (400, "The request's parameters did not arrive whole."),
        Refusal::UnknownPath => (404, "There is no such endpoint."),
        Refusal::UnknownHost => (421, "This host is not served here."),
        Refusal::Method(_) => (405, "This endpoint does not take this method."),
        Refusal::TooLarge => (413, "The body is larger than 16384 bytes."),
        Refusal::Invalid(why) => (400, why.as_ref()),
        Refusal::Captcha => (400, "The captcha is unknown, expired, used up, or its answer wrong."),
        Refusal::RateLimited(_) => (429, "Too many accounts from this address; try again later."),
        Refusal::Taken => (409, "This user name is taken."),
        Refusal::Link => (400, "Activation link is invalid or expired"),
        Refusal::Closed(_) => (503, "Sign-up is closed here at the moment."),
    };
    let response = error_json(status, code(refusal), description);
    match refusal {
        Refusal::Method(allow) => response.header("Allow", *allow),
        Refusal::RateLimited(wait) | Refusal::Closed(wait) => {
            response.header("Retry-After", wait.as_secs().to_string())
        }
        _ => response,
    }
}

fn error_json(status: u16, error: &str, error_description: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        error_description: &'a str,
    }
    Response::json(status, to_json(&Body { error, error_description }))
}

/// JSON of values that always have one: structures of text and flags.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
