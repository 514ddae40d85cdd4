#!/usr/bin/env bash
# The demo and the README's curl lines, as somebody meets them who has just cloned the repository:
#
#     tests/site/demo/flow.sh PORT
#
# in that clone. Starts deploy/demo.sh, runs the lines that the README shows (read from there), opens
# the link that the demo tells, and looks whether the account is enabled. Stops the demo, and sees that
# it took everything along. Prints `enabled`; any other end says why on stderr. No HA1 and no token is
# ever shown.
set -euo pipefail
port=$1
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
[[ ! -e target/demo ]] || { echo "target/demo is there already: this clone is not fresh" >&2; exit 1; }

out=$(mktemp -d)
# cargo's default profile is a minute faster to build than the demo's.
deploy/demo.sh --port "$port" --profile dev >"$out/lines" 2>"$out/said" </dev/null &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" || true; rm -rf "$out"' EXIT

fail() {
    echo "flow: $*; the demo said:" >&2
    tail -n 40 "$out/said" >&2
    exit 1
}

# The first line of the demo's stdout that begins so, as soon as it is there.
told() {
    local line
    for ((tenth = 0; tenth < $2 * 10; tenth++)); do
        line=$(grep -m1 "^$1" "$out/lines" || true)
        [[ -z $line ]] || { echo "$line"; return; }
        kill -0 "$demo" 2>/dev/null || fail "the demo ended without \`$1\`"
        sleep 0.1
    done
    fail "no \`$1\` within $2 seconds"
}

ready=$(told 'ready: ' 400)
[[ $ready == "ready: http://127.0.0.1:$port/signup.html" ]] || fail "it said \`$ready\`"

# The README's shell block that fetches a captcha.
lines=$(awk '
    /^```sh$/ { block = ""; inside = 1; next }
    /^```$/ { if (inside && block ~ /captcha\.ashx/) { printf "%s", block; exit } inside = 0 }
    inside { block = block $0 "\n" }' README.md)
[[ $lines == HOST=http://127.0.0.1:8080* ]] || fail "the README's curl lines do not name the demo's address"
lines=${lines/127.0.0.1:8080/127.0.0.1:$port}
answer=$(bash -euc "$lines") || fail "a line of the README's failed"
[[ $answer == '{"ok":true,"user":"alice"}' ]] || fail "the sign-up was answered \`$answer\`"

mail=$(told 'mail: ' 20)
link=${mail##* }
[[ -s $(cut -d' ' -f2 <<<"$mail") && $link == "http://127.0.0.1:$port/activate.ashx?token="* ]] || fail 'the `mail:` line has no file or link'

# name:realm:HA1:disabled:…
ha1=$(printf %s 'alice:localhost:correct horse battery' | md5sum | cut -d' ' -f1)
account() { grep -c "^alice:localhost:$ha1:$1:" target/demo/state/credentials || true; }
[[ $(account 1) == 1 ]] || fail 'the account is not there, or is enabled before the link was opened'
curl -sf -o "$out/page" "$link" || fail 'the link of the mail was refused'
[[ $(account 0) == 1 ]] || fail 'the account is not enabled'
grep -qx "alice:localhost:$ha1" target/demo/state/htdigest || fail 'the account cannot sign in'

# The fourth account of an hour is refused; the demo says once what raises the limit.
for name in bob carol dave erin; do
    answer=$(bash -euc "${lines//alice/$name}") || fail "a line of the README's failed"
done
[[ $answer == *rate_limited* ]] || fail "the fifth sign-up was answered \`$answer\`"
for ((tenth = 0; tenth < 200; tenth++)); do
    hints=$(grep -c "^demo: .*--set 'signups_per_hour = " "$out/said" || true)
    [[ $hints == 0 ]] || break
    sleep 0.1
done
[[ $hints == 1 ]] || fail "it said $hints times how to raise the limit of accounts"

mapfile -t started < <(cat target/demo/run/{1,2,nginx}.pid)
kill "$demo"
wait "$demo" || fail "it ended with $? after SIGTERM"
for pid in "${started[@]}"; do
    [[ ! -e /proc/$pid ]] || fail "process $pid still runs"
done
echo enabled
