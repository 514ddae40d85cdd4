#!/bin/sh
# Two processes under spawn-fcgi, for machines without systemd:
#
#     deploy/spawn-fcgi.sh start | stop | restart
#
# Run as root (for an init script, /etc/rc.local, a cron @reboot line). The sockets are those that
# nginx/real-host.conf names. spawn-fcgi sends stderr to /dev/null: set `log` in config.toml.
set -eu

PROGRAM=${PROGRAM:-/usr/local/bin/codeb-signup}
CODEB_SIGNUP_CONFIG=${CODEB_SIGNUP_CONFIG:-/etc/codeb-signup/config.toml}
SERVICE_USER=${SERVICE_USER:-codeb-signup} # owns the state directories
WEB_GROUP=${WEB_GROUP:-www-data}           # may connect
RUN=${RUN:-/run/codeb-signup}
PROCESSES=${PROCESSES:-"1 2"}
export CODEB_SIGNUP_CONFIG

# Sets `pid` where process $1 runs. A pid file may outlive its process, and the number may be another's
# by now; the program's file may have been replaced since.
running() {
    pid=$(cat "$RUN/$1.pid" 2>/dev/null) || return 1
    path=$(readlink -f "$PROGRAM")
    case $(readlink "/proc/$pid/exe") in
        "$path" | "$path (deleted)") return 0 ;;
        *) return 1 ;;
    esac
}

start() {
    running "$1" && { echo "process $1 runs already" >&2; return; }
    mkdir -p "$RUN"
    spawn-fcgi -s "$RUN/$1.sock" -M 0660 -G "$WEB_GROUP" -u "$SERVICE_USER" -P "$RUN/$1.pid" -- "$PROGRAM" >&2
}

# It answers what it has accepted, for up to 65 s.
stop() {
    running "$1" || return 0
    kill "$pid"
    waited=0
    while running "$1"; do
        sleep 0.2
        waited=$((waited + 1))
        [ "$waited" -lt 400 ] || { echo "process $1 ($pid) does not stop; see its log" >&2; return 1; }
    done
    rm -f "$RUN/$1.pid" "$RUN/$1.sock"
}

# The new process takes the path while the old one still accepts, so that nothing is left waiting in a
# socket that nobody accepts from. The old one then answers what it has, and ends by itself.
restart() {
    running "$1" || { start "$1"; return; }
    old=$pid
    rm -f "$RUN/$1.pid" "$RUN/$1.sock"
    start "$1"
    sleep 1 # for who was just connecting
    kill "$old"
}

case ${1:-} in
    start) for number in $PROCESSES; do start "$number"; done ;;
    stop) for number in $PROCESSES; do stop "$number"; done ;;
    # One after the other: in the instant without a path, nginx asks the other.
    restart) for number in $PROCESSES; do restart "$number"; done ;;
    *) echo "usage: $0 start | stop | restart" >&2; exit 64 ;;
esac
