#!/bin/sh
# Fuzzes every parser that a stranger's bytes reach, MINUTES each, on the stable toolchain:
#
#     tests/fuzz.sh MINUTES [CASE...]
#
# libFuzzer comes with the crate libfuzzer-sys; the coverage instrumentation is LLVM's own pass, so no
# nightly compiler and no cargo-fuzz are needed, but a C++ compiler is. What it finds worth keeping
# stays in target/fuzz/corpus; input that breaks a case is written to tests/fuzz/regressions/CASE,
# where `cargo test` runs it from then on. Ends with a line for each case: executions and result.
set -eu

minutes=${1:?usage: tests/fuzz.sh MINUTES [CASE...]}
[ "$minutes" -gt 0 ] || { echo "MINUTES is a number above 0" >&2; exit 64; }
shift
cd "$(dirname "$0")/.."
cases=${*:-records pairs urlencoded multipart email captcha line config spool state}
corpus=$PWD/target/fuzz/corpus
triple=$(rustc -vV | sed -n 's/^host: //p')

command -v c++ >/dev/null || { echo "tests/fuzz.sh needs a C++ compiler: apt-get install g++" >&2; exit 1; }
# Only the target gets these flags: build scripts and macros stay as they are. `sancov-module` is the
# pass behind `-Zsanitizer=...`'s coverage; the counters and comparisons are what libFuzzer reads.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
RUSTFLAGS="$flags" CARGO_TARGET_DIR=target/fuzz cargo build --quiet --release --locked \
    --target "$triple" --manifest-path tests/fuzz/Cargo.toml

failed=0
summary=
for case in $cases; do
    mkdir -p "$corpus/$case" "tests/fuzz/regressions/$case"
    log=target/fuzz/$case.log
    code=0
    FUZZ_CASE=$case target/fuzz/"$triple"/release/fuzz -max_total_time=$((minutes * 60)) \
        -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="tests/fuzz/regressions/$case/" \
        "$corpus/$case" "tests/fuzz/seeds/$case" "tests/fuzz/regressions/$case" \
        >"$log" 2>&1 || code=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$code" -eq 0 ]; then
        result=ok
    else
        result="BROKEN, see $log and tests/fuzz/regressions/$case"
        failed=1
    fi
    summary="$summary$case: ${runs:-0} executions, $result
"
done
printf '%s' "$summary"
exit "$failed"
