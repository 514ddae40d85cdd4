//! A disk that records every step, and the crashes that are played from what it recorded.

pub mod breakages;
pub mod check;
pub mod history;
pub mod log;
pub mod matrix;
pub mod operations;
pub mod random;
pub mod record;
pub mod traces;
pub mod tree;
pub mod world;
