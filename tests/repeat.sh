#!/bin/bash
# Whether a test fails now and then: runs the tests of tests/run.sh (cargo's and the browser's) again
# and again, beside a load on every core if wanted.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=target/repeat

usage() {
    cat <<TEXT
usage: tests/repeat.sh N [--load]

  N       how many times
  --load  beside a busy loop for each core, which is started and ended here

Prints the time and the result of each run, then the shortest, the middle and the longest time, how
often each test failed, and a line like cargo's that counts runs. What run 3 said is in
$logs/3.log.

Exit codes: 0 every run passed, 1 one did not, 64 wrong usage, 69 something is missing.

example: tests/repeat.sh 5 --load
TEXT
}

runs='' load=
for word in "$@"; do
    case $word in
        -h | --help) usage; exit 0 ;;
        --load) load=1 ;;
        [1-9] | [1-9][0-9] | [1-9][0-9][0-9]) [ -z "$runs" ] || { usage >&2; exit 64; }; runs=$word ;;
        *) echo "tests/repeat.sh: what is '$word'?" >&2; usage >&2; exit 64 ;;
    esac
done
[ -n "$runs" ] || { usage >&2; exit 64; }

[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
started=$SECONDS
rm -rf "$logs"
mkdir -p "$logs"
# Or the first run's time would be that of the build, too.
cargo test --locked --no-run >"$logs/build.log" 2>&1 || { cat "$logs/build.log" >&2; exit 1; }

# Each of these is a process group of its own, so that it ends with all that it started.
set -m
groups=()
end_all() {
    trap '' INT TERM
    for group in "${groups[@]}"; do kill -- "-$group" 2>/dev/null; done
}
trap end_all EXIT
trap 'exit 130' INT TERM
if [ -n "$load" ]; then
    for ((core = $(nproc); core > 0; core--)); do
        # It ends by itself where this script was killed.
        (while kill -0 $$ 2>/dev/null; do :; done) &
        groups+=("$!")
    done
fi

times=() bad=0
for ((run = 1; run <= runs; run++)); do
    began=$SECONDS code=0
    tests/run.sh --tests >"$logs/$run.log" 2>&1 </dev/null &
    groups+=("$!")
    wait "$!" || code=$?
    unset 'groups[-1]'
    [ "$code" != 69 ] || { tail -n 3 "$logs/$run.log" >&2; exit 69; }
    times+=("$((SECONDS - began))")
    [ "$code" = 0 ] || bad=$((bad + 1))
    echo "run $run: $(tail -n 1 "$logs/$run.log")"
    grep -h '^time: ' "$logs/$run.log" | sed 's/^/  /'
    grep -h '^failed: ' "$logs/$run.log" | sed 's/^/  /'
done

mapfile -t sorted < <(printf '%s\n' "${times[@]}" | sort -n)
echo "time: shortest ${sorted[0]}s, middle ${sorted[runs / 2]}s, longest ${sorted[-1]}s"
grep -h '^failed: ' "$logs"/*.log | sort | uniq -c | sort -rn | sed -E "s/^ *([0-9]+) failed: (.*)/failed in \1 of $runs: \2/"
result=ok
[ "$bad" = 0 ] || result=FAILED
echo "test result: $result. $((runs - bad)) passed; $bad failed; 0 ignored; finished in $((SECONDS - started))s"
[ "$bad" = 0 ]
