#include "config/config.h"

#include "base/log.h"
#include "config/keys.h"

#define KEY(path, kind, field, fallback, low, high, names, text)                                   \
    {                                                                                              \
        .name = (path), .type = LVT_KEY_##kind, .offset = offsetof(struct lvt_config, field),      \
        .initial = (fallback), .min = (low), .max = (high), .choices = (names),                    \
        .description = (text)                                                                      \
    }

#define MINUTE_MS 60e3
#define DAY_MS 86400e3

static const char *const queue_types[] = {"quorum", "classic", NULL};
static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const formats[] = {"text", "json", NULL};
_Static_assert(LVT_QUORUM == 0 && LVT_CLASSIC == 1, "queue_types has this order");
_Static_assert(LVT_DEBUG == 0 && LVT_ERROR == 3, "levels has this order");

const struct lvt_key lvt_config_keys[] = {
    KEY("name", TEXT, name, "worker", 1, 200, NULL,
        "The worker's name in the ledger (`processor_name`): workers that share it share their "
        "work."),
    KEY("rabbitmq.url", SECRET_URL, rabbitmq.url, "amqp://guest:guest@localhost:5672/", 1, 4096,
        NULL, "The broker. `amqps://` verifies the peer and its name. `RABBITMQ_URL` wins."),
    KEY("rabbitmq.exchange", TEXT, rabbitmq.exchange, "opsdesk.events", 1, 255, NULL,
        "The topic exchange that queues are bound to."),
    KEY("rabbitmq.prefetch", INTEGER, rabbitmq.prefetch, "200", 1, 65535, NULL,
        "Deliveries that a queue's consumer may hold; at least twice the concurrency of its "
        "handlers is asked for."),
    KEY("rabbitmq.queue_type", CHOICE, rabbitmq.queue_type, "quorum", 0, 0, queue_types,
        "The type of the work queues that are declared."),
    KEY("rabbitmq.heartbeat_s", INTEGER, rabbitmq.heartbeat_s, "10", 1, 600, NULL,
        "Seconds between heartbeats; a connection silent for twice as long is given up."),
    KEY("rabbitmq.consumer_timeout", DURATION, rabbitmq.consumer_timeout_ms, "30m", MINUTE_MS,
        365 * DAY_MS, NULL,
        "The broker's own `consumer_timeout`, which `timeout_ms` must stay below half of."),
    KEY("rabbitmq.ca_file", TEXT, rabbitmq.ca_file, NULL, 1, 4096, NULL,
        "The authorities that `amqps://` trusts, a PEM file; without it the system's."),
    KEY("postgres.url", SECRET_URL, postgres.url, "postgresql:///leveret", 1, 4096, NULL,
        "The database of the ledger and of `ctx.db`. `DATABASE_URL` wins."),
    KEY("postgres.pool", INTEGER, postgres.pool, "4", 1, 1000, NULL,
        "Connections for the transactions of handlers."),
    KEY("redis.url", SECRET_URL, redis.url, "redis://localhost:6379/0", 1, 4096, NULL,
        "The cache, for `ctx.redis` and `ctx.cache`. `REDIS_URL` wins."),
    KEY("handlers", LIST, handlers, "handlers", 1, 100, NULL, "Folders of handlers."),
    KEY("plugins", JSON, plugins, NULL, 2, 1048576, NULL,
        "What plugins are told, by the name of their file; `handler` in it holds options of a "
        "handler's file, which win over the plugin's own."),
    KEY("dead_letter.queue", TEXT, dead_letter.queue, "dead.letters", 1, 255, NULL,
        "Where events go that failed for good."),
    KEY("retry.max", INTEGER, retry.max, "3", 0, 1000, NULL, "Retries after the first run."),
    KEY("retry.base_ms", DURATION, retry.base_ms, "1000", 0, 30 * DAY_MS, NULL,
        "The delay before the first retry."),
    KEY("retry.factor", NUMBER, retry.factor, "2", 1, 100, NULL,
        "How many times longer each delay is than the one before."),
    KEY("retry.cap_ms", DURATION, retry.cap_ms, "30000", 0, 30 * DAY_MS, NULL,
        "The longest delay."),
    KEY("retry.jitter", NUMBER, retry.jitter, "0", 0, 1, NULL,
        "The share of a delay that chance may take off."),
    KEY("ledger.retention", DURATION, ledger.retention_ms, "7d", MINUTE_MS, 3650 * DAY_MS, NULL,
        "How long a finished event is remembered."),
    KEY("ledger.max_claims", INTEGER, ledger.max_claims, "2000", 1, 100000, NULL,
        "Events in hand at once; each holds a lock in PostgreSQL's lock table."),
    KEY("outbox.retention", DURATION, outbox.retention_ms, "1d", 0, 3650 * DAY_MS, NULL,
        "How long events of the outbox are kept after they were sent."),
    KEY("limits.max_attempts", INTEGER, limits.max_attempts, "100", 1, 1000000, NULL,
        "The most runs that one event may ask for."),
    KEY("limits.max_delay", DURATION, limits.max_delay_ms, "30d", 0, 48 * DAY_MS, NULL,
        "The longest delay that one event may ask for."),
    KEY("admin.listen", TEXT, admin.listen, "127.0.0.1:9464", 0, 255, NULL,
        "Where metrics and health checks are served, `host:port`; empty: nowhere."),
    KEY("log.level", CHOICE, log.level, "info", 0, 0, levels, "The least level that is logged."),
    KEY("log.format", CHOICE, log.format, "text", 0, 0, formats, "How a line is written."),
    KEY("timeout_ms", DURATION, timeout_ms, "60000", 1, DAY_MS, NULL,
        "How long a handler may take for one event."),
    KEY("concurrency", INTEGER, concurrency, "100", 1, 32767, NULL,
        "Events that a handler may have under way at once."),
    KEY("budget_ms", DURATION, budget_ms, "200", 10, DAY_MS, NULL,
        "Processor time that a Lua handler may use between two waits."),
    KEY("memory_kb", LONG, memory_kb, "65536", 256, 16777216, NULL,
        "Memory that a handler may use, in KiB."),
    KEY("max_body_bytes", LONG, max_body_bytes, "1048576", 1, 134217728, NULL,
        "The largest body; a larger one is rejected unread."),
    KEY("shutdown_timeout_ms", DURATION, shutdown_timeout_ms, "30000", 0, DAY_MS, NULL,
        "How long a shutdown waits for events under way, which then go back to their queues."),
    KEY("lanes", COUNT, lanes, "1", 1, 256, NULL,
        "Worker processes under one supervisor; `auto`: one for each processor it may use."),
    KEY("crash_limit", INTEGER, crash_limit, "2", 1, 1000, NULL,
        "Crashes of a lane that an event may cause before it goes to the dead letters."),
    KEY("hard_timeout_ms", DURATION, hard_timeout_ms, "60000", 100, DAY_MS, NULL,
        "How long a handler may keep the processor without coming back, on a thread of a blocking "
        "plugin after its `timeout_ms`: then its lane is killed, and the event charged."),
    KEY("state_dir", TEXT, state_dir, NULL, 1, 4000, NULL,
        "Where crashes that events caused are remembered; without it `$STATE_DIRECTORY`, "
        "`$XDG_STATE_HOME/leveret` or `~/.local/state/leveret`."),
};
const size_t lvt_config_key_count = sizeof lvt_config_keys / sizeof *lvt_config_keys;

enum leveret_code lvt_config_init(struct lvt_config *config, struct leveret_error *err) {
    *config = (struct lvt_config){0};
    enum leveret_code code = lvt_keys_init(lvt_config_keys, lvt_config_key_count, config, err);
    if (code != LEVERET_OK) {
        lvt_config_free(config);
    }
    return code;
}

enum leveret_code lvt_config_copy(const struct lvt_config *config, struct lvt_config *ret_copy,
                                  struct leveret_error *err) {
    struct lvt_config copy = *config;
    if (!lvt_keys_own(lvt_config_keys, lvt_config_key_count, &copy)) {
        lvt_config_free(&copy);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a configuration");
    }
    *ret_copy = copy;
    return LEVERET_OK;
}

void lvt_config_free(struct lvt_config *config) {
    if (config) {
        lvt_keys_free(lvt_config_keys, lvt_config_key_count, config);
    }
}
