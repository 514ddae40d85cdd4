//! Self-hosted account sign-up as a FastCGI and CGI program behind an existing web server.
//!
//! The floors, from the ground up. Imports go down only, and on one floor not across a `·`:
//!
//! | floor | modules |
//! |---|---|
//! | 8 | `main` |
//! | 7 | [`serve`] · [`admin`] |
//! | 6 | [`gateway`] |
//! | 5 | [`route`] |
//! | 4 | [`endpoint`] |
//! | 3 | [`tenant`], [`service`], [`maintenance`], [`premises`] |
//! | 2 | [`store`] |
//! | 1 | [`background`] · [`disk`] · [`http`] · [`config`] · [`log`] · [`template`] |
//! | 0 | [`account`], [`secret`], [`error`], [`lang`] |

pub mod account;
pub mod admin;
pub mod background;
pub mod config;
pub mod disk;
pub mod endpoint;
pub mod error;
pub mod gateway;
pub mod http;
pub mod lang;
pub mod log;
pub mod maintenance;
pub mod premises;
pub mod route;
pub mod secret;
pub mod serve;
pub mod service;
pub mod store;
pub mod template;
pub mod tenant;
