#include "lane/exec.h"

#include <stdlib.h>

#include "cache/cache.h"
#include "engine/effects.h"
#include "engine/engine.h"
#include "engine/message.h"
#include "exec/standin.h"
#include "http/http.h"
#include "lane/loop.h"
#include "ledger/ledger.h"

struct exec {
    const struct lvt_exec_options *options;
    struct lvt_loop loop;
    uv_async_t posted; /* a plugin's thread has something for the engine */
    /* The engine's clock is the loop's, and ahead of it by the time that was skipped. It stands
     * still while handlers run, so that a sleep is known by when it ends. */
    struct lvt_timers timers;
    uint64_t now_ms, skipped_ms;
    struct lvt_timer wake;   /* of the loop: the engine's next timer */
    uint64_t slept_until_ms; /* of the sleep that was told; 0: none */
    struct lvt_stats *stats;
    struct lvt_engine *engine;
    struct lvt_recorder *recorder;
    struct lvt_standin *standin;
    struct lvt_ledger *ledger;
    struct lvt_cache *cache;
    struct lvt_http *http;
    unsigned open_ports;
    bool closing;
    struct lvt_exec_result *result;
    struct leveret_error failure; /* code 0: none */
};

/* ---- the clock ---- */

static void tick(void *ctx) {
    struct exec *exec = ctx;
    exec->now_ms = exec->loop.clock.now_ms(exec->loop.clock.self) + exec->skipped_ms;
}

static uint64_t clock_now_ms(void *self) {
    const struct exec *exec = self;
    return exec->now_ms;
}

static int64_t clock_wall_ms(void *self) {
    struct exec *exec = self;
    return exec->loop.clock.wall_ms(exec->loop.clock.self) + (int64_t)exec->skipped_ms;
}

static uint32_t clock_random(void *self) {
    struct exec *exec = self;
    return exec->loop.clock.random(exec->loop.clock.self);
}

static void awake(struct lvt_timer *timer) {
    (void)timer; /* what is due runs before the next sleep */
}

/* The first timer of the engine's that is not the run's timeout: with nothing asked and not
 * answered, the end of a sleep. */
static bool find_sleep(const struct exec *exec, const struct lvt_run *run, uint64_t *ret_due_ms) {
    bool found = false;
    for (size_t i = 0; i < exec->timers.count; i++) {
        const struct lvt_timer *timer = exec->timers.heap[i];
        if (timer == &run->timeout || (found && timer->due_ms >= *ret_due_ms))
            continue;
        *ret_due_ms = timer->due_ms;
        found = true;
    }
    return found;
}

/* Tells of a sleep once, and skips it when nobody has to be waited for. True when time has been
 * skipped. */
static bool see_sleep(struct exec *exec) {
    const struct lvt_run *run = lvt_recorder_run(exec->recorder);
    uint64_t due_ms = 0;
    if (!run || !lvt_effect_sleeps(run) || lvt_recorder_outstanding(exec->recorder) > 0 ||
        !find_sleep(exec, run, &due_ms))
        return false;
    if (exec->slept_until_ms == 0) {
        exec->slept_until_ms = due_ms;
        lvt_recorder_slept(exec->recorder, due_ms - exec->now_ms);
    }
    uint64_t next_ms = due_ms;
    if (exec->options->live || !lvt_timers_next(&exec->timers, &next_ms) || next_ms < exec->now_ms)
        return false;
    exec->skipped_ms += next_ms - exec->now_ms;
    return true;
}

static void run_timers(struct exec *exec) {
    tick(exec);
    if (exec->slept_until_ms != 0 && exec->now_ms >= exec->slept_until_ms)
        exec->slept_until_ms = 0;
    lvt_timers_run(&exec->timers, exec->now_ms);
}

static void set_wake(struct exec *exec) {
    uint64_t due_ms;
    if (!lvt_timers_next(&exec->timers, &due_ms)) {
        lvt_timer_stop(&exec->loop.timers, &exec->wake);
        return;
    }
    exec->wake.fire = awake;
    due_ms = due_ms > exec->skipped_ms ? due_ms - exec->skipped_ms : 0;
    if (!lvt_timer_start(&exec->loop.timers, &exec->wake, due_ms))
        leveret_fail(&exec->failure, LEVERET_NO_MEMORY, "out of memory for a timer");
}

/* ---- the end ---- */

static void woke(uv_async_t *posted) {
    (void)posted; /* the pump before the next sleep does what there is to do */
}

static void wake_loop(void *ctx) {
    struct exec *exec = ctx;
    uv_async_send(&exec->posted);
}

static void port_closed(void *ctx) {
    struct exec *exec = ctx;
    if (--exec->open_ports > 0)
        return;
    uv_close((uv_handle_t *)&exec->posted, NULL);
    lvt_timer_stop(&exec->loop.timers, &exec->wake);
    lvt_loop_close(&exec->loop);
}

static void close_all(struct exec *exec) {
    exec->closing = true;
    if (exec->engine) {
        lvt_engine_drain(exec->engine);
        lvt_engine_abandon(exec->engine);
    }
    exec->open_ports = 1; /* this function's own, so that the last is not the first */
    if (exec->ledger && ++exec->open_ports)
        lvt_ledger_close(exec->ledger, port_closed, exec);
    if (exec->cache && ++exec->open_ports)
        lvt_cache_close(exec->cache, port_closed, exec);
    if (exec->http && ++exec->open_ports)
        lvt_http_close(exec->http, port_closed, exec);
    port_closed(exec);
}

/* Decided, and what was asked for after the commit is answered too. */
static bool is_over(struct exec *exec, bool more) {
    if (lvt_recorder_failed(exec->recorder))
        leveret_fail(&exec->failure, LEVERET_NO_MEMORY, "out of memory");
    if (exec->failure.code != LEVERET_OK)
        return true;
    if (more || lvt_recorder_outstanding(exec->recorder) > 0)
        return false;
    if (lvt_recorder_result(exec->recorder, exec->result))
        return true;
    if (exec->timers.count > 0)
        return false;
    /* Nothing will happen any more: the engine has let the event go, to be delivered again. */
    leveret_fail(&exec->failure, LEVERET_NO_MEMORY, "out of memory for the event");
    return true;
}

static bool pump(void *ctx) {
    struct exec *exec = ctx;
    if (exec->closing)
        return false;
    run_timers(exec);
    lvt_recorder_poll(exec->recorder);
    if (exec->standin)
        lvt_standin_poll(exec->standin);
    bool more = lvt_engine_pump(exec->engine);
    more |= lvt_recorder_pending(exec->recorder) ||
            (exec->standin && lvt_standin_pending(exec->standin));
    more |= !more && see_sleep(exec);
    if (is_over(exec, more)) {
        close_all(exec);
        return false;
    }
    set_wake(exec);
    return more;
}

/* ---- the beginning ---- */

static enum leveret_code connect_services(struct exec *exec, struct leveret_error *err) {
    const struct lvt_exec_options *options = exec->options;
    const struct lvt_config *config = options->config;
    const struct lvt_ledger_options ledger = {.url = config->postgres.url,
                                              .name = config->name,
                                              .pool = config->postgres.pool,
                                              .max_claims = config->ledger.max_claims,
                                              .guest = true,
                                              .log = options->log,
                                              .sink = lvt_engine_ledger_sink(exec->engine),
                                              .loop = &exec->loop.uv};
    const struct lvt_cache_options cache = {
        .url = config->redis.url, .log = options->log, .loop = &exec->loop.uv};
    enum leveret_code code = lvt_cache_new(&cache, &exec->cache, err);
    if (code == LEVERET_OK)
        code = lvt_http_new(&exec->loop.uv, &exec->http, err);
    if (code == LEVERET_OK)
        code = lvt_cache_start(exec->cache, err);
    if (code == LEVERET_OK)
        code = lvt_ledger_new(&ledger, &exec->ledger, err);
    if (code == LEVERET_OK)
        lvt_ledger_start(exec->ledger);
    return code;
}

static enum leveret_code make_engine(struct exec *exec, struct leveret_error *err) {
    const struct lvt_exec_options *options = exec->options;
    const struct lvt_recorder_options recorder = {.watcher = options->watcher,
                                                  .handler = options->routes->handlers[0],
                                                  .log_level = options->log->level,
                                                  .tick = tick,
                                                  .tick_ctx = exec};
    enum leveret_code code = lvt_recorder_new(&recorder, &exec->recorder, err);
    if (code != LEVERET_OK)
        return code;
    exec->stats = lvt_stats_new(exec->now_ms);
    if (!exec->stats)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the counters");
    const struct lvt_engine_options engine = {
        .name = options->config->name,
        .clock = {exec, clock_now_ms, clock_wall_ms, clock_random, &exec->timers},
        .routes = options->routes,
        .log = lvt_recorder_log(exec->recorder),
        .stats = exec->stats,
        .max_body_bytes = options->config->max_body_bytes,
        .exchange = options->config->rabbitmq.exchange,
        .max_delay_ms = options->config->limits.max_delay_ms,
        .max_attempts = options->config->limits.max_attempts,
        .pool = options->config->postgres.pool,
        .wake = wake_loop,
        .wake_ctx = exec};
    return lvt_engine_new(&engine, &exec->engine, err);
}

static enum leveret_code make_ports(struct exec *exec, struct leveret_error *err) {
    enum leveret_code code =
        exec->options->live ? connect_services(exec, err) : lvt_standin_new(&exec->standin, err);
    if (code != LEVERET_OK)
        return code;
    if (exec->options->live)
        lvt_recorder_attach(exec->recorder, exec->engine, lvt_ledger_port(exec->ledger),
                            lvt_cache_port(exec->cache), lvt_http_port(exec->http));
    else
        lvt_recorder_attach(exec->recorder, exec->engine, lvt_standin_ledger(exec->standin),
                            lvt_standin_cache(exec->standin), lvt_standin_http(exec->standin));
    return LEVERET_OK;
}

static enum leveret_code deliver(struct exec *exec, struct leveret_error *err) {
    const struct lvt_exec_options *options = exec->options;
    struct lvt_queue *queue = options->routes->queues[0];
    struct lvt_delivery *delivery = lvt_delivery_new(options->body.len);
    struct lvt_header *attempt =
        delivery ? lvt_arena_zalloc(&delivery->arena, sizeof *attempt) : NULL;
    if (attempt)
        delivery->body = lvt_arena_copy(&delivery->arena, options->body);
    if (!attempt || !delivery->body.data) {
        lvt_delivery_free(delivery);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the event");
    }
    *attempt = (struct lvt_header){.name = LVT_LITERAL(LVT_HEADER_ATTEMPT),
                                   .kind = LVT_HEADER_INT64,
                                   .value.integer = options->attempt - 1};
    delivery->queue = queue;
    delivery->exchange = lvt_bytes_of(queue->exchange);
    delivery->routing_key = lvt_bytes_of(options->routes->handlers[0]->name);
    if (options->attempt > 1) {
        delivery->properties.present = LVT_HAS_HEADERS;
        delivery->properties.headers = (struct lvt_headers){attempt, 1};
    }
    const struct lvt_broker_sink sink = lvt_engine_broker_sink(exec->engine);
    sink.delivered(sink.ctx, delivery);
    return LEVERET_OK;
}

static void free_all(struct exec *exec) {
    lvt_engine_free(exec->engine);
    lvt_standin_free(exec->standin);
    lvt_ledger_free(exec->ledger);
    lvt_cache_free(exec->cache);
    lvt_http_free(exec->http);
    lvt_recorder_free(exec->recorder);
    lvt_stats_free(exec->stats);
    lvt_timers_free(&exec->timers);
    lvt_loop_free(&exec->loop);
    free(exec);
}

enum leveret_code lvt_exec_run(const struct lvt_exec_options *options,
                               struct lvt_exec_result *ret_result, struct leveret_error *err) {
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    exec->options = options;
    exec->result = ret_result;
    enum leveret_code code = lvt_loop_init(&exec->loop, pump, exec, err);
    if (code != LEVERET_OK) {
        free(exec);
        return code;
    }
    uv_async_init(&exec->loop.uv, &exec->posted, woke);
    tick(exec);
    code = make_engine(exec, err);
    if (code == LEVERET_OK)
        code = make_ports(exec, err);
    if (code == LEVERET_OK)
        code = deliver(exec, err);
    if (code != LEVERET_OK)
        close_all(exec);
    lvt_loop_run(&exec->loop);
    if (code == LEVERET_OK && exec->failure.code != LEVERET_OK)
        code = leveret_fail(err, exec->failure.code, "%s", exec->failure.text);
    free_all(exec);
    return code;
}
