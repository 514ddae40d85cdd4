//! What other programs read of the accounts: a file for each format, with the accounts that may sign
//! in and nobody else.

pub mod htdigest;
