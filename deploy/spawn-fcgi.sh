#!/bin/sh
# Two processes under spawn-fcgi, for machines without systemd:
#
#     deploy/spawn-fcgi.sh start | stop | restart
#
# Run as root (for an init script, /etc/rc.local, a cron @reboot line). The sockets are those that
# nginx/real-host.conf names. What the processes say on stderr is appended to $LOG; with `log` in
# config.toml their events go there instead, and $LOG gets what is said before that file is open. Let
# logrotate use `copytruncate`.
set -eu

PROGRAM=${PROGRAM:-/usr/local/bin/codeb-signup}
CODEB_SIGNUP_CONFIG=${CODEB_SIGNUP_CONFIG:-/etc/codeb-signup/config.toml}
SERVICE_USER=${SERVICE_USER:-codeb-signup} # owns the state directories
WEB_GROUP=${WEB_GROUP:-www-data}           # may connect
RUN=${RUN:-/run/codeb-signup}
LOG=${LOG:-/var/log/codeb-signup.log}
PROCESSES=${PROCESSES:-"1 2"}
export CODEB_SIGNUP_CONFIG

say() { echo "spawn-fcgi.sh: $*" >&2; }

# Refuses a configuration that a process would not start with; sets `events` to the file that gets the
# program's events.
check() {
    in_effect=$("$PROGRAM" check) || {
        code=$?
        say "$CODEB_SIGNUP_CONFIG cannot be used (see above); nothing was started or stopped"
        exit "$code"
    }
    events=$(echo "$in_effect" | sed -n 's/^log = "\(.*\)"$/\1/p')
    [ "$events" != stderr ] || events=$LOG
    mkdir -p "$RUN"
    [ -e "$LOG" ] || install -m 0640 -o "$SERVICE_USER" /dev/null "$LOG"
}

# Sets `pid` where the process of pid file $1 runs. A pid file may outlive its process, and the number
# may be another's by now; the program's file may have been replaced since.
running() {
    pid=$(cat "$1" 2>/dev/null) || return 1
    path=$(readlink -f "$PROGRAM")
    case $(readlink "/proc/$pid/exe") in
        "$path" | "$path (deleted)") return 0 ;;
        *) return 1 ;;
    esac
}

# Starts process $1 on the socket $2 with the pid file $3, and waits until it serves. spawn-fcgi makes
# its child's stderr /dev/null, so the shell that becomes the program opens the log.
spawn() {
    said=$(wc -c <"$LOG")
    known=$(cat "$events" 2>/dev/null | wc -c)
    # shellcheck disable=SC2016 # for the inner shell
    spawn-fcgi -s "$2" -M 0660 -G "$WEB_GROUP" -u "$SERVICE_USER" -P "$3" -- \
        /bin/sh -c 'exec "$0" 2>>"$1"' "$PROGRAM" "$LOG" >&2 || true
    waited=0
    while [ "$waited" -lt 600 ] && pid=$(cat "$3" 2>/dev/null) && readlink "/proc/$pid/exe" >/dev/null; do
        tail -c "+$((known + 1))" "$events" 2>/dev/null | grep -q "event=start .*pid=$pid\$" && return 0
        sleep 0.1
        waited=$((waited + 1))
    done
    say "process $1 does not start; what it said, from $LOG, which $SERVICE_USER must be able to write:"
    tail -c "+$((said + 1))" "$LOG" | tail -n 5 >&2
    [ ! -e "$3" ] || kill "$(cat "$3")" 2>/dev/null || true
    rm -f "$2" "$3"
    return 1
}

start() {
    running "$RUN/$1.pid" && { say "process $1 runs already"; return; }
    spawn "$1" "$RUN/$1.sock" "$RUN/$1.pid"
}

# It answers what it has accepted, for up to 65 s.
stop() {
    running "$RUN/$1.pid" || return 0
    kill "$pid"
    waited=0
    while running "$RUN/$1.pid"; do
        sleep 0.2
        waited=$((waited + 1))
        [ "$waited" -lt 400 ] || { say "process $1 ($pid) does not stop; see $LOG"; return 1; }
    done
    rm -f "$RUN/$1.pid" "$RUN/$1.sock"
}

# The new process is up before it takes the socket's path, so that nothing of the old one is touched
# where the new one does not start. The old one then answers what it has, and ends by itself.
restart() {
    running "$RUN/$1.pid" || { start "$1"; return; }
    old=$pid
    spawn "$1" "$RUN/$1.sock.new" "$RUN/$1.pid.new" \
        || { say "process $1 ($old) goes on as it was"; return 1; }
    mv -f "$RUN/$1.sock.new" "$RUN/$1.sock"
    mv -f "$RUN/$1.pid.new" "$RUN/$1.pid"
    sleep 1 # for who was just connecting
    kill "$old"
}

case ${1:-} in
    start) check; for number in $PROCESSES; do start "$number"; done ;;
    stop) for number in $PROCESSES; do stop "$number"; done ;;
    restart) check; for number in $PROCESSES; do restart "$number"; done ;;
    *) echo "usage: $0 start | stop | restart" >&2; exit 64 ;;
esac
