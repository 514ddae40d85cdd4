#!/bin/bash
# Every language's mail before the eyes of a spam filter and of two mail parsers that are not ours:
# SpamAssassin with its packaged rules and no network scores it, Python's email and Perl's
# Mail::SpamAssassin::Message take it apart and must find the same.
#
# Exit codes: 0 all well, 1 a mail is not, 69 something is missing that cannot be installed.

set -euo pipefail
cd "$(dirname "$0")/.."
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
most=0.5

missing=()
command -v spamassassin >/dev/null || missing+=(spamassassin)
command -v python3 >/dev/null || missing+=(python3)
if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "tests/spam.sh: missing; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 69
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
fi

cargo build --locked -q
program=${CARGO_TARGET_DIR:-target}/debug/codeb-signup
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/state" "$dir/pickup" "$dir/home"
cat >"$dir/config.toml" <<CONFIG
[tenant."accounts.example"]
realm = "accounts.example"
base_url = "https://accounts.example"
state = "$dir/state"
pickup = "$dir/pickup"
mail_from = "Accounts <noreply@accounts.example>"
CONFIG

# The filter's points for a mail; -L: local rules alone.
points() {
    HOME=$dir/home spamassassin -L -t <"$1" 2>"$dir/spamassassin.log" >"$dir/analysis"
    sed -n 's/^Content analysis details: *(\(-\{0,1\}[0-9.]*\) points.*/\1/p' "$dir/analysis"
}

parse_with_python() {
    python3 - "$1" <<'PYTHON'
import email, email.policy, sys
with open(sys.argv[1], "rb") as file:
    mail = email.message_from_binary_file(file, policy=email.policy.default)
assert not mail.defects, mail.defects
for name in ("From", "To", "Subject", "Date", "Message-ID", "Content-Language", "Auto-Submitted"):
    assert len(mail.get_all(name)) == 1, name
    print(f"{name}: {mail[name]}")
parts = [part for part in mail.walk() if not part.is_multipart()]
assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
for part in parts:
    assert not part.defects, part.defects
    print(part.get_content_type())
    print(part.get_content().replace("\r\n", "\n").strip())
PYTHON
}

parse_with_perl() {
    perl -MMail::SpamAssassin::Message -CO - "$1" <<'PERL'
use strict;
use warnings;
use Encode;
open my $file, '<:raw', $ARGV[0] or die $!;
my $mail = Mail::SpamAssassin::Message->new({ message => join('', <$file>) });
for my $name (qw(From To Subject Date Message-ID Content-Language Auto-Submitted)) {
    my @values = $mail->get_header($name);
    die "$name" unless @values == 1;
    my $value = $values[0];
    $value = decode('UTF-8', $value) unless utf8::is_utf8($value);
    $value =~ s/\s*\z//;
    print "$name: $value\n";
}
for my $part ($mail->find_parts(qr/./, 1)) {
    my $text = decode('UTF-8', $part->decode(), Encode::FB_CROAK);
    $text =~ s/\r\n/\n/g;
    $text =~ s/\A\s+|\s+\z//g;
    print $part->{type}, "\n$text\n";
}
PERL
}

# A filter without its rules would like everything.
printf 'Subject: x\n\nXJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n' >"$dir/gtube"
if ! awk -v p="$(points "$dir/gtube")" 'BEGIN { exit !(p >= 1000) }'; then
    echo 'tests/spam.sh: SpamAssassin does not know its own test mail; are its rules there?' >&2
    exit 69
fi

failed=0
for file in nginx/html/lang/*.json; do
    tag=$(basename "$file" .json)
    mail=$dir/$tag.eml
    "$program" preview mail --lang "$tag" --to "$mail" --config "$dir/config.toml"
    score=$(points "$mail")
    verdict=ok
    if ! awk -v p="$score" -v most="$most" 'BEGIN { exit !(p != "" && p <= most) }'; then
        verdict='too many points'
        sed -n '/^Content analysis/,$p' "$dir/analysis" >&2
    fi
    parse_with_python "$mail" >"$dir/python" || verdict='Python cannot read it'
    parse_with_perl "$mail" >"$dir/perl" || verdict='Perl cannot read it'
    diff "$dir/python" "$dir/perl" >&2 || verdict='the parsers differ'
    grep -q '^https://accounts.example/activate.ashx?token=[A-Za-z0-9_-]\{43\}$' "$dir/python" ||
        verdict='the link has no line of its own'
    printf '%s: %s points, %s\n' "$tag" "$score" "$verdict"
    [ "$verdict" = ok ] || failed=1
done
exit "$failed"
