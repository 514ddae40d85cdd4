//! Every case that is fuzzed, over the committed seeds and over the input that once broke it.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

#[path = "fuzz/cases/mod.rs"]
mod cases;

use std::fs;
use std::path::Path;

#[test]
fn no_seed_and_no_regression_breaks_a_case() {
    for (name, case) in cases::ALL {
        for kind in ["seeds", "regressions"] {
            let dir =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind).join(name);
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries {
                let file = entry.unwrap().path();
                println!("{}", file.display());
                case(&fs::read(&file).unwrap());
            }
        }
    }
}
