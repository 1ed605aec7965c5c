#include "lane/lane.h"

#include <stdlib.h>

#include "base/container.h"
#include "engine/forward.h"
#include "lane/state.h"
#include "runtime/reload.h"

#define COUNTERS_EVERY_MS 30000
#define WATCH_EVERY_MS 250

static uint64_t now_ms(struct lvt_lane *lane) {
    return lane->loop.clock.now_ms(lane->loop.clock.self);
}

static void fail(struct lvt_lane *lane, const struct leveret_error *failure) {
    if (lane->failure.code == LEVERET_OK)
        lane->failure = *failure;
    lvt_lane_drain(lane);
}

static const struct leveret_error *cache_failure(const struct lvt_cache_status *cache,
                                                 struct leveret_error *err) {
    leveret_fail(err, LEVERET_CONFIG, "Redis at %s refuses us: %s; check redis.url", cache->address,
                 cache->reason);
    return err;
}

/* Sees to what no callback tells: a service that will not have us, and the last live consumer. */
static void watch(struct lvt_timer *timer) {
    struct lvt_lane *lane = LVT_CONTAINER_OF(timer, struct lvt_lane, watch);
    struct lvt_broker_status broker;
    struct lvt_ledger_status ledger;
    struct lvt_cache_status cache;
    struct leveret_error refused;
    char reason[256];
    lvt_broker_status(lane->broker, &broker);
    lvt_ledger_status(lane->ledger, &ledger);
    lvt_cache_status(lane->cache, &cache);
    size_t count = lvt_lane_queues(lane);
    if (lvt_routes_given(lane->options.routes) == 0)
        lane->consuming_at_ms = now_ms(lane); /* as its folders want it */
    for (size_t i = 0; i < count; i++)
        if (lane->queues[i].consuming)
            lane->consuming_at_ms = now_ms(lane);
    bool ready = lvt_lane_ready(lane, reason, sizeof reason);
    atomic_store_explicit(&lane->shown.ready, ready, memory_order_relaxed);
    if (lane->options.post)
        lvt_lane_beat(lane, ready);
    if (ready && !lane->everything_ready) {
        lane->everything_ready = true;
        LVT_LOG(lane->options.log, LVT_INFO, "ready: consuming",
                LVT_INTEGER("queues", (int64_t)lane->options.routes->queue_count),
                LVT_INTEGER("handlers", (int64_t)lvt_routes_given(lane->options.routes)));
    }
    if (broker.failed)
        fail(lane, &broker.failure);
    else if (ledger.failed)
        fail(lane, &ledger.failure);
    else if (cache.failed)
        fail(lane, cache_failure(&cache, &refused));
    (void)lvt_timer_start(&lane->loop.timers, timer, now_ms(lane) + WATCH_EVERY_MS);
}

void lvt_lane_log_counters(struct lvt_lane *lane) {
    const uint64_t *outcomes = lane->stats->outcomes;
    LVT_LOG(lane->options.log, LVT_INFO, "counters",
            LVT_INTEGER("processed", (int64_t)outcomes[LVT_OUTCOME_PROCESSED]),
            LVT_INTEGER("failed", (int64_t)outcomes[LVT_OUTCOME_FAILED]),
            LVT_INTEGER("retried", (int64_t)outcomes[LVT_OUTCOME_RETRIED]),
            LVT_INTEGER("duplicates", (int64_t)outcomes[LVT_OUTCOME_DUPLICATE]));
}

static void counters_due(struct lvt_timer *timer) {
    struct lvt_lane *lane = LVT_CONTAINER_OF(timer, struct lvt_lane, counters);
    lvt_lane_log_counters(lane);
    (void)lvt_timer_start(&lane->loop.timers, timer, now_ms(lane) + COUNTERS_EVERY_MS);
}

static void show(struct lvt_lane *lane) {
    const struct lvt_stats *stats = lane->stats;
    struct lvt_lane_shown *shown = &lane->shown;
    for (size_t i = 0; i < LVT_OUTCOME_COUNT; i++)
        atomic_store_explicit(&shown->outcomes[i], stats->outcomes[i], memory_order_relaxed);
    atomic_store_explicit(&shown->events_without_id, stats->events_without_id,
                          memory_order_relaxed);
    atomic_store_explicit(&shown->in_flight, stats->in_flight, memory_order_relaxed);
}

const struct lvt_lane_shown *lvt_lane_shown(const struct lvt_lane *lane) {
    return &lane->shown;
}

static bool pump(void *ctx) {
    struct lvt_lane *lane = ctx;
    if (lane->stage == LVT_LANE_CLOSING)
        return false;
    bool more = lvt_engine_pump(lane->engine);
    show(lane);
    if (lane->stage == LVT_LANE_DRAINING)
        lvt_lane_drain_step(lane);
    return more;
}

static void broker_woke(uv_async_t *wake) {
    struct lvt_lane *lane = wake->data;
    lvt_broker_poll(lane->broker);
}

static void wake_loop(void *ctx) {
    struct lvt_lane *lane = ctx;
    uv_async_send(&lane->broker_wake);
}

static void engine_woke(uv_async_t *wake) {
    (void)wake; /* the pump before the next sleep does what there is to do */
}

static void wake_engine(void *ctx) {
    struct lvt_lane *lane = ctx;
    uv_async_send(&lane->engine_wake);
}

static void stop_woke(uv_async_t *wake) {
    lvt_lane_drain(wake->data);
}

void lvt_lane_stop(struct lvt_lane *lane) {
    uv_async_send(&lane->stop_wake);
}

static void reload_woke(uv_async_t *wake) {
    lvt_lane_reload_now(wake->data);
}

void lvt_lane_reload(struct lvt_lane *lane) {
    uv_async_send(&lane->reload_wake);
}

static enum leveret_code make_engine(struct lvt_lane *lane, struct leveret_error *err) {
    const struct lvt_config *config = lane->options.config;
    const struct lvt_post *post = lane->options.post;
    lane->stats = lvt_stats_new(now_ms(lane));
    if (!lane->stats)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the counters");
    const struct lvt_engine_options options = {.name = config->name,
                                               .clock = lane->loop.clock,
                                               .routes = lane->options.routes,
                                               .log = lane->options.log,
                                               .stats = lane->stats,
                                               .max_body_bytes = config->max_body_bytes,
                                               .exchange = config->rabbitmq.exchange,
                                               .max_delay_ms = config->limits.max_delay_ms,
                                               .max_attempts = config->limits.max_attempts,
                                               .pool = config->postgres.pool,
                                               .blackbox = post ? post->box : NULL,
                                               .charges = post ? post->charges : NULL,
                                               .crash_limit = config->crash_limit,
                                               .wake = wake_engine,
                                               .wake_ctx = lane};
    return lvt_engine_new(&options, &lane->engine, err);
}

static enum leveret_code make_broker(struct lvt_lane *lane, struct leveret_error *err) {
    const struct lvt_config *config = lane->options.config;
    const struct lvt_broker_options options = {.url = config->rabbitmq.url,
                                               .ca_file = config->rabbitmq.ca_file,
                                               .heartbeat_s = config->rabbitmq.heartbeat_s,
                                               .exchange = config->rabbitmq.exchange,
                                               .name = config->name,
                                               .routes = lane->options.routes,
                                               .max_body_bytes = config->max_body_bytes,
                                               .log = lane->options.log,
                                               .sink = lvt_engine_broker_sink(lane->engine),
                                               .wake = wake_loop,
                                               .wake_ctx = lane};
    return lvt_broker_new(&options, &lane->broker, err);
}

static enum leveret_code make_services(struct lvt_lane *lane, struct leveret_error *err) {
    const struct lvt_config *config = lane->options.config;
    const struct lvt_ledger_options ledger = {.url = config->postgres.url,
                                              .name = config->name,
                                              .pool = config->postgres.pool,
                                              .max_claims = config->ledger.max_claims,
                                              .retention_ms = config->ledger.retention_ms,
                                              .outbox_retention_ms = config->outbox.retention_ms,
                                              .max_body_bytes = config->max_body_bytes,
                                              .log = lane->options.log,
                                              .sink = lvt_engine_ledger_sink(lane->engine),
                                              .loop = &lane->loop.uv};
    const struct lvt_cache_options cache = {
        .url = config->redis.url, .log = lane->options.log, .loop = &lane->loop.uv};
    enum leveret_code code = lvt_ledger_new(&ledger, &lane->ledger, err);
    if (code == LEVERET_OK)
        code = lvt_cache_new(&cache, &lane->cache, err);
    if (code == LEVERET_OK)
        code = lvt_http_new(&lane->loop.uv, &lane->http, err);
    return code;
}

enum leveret_code lvt_lane_new(const struct lvt_lane_options *options, struct lvt_lane **ret_lane,
                               struct leveret_error *err) {
    struct lvt_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the lane");
    lane->options = *options;
    enum leveret_code code = lvt_loop_init(&lane->loop, pump, lane, err);
    if (code != LEVERET_OK) {
        free(lane);
        return code;
    }
    uv_async_init(&lane->loop.uv, &lane->broker_wake, broker_woke);
    uv_async_init(&lane->loop.uv, &lane->engine_wake, engine_woke);
    uv_async_init(&lane->loop.uv, &lane->stop_wake, stop_woke);
    uv_async_init(&lane->loop.uv, &lane->reload_wake, reload_woke);
    lane->broker_wake.data = lane->stop_wake.data = lane->reload_wake.data = lane;
    code = lvt_forward_add(options->config, options->routes, err);
    if (code == LEVERET_OK)
        code = make_engine(lane, err);
    if (code == LEVERET_OK)
        code = make_broker(lane, err);
    if (code == LEVERET_OK)
        code = make_services(lane, err);
    if (code != LEVERET_OK) {
        lvt_lane_free(lane);
        return code;
    }
    lvt_engine_attach(lane->engine, lvt_broker_port(lane->broker), lvt_ledger_port(lane->ledger),
                      lvt_cache_port(lane->cache), lvt_http_port(lane->http));
    *ret_lane = lane;
    return LEVERET_OK;
}

static enum leveret_code start_admin(struct lvt_lane *lane, struct leveret_error *err) {
    const struct lvt_admin_options options = {.listen = lane->options.config->admin.listen,
                                              .log = lane->options.log,
                                              .loop = &lane->loop.uv,
                                              .source = {lane, lvt_lane_snapshot}};
    return lvt_admin_start(&options, &lane->admin, err);
}

enum leveret_code lvt_lane_run(struct lvt_lane *lane, struct leveret_error *err) {
    enum leveret_code code =
        lane->options.post ? lvt_lane_line_open(lane, err) : start_admin(lane, err);
    if (code == LEVERET_OK)
        code = lvt_cache_start(lane->cache, err);
    if (code == LEVERET_OK)
        code = lvt_broker_start(lane->broker, err);
    if (code != LEVERET_OK)
        return code;
    if (lane->options.post)
        lvt_blackbox_expect_exit();
    lvt_ledger_start(lane->ledger);
    lane->started = true;
    lane->consuming_at_ms = now_ms(lane);
    lane->counters.fire = counters_due;
    lane->watch.fire = watch;
    if (!lvt_timer_start(&lane->loop.timers, &lane->counters, now_ms(lane) + COUNTERS_EVERY_MS) ||
        !lvt_timer_start(&lane->loop.timers, &lane->watch, now_ms(lane) + WATCH_EVERY_MS))
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for timers");
    code = lvt_lane_follow_files(lane, err);
    if (code != LEVERET_OK)
        return code;
    lvt_loop_run(&lane->loop);
    show(lane);
    if (lane->failure.code == LEVERET_OK)
        return LEVERET_OK;
    return leveret_fail(err, lane->failure.code, "%s", lane->failure.text);
}

void lvt_lane_free(struct lvt_lane *lane) {
    if (!lane)
        return;
    if (lane->stage != LVT_LANE_CLOSING)
        lvt_lane_close(lane);
    lvt_loop_run(&lane->loop);
    lvt_reload_free(lane->reload);
    lvt_engine_free(lane->engine);
    lvt_broker_free(lane->broker);
    lvt_ledger_free(lane->ledger);
    lvt_cache_free(lane->cache);
    lvt_http_free(lane->http);
    lvt_admin_free(lane->admin);
    lvt_stats_free(lane->stats);
    lvt_loop_free(&lane->loop);
    free(lane->queues);
    free(lane->figures);
    free(lane);
}
