#!/bin/bash
# A private RabbitMQ, PostgreSQL and Redis in a folder of their own, on free loopback ports.
# A system instance is neither used nor touched; nothing is found or stopped by its name.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

usage() {
    cat <<'TEXT'
usage: tests/services.sh VERB DIR [ARGUMENT...]

  start            stop what an earlier run left in DIR, then start all three with empty data
  stop             stop all three, and what else has a .pid file in DIR; keep only the logs
  env              print RABBITMQ_URL, DATABASE_URL, REDIS_URL and the process ids, for eval;
                   also RABBITMQ_TLS_PORT and TLS_DIR, whose ca.crt signed localhost.crt, which
                   RabbitMQ and PostgreSQL show
  stop-NAME        stop one server in an orderly way; NAME is rabbitmq, postgres or redis
  kill-NAME        end it with SIGKILL
  start-NAME       start it again, with its data, on the same ports
  alarm-on         have RabbitMQ take no messages, as when its memory is full
  alarm-off        have it take them again
  writer           make a vhost "writer", in which a user may publish and nothing else, and guest
                   everything; prints the user's URL
  disk-alarm-on    the same, as when its disk is full
  disk-alarm-off
  rabbitmqctl      run rabbitmqctl on RabbitMQ's node with the arguments
TEXT
}

# Debian keeps PostgreSQL's programs out of the PATH, a folder for each version.
find_programs() {
    local initdb program
    initdb=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    PG_BIN=${initdb%/initdb}
    RABBITMQ=/usr/lib/rabbitmq/bin/rabbitmq-server
    for program in "$RABBITMQ" "$PG_BIN/postgres" redis-server openssl /usr/bin/python3; do
        command -v "$program" >/dev/null || lvt_die $EX_UNAVAILABLE \
            "$program is not installed; run: $LVT_LIB/install.sh server client"
    done
}

# Process id files: "pid start", see lvt_proc_start.

running() { # running NAME: sets PID when the process of DIR/NAME.pid is still that process
    local start
    [ -f "$DIR/$1.pid" ] && read -r PID start <"$DIR/$1.pid" && lvt_proc_is "$PID" "$start"
}

# spawn NAME COMMAND...: the process writes its id itself before it becomes the server, so that no
# moment exists in which a killed script leaves a server behind that nobody knows.
spawn() {
    local name=$1 pid
    shift
    (
        cd / || exit
        pid=$BASHPID # not inside $( ), which is a process of its own
        printf '%s %s\n' "$pid" "$(lvt_proc_start "$pid")" >"$DIR/$name.pid"
        exec setsid "$@"
    ) </dev/null >>"$DIR/log/$name.out" 2>&1 9>&- &
    while [ ! -s "$DIR/$name.pid" ] && kill -0 $! 2>/dev/null; do sleep 0.01; done
}

# end_process NAME SIGNAL SECONDS: returns when the process and all that it started are gone. What
# does not go in time is killed.
end_process() {
    local name=$1 tree pid start
    if running "$name"; then
        tree="$(cat "$DIR/$name.pid")"$'\n'"$(lvt_proc_tree "$PID")"
        kill -s "$2" "$PID" 2>/dev/null
        if ! lvt_wait "$3" "$name to end" lvt_all_gone "$tree"; then
            while read -r pid start; do
                if lvt_proc_is "$pid" "$start"; then kill -s KILL "$pid" 2>/dev/null; fi
            done <<<"$tree"
            lvt_wait 10 "$name to end after SIGKILL" lvt_all_gone "$tree" || return
        fi
    fi
    rm -f "$DIR/$name.pid"
}

stop_signal() {
    case $1 in
        postgres) echo INT ;; # "fast": does not wait for clients to leave
        *) echo TERM ;;
    esac
}

# RabbitMQ, with an epmd of its own: Erlang's name service would otherwise be shared by all nodes of
# the machine, and live on as a daemon that nobody stops.

rabbitmq_env() {
    RABBITMQ_ENV=(env -i
        PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C.UTF-8 HOME="$DIR/rabbitmq"
        ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 ERL_INETRC="$DIR/rabbitmq/inetrc"
        ERL_CRASH_DUMP_SECONDS=0)
}

rabbitmq_init() {
    mkdir -p "$DIR/rabbitmq" || return
    (
        umask 077
        head -c 24 /dev/urandom | od -An -vtx1 | tr -d ' \n' >"$DIR/rabbitmq/.erlang.cookie"
    )
    chmod 400 "$DIR/rabbitmq/.erlang.cookie"
    # The node's host name must mean this machine even where /etc/hosts does not say so.
    printf '{host,{127,0,0,1},["localhost"]}.\n{lookup,[file,native]}.\n' >"$DIR/rabbitmq/inetrc"
    echo '[].' >"$DIR/rabbitmq/enabled_plugins"
    : >"$DIR/rabbitmq/rabbitmq-env.conf"
    cat >"$DIR/rabbitmq/rabbitmq.conf" <<CONF
listeners.tcp.local = 127.0.0.1:$AMQP_PORT
listeners.ssl.local = 127.0.0.1:$AMQPS_PORT
ssl_options.cacertfile = $DIR/tls/ca.crt
ssl_options.certfile = $DIR/tls/localhost.crt
ssl_options.keyfile = $DIR/tls/localhost.key
ssl_options.verify = verify_none
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
log.file.level = info
CONF
}

rabbitmq_spawn() {
    local limit
    rabbitmq_env
    if ! running epmd; then
        spawn epmd "${RABBITMQ_ENV[@]}" epmd -address 127.0.0.1 -port "$EPMD_PORT"
    fi
    RABBITMQ_LOG_LINES=$(wc -l 2>/dev/null <"$DIR/log/rabbitmq.log" || echo 0)
    limit=$(ulimit -H -n)
    # Erlang sizes tables by this limit, so "unlimited" costs memory.
    if [ "$limit" = unlimited ] || [ "$limit" -gt 65536 ]; then limit=65536; fi
    # 'detached' makes the start script become the Erlang machine instead of watching over it.
    (
        ulimit -n "$limit"
        spawn rabbitmq "${RABBITMQ_ENV[@]}" \
            detached=1 \
            RABBITMQ_NODENAME="leveret$AMQP_PORT@localhost" \
            RABBITMQ_DIST_PORT="$DIST_PORT" \
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
            RABBITMQ_CONF_ENV_FILE="$DIR/rabbitmq/rabbitmq-env.conf" \
            RABBITMQ_CONFIG_FILE="$DIR/rabbitmq/rabbitmq.conf" \
            RABBITMQ_CONFIG_FILES="$DIR/rabbitmq/conf.d/*.conf" \
            RABBITMQ_ADVANCED_CONFIG_FILE="$DIR/rabbitmq/advanced.config" \
            RABBITMQ_ENABLED_PLUGINS_FILE="$DIR/rabbitmq/enabled_plugins" \
            RABBITMQ_GENERATED_CONFIG_DIR="$DIR/rabbitmq/config" \
            RABBITMQ_MNESIA_BASE="$DIR/rabbitmq/mnesia" \
            RABBITMQ_PID_FILE="$DIR/rabbitmq/node.pid" \
            RABBITMQ_LOG_BASE="$DIR/log" \
            RABBITMQ_LOGS="$DIR/log/rabbitmq.log" \
            "$RABBITMQ" -noinput
    )
}

rabbitmq_control() {
    rabbitmq_env
    "${RABBITMQ_ENV[@]}" "${RABBITMQ%/*}/rabbitmqctl" -q --node "leveret$AMQP_PORT@localhost" \
        "$@" 9>&-
}

rabbitmq_writer() {
    cat >"$DIR/writer.json" <<'JSON' || return
{"vhosts": [{"name": "writer"}],
 "users": [{"name": "writer", "password": "writer", "tags": ""}],
 "permissions": [
   {"user": "writer", "vhost": "writer", "configure": "", "write": ".*", "read": ""},
   {"user": "guest", "vhost": "writer", "configure": ".*", "write": ".*", "read": ".*"}]}
JSON
    rabbitmq_control import_definitions "$DIR/writer.json" >/dev/null &&
        echo "amqp://writer:writer@127.0.0.1:$AMQP_PORT/writer"
}

rabbitmq_ready() {
    tail -n "+$((RABBITMQ_LOG_LINES + 1))" "$DIR/log/rabbitmq.log" 2>/dev/null |
        grep -q 'Server startup complete'
}

# PostgreSQL refuses to run as root, so root runs it as another user.

postgres_as() {
    if [ "$(id -u)" -ne 0 ]; then
        AS_POSTGRES=()
        return
    fi
    local user=nobody
    if getent passwd postgres >/dev/null; then user=postgres; fi
    AS_POSTGRES=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --)
    PG_OWNER=$user
}

# An authority, and a certificate that is for the name localhost, not for its address.
tls_init() {
    local dir=$DIR/tls
    rm -rf "$dir" && mkdir -p "$dir" && (
        umask 077
        cd "$dir" &&
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
                -subj '/CN=leveret tests' -keyout ca.key -out ca.crt &&
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost -keyout localhost.key -out localhost.csr &&
            openssl x509 -req -in localhost.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
                -copy_extensions copy -days 3650 -out localhost.crt
    ) >>"$DIR/log/tls.out" 2>&1
}

postgres_init() {
    PG_HOME=$DIR/postgres
    mkdir -p "$PG_HOME"
    if [ ${#AS_POSTGRES[@]} -gt 0 ]; then
        chown "$PG_OWNER" "$PG_HOME"
        # Below a home folder that is closed to others, its user cannot reach the data.
        if ! "${AS_POSTGRES[@]}" test -w "$PG_HOME"; then
            rmdir "$PG_HOME"
            PG_HOME=$(mktemp -d /var/tmp/leveret-postgres.XXXXXX) || return
            chown "$PG_OWNER" "$PG_HOME"
        fi
    fi
    save_settings
    echo "$PG_PASSWORD" >"$PG_HOME/password"
    (
        cd / && "${AS_POSTGRES[@]}" env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$PG_BIN/initdb" \
            --pgdata="$PG_HOME/data" --username=leveret --pwfile="$PG_HOME/password" \
            --auth=scram-sha-256 --encoding=UTF8 --no-sync
    ) >>"$DIR/log/postgres.out" 2>&1 9>&- || return
    rm -f "$PG_HOME/password"
    # It takes no key that others may read, nor somebody else's.
    "${AS_POSTGRES[@]}" tee "$PG_HOME/data/server.crt" <"$DIR/tls/localhost.crt" >/dev/null
    (umask 077 && "${AS_POSTGRES[@]}" tee "$PG_HOME/data/server.key" <"$DIR/tls/localhost.key") \
        >/dev/null || return
    cat <<CONF | "${AS_POSTGRES[@]}" tee -a "$PG_HOME/data/postgresql.conf" >/dev/null
listen_addresses = '127.0.0.1'
port = $PG_PORT
ssl = on
unix_socket_directories = ''
log_line_prefix = '%m [%p] '
CONF
}

postgres_spawn() {
    spawn postgres "${AS_POSTGRES[@]}" env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 \
        "$PG_BIN/postgres" -D "$PG_HOME/data"
}

postgres_sql() { # postgres_sql DATABASE SQL
    PGPASSWORD=$PG_PASSWORD PGCONNECT_TIMEOUT=5 "$PG_BIN/psql" -X -q -h 127.0.0.1 -p "$PG_PORT" \
        -U leveret -d "$1" -c "$2" >/dev/null 2>&1
}

postgres_ready() { postgres_sql postgres 'select 1'; }

redis_init() {
    mkdir -p "$DIR/redis" || return
    (
        umask 077
        cat >"$DIR/redis/redis.conf" <<CONF
bind 127.0.0.1
port $REDIS_PORT
requirepass $REDIS_PASSWORD
dir "$DIR/redis"
save ""
appendonly yes
CONF
    )
}

redis_spawn() {
    spawn redis env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 redis-server "$DIR/redis/redis.conf"
}

redis_ready() {
    [ "$(REDISCLI_AUTH=$REDIS_PASSWORD redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping 2>&1)" = PONG ]
}

# What belongs to all three.

save_settings() {
    local name
    (
        umask 077
        for name in AMQP_PORT AMQPS_PORT DIST_PORT EPMD_PORT PG_PORT REDIS_PORT PG_PASSWORD REDIS_PASSWORD \
            PG_HOME; do
            printf '%s=%q\n' "$name" "${!name}"
        done >"$DIR/settings"
    )
}

load_settings() {
    [ -f "$DIR/settings" ] || lvt_die $EX_UNAVAILABLE "nothing was started in $DIR"
    # shellcheck disable=SC1091
    . "$DIR/settings"
}

choose_settings() {
    read -r AMQP_PORT AMQPS_PORT DIST_PORT EPMD_PORT PG_PORT REDIS_PORT < <(lvt_free_ports 6) ||
        return
    PG_PASSWORD=$(head -c 12 /dev/urandom | od -An -vtx1 | tr -d ' \n')
    REDIS_PASSWORD=$(head -c 12 /dev/urandom | od -An -vtx1 | tr -d ' \n')
    PG_HOME=
    save_settings
}

ready_or_ended() { "$1_ready" || ! running "$1"; }

await() { # await NAME: until the server answers; a server that ended instead is a failure
    lvt_wait 120 "$1" ready_or_ended "$1" && running "$1" && return
    [ -n "${QUIET:-}" ] || show_failure "$1"
    return 1
}

show_failure() {
    lvt_warn "$1 did not start; the end of its log:"
    tail -q -n 15 "$DIR/log/$1".* 2>/dev/null | sed 's/^/    | /' >&2
}

port_was_taken() {
    grep -qsiE 'eaddrinuse|address (already )?in use|could not bind|already used' "$DIR"/log/*
}

start_once() {
    rm -rf "$DIR/log" "$DIR/rabbitmq" "$DIR/redis"
    mkdir -p "$DIR/log" || return
    choose_settings || return
    tls_init && rabbitmq_init && redis_init || return
    rabbitmq_spawn
    redis_spawn
    postgres_init || { show_failure postgres && return 1; }
    postgres_spawn
    await postgres && postgres_sql postgres 'create database leveret' && await redis &&
        await rabbitmq
}

start_all() {
    local try
    for try in 1 2 3; do
        stop_all || return
        if start_once; then return; fi
        port_was_taken || break
        lvt_note "a port was taken meanwhile (attempt $try); trying others"
    done
    stop_all
    return 1
}

# The workers first, then the servers all at once; epmd when its node has left.
stop_all() {
    local file name servers=() waiters=()
    for file in "$DIR"/*.pid; do
        name=${file##*/}
        name=${name%.pid}
        case $name in
            rabbitmq | postgres | redis) servers+=("$name") ;;
            epmd | '*') ;;
            *) end_process "$name" TERM 15 ;;
        esac
    done
    for name in "${servers[@]}"; do
        end_process "$name" "$(stop_signal "$name")" 30 &
        waiters+=($!)
    done
    # Without names it would wait for the servers too, when they are children of this very script.
    [ ${#waiters[@]} -eq 0 ] || wait "${waiters[@]}"
    end_process epmd TERM 5
    if [ -f "$DIR/settings" ]; then
        PG_HOME=
        load_settings
        [ -z "$PG_HOME" ] || rm -rf "$PG_HOME"
    fi
    rm -rf "$DIR/rabbitmq" "$DIR/postgres" "$DIR/redis" "$DIR/tls" "$DIR/settings"
    for name in "${servers[@]}"; do
        if running "$name"; then return 1; fi
    done
}

start_one() {
    if running "$1"; then return; fi
    "$1_spawn"
    await "$1"
}

print_env() {
    local name
    cat <<TEXT
export RABBITMQ_URL='amqp://guest:guest@127.0.0.1:$AMQP_PORT/'
export DATABASE_URL='postgresql://leveret:$PG_PASSWORD@127.0.0.1:$PG_PORT/leveret'
export REDIS_URL='redis://default:$REDIS_PASSWORD@127.0.0.1:$REDIS_PORT/0'
export RABBITMQ_TLS_PORT='$AMQPS_PORT'
export TLS_DIR='$DIR/tls'
TEXT
    for name in rabbitmq postgres redis; do
        PID=
        running $name || PID=
        echo "export ${name^^}_PID='$PID'"
    done
}

[ $# -eq 2 ] || { [ $# -gt 2 ] && [ "$1" = rabbitmqctl ]; } || { usage >&2 && exit $EX_USAGE; }
VERB=$1
DIR=$(realpath -m -- "$2")
shift 2
if [ "$VERB" = stop ] && [ ! -d "$DIR" ]; then exit 0; fi
mkdir -p "$DIR" || exit
exec 9>>"$DIR/services.lock" || exit # one verb at a time
flock 9 || exit
postgres_as
case $VERB in
    start)
        find_programs
        start_all
        ;;
    stop) stop_all ;;
    env)
        load_settings
        print_env
        ;;
    stop-rabbitmq | stop-postgres | stop-redis)
        end_process "${VERB#stop-}" "$(stop_signal "${VERB#stop-}")" 30
        ;;
    kill-rabbitmq | kill-postgres | kill-redis)
        load_settings
        end_process "${VERB#kill-}" KILL 10 || exit
        # Where nobody reaps it, it stays a zombie, which the next one takes for a running server.
        if [ "$VERB" = kill-postgres ]; then rm -f "$PG_HOME/data/postmaster.pid"; fi
        ;;
    start-rabbitmq | start-postgres | start-redis)
        load_settings
        find_programs
        start_one "${VERB#start-}"
        ;;
    alarm-on | alarm-off | disk-alarm-on | disk-alarm-off)
        load_settings
        find_programs
        case $VERB in
            alarm-on) rabbitmq_control set_vm_memory_high_watermark absolute 1 ;;
            alarm-off) rabbitmq_control set_vm_memory_high_watermark absolute 1GB ;;
            disk-alarm-on) rabbitmq_control set_disk_free_limit 100000GB ;;
            disk-alarm-off) rabbitmq_control set_disk_free_limit 50MB ;;
        esac
        ;;
    writer)
        load_settings
        find_programs
        rabbitmq_writer
        ;;
    rabbitmqctl)
        load_settings
        find_programs
        rabbitmq_control "$@"
        ;;
    *)
        usage >&2
        exit $EX_USAGE
        ;;
esac
