/* The end of a lane, step by step, each with its line in the log. */
#include "lane/state.h"

/* Of a lane that never started there is nothing to say. */
static void say(struct lvt_lane *lane, const char *text) {
    if (lane->started)
        lvt_log(lane->options.log, LVT_INFO, text, NULL, 0);
}

static uint64_t now_ms(struct lvt_lane *lane) {
    return lane->loop.clock.now_ms(lane->loop.clock.self);
}

static void deadline_due(struct lvt_timer *timer) {
    (void)timer; /* the step before the next sleep sees that it is no longer armed */
}

void lvt_lane_drain(struct lvt_lane *lane) {
    if (lane->stage != LVT_LANE_WORKING)
        return;
    lane->stage = LVT_LANE_DRAINING;
    atomic_store_explicit(&lane->shown.ready, false, memory_order_relaxed);
    if (lane->options.post)
        atomic_store(&lane->options.post->box->ready, false);
    say(lane, "shutdown: consuming stops");
    lvt_lane_stop_following(lane);
    lvt_broker_cancel(lane->broker);
    lvt_engine_drain(lane->engine);
    LVT_LOG(lane->options.log, LVT_INFO, "shutdown: finishing what is in flight",
            LVT_INTEGER("events", (int64_t)lvt_engine_in_flight(lane->engine)),
            LVT_INTEGER("timeout_ms", (int64_t)lane->options.config->shutdown_timeout_ms));
    lane->deadline.fire = deadline_due;
    (void)lvt_timer_start(&lane->loop.timers, &lane->deadline,
                          now_ms(lane) + lane->options.config->shutdown_timeout_ms);
}

void lvt_lane_drain_step(struct lvt_lane *lane) {
    size_t in_flight = lvt_engine_in_flight(lane->engine);
    bool over = lane->deadline.position == 0;
    if (in_flight > 0 && !over)
        return;
    if (in_flight > 0) {
        LVT_LOG(lane->options.log, LVT_WARN,
                "shutdown: the time is over; unfinished events go back to their queues",
                LVT_INTEGER("events", (int64_t)in_flight));
        lvt_engine_abandon(lane->engine);
    }
    lvt_lane_close(lane);
}

static void port_closed(struct lvt_lane *lane, const char *text) {
    if (text)
        say(lane, text);
    if (--lane->open_ports > 0)
        return;
    uv_close((uv_handle_t *)&lane->broker_wake, NULL);
    uv_close((uv_handle_t *)&lane->engine_wake, NULL);
    uv_close((uv_handle_t *)&lane->stop_wake, NULL);
    uv_close((uv_handle_t *)&lane->reload_wake, NULL);
    lvt_lane_line_close(lane);
    lvt_loop_close(&lane->loop);
}

static void ledger_closed(void *ctx) {
    port_closed(ctx, "shutdown: PostgreSQL connections closed");
}

static void cache_closed(void *ctx) {
    port_closed(ctx, "shutdown: Redis connection closed");
}

static void http_closed(void *ctx) {
    port_closed(ctx, NULL);
}

static void admin_closed(void *ctx) {
    port_closed(ctx, NULL);
}

void lvt_lane_close(struct lvt_lane *lane) {
    lane->stage = LVT_LANE_CLOSING;
    lvt_lane_stop_following(lane);
    if (lane->started)
        lvt_lane_log_counters(lane);
    lane->open_ports = 1; /* this function's own, so that the last is not the first */
    if (lane->broker) {
        lvt_broker_stop(lane->broker);
        say(lane, "shutdown: RabbitMQ connections closed");
    }
    if (lane->ledger && lane->started && ++lane->open_ports)
        lvt_ledger_close(lane->ledger, ledger_closed, lane);
    if (lane->cache && ++lane->open_ports)
        lvt_cache_close(lane->cache, cache_closed, lane);
    if (lane->http && ++lane->open_ports)
        lvt_http_close(lane->http, http_closed, lane);
    if (lane->admin && ++lane->open_ports)
        lvt_admin_close(lane->admin, admin_closed, lane);
    port_closed(lane, NULL);
}
