//! What is fuzzed: a case takes bytes, hands them to one of the program's parsers, and panics where
//! the result breaks a rule. `tests/fuzz.sh` finds new bytes; `tests/engine/regressions.rs` runs every case
//! over the committed ones.

mod captcha;
mod config;
mod email;
mod forms;
mod line;
mod records;
mod spool;

/// One case.
pub type Case = fn(&[u8]);

/// Every case by its name, which is also that of its directory in `seeds` and `regressions`.
pub const ALL: [(&str, Case); 10] = [
    ("records", records::records),
    ("pairs", records::pairs),
    ("urlencoded", forms::urlencoded),
    ("multipart", forms::multipart),
    ("email", email::email),
    ("captcha", captcha::captcha),
    ("line", line::line),
    ("config", config::config),
    ("spool", spool::spool),
    ("state", spool::state),
];

/// The case of this name.
pub fn by_name(name: &str) -> Case {
    let found = ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("{name:?} is no case")).1
}
