/* Third step: an event's turn with its handler. */
#include "engine/run.h"

#include <stdio.h>

#include "base/container.h"
#include "engine/effects.h"
#include "engine/state.h"

/* Handlers started in one pump before the loop sees to its sockets again. */
#define STARTS_PER_PUMP 256
/* A bucket holds what the rate gives in this time, but at least one token. */
#define RATE_BURST_S 0.02

void lvt_handler_wake(struct lvt_engine *engine, struct lvt_handler *handler) {
    if (handler->startable || !handler->ready.first)
        return;
    handler->startable = true;
    handler->startable_next = NULL;
    if (engine->startable_last)
        engine->startable_last->startable_next = handler;
    else
        engine->startable = handler;
    engine->startable_last = handler;
}

void lvt_run_queue(struct lvt_engine *engine, struct lvt_event *event) {
    if (event->handler->retired && !lvt_event_reroute(engine, event))
        return;
    lvt_event_enter(engine, event, LVT_STAGE_READY);
    lvt_quarantine_queue(engine, event);
    lvt_event_append(&event->handler->ready, event);
    lvt_handler_wake(engine, event->handler);
}

void lvt_run_queue_again(struct lvt_engine *engine, struct lvt_event *event) {
    /* Another worker may have had it, and recorded it, while the ledger's session was lost. */
    if (event->claimed && event->claimed_after != engine->sessions_lost)
        lvt_claim_renew(engine, event);
    else
        lvt_run_queue(engine, event);
}

void lvt_handlers_wake(struct lvt_engine *engine) {
    for (size_t i = 0; i < engine->options.routes->handler_count; i++)
        lvt_handler_wake(engine, engine->options.routes->handlers[i]);
}

static void rate_due(struct lvt_timer *timer) {
    struct lvt_handler *handler = LVT_CONTAINER_OF(timer, struct lvt_handler, rate_timer);
    lvt_handler_wake(handler->engine, handler);
}

/* Whether the handler's bucket has a token; else sets the timer for when it has one. */
static bool has_token(struct lvt_engine *engine, struct lvt_handler *handler) {
    double rate = handler->options.rate;
    if (rate <= 0)
        return true;
    double capacity = rate * RATE_BURST_S > 1 ? rate * RATE_BURST_S : 1;
    uint64_t now_ms = engine->clock.now_ms(engine->clock.self);
    if (handler->tokens_at_ms == 0)
        handler->tokens = capacity;
    else
        handler->tokens += (double)(now_ms - handler->tokens_at_ms) * rate / 1000;
    if (handler->tokens > capacity)
        handler->tokens = capacity;
    handler->tokens_at_ms = now_ms;
    if (handler->tokens >= 1)
        return true;
    uint64_t wait_ms = (uint64_t)((1 - handler->tokens) * 1000 / rate) + 1;
    handler->rate_timer.fire = rate_due;
    /* Without memory for the timer, the next finished or arriving event asks again. */
    (void)lvt_timer_start(engine->clock.timers, &handler->rate_timer, now_ms + wait_ms);
    return false;
}

static bool take_token(struct lvt_engine *engine, struct lvt_handler *handler) {
    if (!has_token(engine, handler))
        return false;
    handler->tokens -= 1;
    return true;
}

/* The handler had no part in it: other transactions held the pool all the time. */
static void never_connected(struct lvt_run *run) {
    const struct lvt_verdict verdict = {
        .kind = LVT_VERDICT_OUTAGE, .reason = LVT_LITERAL("no connection of the pool was free")};
    LVT_LOG(run->engine->options.log, LVT_WARN,
            "no connection of the pool was free within timeout_ms; the event runs again at no cost "
            "of an attempt: raise postgres.pool, or lower the handlers' concurrency",
            LVT_STRING("handler", run->handler->name), LVT_STRING("version", run->handler->version),
            LVT_TEXT("event", run->event->type), LVT_TEXT("id", run->event->id));
    lvt_run_stop(run, &verdict);
}

/* That the broker is away, or takes no messages, is not the handler's doing. Ended here it would
 * publish once more with its next run. */
static bool waits_for_broker(const struct lvt_run *run) {
    return run->event->publishing || lvt_effects_publish_pending(run);
}

static bool restart_timeout(struct lvt_run *run) {
    struct lvt_clock *clock = &run->engine->clock;
    return lvt_timer_start(clock->timers, &run->timeout,
                           clock->now_ms(clock->self) + run->handler->options.timeout_ms);
}

static void timed_out(struct lvt_timer *timer) {
    struct lvt_run *run = LVT_CONTAINER_OF(timer, struct lvt_run, timeout);
    if (!run->tx_open && lvt_effects_sql_pending(run)) {
        never_connected(run);
        return;
    }
    if (waits_for_broker(run) && restart_timeout(run))
        return;
    char reason[80];
    snprintf(reason, sizeof reason, "the handler did not finish within timeout_ms = %llu",
             (unsigned long long)run->handler->options.timeout_ms);
    const struct lvt_verdict verdict = {
        .kind = LVT_VERDICT_RETRY, .reason = lvt_bytes_of(reason), .after_ms = -1};
    lvt_run_stop(run, &verdict);
}

/* Publishers that stamp their messages let us tell how old events are when their turn comes. */
static void observe_age(struct lvt_engine *engine, const struct lvt_event *event) {
    const struct lvt_properties *properties = &event->delivery->properties;
    int64_t wall_ms = engine->clock.wall_ms(engine->clock.self);
    if (!(properties->present & LVT_HAS_TIMESTAMP) ||
        properties->timestamp > (uint64_t)wall_ms / 1000)
        return;
    lvt_stats_observe_age(engine->options.stats, event->type,
                          (uint64_t)wall_ms - properties->timestamp * 1000);
}

static void start(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_handler *handler = event->handler;
    /* Without an id nothing will tell that it comes again with the new connection. */
    if (event->id.len == 0 && !engine->broker.live(engine->broker.self, event->delivery)) {
        lvt_event_forget(engine, event);
        return;
    }
    if (lvt_outage_holds(engine, event) || lvt_quarantine_holds(engine, event))
        return;
    if (!event->run)
        event->run = lvt_arena_alloc(&event->delivery->arena, sizeof *event->run);
    if (!event->run) {
        lvt_event_give_back(engine, event); /* until there is memory */
        return;
    }
    struct lvt_run *run = event->run;
    *run = (struct lvt_run){.event = event, .handler = handler, .engine = engine};
    run->started_ms = engine->clock.now_ms(engine->clock.self);
    handler->running++;
    lvt_quarantine_begin(run);
    lvt_event_enter(engine, event, LVT_STAGE_RUNNING);
    observe_age(engine, event);
    run->timeout.fire = timed_out;
    if (!lvt_timer_start(engine->clock.timers, &run->timeout,
                         run->started_ms + handler->options.timeout_ms)) {
        const struct lvt_verdict verdict = {.kind = LVT_VERDICT_OUTAGE,
                                            .reason = LVT_LITERAL("out of memory")};
        lvt_run_finish(run, &verdict);
        return;
    }
    lvt_run_enter(run);
    handler->runtime->start(handler->runtime_self, run);
    lvt_run_leave(engine);
}

/* True when the handler has more to start. */
static bool start_some(struct lvt_engine *engine, struct lvt_handler *handler, unsigned *budget) {
    while (handler->ready.first && handler->interrupted == 0 &&
           handler->running < handler->options.concurrency) {
        if (*budget == 0 || engine->alone)
            return true;
        if (!take_token(engine, handler))
            return false;
        (*budget)--;
        start(engine, lvt_event_take(&handler->ready));
    }
    return false;
}

/* A handler with suspects, whose rate lets one start; NULL when there is none. */
static struct lvt_handler *find_suspected(struct lvt_engine *engine) {
    const struct lvt_routes *routes = engine->options.routes;
    bool waiting = false;
    for (size_t i = 0; i < routes->handler_count; i++) {
        if (!lvt_quarantine_waits(routes->handlers[i]))
            continue;
        if (has_token(engine, routes->handlers[i]))
            return routes->handlers[i];
        waiting = true;
    }
    engine->suspects_wait = waiting;
    return NULL;
}

/* Each when nothing else runs. False: nothing else may start yet. */
static bool start_suspects(struct lvt_engine *engine, unsigned *budget) {
    struct lvt_handler *handler;
    while (!engine->alone && engine->suspects_wait && (handler = find_suspected(engine))) {
        if (engine->running > 0 || *budget == 0)
            return false;
        (*budget)--;
        (void)take_token(engine, handler);
        start(engine, lvt_quarantine_take(handler));
        lvt_handler_wake(engine, handler); /* it may have been one that does not run */
    }
    return !engine->alone;
}

bool lvt_run_step(struct lvt_engine *engine) {
    unsigned budget = STARTS_PER_PUMP;
    if (!engine->ledger.ready(engine->ledger.self))
        return false;
    if (!start_suspects(engine, &budget))
        return budget == 0;
    while (engine->startable && budget > 0 && !engine->alone) {
        struct lvt_handler *handler = engine->startable;
        engine->startable = handler->startable_next;
        if (!engine->startable)
            engine->startable_last = NULL;
        handler->startable = false;
        if (engine->suspects_wait && lvt_quarantine_waits(handler))
            continue; /* its rate's timer wakes it */
        if (start_some(engine, handler, &budget))
            lvt_handler_wake(engine, handler);
    }
    return engine->startable && !engine->alone;
}

static bool commits(const struct lvt_verdict *verdict) {
    return verdict->kind == LVT_VERDICT_DONE || verdict->kind == LVT_VERDICT_DROP;
}

void lvt_run_finish(struct lvt_run *run, const struct lvt_verdict *verdict) {
    struct lvt_engine *engine = run->engine;
    struct lvt_event *event = run->event;
    if (run->finished)
        return;
    run->finished = true;
    lvt_timer_stop(engine->clock.timers, &run->timeout);
    event->duration_ms = engine->clock.now_ms(engine->clock.self) - run->started_ms;
    if (lvt_effects_sql_pending(run)) {
        /* Its transaction cannot commit: a statement of it has not been answered. */
        const struct lvt_verdict unfinished = {
            .kind = LVT_VERDICT_RETRY,
            .reason = LVT_LITERAL("the handler ended while a statement of its was under way"),
            .after_ms = -1};
        lvt_event_judge(event, commits(verdict) ? &unfinished : verdict);
    } else {
        lvt_event_judge(event, verdict);
    }
    lvt_stats_observe_handler(engine->options.stats, event->type, run->handler->name,
                              run->handler->version, event->duration_ms);
    lvt_effects_end(run);
    if (!commits(&event->verdict))
        lvt_effects_rollback(run); /* now: an answer must not find its effect gone */
    if (!run->tx)
        lvt_outage_note(run); /* else its commit tells */
    lvt_quarantine_end(run);
    for (struct lvt_handler *counts = run->handler; counts; counts = counts->successor) {
        counts->running--;
        lvt_handler_wake(engine, counts);
    }
    lvt_event_enter(engine, event, LVT_STAGE_SETTLING);
    lvt_event_append(&engine->to_settle, event);
}

void lvt_run_abort(struct lvt_run *run) {
    struct lvt_engine *engine = run->engine;
    lvt_run_enter(run); /* a plugin hears that its calls are over */
    run->handler->runtime->abort(run->handler->runtime_self, run);
    lvt_run_leave(engine);
}

void lvt_run_stop(struct lvt_run *run, const struct lvt_verdict *verdict) {
    lvt_run_abort(run);
    lvt_run_finish(run, verdict);
}

#define LOG_FIELDS_MAX 32

void lvt_run_log(struct lvt_run *run, enum lvt_level level, const char *text,
                 const struct lvt_field *fields, size_t field_count) {
    const struct lvt_log *log = run->engine->options.log;
    struct lvt_field all[LOG_FIELDS_MAX + 4];
    if (level < log->level)
        return;
    size_t count = 0;
    for (size_t i = 0; i < field_count && count < LOG_FIELDS_MAX; i++)
        all[count++] = fields[i];
    all[count++] = LVT_TEXT("event", run->event->type);
    if (run->event->id.len > 0)
        all[count++] = LVT_TEXT("id", run->event->id);
    all[count++] = LVT_STRING("handler", run->handler->name);
    all[count++] = LVT_STRING("version", run->handler->version);
    lvt_log(log, level, text, all, count);
}
