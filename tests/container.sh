#!/bin/bash
# Builds the Dockerfile with buildah, which needs no daemon, and runs the image against servers of
# its own: it starts, is not root, handles an event, answers its health check, and stops in order.
# Skipped, with a line that says so, where buildah is absent or may not work.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

skip() {
    echo "container test skipped: $*"
    exit 0
}

command -v buildah >/dev/null || skip "buildah is not installed"
[ "$(id -u)" -eq 0 ] || skip "it needs root (chroot isolation, and debootstrap for the base image)"

STORE=$LVT_ROOT/build/container
BASE=debian:bookworm-slim
IMAGE=localhost/leveret:test

bah() { buildah --root "$STORE/root" --runroot "$STORE/run" --storage-driver vfs "$@" 7>&- 8>&-; }

fail() {
    lvt_warn "$1"
    if [ -f "${LVT_SLOT:-}/container.log" ]; then
        tail -n 30 "$LVT_SLOT/container.log" | sed 's/^/    | /' >&2
    fi
    exit 1
}

finish() {
    trap '' INT TERM
    stop_container
    [ -z "${CONTAINER:-}" ] || bah rm "$CONTAINER" >/dev/null
    [ -z "${SCRATCH:-}" ] || rm -rf "$SCRATCH"
    [ -z "${LVT_SLOT:-}" ] || "$LVT_ROOT/tests/services.sh" stop "$LVT_SLOT/services" 7>&- 8>&-
}

# Where no registry can be reached, the base image is what debootstrap makes of the same release.
make_base_image() {
    local container
    if bah inspect --type image "$BASE" >/dev/null 2>&1; then return; fi
    lvt_note "waiting for the base image $BASE ..."
    if timeout 120 buildah --root "$STORE/root" --runroot "$STORE/run" --storage-driver vfs \
        pull -q "docker.io/library/$BASE" >"$STORE/pull.log" 2>&1 7>&- 8>&-; then
        return
    fi
    command -v debootstrap >/dev/null ||
        skip "$BASE cannot be pulled, and debootstrap is not installed to make it"
    lvt_note "it cannot be pulled; waiting for debootstrap to make it ..."
    SCRATCH=$(mktemp -d "$STORE/debootstrap.XXXXXX") || return
    debootstrap --variant=minbase bookworm "$SCRATCH" >"$STORE/debootstrap.log" 2>&1 || {
        tail -n 5 "$STORE/debootstrap.log" >&2
        return 1
    }
    rm -rf "$SCRATCH"/var/cache/apt/archives/*.deb
    container=$(bah from scratch) && bah add -q "$container" "$SCRATCH" / >/dev/null &&
        bah commit -q "$container" "docker.io/library/$BASE" >/dev/null &&
        bah rm "$container" >/dev/null
    local code=$?
    rm -rf "$SCRATCH"
    SCRATCH=
    return $code
}

build_image() {
    lvt_note "waiting for the build ..."
    bah bud -q --pull-never --isolation chroot --format docker -t "$IMAGE" "$LVT_ROOT" \
        >"$STORE/build.log" 2>&1 || {
        tail -n 30 "$STORE/build.log" >&2
        return 1
    }
    bah rmi --prune >/dev/null # the image of the build before, which has lost its name to this one
}

# image_setting NAME: what the image's configuration says, a line for each item of a list.
image_setting() {
    bah inspect --type image "$IMAGE" | /usr/bin/python3 -c 'import json, sys
config = json.load(sys.stdin)["Docker"]["config"]
value = {
    "user": lambda: [config["User"]],
    "command": lambda: config["Entrypoint"] + config["Cmd"],
    "program": lambda: config["Entrypoint"],
    "health": lambda: config["Healthcheck"]["Test"][1:],
}[sys.argv[1]]()
print("\n".join(value))' "$1"
}

# inside COMMAND...: as buildah runs it, with the host's network and the image's user and variables.
inside() {
    bah run --isolation chroot -v "$LVT_ROOT/handlers/opsdesk:/handlers:ro" \
        --env RABBITMQ_URL="$RABBITMQ_URL" --env DATABASE_URL="$DATABASE_URL" \
        --env REDIS_URL="$REDIS_URL" --env LEVERET_ADMIN_LISTEN="127.0.0.1:$PORT" \
        --env LEVERET_RABBITMQ_EXCHANGE=opsdesk.events \
        "$CONTAINER" -- "$@"
}

# confined COMMAND...: with a root file system that cannot be written, without capabilities, and
# without a way to any; buildah's isolation has no such choice.
confined() {
    local root
    root=$(bah mount "$CONTAINER") || return
    # shellcheck disable=SC2016
    exec env -i PATH=/usr/local/bin:/usr/bin:/bin RABBITMQ_URL="$RABBITMQ_URL" \
        DATABASE_URL="$DATABASE_URL" REDIS_URL="$REDIS_URL" \
        LEVERET_ADMIN_LISTEN="127.0.0.1:$PORT" LEVERET_RABBITMQ_EXCHANGE=opsdesk.events \
        unshare --mount --propagation private bash -c '
            root=$1 handlers=$2
            shift 2
            mount --bind "$root" "$root" && mount --bind "$handlers" "$root/handlers" &&
                mount -o remount,bind,ro "$root/handlers" && mount -o remount,bind,ro "$root" &&
                exec chroot "$root" setpriv --reuid=10001 --regid=10001 --clear-groups \
                    --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
        ' bash "$root" "$LVT_ROOT/handlers/opsdesk" "$@" 7>&- 8>&-
}

worker_pid() {
    local pid
    while read -r pid _; do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = leveret ]; then
            echo "$pid"
            return 0 # by itself it would give the status from before the trap, when finish calls
        fi
    done < <(lvt_proc_tree "$RUNNER")
    return 1
}

stop_container() {
    local pid
    [ -n "${RUNNER:-}" ] || return 0
    pid=$(worker_pid) && kill -s TERM "$pid"
    wait "$RUNNER"
    local code=$?
    RUNNER=
    return $code
}

healthy_or_ended() { inside "${HEALTH[@]}" >/dev/null 2>&1 || ! kill -0 "$RUNNER" 2>/dev/null; }

page() { # page PATH
    /usr/bin/python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "http://127.0.0.1:$PORT$1" \
        2>/dev/null
}

ready() { page /readyz >/dev/null; }

one_processed() { page /metrics.json | grep -q '"processed": *1\b'; }

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -p "$STORE" || exit
exec 8>>"$STORE.lock"
flock -n 8 || { lvt_note "waiting for another run's container test ..." && flock 8; }
lvt_step "Building the image"
make_base_image || fail "no base image"
build_image || fail "the image does not build"

lvt_step "Starting servers for it"
lvt_claim_slot "$LVT_ROOT/build/run/container" 8>&- || exit
"$LVT_ROOT/tests/services.sh" start "$LVT_SLOT/services" 7>&- 8>&- || exit
eval "$("$LVT_ROOT/tests/services.sh" env "$LVT_SLOT/services" 7>&- 8>&-)"
PORT=$(lvt_free_ports 1)
CONTAINER=$(bah from --pull-never "$IMAGE") || fail "no container from the image"
mapfile -t COMMAND < <(image_setting command)
mapfile -t PROGRAM < <(image_setting program)
mapfile -t HEALTH < <(image_setting health)

lvt_step "Running it"
: >"$LVT_SLOT/container.log"
inside "${PROGRAM[@]}" migrate -c /etc/leveret/leveret.lua >>"$LVT_SLOT/container.log" 2>&1 ||
    fail "migrate failed in the container"
inside "${COMMAND[@]}" >>"$LVT_SLOT/container.log" 2>&1 </dev/null &
RUNNER=$!
lvt_wait 60 "the container's health check" healthy_or_ended && inside "${HEALTH[@]}" ||
    fail "the container does not become healthy"
page /livez >/dev/null || fail "/livez does not answer with 200"

PID=$(worker_pid) || fail "no process of leveret under the container"
OWNER=$(awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$PID/status")
[ "$OWNER" = "10001 10001 10001" ] || fail "it runs as user $OWNER instead of 10001"
[[ $(image_setting user) =~ ^[1-9][0-9]*: ]] || fail "the image's user is no number other than 0"

lvt_wait 30 "the worker to be ready" ready || fail "/readyz does not answer with 200"
"$LVT_ROOT/examples/publish.py" ticket.created '{"id": "t-1", "ownerId": "u-1"}' ||
    fail "could not publish"
lvt_wait 30 "the event to be handled" one_processed || fail "the event was not handled"
stop_container || fail "it did not end with 0 on SIGTERM"

lvt_step "Running it without a place to write"
if (confined true) 2>/dev/null; then
    (confined sh -c '! touch /x 2>/dev/null && ! touch /tmp/x 2>/dev/null') ||
        fail "the root file system can be written"
    (confined "${COMMAND[@]}") >>"$LVT_SLOT/container.log" 2>&1 </dev/null &
    RUNNER=$!
    lvt_wait 30 "the worker to be ready" ready || fail "it does not become ready"
    "$LVT_ROOT/examples/publish.py" ticket.created '{"id": "t-2", "ownerId": "u-1"}' ||
        fail "could not publish"
    lvt_wait 30 "the event to be handled" one_processed || fail "the event was not handled"
    stop_container || fail "it did not end with 0 on SIGTERM"
else
    lvt_note "skipped: no mount namespace can be made here"
fi
lvt_step "The container starts, is not root, is healthy, handles events and stops in order"
