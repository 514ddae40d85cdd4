//! A disk that records every step, and the crashes that are played from what it recorded.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod breakages;
pub mod check;
pub mod history;
pub mod matrix;
pub mod operations;
pub mod random;
pub mod record;
pub mod tree;
pub mod world;
