//! The promises of CONTRACT.md, as a client meets them through a web server.
//! `tests/CONTRACT.md` says which test holds which line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it cannot go on")]

mod activate;
mod answers;
mod captcha;
mod charset;
mod click;
mod closed;
mod dispatch;
mod fields;
mod files;
mod host;
mod resend;
mod resend_thread;
mod signup;
mod table;
mod time;
