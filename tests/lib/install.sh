#!/bin/bash
# Installs the Debian packages that are missing: tests/lib/install.sh GROUP...
# Groups: build (what compiling needs), server (the three servers, for private instances),
# client (clients for the examples), mail (the mail server of tests and examples), test (what the
# tests need besides).
#
# Starts no service and leaves none enabled that was not there before; PostgreSQL's usual 'main'
# cluster is not created when the server was not there before.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

BUILD="build-essential cmake pkg-config librabbitmq-dev libpq-dev libhiredis-dev liblua5.4-dev
    libcjson-dev libuv1-dev libcurl4-openssl-dev libmicrohttpd-dev libssl-dev nettle-dev"
SERVER="rabbitmq-server postgresql redis-server openssl"
CLIENT="python3 python3-pika curl"
MAIL="python3-aiosmtpd openssl"
TEST="valgrind libcmocka-dev python3-pytest python3-pytest-xdist python3-psycopg2 python3-redis
    python3-yaml groff-base clang libclang-rt-14-dev $MAIL"
# Tests that need one of these are skipped without it.
TEST_OPTIONAL="pgbouncer"

POLICY=/usr/sbin/policy-rc.d
CLUSTER=/etc/postgresql-common/createcluster.d/leveret-no-main-cluster.conf

wanted_packages() {
    local group
    for group in "$@"; do
        case $group in
            build) echo "$BUILD" ;;
            server) echo "$SERVER" ;;
            client) echo "$CLIENT" ;;
            mail) echo "$MAIL" ;;
            test) echo "$TEST" ;;
            *) lvt_die $EX_USAGE "no package group '$group': build, server, client, mail, test" ;;
        esac
    done
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_packages() {
    local package
    for package in "$@"; do
        is_installed "$package" || echo "$package"
    done
}

# As root only from here on.

restore() {
    rm -f "$LOG"
    if [ -n "${MADE_POLICY:-}" ]; then
        rm -f "$POLICY"
    fi
    if [ -n "${MADE_CLUSTER:-}" ]; then
        rm -f "$CLUSTER"
        rmdir --ignore-fail-on-non-empty "${CLUSTER%/*}" 2>/dev/null
    fi
}

# A policy of ours that outlives us (after a SIGKILL) permits everything, and is replaced here.
forbid_starts() {
    if [ -e "$POLICY" ] && ! grep -qs '^# leveret:' "$POLICY"; then
        return
    fi
    MADE_POLICY=1
    cat >"$POLICY" <<POLICY || return
#!/bin/sh
# leveret: keeps packages from starting services while process $$ installs them; may be deleted
[ -d /proc/$$ ] && exit 101
exit 0
POLICY
    chmod 755 "$POLICY"
}

forbid_main_cluster() {
    if is_installed postgresql-common && ls -d /etc/postgresql/*/* >/dev/null 2>&1; then
        return # somebody uses PostgreSQL here: its packages keep their ways
    fi
    MADE_CLUSTER=1
    mkdir -p "${CLUSTER%/*}" &&
        echo "create_main_cluster = false" >"$CLUSTER"
}

# What will come with the packages and would start with the next boot; erlang-base brings epmd.
note_new_services() {
    local package
    NEW_SERVICES=()
    for package in rabbitmq-server redis-server pgbouncer; do
        is_installed $package || NEW_SERVICES+=("$package")
    done
    is_installed erlang-base || NEW_SERVICES+=(epmd.socket epmd.service)
}

disable_new_services() {
    local service
    for service in "${NEW_SERVICES[@]}"; do
        if command -v systemctl >/dev/null; then
            systemctl --quiet disable "$service" >/dev/null 2>&1
        fi
        if [ -e "/etc/init.d/$service" ]; then
            update-rc.d "$service" disable >/dev/null 2>&1
        fi
    done
}

# apt_install [PACKAGE...]
apt_install() {
    [ $# -gt 0 ] || return 0
    apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends \
        "$@" >"$LOG" 2>&1 8>&-
}

# shellcheck disable=SC2086
install_as_root() {
    local missing optional
    exec 8>/run/lock/leveret-install.lock || return
    flock 8
    trap restore EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # another run may have installed them while this one waited
    missing=$(missing_packages $WANTED)
    optional=$(missing_packages $OPTIONAL)
    [ -n "$missing$optional" ] || return 0
    note_new_services
    forbid_starts && forbid_main_cluster || return
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    lvt_note "waiting for apt-get update ..."
    apt-get -qq -o DPkg::Lock::Timeout=300 update 8>&- || lvt_warn "apt-get update failed; going on"
    lvt_note "waiting for apt-get install (some hundred megabytes on a bare machine) ..."
    apt_install $missing || {
        tail -n 30 "$LOG" >&2
        lvt_die $EX_UNAVAILABLE "apt-get could not install: ${missing//$'\n'/ }"
    }
    apt_install $optional || lvt_warn "its tests are left out: ${optional//$'\n'/ }"
    disable_new_services
}

[ $# -gt 0 ] || lvt_die $EX_USAGE "usage: install.sh build|server|client|mail|test ..."
WANTED=$(wanted_packages "$@") || exit
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    lvt_die $EX_UNAVAILABLE "no apt here; install what these Debian packages hold:" $WANTED
fi
# shellcheck disable=SC2086
MISSING=$(missing_packages $WANTED)
OPTIONAL=
case " $* " in *' test '*) OPTIONAL=$TEST_OPTIONAL ;; esac
# shellcheck disable=SC2086
if [ -z "$MISSING" ] && { [ "$(id -u)" -ne 0 ] || [ -z "$(missing_packages $OPTIONAL)" ]; }; then
    exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
    # shellcheck disable=SC2046,SC2086
    lvt_step "Installing packages that are missing:" $MISSING $(missing_packages $OPTIONAL)
    LOG=$(mktemp) || exit
    install_as_root
    exit
fi
SELF=$LVT_LIB/install.sh
if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
    exec sudo -- "$SELF" "$@"
fi
echo "Packages are missing:" $MISSING
printf 'Only root can install them. Run this as root, then start again:\n\n    %q' "$SELF"
printf ' %q' "$@"
printf '\n\n'
exit $EX_UNAVAILABLE
