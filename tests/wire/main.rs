//! What comes in: every gateway, raw bytes, hostile text and floods.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it cannot go on")]

mod abuse;
mod fastcgi;
mod hostile;
mod hung_log;
mod raw_bytes;
mod ways;
