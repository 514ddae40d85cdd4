#!/usr/bin/env bash
# The whole service on this machine, from one command: nginx on loopback, two responder processes,
# a page to sign up at, and every mail it sends named here. For trying it out, not for a real host.
#
# stdout has only the lines that a program may wait for:
#   ready: http://127.0.0.1:PORT/signup.html
#   mail: FILE LINK                              (one for each mail, until it is stopped)
# Everything else goes to stderr. Ctrl-C or SIGTERM stops what it started, nothing else, and exits 0;
# accounts and mails stay in DIR, and the next run goes on with them.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: deploy/demo.sh [--port N] [--dir DIR] [--realm REALM] [--gateway own|fastcgi-crate]
                      [--profile release|dev] [--set 'KEY = VALUE']...

  --port N        where nginx listens, on 127.0.0.1 (8080)
  --dir DIR       where accounts, mails and logs are kept (target/demo)
  --realm REALM   the realm of new accounts (localhost); HA1s of another realm do not fit it
  --gateway NAME  which FastCGI responder serves (own)
  --profile NAME  cargo's profile (release)
  --set LINE      one more line of the tenant's configuration, as deploy/config.toml has them; the
                  demo itself sets resend = true and a site_name

example: deploy/demo.sh --port 8081 --dir /tmp/demo
TEXT
}

say() { printf 'demo: %s\n' "$*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=8080 dir=$repo/target/demo realm=localhost gateway=own profile=release
settings=('resend = true' 'site_name = "Example Users"')
while (($#)); do
    case $1 in
        --port | --dir | --realm | --gateway | --profile)
            (($# >= 2)) || die 64 "$1 needs a value (see --help)"
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        --port=* | --dir=* | --realm=* | --gateway=* | --profile=*)
            name=${1%%=*}
            printf -v "${name#--}" '%s' "${1#*=}"
            shift
            ;;
        --set)
            (($# >= 2)) || die 64 "--set needs a value (see --help)"
            [[ $2 =~ ^[a-z_]+\ *=\ *[^$'\n']+$ ]] || die 64 "--set '$2' is not KEY = VALUE"
            # What is set again counts; TOML has a key once.
            for index in "${!settings[@]}"; do
                [[ ${settings[index]%%[ =]*} != "${2%%[ =]*}" ]] || unset "settings[index]"
            done
            settings+=("$2")
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        *) die 64 "there is no option '$1' (see --help)" ;;
    esac
done
[[ $port =~ ^[1-9][0-9]{0,4}$ ]] && ((port <= 65535)) || die 64 "--port $port is not a port; take one from 1024 to 65535"
[[ -n $dir && $dir != *[$'\n"\\']* ]] || die 64 "--dir must not be empty nor hold a quote, a backslash or a line break"
[[ $realm != *[$'\n"\\:']* ]] || die 64 "--realm must not hold a colon, a quote, a backslash or a line break"

# --- start and stop ------------------------------------------------------------------------------

children=()
stop() {
    local child
    trap '' INT TERM
    ((${#children[@]})) || return 0
    say "stopping (accounts and mails stay in $dir)"
    for child in "${children[@]}"; do kill -- "-$child" 2>/dev/null || true; done
    wait "${children[@]}" 2>/dev/null || true
    rm -f run/{1,2,nginx,demo}.pid run/{1,2}.sock
    children=()
}
trap stop EXIT
trap 'exit 0' INT TERM

# Starts a child in a process group of its own, so that Ctrl-C reaches this script alone, which then
# stops its children. They do not inherit the lock (descriptor 9).
spawn() {
    set -m
    "$@" </dev/null 9>&- &
    set +m
    children+=("$!")
}

# A service: its output in log/NAME.log, its process id in run/NAME.pid.
start() {
    local name=$1
    shift
    spawn "$@" >>"log/$name.log" 2>&1
    echo "${children[-1]}" >"run/$name.pid"
}

# --- what must be here ---------------------------------------------------------------------------

command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null || die 69 "cargo is missing: install Rust from https://rustup.rs, then run this again"

install_nginx() {
    local manager policy=/usr/sbin/policy-rc.d
    local -a install=()
    for manager in apt-get dnf yum apk pacman zypper; do
        command -v "$manager" >/dev/null || continue
        case $manager in
            apk) install=(apk add nginx) ;;
            pacman) install=(pacman -S --noconfirm --needed nginx) ;;
            zypper) install=(zypper --non-interactive install nginx) ;;
            *) install=("$manager" -y install nginx) ;;
        esac
        break
    done
    ((${#install[@]})) || die 69 "nginx is missing: install it with this system's package manager, then run this again"
    ((EUID == 0)) || die 69 "nginx is missing: install it with \`sudo ${install[*]}\`, then run this again"
    say "nginx is missing; installing it: ${install[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if [[ $manager == apt-get ]]; then
        apt-get update >&2 || true
        # Debian would start a server of its own on port 80; the demo needs the program alone.
        if [[ -e $policy ]]; then
            policy=
        else
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
    else
        policy=
    fi
    local failed=
    "${install[@]}" >&2 || failed=yes
    [[ -z $policy ]] || rm -f "$policy"
    [[ -z $failed ]] || die 69 "nginx could not be installed (see above): install it by hand, then run this again"
}
PATH=$PATH:/usr/sbin:/usr/local/sbin:/sbin
command -v nginx >/dev/null || install_nginx

# Anything that answers on the port, before minutes are spent on building.
port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# --- the directory -------------------------------------------------------------------------------

mkdir -p "$dir" || die 73 "cannot make $dir: see above; choose another with --dir"
dir=$(cd "$dir" && pwd)
owner=$(stat -c %u "$dir") group=$(stat -c %g "$dir")
as_owner=()
if ((EUID == 0 && owner != 0)); then
    as_owner=(setpriv --reuid "$owner" --regid "$group" --clear-groups)
elif ((EUID != owner)); then
    die 77 "$dir belongs to another user: run this as its owner, or choose another with --dir"
fi
mkdir -p "$dir"/{bin,html,nginx,log,run,state,pickup} 2>/dev/null || die 73 "cannot write in $dir: choose another with --dir"
cd "$dir"

# One demo a directory. Services close descriptor 9, so the lock goes with this script (and with the
# short sleep that it may be in when it is killed).
exec 9>>run/lock
flock -w 2 9 || die 75 "a demo is running in $dir already (process $(cat run/demo.pid 2>/dev/null || echo unknown)): stop it, or choose another with --dir"
echo $$ >run/demo.pid

# What a killed demo left running in this very directory, known by its pid file and its place.
for left in nginx 1 2; do
    pid=$(cat "run/$left.pid" 2>/dev/null) || continue
    if [[ $pid =~ ^[0-9]+$ && $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$dir" ]] \
        && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qE 'codeb-signup serve|nginx'; then
        say "stopping process $pid, left over from a demo in $dir that was killed"
        kill "$pid" 2>/dev/null || true
        for _ in {1..300}; do [[ -e /proc/$pid ]] || break; sleep 0.1; done
    fi
    rm -f "run/$left.pid"
done
rm -f run/1.sock run/2.sock

if port_is_open; then
    die 75 "port $port is taken by another program: stop that, or choose another port, e.g. --port $((port < 65535 ? port + 1 : port - 1))"
fi

say "building codeb-signup (profile $profile; the first time takes a few minutes)"
spawn cargo build --manifest-path "$repo/Cargo.toml" --locked --profile "$profile" --bin codeb-signup >&2
if ! wait "${children[0]}"; then
    command -v cc >/dev/null || say "Rust links with cc, which is missing: install a C compiler (on Debian: gcc and libc6-dev)"
    die 70 "the build failed (see above)"
fi
children=()
target=$(cargo metadata --manifest-path "$repo/Cargo.toml" --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
cp "$target/${profile/#dev/debug}/codeb-signup" bin/codeb-signup.new
mv -f bin/codeb-signup.new bin/codeb-signup

# The demo's own files are written anew at each start; state/ and pickup/ are never touched.
cp "$repo"/nginx/{signup,log}.conf nginx/
user_line=
((EUID == 0)) && user_line="user $(id -nu "$owner") $(stat -c %G .);"
sed -e "s/@PORT@/$port/" -e "s/^@USER@\$/$user_line/" "$repo/nginx/demo.conf.in" >nginx.conf
cat >config.toml <<TOML
# Written by deploy/demo.sh; written anew at each start.
gateway = "$gateway"

[tenant."localhost"]
aliases = ["127.0.0.1"]
realm = "$realm"
base_url = "http://127.0.0.1:$port"
state = "$dir/state"
pickup = "$dir/pickup"
mail_from = "noreply@localhost.localdomain"
html = "$repo/nginx/html"
$(printf '%s\n' "${settings[@]}")
TOML
bin/codeb-signup pages --config config.toml --to html || die 70 "the pages could not be written (see above)"
if ((${#as_owner[@]})); then
    chown -R "$owner:$group" bin html nginx nginx.conf config.toml log run
    chown "$owner:$group" state pickup
fi
chmod 700 state

# --- start ---------------------------------------------------------------------------------------

# The sockets are named relative to DIR: a whole path may be longer than the 107 bytes that it can have.
for number in 1 2; do
    start "$number" "${as_owner[@]}" bin/codeb-signup serve --config config.toml --listen "unix:run/$number.sock"
done

early_log=()
nginx -h 2>&1 | grep -q -- '-e filename' && early_log=(-e log/nginx-error.log)
start nginx nginx -p "$dir/" -c "$dir/nginx.conf" "${early_log[@]}"

all_alive() {
    local index names=(1 2 nginx)
    for index in 0 1 2; do
        kill -0 "${children[index]}" 2>/dev/null && continue
        tail -n 5 "log/${names[index]}.log" log/nginx-error.log 2>/dev/null >&2 || true
        die 70 "${names[index]/#[12]/a responder process} ended by itself; its last lines are above (all in $dir/log)"
    done
}

# The status of one GET, with nothing but bash.
status_of() {
    local line
    {
        exec 3<>"/dev/tcp/127.0.0.1/$port" || return 0
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$1" >&3
        read -r -t 5 line <&3 || line=
        exec 3>&-
    } 2>/dev/null
    line=${line#* }
    echo "${line:0:3}"
}

# Only mails that come from now on are told.
declare -A told
shopt -s nullglob
for file in pickup/*.eml; do told[$file]=1; done

for attempt in {1..300}; do
    all_alive
    # 503: a tenant that is closed.
    [[ $(status_of /signup.html) == 200 && $(status_of /captcha.ashx) =~ ^(200|503)$ ]] && break
    ((attempt < 300)) || die 70 "no sign-up page and captcha after 30 seconds; see $dir/log"
    sleep 0.1
done
echo "ready: http://127.0.0.1:$port/signup.html"
say "open that page; the mails appear here. Ctrl-C stops."

# --- the mails -----------------------------------------------------------------------------------

# The activation link in the text part of a mail: unfolds quoted-printable (RFC 2045 §6.7), and
# base64 where a mail is mostly outside ASCII.
link_in() {
    local encoding
    encoding=$(text_part head "$1")
    text_part body "$1" | case $encoding in
        quoted-printable) decode_quoted_printable ;;
        base64) base64 -d ;;
        *) cat ;;
    esac | grep -oiE 'https?://[^[:space:]<>"]*/activate\.ashx\?token=[A-Za-z0-9_-]{43}' | head -n 1
}

# `head`: the transfer encoding of the first text/plain part; `body`: its lines.
text_part() {
    tr -d '\r' <"$2" | awk -v want="$1" '
        in_part && boundary != "" && index($0, "--" boundary) == 1 { exit }
        in_part { if (want == "body") print; next }
        /^[ \t]/ { field = field $0 }
        !/^[ \t]/ { field = $0 }
        tolower(field) ~ /^content-type:[ \t]*multipart\// && match(field, /boundary="?[^";]+/) {
            boundary = substr(field, RSTART, RLENGTH); sub(/boundary="?/, "", boundary)
        }
        tolower(field) ~ /^content-type:[ \t]*text\/plain/ { plain = 1 }
        tolower(field) ~ /^content-transfer-encoding:/ {
            encoding = tolower(field); sub(/^[^:]*:[ \t]*/, "", encoding)
        }
        $0 == "" {
            if (plain) { in_part = 1; if (want == "head") { print encoding; exit } }
            encoding = ""
        }'
}

decode_quoted_printable() {
    awk '
        BEGIN { for (i = 33; i < 127; i++) code[sprintf("%02X", i)] = sprintf("%c", i) }
        {
            soft = sub(/=[ \t]*$/, ""); line = ""
            while (match($0, /=[0-9A-Fa-f][0-9A-Fa-f]/)) {
                byte = toupper(substr($0, RSTART + 1, 2))
                line = line substr($0, 1, RSTART - 1) (byte in code ? code[byte] : "?")
                $0 = substr($0, RSTART + 3)
            }
            printf "%s%s%s", line, $0, soft ? "" : "\n"
        }'
}

# Whoever tries the form a fourth time is refused, and the page cannot say what to do: the demo can.
declare -A read_to=()
limit_told=
for log in log/{1,2}.log; do read_to[$log]=$(wc -c <"$log"); done
watch_limit() {
    local log size
    for log in "${!read_to[@]}"; do
        size=$(wc -c <"$log")
        if [[ $(tail -c "+$((read_to[$log] + 1))" "$log" | head -c $((size - read_to[$log]))) == *outcome=rate_limited* ]]; then
            say "a sign-up was refused: its address has made all the accounts it may in an hour; for more, start the demo with --set 'signups_per_hour = 100'"
            limit_told=yes
            return
        fi
        read_to[$log]=$size
    done
}

while :; do
    [[ -n $limit_told ]] || watch_limit
    for file in pickup/*.eml; do
        [[ -z ${told[$file]:-} ]] || continue
        told[$file]=1
        echo "mail: $dir/$file $(link_in "$file" || true)"
    done
    all_alive
    sleep 0.2
done
