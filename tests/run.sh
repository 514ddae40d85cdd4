#!/bin/bash
# Every check that belongs to a change, in a clean clone on Debian: installs what is missing (as
# root; otherwise says what to install), then format, lints, documentation, tests, browser tests.
# With --tests the last two alone. Five minutes on two idle cores, nine with all dependencies still to
# be built. Ends with the time of each stage, the names of the tests that failed, and one line in the
# form of cargo's own:
#
#     test result: ok. 321 passed; 0 failed; 0 ignored; finished in 312s
#
# Exit codes: 0 all passed, 1 something failed, 64 wrong usage, 69 something is missing that cannot be
# installed. Longer tests: tests/all.sh. The same tests again and again: tests/repeat.sh.

set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
case "$*" in
    '' | --tests) ;;
    *) echo 'usage: tests/run.sh [--tests]' >&2; exit 64 ;;
esac
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"

# What the tests run, and the package of each: a command by its name, a file by its path.
needed() {
    cat <<'LIST'
cc gcc
curl curl
git git
nginx nginx
apache2 apache2-bin
lighttpd lighttpd
spawn-fcgi spawn-fcgi
setpriv util-linux
prlimit util-linux
strace strace
systemd-socket-activate systemd
chromium chromium
node nodejs
npm npm
LIST
    # Where these lie depends on the architecture. gcc only recommends what every program is linked with.
    compgen -G '/usr/lib/*/crt1.o' >/dev/null || echo '/crt1.o libc6-dev'
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || echo '/faketime libfaketime'
    # Any font that has the glyphs will do; without one the browser tests look at boxes.
    fc-list -q :lang=ar 2>/dev/null || echo '/arabic fonts-dejavu-core'
    fc-list -q :lang=ja 2>/dev/null || echo '/japanese fonts-vlgothic'
}

# What only the tests of tests/all.sh run: programs that read the view.
needed_by_all() {
    [ -x /usr/lib/squid/digest_file_auth ] || echo squid
    [ -e /usr/share/php/Sabre/autoload.php ] || echo php-sabre-dav
    { command -v php && php -r 'exit((int) !class_exists("DOMDocument"));'; } >/dev/null ||
        printf '%s\n' php-cli php-xml
}

missing_packages() {
    needed | while read -r what package; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$what" >/dev/null || echo "$package"
    done
}

# Debian starts a service that it installs; ours would take port 80 from whoever has it. A policy
# that says no (invoke-rc.d, exit code 101) stands while we install, unless there is one already.
install_packages() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "$@"
    if [ "$(trap -p EXIT)" ]; then
        rm -f "$policy"
        trap - EXIT
    fi
}

mapfile -t packages < <(missing_packages)
if [ -n "${CODEB_SIGNUP_ALL:-}" ]; then
    mapfile -t more < <(needed_by_all)
    packages+=("${more[@]}")
fi
if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "tests/run.sh: missing; as root: apt-get install --no-install-recommends ${packages[*]}" >&2
        exit 69
    fi
    install_packages "${packages[@]}"
fi
if ! command -v cargo >/dev/null; then
    echo 'tests/run.sh: no cargo; install the Rust toolchain that Cargo.toml names (rust-version)' >&2
    exit 69
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
times=() failed=()

# Runs one stage; a failure does not keep the next ones from telling what they find.
stage() {
    local began=$SECONDS
    echo "== $*"
    "$@" 2>&1 | tee -a "$output" || failed+=("$*")
    times+=("$((SECONDS - began))s $*")
}

if [ $# = 0 ]; then
    stage cargo fmt --all --check
    stage cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' stage cargo doc --locked --no-deps
fi
# Two test threads a core: a test waits for the processes that it starts more than it computes.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))} stage cargo test --locked --no-fail-fast
stage tests/browser/run.sh

# The sums of all "test result:" lines of cargo's.
sum() {
    sed -n "s/^test result: .* \([0-9]*\) $1;.*/\1/p" "$output" | awk '{ n += $1 } END { print n + 0 }'
}

# The tests that failed, each behind the binary that has it; those of the browser by their sentences.
failed_tests() {
    awk '
        /^ +Running / { binary = $2 == "unittests" ? $3 : $2; sub(/^tests\//, "", binary); sub(/\/main\.rs$/, "", binary) }
        /^test .* \.\.\. FAILED$/ { print binary "::" $2 }
        /^ *not ok [0-9]+ - / { sub(/^ *not ok [0-9]+ - /, ""); print "browser: " $0 }' "$output"
}

printf 'time: %s\n' "${times[@]}"
counts="$(sum passed) passed; $(sum failed) failed; $(sum ignored) ignored; finished in $((SECONDS - started))s"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    failed_tests | sed 's/^/failed: /'
    echo "test result: FAILED. $counts"
    exit 1
fi
echo "test result: ok. $counts"
