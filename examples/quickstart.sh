#!/bin/bash
# From a fresh checkout to events handled: examples/quickstart.sh [--once]
#
# Installs the packages that are missing, builds, starts a private RabbitMQ, PostgreSQL and Redis,
# runs the worker with handlers/opsdesk, publishes six events and shows what became of each. Then it
# stays up for you to try things on, until Ctrl-C. With --once it ends by itself, with 0 if all went
# well.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tests/lib/common.sh"
. "$LVT_LIB/demo.sh"

demo_arguments "$@"
PUBLISH=$LVT_ROOT/examples/publish.py

write_config() {
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

publish() { "$PUBLISH" "$@" | sed 's/^/    /' || demo_give_up "could not publish $1"; }

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

show_ledger() {
    lvt_step "The ledger: processed_events in PostgreSQL"
    demo_show_rows "select processor_name, queue, event_type, event_id,
        to_char(processed_at, 'HH24:MI:SS.MS') as processed_at
        from processed_events order by processed_at"
}

show_what_to_try() {
    lvt_step "Everything is up; Ctrl-C stops it. In another terminal:"
    cat <<TEXT
    eval "\$($(printf %q "$LVT_ROOT/tests/services.sh") env $(printf %q "$LVT_SLOT/services"))"
    cd $(printf %q "$LVT_ROOT")
    examples/publish.py ticket.created '{"id": "t-2", "ownerId": "u-7"}'
    psql "\$DATABASE_URL" -c 'table processed_events'
    tests/services.sh kill-rabbitmq $(printf %q "$LVT_SLOT/services")     # then start-rabbitmq
TEXT
    demo_show_addresses
}

demo_begin quickstart leveret
write_config
demo_migrate

lvt_step "Running the worker with handlers/opsdesk"
demo_start_worker

lvt_step "Publishing with examples/publish.py"
publish_all

lvt_step "What the worker says; the failing event is tried again after 1 s, 2 s and 4 s"
demo_follow +1
lvt_wait 60 "all six events to be settled (about 8 s)" demo_counters_are 4 1 3 1 ||
    demo_give_up "the counters are not 4 processed, 1 duplicate, 3 retries, 1 failed"
demo_unfollow

demo_show_counters
show_ledger || exit
demo_show_dead_letter tickets.dlq || exit
if [ -z "$ONCE" ]; then
    show_what_to_try
    demo_stay
fi
lvt_step "Done: four events handled, one duplicate skipped, one failure retried and dead-lettered"
