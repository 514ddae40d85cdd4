//! Every case that is fuzzed, over the committed seeds and over the input that once broke it.

use std::fs;

#[test]
fn no_seed_and_no_regression_breaks_a_case() {
    for (name, case) in crate::cases::ALL {
        for kind in ["seeds", "regressions"] {
            let dir = harness::repository("tests/fuzz").join(kind).join(name);
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries {
                let file = entry.unwrap().path();
                println!("{}", file.display());
                case(&fs::read(&file).unwrap());
            }
        }
    }
}
