#include "engine/engine.h"

#include <stdlib.h>

#include "engine/state.h"

#define IN_HAND_FIRST 1024

enum leveret_code lvt_engine_new(const struct lvt_engine_options *options,
                                 struct lvt_engine **ret_engine, struct leveret_error *err) {
    struct lvt_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the engine");
    engine->in_hand = calloc(IN_HAND_FIRST, sizeof *engine->in_hand);
    if (!engine->in_hand) {
        free(engine);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the map of events in hand");
    }
    engine->in_hand_size = IN_HAND_FIRST;
    pthread_mutex_init(&engine->post_lock, NULL);
    engine->options = *options;
    engine->clock = options->clock;
    engine->limits = (struct lvt_outgoing_limits){.exchange = options->exchange,
                                                  .max_body_bytes = options->max_body_bytes,
                                                  .max_delay_ms = options->max_delay_ms,
                                                  .max_attempts = options->max_attempts};
    for (size_t i = 0; i < options->routes->handler_count; i++)
        options->routes->handlers[i]->engine = engine;
    lvt_outages_init(engine);
    *ret_engine = engine;
    return LEVERET_OK;
}

void lvt_engine_arrived(void *ctx, struct lvt_delivery *list) {
    struct lvt_engine *engine = ctx;
    if (!list)
        return;
    if (engine->arrived_last)
        engine->arrived_last->next = list;
    else
        engine->arrived = list;
    while (list->next)
        list = list->next;
    engine->arrived_last = list;
}

static void claimed(void *ctx, struct lvt_claim *list) {
    struct lvt_engine *engine = ctx;
    if (!list)
        return;
    if (engine->claimed_last)
        engine->claimed_last->next = list;
    else
        engine->claimed = list;
    while (list->next)
        list = list->next;
    engine->claimed_last = list;
}

static void recorded(void *ctx, struct lvt_claim *list) {
    struct lvt_engine *engine = ctx;
    struct lvt_claim *last = list;
    if (!list)
        return;
    while (last->next)
        last = last->next;
    last->next = engine->recorded;
    engine->recorded = list;
}

static void ready_changed(void *ctx, bool ready) {
    if (ready)
        lvt_handlers_wake(ctx);
    else
        lvt_claims_lost(ctx);
}

struct lvt_broker_sink lvt_engine_broker_sink(struct lvt_engine *engine) {
    return (struct lvt_broker_sink){engine, lvt_engine_arrived, lvt_settle_published};
}

struct lvt_ledger_sink lvt_engine_ledger_sink(struct lvt_engine *engine) {
    return (struct lvt_ledger_sink){
        engine, claimed, recorded, ready_changed, lvt_invalidation_due, lvt_relay_due};
}

void lvt_engine_attach(struct lvt_engine *engine, struct lvt_broker_port broker,
                       struct lvt_ledger_port ledger, struct lvt_cache_port cache,
                       struct lvt_http_port http) {
    engine->broker = broker;
    engine->ledger = ledger;
    engine->cache = cache;
    engine->http = http;
}

static void decode_step(struct lvt_engine *engine) {
    struct lvt_delivery *delivery = engine->arrived;
    engine->arrived = engine->arrived_last = NULL;
    while (delivery) {
        struct lvt_delivery *next = delivery->next;
        delivery->next = NULL;
        bool wanted = !engine->draining && delivery->queue->handler_count > 0;
        struct lvt_event *event = wanted ? lvt_decode(engine, delivery) : NULL;
        if (!event) {
            /* Of a worker that ends it goes back with the connection. */
            if (!engine->draining)
                engine->broker.requeue(engine->broker.self, delivery);
            lvt_delivery_free(delivery);
        } else if (event->stage == LVT_STAGE_SETTLING) {
            lvt_event_append(&engine->to_settle, event);
        } else {
            lvt_claim_admit(engine, event);
        }
        delivery = next;
    }
}

bool lvt_engine_pump(struct lvt_engine *engine) {
    decode_step(engine);
    lvt_post_step(engine);
    lvt_claim_step(engine);
    bool more = lvt_run_step(engine);
    lvt_settle_step(engine);
    more = lvt_outage_step(engine) || more;
    lvt_handlers_sweep(engine);
    engine->broker.flush(engine->broker.self);
    return more;
}

struct lvt_blackbox *lvt_engine_blackbox(const struct lvt_engine *engine) {
    return engine->options.blackbox;
}

size_t lvt_engine_in_flight(const struct lvt_engine *engine) {
    return engine->in_flight;
}

/* Worth waiting for: it runs, or its end is under way. One that waits to be published once more may
 * as well come again from its queue. */
static bool begun(const struct lvt_event *event) {
    return event->stage == LVT_STAGE_RUNNING ||
           (event->stage == LVT_STAGE_SETTLING && event->timer.position == 0);
}

void lvt_engine_drain(struct lvt_engine *engine) {
    engine->draining = true;
    decode_step(engine);
    lvt_outages_end(engine);
    engine->to_claim = (struct lvt_event_list){0};
    engine->startable = engine->startable_last = NULL;
    for (size_t i = 0; i < engine->options.routes->handler_count; i++) {
        struct lvt_handler *handler = engine->options.routes->handlers[i];
        handler->ready = (struct lvt_event_list){0};
        handler->startable = false;
        lvt_timer_stop(engine->clock.timers, &handler->rate_timer);
    }
    /* Answers that are in already belong to events that go now. */
    engine->claimed = engine->claimed_last = NULL;
    struct lvt_event *next;
    for (struct lvt_event *event = engine->all; event; event = next) {
        next = event->all_next;
        if (!begun(event))
            lvt_event_forget(engine, event);
    }
}

static void abandon_event(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_run *run = event->run;
    if (event->stage == LVT_STAGE_RUNNING) {
        lvt_run_abort(run);
        run->finished = true;
        lvt_quarantine_end(run);
        lvt_effects_end(run);
        lvt_timer_stop(engine->clock.timers, &run->timeout);
    }
    if (run)
        lvt_effects_rollback(run);
    if (event->publishing)
        event->abandoned = true;
    else
        lvt_event_forget(engine, event);
}

void lvt_engine_abandon(struct lvt_engine *engine) {
    engine->to_settle = (struct lvt_event_list){0};
    engine->recorded = NULL;
    struct lvt_event *next;
    for (struct lvt_event *event = engine->all; event; event = next) {
        next = event->all_next;
        abandon_event(engine, event);
    }
}

void lvt_engine_free(struct lvt_engine *engine) {
    if (!engine)
        return;
    lvt_outages_end(engine);
    while (engine->all)
        lvt_event_forget(engine, engine->all); /* which may hand deliveries back */
    while (engine->arrived) {
        struct lvt_delivery *next = engine->arrived->next;
        lvt_delivery_free(engine->arrived);
        engine->arrived = next;
    }
    lvt_handlers_sweep(engine);
    lvt_effects_free(engine);
    lvt_invalidations_free(&engine->invalidating);
    pthread_mutex_destroy(&engine->post_lock);
    free(engine->in_hand);
    free(engine);
}
