#!/bin/sh
# The dependencies: known vulnerabilities where the advisory database can be had, licences, sources,
# wildcards and duplicates. Rules: tests/deny.toml. Installs cargo-deny below target/ where it is
# missing.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/target/tools/bin:$PATH
command -v cargo-deny >/dev/null || cargo install cargo-deny --locked --quiet --root target/tools

checks='licenses bans sources'
if cargo deny --config tests/deny.toml fetch db >/dev/null 2>&1; then
    checks="advisories $checks"
else
    echo 'tests/deny.sh: the advisory database cannot be had here, so advisories are not checked'
fi
# shellcheck disable=SC2086  # one argument a check
cargo deny --config tests/deny.toml --locked check $checks
