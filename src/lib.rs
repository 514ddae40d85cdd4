//! Self-hosted account sign-up as a FastCGI and CGI program behind an existing web server.
//!
//! The floors, from the ground up; imports go down only:
//!
//! | floor | modules |
//! |---|---|
//! | 8 | `main` |
//! | 7 | `serve`, `admin` |
//! | 6 | [`gateway`] |
//! | 5 | `route` |
//! | 4 | `endpoint` |
//! | 3 | `tenant`, `upkeep` |
//! | 2 | `store` |
//! | 1 | [`disk`], [`http`], [`config`], [`log`] |
//! | 0 | [`account`], [`secret`], [`error`] |

pub mod account;
pub mod config;
pub mod disk;
pub mod error;
pub mod gateway;
pub mod http;
pub mod log;
pub mod secret;
pub mod serve;
