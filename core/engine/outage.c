/* Events whose runs met a service that is away. What such a run did outside it does again with the
 * next one, so there is no next one before the service answers: the event is held, and then one is
 * let go to find out, and two for each that comes through. A service that answers and cannot write,
 * or answers now and then, so meets few of them.
 *
 * Other events go on, for they may need nothing of it. Only a handler whose runs have all met the
 * outage waits as a whole. */
#include "base/container.h"
#include "engine/retry.h"
#include "engine/state.h"

/* Between two tries to find out. */
#define TRY_FIRST_MS 500
#define TRY_CAP_MS 3000
/* So many runs in a row that met the outage tell that their handler needs the service for whatever
 * it does; of Redis, only while none of its runs was done without. */
#define RUNS_THAT_TELL 8
/* An event that there is no room to hold comes back after a quarter of the outage's time so far. */
#define PUT_OFF_LEAST_MS 1000
#define PUT_OFF_MOST_MS 60000

static uint64_t now_ms(const struct lvt_engine *engine) {
    return engine->clock.now_ms(engine->clock.self);
}

/* ---- is it back? ---- */

static void let_one_try(struct lvt_outage *outage) {
    outage->tries++;
    outage->trying_max = outage->trying + 1;
}

/* A word of whatever kind is an answer. */
static void ponged(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                   const char *error) {
    (void)reply, (void)error;
    if (answer != LVT_ANSWER_OUTAGE)
        let_one_try(ctx);
}

static void try_due(struct lvt_timer *timer) {
    struct lvt_outage *outage = LVT_CONTAINER_OF(timer, struct lvt_outage, timer);
    struct lvt_engine *engine = outage->engine;
    const struct lvt_bytes ping[] = {LVT_LITERAL("PING")};
    if (outage->service == LVT_SERVICE_REDIS)
        engine->cache.command(engine->cache.self, ping, 1, ponged, outage);
    else if (engine->ledger.ready(engine->ledger.self))
        let_one_try(outage);
}

/* Without memory for the timer the next pump asks again. */
static void try_later(struct lvt_outage *outage) {
    struct lvt_engine *engine = outage->engine;
    const struct lvt_retry_policy backoff = {
        .base_ms = TRY_FIRST_MS, .factor = 2, .cap_ms = TRY_CAP_MS, .jitter = 0.25};
    uint64_t delay_ms =
        lvt_retry_delay(&backoff, outage->tries, engine->clock.random(engine->clock.self));
    (void)lvt_timer_start(engine->clock.timers, &outage->timer, now_ms(engine) + delay_ms);
}

static void let_go(struct lvt_outage *outage) {
    struct lvt_event *event = lvt_event_take(&outage->held);
    event->handler->queue->held--;
    event->probes = outage->service;
    outage->trying++;
    lvt_run_queue_again(outage->engine, event);
}

static bool step(struct lvt_outage *outage) {
    bool some = false;
    for (; outage->held.first && outage->trying < outage->trying_max; some = true)
        let_go(outage);
    if (!outage->held.first && outage->trying < outage->trying_max) {
        outage->on = false;
        lvt_timer_stop(outage->engine->clock.timers, &outage->timer);
    } else if (outage->timer.position == 0) {
        try_later(outage);
    }
    return some;
}

bool lvt_outage_step(struct lvt_engine *engine) {
    bool some = false;
    for (int i = 0; i < LVT_SERVICES; i++)
        if (engine->outages[i].on)
            some |= step(&engine->outages[i]);
    return some;
}

static bool is_done(const struct lvt_event *event) {
    return event->verdict.kind == LVT_VERDICT_DONE || event->verdict.kind == LVT_VERDICT_DROP;
}

/* NULL when it was none. */
static struct lvt_outage *end_try(struct lvt_engine *engine, struct lvt_event *event) {
    if (event->probes == LVT_SERVICE_NONE)
        return NULL;
    struct lvt_outage *outage = &engine->outages[event->probes];
    event->probes = LVT_SERVICE_NONE;
    outage->trying--;
    return outage;
}

void lvt_outage_left(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_outage *outage = end_try(engine, event);
    if (!outage || !is_done(event)) /* what failed tells nothing */
        return;
    outage->trying_max++;
    outage->tries = 0;
}

/* ---- waiting for it ---- */

static void begin(struct lvt_outage *outage) {
    outage->on = true;
    outage->number++;
    outage->began_ms = now_ms(outage->engine);
    outage->tries = 0;
}

/* All that the handler does needs the service. */
static bool stops(const struct lvt_outage *outage, const struct lvt_handler *handler) {
    const struct lvt_handler_outage *its = &handler->outages[outage->service];
    return its->number == outage->number && !its->spared && its->met >= RUNS_THAT_TELL;
}

static void hold(struct lvt_outage *outage, struct lvt_event *event) {
    event->handler->queue->held++;
    lvt_event_enter(outage->engine, event, LVT_STAGE_WAITING);
    lvt_event_append(&outage->held, event);
}

/* Through the broker, so that it does not take the room of those that can go on. */
static void put_off(struct lvt_outage *outage, struct lvt_event *event) {
    struct lvt_engine *engine = outage->engine;
    uint64_t delay_ms = (now_ms(engine) - outage->began_ms) / 4;
    if (delay_ms < PUT_OFF_LEAST_MS)
        delay_ms = PUT_OFF_LEAST_MS;
    if (delay_ms > PUT_OFF_MOST_MS)
        delay_ms = PUT_OFF_MOST_MS;
    const struct lvt_verdict verdict = {.kind = LVT_VERDICT_SNOOZE,
                                        .reason = LVT_LITERAL("Redis is away"),
                                        .after_ms = (int64_t)delay_ms};
    event->put_off = true;
    lvt_event_judge(event, &verdict);
    lvt_event_enter(engine, event, LVT_STAGE_SETTLING);
    lvt_event_append(&engine->to_settle, event);
}

/* Half of a queue's window is for those that can go on. Without PostgreSQL none can, or soon will;
 * and those of a handler that waits as a whole are better left in their queue. */
static void keep(struct lvt_outage *outage, struct lvt_event *event) {
    const struct lvt_handler *handler = event->handler;
    if (outage->service == LVT_SERVICE_REDIS && !stops(outage, handler) &&
        handler->queue->held >= handler->queue->prefetch / 2)
        put_off(outage, event);
    else
        hold(outage, event);
}

void lvt_outage_met(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_outage *outage = &engine->outages[event->verdict.service];
    if (engine->draining) {
        lvt_event_forget(engine, event);
        return;
    }
    lvt_outcome_waits(engine, event);
    (void)end_try(engine, event);
    if (!outage->on)
        begin(outage);
    outage->trying_max = 0;
    keep(outage, event);
}

bool lvt_outage_holds(struct lvt_engine *engine, struct lvt_event *event) {
    for (int i = 0; i < LVT_SERVICES; i++) {
        struct lvt_outage *outage = &engine->outages[i];
        if (!outage->on || event->probes == outage->service)
            continue;
        if (event->waits_for != outage->service && !stops(outage, event->handler))
            continue;
        (void)end_try(engine, event);
        keep(outage, event);
        return true;
    }
    return false;
}

void lvt_outage_note(const struct lvt_run *run) {
    const struct lvt_event *event = run->event;
    for (int i = 0; i < LVT_SERVICES; i++) {
        const struct lvt_outage *outage = &run->engine->outages[i];
        struct lvt_handler_outage *its = &run->handler->outages[i];
        if (!outage->on || run->started_ms <= outage->began_ms)
            continue;
        if (its->number != outage->number)
            *its = (struct lvt_handler_outage){.number = outage->number};
        if (event->verdict.kind == LVT_VERDICT_OUTAGE && event->verdict.service == outage->service)
            its->met++;
        if (!is_done(event))
            continue;
        /* A full disk lets some writes pass; but few can do without PostgreSQL's record. */
        its->met = 0;
        its->spared = outage->service == LVT_SERVICE_REDIS;
    }
}

/* ---- life ---- */

void lvt_outages_init(struct lvt_engine *engine) {
    for (int i = 0; i < LVT_SERVICES; i++)
        engine->outages[i] = (struct lvt_outage){
            .engine = engine, .service = (enum lvt_service)i, .timer.fire = try_due};
}

void lvt_outages_end(struct lvt_engine *engine) {
    for (int i = 0; i < LVT_SERVICES; i++) {
        struct lvt_outage *outage = &engine->outages[i];
        outage->on = false;
        outage->held = (struct lvt_event_list){0};
        lvt_timer_stop(engine->clock.timers, &outage->timer);
    }
}
