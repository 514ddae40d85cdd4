//! How fast the program is, beside floors that do nothing but what cannot be left out, and beside a
//! small PHP program that does the same job.
//!
//! `tests/bench.sh [quick|full]` runs it; [`contest`] says what is measured. Some contestants are
//! this program again, as a process of its own, with its listening socket on descriptor 0.

// What fails here is seen by whoever runs it; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod cgi;
mod contest;
mod disk_floor;
mod flows;
mod gateways;
mod http;
mod load;
mod plot;
mod process;
mod report;
mod site;
mod sizes;
mod syscalls;

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["full", part @ ..] => contest::run(&contest::FULL, part.first().copied()),
        [] => contest::run(&contest::QUICK, None),
        ["quick", part @ ..] => contest::run(&contest::QUICK, part.first().copied()),
        ["answer", kind] => gateways::answer(kind),
        ["accounts", count, dir] => {
            let count = count.parse().expect("a number of accounts");
            accounts::write(dir.as_ref(), count, 0);
        }
        _ => {
            eprintln!("usage: bench [quick|full [PART]] | accounts COUNT STATE-DIRECTORY");
            std::process::exit(64);
        }
    }
}
