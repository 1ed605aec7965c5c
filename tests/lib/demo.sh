# shellcheck shell=bash
# Functions shared by the scripts in examples that run a worker on servers of their own.
# Source it after common.sh. It keeps the slot's folder in LVT_SLOT, and there the program LEVERET,
# its configuration, its log and its process id WORKER; ADMIN is where its pages are.

# demo_arguments ARGUMENT...: sets ONCE when --once is given.
demo_arguments() {
    case "$#:${1:-}" in
        0:) ONCE= ;;
        1:--once) ONCE=1 ;;
        *) lvt_die $EX_USAGE "usage: examples/${0##*/} [--once]" ;;
    esac
}

# demo_begin NAME TARGETS PACKAGE-GROUP...: installs what is missing, builds, and starts the servers.
# From here on, whatever way the script ends, all is stopped.
demo_begin() {
    local name=$1 targets=$2
    shift 2
    trap demo_finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$LVT_LIB/install.sh" build server client "$@" || exit
    BUILD=$LVT_ROOT/build/quickstart
    lvt_step "Building leveret"
    lvt_build "$BUILD" "$targets" -DCMAKE_BUILD_TYPE=Release -DLEVERET_TESTS=OFF || exit
    lvt_step "Starting a private RabbitMQ, PostgreSQL and Redis"
    lvt_claim_slot "$LVT_ROOT/build/run/$name" || exit
    "$LVT_ROOT/tests/services.sh" start "$LVT_SLOT/services" 7>&- || exit
    eval "$("$LVT_ROOT/tests/services.sh" env "$LVT_SLOT/services" 7>&-)"
    mkdir -p "$LVT_SLOT/handlers"
    LEVERET=$LVT_SLOT/leveret
    demo_copy leveret "$LEVERET"
    ADMIN=127.0.0.1:$(lvt_free_ports 1)
}

# demo_copy FILE TO: out of the build's folder; another run's build must not replace what runs here.
demo_copy() { flock "$BUILD.lock" cp -f "$BUILD/$1" "$2" || exit; }

demo_migrate() {
    lvt_step "Creating the worker's tables"
    "$LEVERET" migrate -c "$LVT_SLOT/leveret.lua" 7>&- 2>&1 | sed 's/^/    /' || exit
}

# Ends what the script started, in the order in which it depends on each other.
demo_finish() {
    trap '' INT TERM
    if [ -n "${WORKER:-}" ] && kill -0 "$WORKER" 2>/dev/null; then
        lvt_step "Stopping the worker (it finishes what it has in hand first)"
        [ -n "${FOLLOWER:-}" ] || demo_follow 0
        sleep 0.2 # until tail is there
        kill -s TERM "$WORKER" 2>/dev/null
        wait "$WORKER"
    fi
    demo_unfollow
    if [ -n "${LVT_SLOT:-}" ]; then
        lvt_step "Stopping RabbitMQ, PostgreSQL and Redis"
        "$LVT_ROOT/tests/services.sh" stop "$LVT_SLOT/services" 7>&-
        lvt_note "The logs stay in $LVT_SLOT"
    fi
}

demo_give_up() {
    lvt_warn "$1; the end of $LVT_SLOT/worker.log:"
    tail -n 20 "$LVT_SLOT/worker.log" | sed 's/^/    | /' >&2
    exit 1
}

demo_page() { # demo_page PATH: prints the page, fails unless its status is 200
    /usr/bin/python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' \
        "http://$ADMIN$1" 2>/dev/null
}

# The worker's lines go to a file; this shows them while they come, from line FIRST on ("+1" is the
# first of all, "0" the next that comes).
demo_follow() { # demo_follow FIRST
    tail --pid=$$ -n "$1" -F "$LVT_SLOT/worker.log" 2>/dev/null 7>&- \
        > >(sed -u "s/^/    ${LVT_DIM}worker |${LVT_PLAIN} /" 7>&-) &
    FOLLOWER=$!
}

demo_unfollow() {
    [ -n "${FOLLOWER:-}" ] || return 0
    sleep 0.5 # for the last lines to get through
    kill "$FOLLOWER" 2>/dev/null
    FOLLOWER=
}

demo_start_worker() {
    : >"$LVT_SLOT/worker.log"
    # In a session of its own, where Ctrl-C does not reach it: the script stops it, once.
    setsid "$LEVERET" run -c "$LVT_SLOT/leveret.lua" </dev/null >>"$LVT_SLOT/worker.log" 2>&1 7>&- &
    WORKER=$!
    lvt_wait 60 "the worker to be ready" demo_ready_or_ended && kill -0 "$WORKER" 2>/dev/null ||
        demo_give_up "the worker did not become ready"
}

demo_ready_or_ended() { demo_page /readyz >/dev/null || ! kill -0 "$WORKER" 2>/dev/null; }

# demo_counters_are PROCESSED DUPLICATES RETRIED FAILED
demo_counters_are() {
    demo_page /metrics.json | /usr/bin/python3 -c 'import json, sys
counters = json.load(sys.stdin)
names = ("processed", "duplicates", "retried", "failed")
sys.exit([counters[name] for name in names] != [int(value) for value in sys.argv[1:]])' "$@" \
        2>/dev/null
}

demo_show_counters() {
    lvt_step "The counters, from http://$ADMIN/metrics.json"
    demo_page /metrics.json | /usr/bin/python3 -m json.tool | sed 's/^/    /'
}

demo_show_rows() { # demo_show_rows SQL
    psql -X "$DATABASE_URL" -P border=2 -c "$1" | sed 's/^/    /'
}

# Reads without taking: what is not acknowledged goes back to the queue when the connection closes.
demo_show_dead_letter() { # demo_show_dead_letter QUEUE
    lvt_step "The dead letter, in $1"
    /usr/bin/python3 - "$1" <<'PY' | sed 's/^/    /'
import os, sys, pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
channel = connection.channel()
method, properties, body = channel.basic_get(sys.argv[1])
if method is None:
    raise SystemExit(sys.argv[1] + " is empty")
print("message_id:", properties.message_id)
for name, value in sorted((properties.headers or {}).items()):
    lines = str(value).splitlines() or [""]
    print(f"{name}: {lines[0]}", *lines[1:], sep="\n    ")
print("body:", body.decode())
channel.basic_nack(method.delivery_tag, requeue=True)
connection.close()
PY
}

# What stands in every script's list of things to try.
demo_show_addresses() {
    cat <<TEXT

    RabbitMQ    $RABBITMQ_URL
    PostgreSQL  $DATABASE_URL
    Redis       $REDIS_URL
    metrics     http://$ADMIN/metrics  /metrics.json  /livez  /readyz
    worker      process $WORKER, configuration $LVT_SLOT/leveret.lua
TEXT
}

# Until Ctrl-C.
demo_stay() {
    trap 'exit 0' INT
    demo_follow 0
    wait "$WORKER"
    demo_give_up "the worker ended"
}
