#!/usr/bin/env bash
# The browser tests: installs what is missing (Chromium, Node.js and fonts as root through apt; the
# driver from the lock file), then runs them against the real demo, in at most three minutes.
# CODEB_SIGNUP_PROFILE=release tests that build; CODEB_SIGNUP_ALL=1 looks at every page in every window
# and language. What the pages looked like is in target/screenshots. With --install-only it runs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() { printf 'tests/browser: %s\n' "$*" >&2; exit 69; }

have_chromium() {
    local name
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
        [[ -n $name ]] && command -v "$name" >/dev/null && return
    done
    return 1
}

missing=()
have_chromium || missing+=(chromium)
command -v npm >/dev/null || missing+=(nodejs npm)
# Without glyphs a picture of a page shows boxes.
fc-list -q :lang=ar 2>/dev/null || missing+=(fonts-dejavu-core)
fc-list -q :lang=ja 2>/dev/null || missing+=(fonts-vlgothic)
if ((${#missing[@]})); then
    ((EUID == 0)) && command -v apt-get >/dev/null || die "missing: ${missing[*]}; install with \`sudo apt-get install ${missing[*]}\`"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update >&2
    apt-get -y --no-install-recommends install "${missing[@]}" >&2 || die "could not install ${missing[*]} (see above)"
fi

# Debian 12 and later have it. With an older one the driver would fail in words of its own.
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 18 || (a == 18 && b >= 19) ? 0 : 1)' \
    || die "Node.js $(node --version) is too old; 18.19 or later is needed: put one before it in PATH (nodejs.org has them), then run this again"

# npm's own record of what it installed says whether that is still what the lock file names.
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund >&2
fi
[[ ${1:-} != --install-only ]] || exit 0
# Every wait in the tests has an end of its own; this is for a driver that hangs (Node.js 18 has no
# such limit).
limit=600
[[ -z ${CODEB_SIGNUP_ALL:-} ]] || limit=1800
exec timeout "$limit" npm test --silent
