#!/bin/sh
# How fast is it? tests/bench.sh [quick|full] [PART]; full takes about a quarter of an hour, quick (the
# default) under two minutes once it is built. The full run's table and plot go to
# tests/bench/results/. Installs nginx, wrk, strace, perf and PHP-FPM where they are missing and that
# is allowed; only nginx and wrk are needed. PART is one of gateway, captcha, sign-up, activation,
# latency, calls, crate, processes, sizes, php. BENCH_DIR=DIR measures the disk that DIR is on.
set -eu
cd "$(dirname "$0")/.."

is_missing() { ! PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null 2>&1; }
wanted=
for tool in nginx wrk strace; do
    if is_missing "$tool"; then wanted="$wanted $tool"; fi
done
if is_missing perf; then wanted="$wanted linux-perf"; fi
if ! ls /usr/sbin/php-fpm* >/dev/null 2>&1; then wanted="$wanted php-fpm"; fi
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && ! is_missing apt-get; then
    apt-get update -qq || true
    for package in $wanted; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
            >/dev/null || echo "bench.sh: cannot install $package" >&2
    done
fi
for tool in nginx wrk; do
    if is_missing "$tool"; then
        echo "bench.sh: install $tool first (Debian: apt-get install $tool)" >&2
        exit 69
    fi
done
PATH="$PATH:/usr/sbin"
export PATH
exec cargo bench --quiet --bench bench -- "${@:-quick}"
