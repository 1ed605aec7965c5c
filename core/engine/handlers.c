/* Handlers that come and go while events flow. An event that has begun ends with the handler that
 * it began with; any other meets the handler of the day when its turn comes. */
#include <stdio.h>

#include "engine/state.h"

void lvt_event_hand_to(struct lvt_event *event, struct lvt_handler *handler) {
    if (event->handler)
        event->handler->holders--;
    event->handler = handler;
    if (handler)
        handler->holders++;
}

/* In a queue that is not consumed any more the event is the broker's again. In one that others
 * consume it would only come back: what becomes of it is what becomes of those that come later. */
static void nobody_takes(struct lvt_engine *engine, struct lvt_event *event) {
    const struct lvt_queue *queue = event->delivery->queue;
    char reason[400];
    if (queue->handler_count == 0) {
        lvt_event_give_back(engine, event);
        return;
    }
    lvt_no_handler_text(event->delivery->queue, event->type, reason, sizeof reason);
    const struct lvt_verdict verdict = {.kind = LVT_VERDICT_REJECT, .reason = lvt_bytes_of(reason)};
    lvt_event_hand_to(event, NULL);
    lvt_event_judge(event, &verdict);
    lvt_event_enter(engine, event, LVT_STAGE_SETTLING);
    lvt_event_append(&engine->to_settle, event);
}

bool lvt_event_reroute(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_handler *handler = lvt_routes_match(event->delivery->queue, event->type);
    if (!handler) {
        nobody_takes(engine, event);
        return false;
    }
    lvt_event_hand_to(event, handler);
    return true;
}

static void stop_starting(struct lvt_engine *engine, struct lvt_handler *handler) {
    struct lvt_handler *before = NULL;
    lvt_timer_stop(engine->clock.timers, &handler->rate_timer);
    if (!handler->startable)
        return;
    for (struct lvt_handler *at = engine->startable; at != handler; at = at->startable_next)
        before = at;
    if (before)
        before->startable_next = handler->startable_next;
    else
        engine->startable = handler->startable_next;
    if (engine->startable_last == handler)
        engine->startable_last = before;
    handler->startable = false;
}

/* The limits hold for both together: a handler that is to run alone does not run beside the one
 * that it follows. */
static void succeed(struct lvt_handler *old, struct lvt_handler *next) {
    old->successor = next;
    next->holders++;
    next->running += old->running;
    next->tokens = old->tokens;
    next->tokens_at_ms = old->tokens_at_ms;
}

static void retire(struct lvt_engine *engine, struct lvt_handler *old, struct lvt_handler *next) {
    stop_starting(engine, old);
    old->retired = true;
    old->retired_next = engine->retired;
    engine->retired = old;
    if (next)
        succeed(old, next);
}

enum leveret_code lvt_engine_change_handlers(struct lvt_engine *engine,
                                             const struct lvt_handler_change *changes, size_t count,
                                             struct leveret_error *err) {
    enum leveret_code code = lvt_routes_change(engine->options.routes, changes, count, err);
    if (code != LEVERET_OK)
        return code;
    for (size_t i = 0; i < count; i++) {
        if (changes[i].next)
            changes[i].next->engine = engine;
        if (changes[i].old)
            retire(engine, changes[i].old, changes[i].next);
    }
    for (size_t i = 0; i < count; i++) {
        struct lvt_event *event;
        while (changes[i].old && (event = lvt_event_take(&changes[i].old->ready)))
            lvt_run_queue(engine, event);
    }
    return LEVERET_OK;
}

static struct lvt_handler *take_unheld(struct lvt_engine *engine) {
    struct lvt_handler **at = &engine->retired;
    while (*at && (*at)->holders > 0)
        at = &(*at)->retired_next;
    struct lvt_handler *handler = *at;
    if (handler)
        *at = handler->retired_next;
    return handler;
}

void lvt_handlers_sweep(struct lvt_engine *engine) {
    struct lvt_handler *handler;
    while ((handler = take_unheld(engine))) {
        if (handler->successor)
            handler->successor->holders--;
        lvt_handler_free(handler);
    }
}
