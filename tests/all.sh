#!/bin/bash
# Every test there is, at most an hour: those of tests/run.sh, then those that take longer, which
# are marked `#[ignore = "tests/all.sh"]`. A part that fails does not keep the next ones from telling
# what they find; the last lines name it, and the exit code is 1.

set -uo pipefail
cd "$(dirname "$0")/.." || exit
started=$SECONDS
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
failed=()

part() {
    echo "=== $*"
    "$@" || failed+=("$*")
}

# In the browser: every language, window and option.
CODEB_SIGNUP_ALL=1 part tests/run.sh
# The one that is skipped is a server that other tests start as a process of its own.
part cargo test --locked --no-fail-fast -- --ignored --skip a_server_for_the_other_tests
part tests/spam.sh
# Whether the benchmark runs; it says nothing about time.
part tests/bench.sh quick
# A minute for each fuzz case; more with tests/fuzz.sh MINUTES.
if command -v c++ >/dev/null; then
    part tests/fuzz.sh 1
else
    echo 'tests/all.sh: no C++ compiler, so nothing is fuzzed (apt-get install g++)'
fi
part tests/deny.sh

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'tests/all.sh: failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "tests/all.sh: all passed in $((SECONDS - started))s"
