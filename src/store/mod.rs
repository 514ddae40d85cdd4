//! What is kept: captchas, rate limits, accounts, mails. Every store returns [`crate::error::Fault`]s
//! only; what a client did wrong is for the endpoints to say.

pub mod captcha;
pub mod credentials;
mod group_sync;
pub mod mail;
pub mod pickup;
pub mod rate_limit;
mod slots;

pub use slots::Claim;
