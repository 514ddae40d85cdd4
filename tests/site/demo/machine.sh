#!/usr/bin/env bash
# tests/site/demo/flow.sh in a copy of this machine that is thrown away:
#
#     unshare --mount --pid --fork --kill-child tests/site/demo/machine.sh HOW SCRATCH PORT
#
# HOW is `user` (an ordinary user who was just added; nginx is there) or `root` (nginx is not; root
# lets the demo install it, after the user was told to). SCRATCH is an empty directory.
#
# The copy is an overlay: what is written goes to memory, and everything is gone with the mounts and
# processes of this namespace. Packages really go and come, which needs the distribution's mirror; the
# machine itself keeps its nginx. The network is the machine's, hence PORT.
set -euo pipefail
how=$1 scratch=$2 port=$3
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
# Where cargo built the tests.
target=${CARGO_TARGET_DIR:-$repo/target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# --- the copy ------------------------------------------------------------------------------------

# In memory: an overlay (of a container) cannot be written to by another one.
mount -t tmpfs -o mode=755 tmpfs "$scratch"
overlay() { # lower directory, name, place
    mkdir -p "$scratch/$2"/{upper,work} "$3"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$scratch/$2/upper,workdir=$scratch/$2/work" "$3"
}
readonly_bind() {
    mkdir -p "$2"
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
machine=$scratch/machine
overlay / root "$machine"
mount -t proc proc "$machine/proc"
mount --rbind /dev "$machine/dev"
# No socket in there leads to this machine's service manager.
mount -t tmpfs -o mode=755 tmpfs "$machine/run"
[[ ! -e /etc/resolv.conf ]] || {
    rm -f "$machine/etc/resolv.conf"
    cat /etc/resolv.conf >"$machine/etc/resolv.conf"
}

# root's toolchain lies where others may not look, so it appears in a place of its own; so do the crates
# that are downloaded already, in the home directory.
readonly_bind "$(rustc --print sysroot)" "$machine/opt/rust"
visitor=codeb-visitor
chroot "$machine" useradd --create-home --home-dir "/home/$visitor" "$visitor"
as() { # user, home, command…
    local user=$1 home=$2
    shift 2
    chroot "$machine" setpriv --reuid "$user" --regid "$user" --init-groups \
        env -i HOME="$home" PATH=/opt/rust/bin:/usr/local/bin:/usr/bin:/bin \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        no_proxy=127.0.0.1 "$@"
}
as_visitor() { as "$visitor" "/home/$visitor" "$@"; }
as_root() { as root /root "$@"; }

# A clone has what is committed, and nothing else.
clone=/srv/empty/codeb-signup
mkdir "$machine/srv/empty"
git clone --quiet "$repo" "$machine$clone"

# --- the two ways --------------------------------------------------------------------------------

if [[ $how == user ]]; then
    as_visitor mkdir "/home/$visitor/.cargo"
    readonly_bind "$cargo_home/registry" "$machine/home/$visitor/.cargo/registry"
    chroot "$machine" chown -R "$visitor:" /srv/empty
    # Nothing is built yet, so every crate is.
    as_visitor "$clone/tests/site/demo/flow.sh" "$port"
    exit
fi

chroot "$machine" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge nginx-common >"$scratch/purge" 2>&1 \
    || { cat "$scratch/purge" >&2; exit 1; }
[[ ! -e $machine/usr/sbin/nginx ]] || { echo 'machine: nginx is there, but not from a package' >&2; exit 1; }

# Whoever may not install it is told what to do, in one line.
said=$(as_visitor "$clone/deploy/demo.sh" --port "$port" 2>&1) && code=0 || code=$?
[[ $code == 69 && $said == 'demo: nginx is missing: install it with `sudo apt-get -y install nginx`, then run this again' ]] \
    || { printf 'machine: without nginx a user got %s: %s\n' "$code" "$said" >&2; exit 1; }

# The crates that the tests were built with spare this one the time; the clone itself is compiled.
mkdir -p "$target/debug" "$machine/root/.cargo/registry"
readonly_bind "$cargo_home/registry" "$machine/root/.cargo/registry"
overlay "$target/debug" target "$machine$clone/target/debug"
rm -f "$machine/usr/sbin/policy-rc.d"
as_root "$clone/tests/site/demo/flow.sh" "$port" || {
    [[ -e $machine/usr/sbin/nginx ]] || echo 'machine: nginx was not installed; is the package mirror within reach?' >&2
    exit 1
}

# Debian would have started one of its own; and what kept it from that is gone.
[[ ! -e $machine/usr/sbin/policy-rc.d ]] || { echo 'machine: policy-rc.d was left' >&2; exit 1; }
! grep -sxq nginx "$machine"/proc/[0-9]*/comm || { echo 'machine: an nginx is left running' >&2; exit 1; }
