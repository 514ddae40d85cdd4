#!/bin/bash
# Every test there is, at most an hour: those of tests/run.sh, then those that take longer, which
# are marked `#[ignore = "tests/all.sh"]`.

set -euo pipefail
cd "$(dirname "$0")/.."
# In the browser: every language, window and option.
export CODEB_SIGNUP_ALL=1
tests/run.sh
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
# The one that is skipped is a server that other tests start as a process of its own.
cargo test --locked --no-fail-fast -- --ignored --skip a_server_for_the_other_tests
tests/spam.sh
# Whether the benchmark runs; it says nothing about time.
tests/bench.sh quick
# A minute for each fuzz case; more with tests/fuzz.sh MINUTES.
if command -v c++ >/dev/null; then
    tests/fuzz.sh 1
else
    echo 'tests/all.sh: no C++ compiler, so nothing is fuzzed (apt-get install g++)'
fi
tests/deny.sh
