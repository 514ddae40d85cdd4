#!/usr/bin/env bash
# Makes the README's pictures anew, in deploy/pictures: the page on a phone and on a desktop, an error,
# the mail. Needs what tests/browser/run.sh needs, and pngquant, which makes them small.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

missing=()
command -v pngquant >/dev/null || missing+=(pngquant)
[[ $(fc-list 2>/dev/null) == *NotoSansArabic* ]] || missing+=(fonts-noto-core)
if ((${#missing[@]})); then
    ((EUID == 0)) && command -v apt-get >/dev/null || {
        echo "tests/browser/pictures.sh: missing; as root: apt-get install ${missing[*]}" >&2
        exit 69
    }
    DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends install "${missing[@]}" >&2
fi
./run.sh --install-only
node pictures.mjs
cd ../../deploy/pictures
pngquant --force --ext .png --speed 1 --strip 64 -- *.png
for picture in *.png; do
    bytes=$(stat -c %s "$picture")
    echo "$bytes $picture"
    ((bytes <= 60000)) || { echo "tests/browser/pictures.sh: $picture is larger than 60 KB" >&2; exit 1; }
done
