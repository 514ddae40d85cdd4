//! libFuzzer over the cases: `FUZZ_CASE` names the one that runs. `tests/fuzz.sh` builds this with
//! coverage instrumentation, on the stable toolchain.
#![no_main]

mod cases;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static CASE: LazyLock<cases::Case> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_CASE").unwrap_or_default();
    let found = cases::ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("FUZZ_CASE={name:?} is no case")).1
});

fuzz_target!(|data: &[u8]| CASE(data));
