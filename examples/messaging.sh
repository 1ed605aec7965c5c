#!/bin/bash
# A messaging service: mail, database dumps, clean-ups and notifications from queues.
#   examples/messaging.sh [--once]
#
# Installs the packages that are missing, builds, starts a private RabbitMQ, PostgreSQL, Redis and a
# mail server that keeps what it gets, runs one worker with handlers/messaging, the plugins email,
# backup and cleanup, and handlers/opsdesk, sends a message of each kind and one that fails, and
# shows what became of each. Then it stays up for you to try things on, until Ctrl-C. With --once it
# ends by itself, with 0 if all went well.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tests/lib/common.sh"
. "$LVT_LIB/demo.sh"

demo_arguments "$@"

# Its process id goes where services.sh finds it, and ends it with the other servers.
start_mail_server() {
    local pid
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout "$LVT_SLOT/mail.key" \
        -out "$LVT_SLOT/mail.pem" 2>/dev/null || return
    : >"$LVT_SLOT/mails"
    : >"$LVT_SLOT/mail.port"
    "$LVT_LIB/smtp_sink.py" "$LVT_SLOT/mails" --cert "$LVT_SLOT/mail.pem" \
        --key "$LVT_SLOT/mail.key" </dev/null >"$LVT_SLOT/mail.port" 2>"$LVT_SLOT/mail.log" 7>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(lvt_proc_start "$pid")" >"$LVT_SLOT/services/mail.pid"
    lvt_wait 20 "the mail server" test -s "$LVT_SLOT/mail.port"
}

write_config() {
    local name
    for name in email backup cleanup; do
        demo_copy "plugins/$name.so" "$LVT_SLOT/handlers/$name.so"
    done
    (
        umask 077 # the addresses hold passwords
        cat >"$LVT_SLOT/leveret.lua" <<LUA
name        = "worker"
rabbitmq    = { url = "$RABBITMQ_URL", exchange = "opsdesk.events" }
postgres    = { url = "$DATABASE_URL" }
redis       = { url = "$REDIS_URL" }
handlers    = { "$LVT_ROOT/handlers/opsdesk", "$LVT_ROOT/handlers/messaging", "$LVT_SLOT/handlers" }
dead_letter = { queue = "tickets.dlq" }   -- those of the messaging service have their own
admin       = { listen = "$ADMIN" }
plugins     = {
  email   = { url = "smtp://127.0.0.1:$(cat "$LVT_SLOT/mail.port")", ca_file = "$LVT_SLOT/mail.pem",
              from = "no-reply@example.org", from_name = "The shop" },
  backup  = { roots = { "$LVT_SLOT/backups" }, databases = { my_database = "$DATABASE_URL" } },
  cleanup = { targets = { logs = { path = "$LVT_SLOT/logs" } } },
}
LUA
    )
}

# What there is to be cleaned up, and whom to notify.
prepare() {
    rm -rf "$LVT_SLOT/logs" "$LVT_SLOT/backups"
    mkdir -p "$LVT_SLOT/logs/app" "$LVT_SLOT/backups"
    touch -d '40 days ago' "$LVT_SLOT/logs/old.log" "$LVT_SLOT/logs/app/older.log"
    touch "$LVT_SLOT/logs/today.log"
    psql -X -q "$DATABASE_URL" -v ON_ERROR_STOP=1 \
        -f "$LVT_ROOT/handlers/messaging/notifications.sql" \
        -c "insert into notification_targets values ('user123', 'email', 'user123@example.com')"
}

# send TYPE PAYLOAD [OPTION...]
send() {
    local kind=$1 payload=$2
    shift 2
    lvt_note "$kind $payload $*"
    "$LEVERET" publish "$kind" "$payload" --queue "${kind}_queue" -c "$LVT_SLOT/leveret.lua" "$@" \
        2>&1 7>&- | sed "s/^/        id /" || demo_give_up "could not send $kind"
}

send_all() {
    local envelope
    send email '{"to": "user@example.com", "subject": "Grüße", "body": "Body",
        "html": "<p>Body</p>"}' --priority 5 --max-attempts 3
    send backup "{\"database\": \"my_database\", \"path\": \"$LVT_SLOT/backups/\",
        \"compress\": true}"
    send cleanup '{"target": "logs", "days": 30}'
    send notification '{"user": "user123", "type": "app", "title": "Title", "message": "Message"}'
    send notification '{"user": "user123", "type": "email", "title": "Title", "message": "Message"}'
    lvt_note "one in the envelope of the service that this replaces, to be handled in two seconds:"
    envelope='{"id": "demo-'$$'", "type": "email", "payload": {"to": "later@example.org", '
    envelope+='"subject": "Subject", "body": "Body"}, "max_attempts": 3, "delay": 2, '
    envelope+='"priority": 1, "created_at": "2026-01-01T12:00:00Z"}'
    lvt_note "$envelope"
    "$LEVERET" publish - --queue email_queue -c "$LVT_SLOT/leveret.lua" <<<"$envelope" 2>&1 7>&- |
        sed 's/^/        /' || demo_give_up "could not send the envelope"
    lvt_note "and one that the mail server refuses for good:"
    send email '{"to": "nobody@example.com", "subject": "Subject", "body": "Body"}'
}

show_mails() {
    lvt_step "What the mail server got"
    /usr/bin/python3 - "$LVT_SLOT/mails" <<'PY' | sed 's/^/    /'
import email, email.policy, json, sys

for line in open(sys.argv[1], encoding="utf-8"):
    record = json.loads(line)
    mail = email.message_from_bytes(record["text"].encode("latin-1"), policy=email.policy.default)
    parts = [part.get_content_type() for part in mail.walk() if not part.is_multipart()]
    print(f"{mail['to']}: {mail['subject']} ({', '.join(parts)}; {mail['message-id']})")
PY
}

show_folders() {
    lvt_step "The dump, and the beginning of what is in it"
    (cd "$LVT_SLOT/backups" && ls -l -- *.dump && pg_restore --list -- *.dump | head -n 9) |
        sed 's/^/    /' || return
    lvt_step "The logs: those of 40 days ago are gone"
    find "$LVT_SLOT/logs" -type f | sed 's/^/    /'
    [ "$(find "$LVT_SLOT/logs" -type f)" = "$LVT_SLOT/logs/today.log" ] ||
        demo_give_up "the old logs are still there"
}

show_what_to_try() {
    lvt_step "Everything is up; Ctrl-C stops it. In another terminal:"
    cat <<TEXT
    eval "\$($(printf %q "$LVT_ROOT/tests/services.sh") env $(printf %q "$LVT_SLOT/services"))"
    cd $(printf %q "$LVT_SLOT")
    ./leveret publish --queue email_queue email '{"to": "you@example.com", "subject": "Hi",
        "html": "<b>Hi</b>"}'
    ./leveret publish --queue cleanup_queue cleanup '{"target": "logs", "days": 1, "dry_run": true}'
    ./leveret publish --queue backup_queue backup '{"database": "my_database", "path": "/etc"}'
    ./leveret dlq list

    mails       $LVT_SLOT/mails
    dumps       $LVT_SLOT/backups
TEXT
    demo_show_addresses
}

demo_begin messaging "leveret plugin_email plugin_backup plugin_cleanup" mail
lvt_step "Starting a mail server"
start_mail_server || exit
write_config
demo_migrate
prepare || exit

lvt_step "Running the worker with handlers/messaging, its plugins, and handlers/opsdesk"
demo_start_worker

lvt_step "Sending with leveret publish"
send_all

lvt_step "What the worker says"
demo_follow +1
lvt_wait 60 "all messages to be settled" demo_counters_are 7 0 1 1 ||
    demo_give_up "the counters are not 7 processed, 1 retried, 1 failed"
demo_unfollow

show_mails
show_folders || exit
lvt_step "The notifications, in PostgreSQL"
demo_show_rows "select user_id, type, title, message from notifications order by id" || exit
demo_show_dead_letter failed_queue || exit
if [ -z "$ONCE" ]; then
    show_what_to_try
    demo_stay
fi
lvt_step "Done: each message handled, one of them later, and one dead-lettered"
