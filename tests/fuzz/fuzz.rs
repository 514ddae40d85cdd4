//! libFuzzer over the cases: `FUZZ_CASE` names the one that runs. `tests/fuzz.sh` builds this with
//! coverage instrumentation, on the stable toolchain.
#![no_main]

mod cases;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static CASE: LazyLock<cases::Case> =
    LazyLock::new(|| cases::by_name(&std::env::var("FUZZ_CASE").unwrap_or_default()));

fuzz_target!(|data: &[u8]| CASE(data));
