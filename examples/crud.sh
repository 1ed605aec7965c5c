#!/bin/bash
# A REST server for items, and a worker that says what happens to them: examples/crud.sh [--once]
#
# Installs the packages that are missing, builds, starts a private RabbitMQ, PostgreSQL and Redis,
# runs examples/crud-server and a worker with handlers/items, makes, changes and deletes an item,
# also while RabbitMQ is stopped, and shows the worker's lines. Then it stays up for you to try
# things on, until Ctrl-C. With --once it ends by itself, with 0 if all went well.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tests/lib/common.sh"
. "$LVT_LIB/demo.sh"

demo_arguments "$@"

write_config() {
    (
        umask 077 # the addresses hold passwords
        cat >"$LVT_SLOT/leveret.lua" <<LUA
name        = "worker"
rabbitmq    = { url = "$RABBITMQ_URL" }
postgres    = { url = "$DATABASE_URL" }
redis       = { url = "$REDIS_URL" }
handlers    = { "$LVT_ROOT/handlers/items" }
admin       = { listen = "$ADMIN" }
LUA
    )
}

# Its process id goes where services.sh finds it, and ends it with the other servers.
start_server() {
    local pid
    : >"$LVT_SLOT/server.log"
    setsid "$LVT_SLOT/crud-server" --listen 127.0.0.1:0 </dev/null >>"$LVT_SLOT/server.log" 2>&1 \
        7>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(lvt_proc_start "$pid")" >"$LVT_SLOT/services/crud-server.pid"
    lvt_wait 20 "the server to listen" grep -q 'listening on' "$LVT_SLOT/server.log" || return
    SERVER=$(grep -o 'http://127[0-9.:]*' "$LVT_SLOT/server.log")
    lvt_note "$SERVER"
}

# request EXPECTED-STATUS METHOD PATH [BODY]: shows what curl would show, and keeps it in ANSWER.
request() {
    local expected=$1 method=$2 path=$3 status
    shift 3
    lvt_note "curl -X $method $SERVER$path${1:+ -d '$1'}"
    ANSWER=$(curl -sS --max-time 30 -w '\n%{http_code}' -X "$method" ${1:+-d "$1"} "$SERVER$path")
    status=${ANSWER##*$'\n'}
    ANSWER=${ANSWER%$'\n'*}
    lvt_note "    $status $ANSWER"
    [ "$status" = "$expected" ] || demo_give_up "the server answered $status, not $expected"
}

use_items() {
    local id
    request 201 POST /items '{"name": "Sample Item", "description": "to show", "price": 12.5}'
    id=$(/usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' <<<"$ANSWER")
    request 200 PUT "/items/$id" '{"name": "Updated Item", "price": 13}'
    request 200 GET /items
    request 204 DELETE "/items/$id"
    request 404 GET "/items/$id"
    request 400 POST /items '{"price": "cheap"}'
}

lines_are() { [ "$(grep -c 'Item ID: ' "$LVT_SLOT/worker.log")" -eq "$1" ]; }

show_lines() { # show_lines COUNT
    lvt_step "What the worker says"
    lvt_wait 60 "$1 lines of the worker's" lines_are "$1" ||
        demo_give_up "the worker has not said $1 lines"
    grep -o '\[[A-Z]*\] Item ID: .* at [0-9-]* [0-9:]*' "$LVT_SLOT/worker.log" | sed 's/^/    /'
}

show_what_to_try() {
    lvt_step "Everything is up; Ctrl-C stops it. In another terminal:"
    cat <<TEXT
    eval "\$($(printf %q "$LVT_ROOT/tests/services.sh") env $(printf %q "$LVT_SLOT/services"))"
    cd $(printf %q "$LVT_ROOT")
    curl -i $SERVER/items -d '{"name": "Another", "price": 1}'
    curl -i $SERVER/healthz
    psql "\$DATABASE_URL" -c 'table items' -c 'select id, event, sent_at from outbox'
    tests/services.sh stop-rabbitmq $(printf %q "$LVT_SLOT/services")     # then start-rabbitmq

    server      $SERVER, described in examples/crud-server/openapi.yaml
TEXT
    demo_show_addresses
}

demo_begin crud "leveret crud-server"
demo_copy examples/crud-server/crud-server "$LVT_SLOT/crud-server"
write_config
demo_migrate

lvt_step "Running the worker with handlers/items, and the server"
demo_start_worker
start_server || exit

lvt_step "An item is made, changed and deleted"
use_items
show_lines 3

lvt_step "The same while RabbitMQ is stopped: requests succeed, the events follow"
"$LVT_ROOT/tests/services.sh" stop-rabbitmq "$LVT_SLOT/services" 7>&- || exit
use_items
"$LVT_ROOT/tests/services.sh" start-rabbitmq "$LVT_SLOT/services" 7>&- || exit
show_lines 6
demo_show_counters
if [ -z "$ONCE" ]; then
    show_what_to_try
    demo_stay
fi
lvt_step "Done: six changes to items, and a line for each"
