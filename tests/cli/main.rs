//! What an operator meets: the command line, the configuration and the rights it needs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it cannot go on")]

mod bad_configs;
mod check;
mod check_files;
mod odd_staging;
mod operator_mail;
mod pages;
mod privileges;
mod site;
mod usage;
mod verbs;
