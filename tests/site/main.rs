//! The whole of it: the demo, the README, the languages, the sign-in behind a web server, and the
//! order of the source.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it cannot go on")]

mod architecture;
mod build;
mod demo;
mod languages;
mod papers;
mod readme;
mod sign_in;
mod spawn_fcgi;
mod view_readers;
mod web_nginx;
mod web_others;
