#!/bin/bash
# From a fresh checkout to events handled: examples/quickstart.sh [--once]
#
# Installs the packages that are missing, builds, starts a private RabbitMQ, PostgreSQL and Redis,
# runs the worker with handlers/opsdesk, publishes six events and shows what became of each. Then it
# stays up for you to try things on, until Ctrl-C. With --once it ends by itself, with 0 if all went
# well.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tests/lib/common.sh"

case "$#:${1:-}" in
    0:) ONCE= ;;
    1:--once) ONCE=1 ;;
    *) lvt_die $EX_USAGE "usage: examples/quickstart.sh [--once]" ;;
esac
PUBLISH=$LVT_ROOT/examples/publish.py
ADMIN=

# Ends what this script started, in the order in which it depends on each other.
finish() {
    trap '' INT TERM
    if [ -n "${WORKER:-}" ] && kill -0 "$WORKER" 2>/dev/null; then
        lvt_step "Stopping the worker (it finishes what it has in hand first)"
        [ -n "${FOLLOWER:-}" ] || start_following 0
        sleep 0.2 # until tail is there
        kill -s TERM "$WORKER" 2>/dev/null
        wait "$WORKER"
    fi
    stop_following
    if [ -n "${LVT_SLOT:-}" ]; then
        lvt_step "Stopping RabbitMQ, PostgreSQL and Redis"
        "$LVT_ROOT/tests/services.sh" stop "$LVT_SLOT/services" 7>&-
        lvt_note "The logs stay in $LVT_SLOT"
    fi
}

give_up() {
    lvt_warn "$1; the end of $LVT_SLOT/worker.log:"
    tail -n 20 "$LVT_SLOT/worker.log" | sed 's/^/    | /' >&2
    exit 1
}

write_config() {
    mkdir -p "$LVT_SLOT/handlers"
    cat >"$LVT_SLOT/handlers/demo.always_fails.lua" <<'LUA'
return function(event, ctx)
  error("this handler always fails, on attempt " .. event.attempt)
end
LUA
    (
        umask 077 # the addresses hold passwords
        cat >"$LVT_SLOT/leveret.lua" <<LUA
name        = "worker"
rabbitmq    = { url = "$RABBITMQ_URL", exchange = "opsdesk.events" }
postgres    = { url = "$DATABASE_URL" }
redis       = { url = "$REDIS_URL" }
handlers    = { "$LVT_ROOT/handlers/opsdesk", "$LVT_SLOT/handlers" }
dead_letter = { queue = "tickets.dlq" }
retry       = { max = 3, base_ms = 1000, factor = 2, cap_ms = 30000 }
admin       = { listen = "$ADMIN" }
LUA
    )
}

admin_page() { # admin_page PATH: prints the page, fails unless its status is 200
    /usr/bin/python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' \
        "http://$ADMIN$1" 2>/dev/null
}

# The worker's lines go to a file; this shows them while they come, from line FIRST on ("+1" is the
# first of all, "0" the next that comes).
start_following() { # start_following FIRST
    tail --pid=$$ -n "$1" -F "$LVT_SLOT/worker.log" 2>/dev/null 7>&- \
        > >(sed -u "s/^/    ${LVT_DIM}worker |${LVT_PLAIN} /" 7>&-) &
    FOLLOWER=$!
}

stop_following() {
    [ -n "${FOLLOWER:-}" ] || return 0
    sleep 0.5 # for the last lines to get through
    kill "$FOLLOWER" 2>/dev/null
    FOLLOWER=
}

start_worker() {
    : >"$LVT_SLOT/worker.log"
    # In a session of its own, where Ctrl-C does not reach it: this script stops it, once.
    setsid "$LEVERET" run -c "$LVT_SLOT/leveret.lua" </dev/null >>"$LVT_SLOT/worker.log" 2>&1 7>&- &
    WORKER=$!
    lvt_wait 60 "the worker to be ready" ready_or_ended && kill -0 "$WORKER" 2>/dev/null ||
        give_up "the worker did not become ready"
}

ready_or_ended() { admin_page /readyz >/dev/null || ! kill -0 "$WORKER" 2>/dev/null; }

publish() { "$PUBLISH" "$@" | sed 's/^/    /' || give_up "could not publish $1"; }

publish_all() {
    local id=quickstart-$$
    lvt_note "some cached pages for the handlers to invalidate: tickets:list:1 to 3"
    redis-cli -u "$REDIS_URL" mset tickets:list:1 a tickets:list:2 b tickets:list:3 c \
        >/dev/null 2>&1
    publish ticket.created --id "$id-1" \
        '{"id": "t-1", "title": "Printer on fire", "status": "open", "ownerId": "u-1"}'
    publish ticket.updated --id "$id-2" '{"id": "t-1", "title": "Printer still on fire"}'
    publish ticket.status_changed --id "$id-3" \
        '{"id": "t-1", "oldStatus": "open", "newStatus": "closed", "ownerId": "u-1"}'
    publish message.sent --id "$id-4" \
        '{"id": "m-1", "ticketId": "t-1", "authorId": "u-2", "content": "It is out.",
          "sentAt": "2026-01-01T12:00:00Z"}'
    lvt_note "the first one again, as brokers and publishers do now and then:"
    publish ticket.created --id "$id-1" \
        '{"id": "t-1", "title": "Printer on fire", "status": "open", "ownerId": "u-1"}'
    lvt_note "and one whose handler always fails:"
    publish demo.always_fails --id "$id-5" '{"id": "x-1"}'
}

# counters_are PROCESSED DUPLICATES RETRIED FAILED
counters_are() {
    admin_page /metrics.json | /usr/bin/python3 -c 'import json, sys
counters = json.load(sys.stdin)
names = ("processed", "duplicates", "retried", "failed")
sys.exit([counters[name] for name in names] != [int(value) for value in sys.argv[1:]])' "$@" \
        2>/dev/null
}

show_counters() {
    lvt_step "The counters, from http://$ADMIN/metrics.json"
    admin_page /metrics.json | /usr/bin/python3 -m json.tool | sed 's/^/    /'
}

show_ledger() {
    lvt_step "The ledger: processed_events in PostgreSQL"
    psql -X "$DATABASE_URL" -P border=2 -c "select processor_name, queue, event_type, event_id,
        to_char(processed_at, 'HH24:MI:SS.MS') as processed_at
        from processed_events order by processed_at" | sed 's/^/    /'
}

# Reads without taking: what is not acknowledged goes back to the queue when the connection closes.
show_dead_letter() {
    lvt_step "The dead letter, in tickets.dlq"
    /usr/bin/python3 - <<'PY' | sed 's/^/    /'
import os, pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
channel = connection.channel()
method, properties, body = channel.basic_get("tickets.dlq")
if method is None:
    raise SystemExit("tickets.dlq is empty")
print("message_id:", properties.message_id)
for name, value in sorted((properties.headers or {}).items()):
    lines = str(value).splitlines() or [""]
    print(f"{name}: {lines[0]}", *lines[1:], sep="\n    ")
print("body:", body.decode())
channel.basic_nack(method.delivery_tag, requeue=True)
connection.close()
PY
}

show_what_to_try() {
    lvt_step "Everything is up; Ctrl-C stops it. In another terminal:"
    cat <<TEXT
    eval "\$($(printf %q "$LVT_ROOT/tests/services.sh") env $(printf %q "$LVT_SLOT/services"))"
    cd $(printf %q "$LVT_ROOT")
    examples/publish.py ticket.created '{"id": "t-2", "ownerId": "u-7"}'
    psql "\$DATABASE_URL" -c 'table processed_events'
    tests/services.sh kill-rabbitmq $(printf %q "$LVT_SLOT/services")     # then start-rabbitmq

    RabbitMQ    $RABBITMQ_URL
    PostgreSQL  $DATABASE_URL
    Redis       $REDIS_URL
    metrics     http://$ADMIN/metrics  /metrics.json  /livez  /readyz
    worker      process $WORKER, configuration $LVT_SLOT/leveret.lua
TEXT
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$LVT_LIB/install.sh" build server client || exit
lvt_step "Building leveret"
lvt_build "$LVT_ROOT/build/quickstart" leveret -DCMAKE_BUILD_TYPE=Release \
    -DLEVERET_TESTS=OFF || exit

lvt_step "Starting a private RabbitMQ, PostgreSQL and Redis"
lvt_claim_slot "$LVT_ROOT/build/run/quickstart" || exit
"$LVT_ROOT/tests/services.sh" start "$LVT_SLOT/services" 7>&- || exit
eval "$("$LVT_ROOT/tests/services.sh" env "$LVT_SLOT/services" 7>&-)"

lvt_step "Creating the ledger's table"
LEVERET=$LVT_SLOT/leveret
# A copy: another run's build must not replace the program under this one.
BUILD=$LVT_ROOT/build/quickstart
flock "$BUILD.lock" cp -f "$BUILD/leveret" "$LEVERET" || exit
ADMIN=127.0.0.1:$(lvt_free_ports 1)
write_config
"$LEVERET" migrate -c "$LVT_SLOT/leveret.lua" 7>&- 2>&1 | sed 's/^/    /' || exit

lvt_step "Running the worker with handlers/opsdesk"
start_worker

lvt_step "Publishing with examples/publish.py"
publish_all

lvt_step "What the worker says; the failing event is tried again after 1 s, 2 s and 4 s"
start_following +1
lvt_wait 60 "all six events to be settled (about 8 s)" counters_are 4 1 3 1 ||
    give_up "the counters are not 4 processed, 1 duplicate, 3 retries, 1 failed"
stop_following

show_counters
show_ledger || exit
show_dead_letter || exit
if [ -z "$ONCE" ]; then
    show_what_to_try
    trap 'exit 0' INT
    start_following 0
    wait "$WORKER"
    give_up "the worker ended"
fi
lvt_step "Done: four events handled, one duplicate skipped, one failure retried and dead-lettered"
