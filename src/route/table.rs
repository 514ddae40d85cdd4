//! The endpoints: their names, their methods, and what answering them may wait for.
//!
//! | endpoint | method | waits for |
//! |---|---|---|
//! | captcha | GET, HEAD | nothing, once the captcha key is in memory, which it is from the start on |
//! | signup | POST | the tenant's disk |
//! | activate | GET, POST | the tenant's disk |
//! | activate | HEAD | nothing |
//! | resend | POST | the tenant's disk |
//! | any | OPTIONS, any other | nothing |

use crate::config::{Activation, Signups, TenantConfig};
use crate::http::{Method, Request};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `captcha.ashx`
    Captcha,
    /// `signup.ashx`
    SignUp,
    /// `activate.ashx`
    Activate,
    /// `resend.ashx`
    Resend,
}

/// What a request needs that may keep it waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is answered from memory.
    Nothing,
    /// The captcha key: a look whether its file is still the same, which is left out where that might
    /// have to wait for a place; where no key is in memory, the file itself.
    Key,
    /// The tenant's disk, and the locks on it.
    Disk,
}

impl Endpoint {
    /// The endpoint that a request asks for.
    pub fn of(request: &Request) -> Option<Self> {
        match request.endpoint().as_slice() {
            b"captcha.ashx" => Some(Self::Captcha),
            b"signup.ashx" => Some(Self::SignUp),
            b"activate.ashx" => Some(Self::Activate),
            b"resend.ashx" => Some(Self::Resend),
            _ => None,
        }
    }

    /// Its event in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Captcha => "captcha",
            Self::SignUp => "signup",
            Self::Activate => "activate",
            Self::Resend => "resend",
        }
    }

    /// What answering a request with a method that it takes may wait for.
    pub fn needs(self, method: Option<Method>, tenant: &TenantConfig) -> Needs {
        let is_closed = tenant.signups == Signups::Closed;
        match self {
            _ if !self.takes(method, tenant) => Needs::Nothing,
            Self::Captcha | Self::SignUp if is_closed => Needs::Nothing,
            Self::Resend if !tenant.resend => Needs::Nothing,
            Self::Activate if method == Some(Method::Head) => Needs::Nothing,
            Self::Captcha => Needs::Key,
            Self::SignUp | Self::Activate | Self::Resend => Needs::Disk,
        }
    }

    /// Whether it takes this method.
    pub fn takes(self, method: Option<Method>, tenant: &TenantConfig) -> bool {
        match (self, method) {
            (Self::SignUp | Self::Resend, Some(Method::Post)) => true,
            (Self::Captcha | Self::Activate, Some(Method::Get | Method::Head)) => true,
            (Self::Activate, Some(Method::Post)) => tenant.activation == Activation::Click,
            _ => false,
        }
    }

    /// The `Allow` header of a 405.
    pub fn methods(self, tenant: &TenantConfig) -> &'static str {
        match (self, tenant.activation) {
            (Self::SignUp | Self::Resend, _) => "POST",
            (Self::Activate, Activation::Click) => "GET, HEAD, POST",
            (Self::Captcha | Self::Activate, _) => "GET, HEAD",
        }
    }
}
