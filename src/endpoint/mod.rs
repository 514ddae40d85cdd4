//! The story of each request, readable from top to bottom: what is asked of the stores, in which
//! order, and what the client did wrong where it did.

pub mod activate;
pub mod captcha;
pub mod page;
pub mod signup;

use std::cell::OnceCell;
use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::http::Request;
use crate::tenant::Tenant;

/// A request on its way through an endpoint, with what `route` found out about it.
#[derive(Debug)]
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request,
    /// The tenant that was asked.
    pub tenant: &'a Tenant,
    /// The client's address.
    pub client: IpAddr,
    /// When the request came.
    pub now: DateTime<Utc>,
    /// The user name that the request turned out to be about, for the log.
    pub user: OnceCell<String>,
}

impl Call<'_> {
    /// Remembers who the request is about; the first name counts.
    fn is_about(&self, user: &str) {
        let _ = self.user.set(user.to_owned());
    }

    /// When the request came, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now.timestamp_millis()).unwrap_or(0)
    }
}
