//! What is kept: accounts, claims, mails. Endpoints, verbs and the sweep use the ports, [`accounts`]
//! and [`claims`], with the decisions in [`rules`]; behind them stands an engine, [`flat`]. Every store
//! returns [`crate::error::Fault`]s only; what a client did wrong is for the endpoints to say.

pub mod accounts;
pub mod captcha;
pub mod claims;
pub mod flat;
pub mod mail;
pub mod outbox;
pub mod rules;
pub mod views;
